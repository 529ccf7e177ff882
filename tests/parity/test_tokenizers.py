"""The same ids as tiktoken and Hugging Face `tokenizers`, on real vocabularies, real text and hard text."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given

from subgpt.tokenizer import Tokenizer

from .texts import BORDERS, differing, every_text, known


@pytest.fixture(scope="module")
def texts(shared):
    return every_text(shared)


def test_tiktokens_ids_on_every_text(pair, texts):
    theirs, ours = pair
    assert differing(ours.encode_ordinary, theirs.encode_ordinary, texts) == []
    ids, offsets = ours.encode_batch(texts.values(), disallowed_special=())
    whole = theirs.encode_ordinary_batch(list(texts.values()))
    assert ids.tolist() == [i for row in whole for i in row]
    assert np.diff(offsets.astype(np.int64)).tolist() == [len(row) for row in whole]


def test_tiktokens_vocabulary(pair):
    theirs, ours = pair
    assert ours.vocab_size == theirs.n_vocab
    assert ours.eot_id == theirs.eot_token
    assert set(ours.special_tokens) == theirs.special_tokens_set
    for token in range(theirs.n_vocab):
        try:
            expected = theirs.decode_single_token_bytes(token)
        except KeyError:
            expected = "\ufffd".encode()
        assert ours.decode_bytes([token]) == expected


@given(text=BORDERS)
def test_tiktokens_ids_on_the_borders(pair, text):
    theirs, ours = pair
    assert ours.encode_ordinary(text).tolist() == theirs.encode_ordinary(text)
    allowed = theirs.encode(text, allowed_special="all")
    assert ours.encode(text, allowed_special="all").tolist() == allowed
    assert ours.decode(allowed) == text


def test_tiktokens_ids_on_random_characters(pair):
    theirs, ours = pair
    rng = random.Random(5)
    planes = [0x80, 0x250, 0x600, 0x3000, 0xD000, 0x10FFFF]
    for _ in range(300):
        most = rng.choice(planes)
        chars = (chr(rng.randrange(most)) for _ in range(rng.randrange(200)))
        text = "".join(c for c in chars if not "\ud800" <= c <= "\udfff")
        assert ours.encode_ordinary(text).tolist() == theirs.encode_ordinary(text)


@pytest.fixture(scope="module")
def gpt2(shared):
    path = shared / "data" / "vocab" / "gpt2" / "tokenizer.json"
    return tokenizers.Tokenizer.from_file(str(path)), Tokenizer.load(path)


def test_gpt2s_files_give_the_ids_of_tokenizers(gpt2, texts):
    theirs, ours = gpt2
    known_texts = {name: known(text[:300_000]) for name, text in texts.items()}
    assert differing(ours.encode_ordinary, lambda text: theirs.encode(text).ids, known_texts) == []


@given(text=BORDERS)
def test_gpt2s_files_on_the_borders(gpt2, text):
    theirs, ours = gpt2
    text = known(text)
    ids = ours.encode_ordinary(text).tolist()
    assert ids == theirs.encode(text).ids
    assert ours.decode(ids) == text


def test_gpt2s_three_formats_are_one_tokenizer(gpt2, shared, texts):
    _, ours = gpt2
    folder = shared / "data" / "vocab"
    pairs = [Tokenizer.load(folder / "gpt2" / name) for name in ("encoder.json", "vocab.bpe")]
    assert pairs[0] == pairs[1] == ours
    assert ours.special_tokens == {"<|endoftext|>": 50256}
    ranks = Tokenizer.load(folder / "tiktoken" / "r50k_base.tiktoken")
    text = texts["corpora/tinyshakespeare.txt"]
    assert (ranks.encode(text) == ours.encode(text)).all()


def test_smollms_file(shared, texts):
    path = shared / "data" / "vocab" / "smollm" / "tokenizer.json"
    theirs, ours = tokenizers.Tokenizer.from_file(str(path)), Tokenizer.load(path)
    theirs.no_truncation()
    theirs.no_padding()
    known_texts = {name: known(text[:300_000]) for name, text in texts.items()}
    assert differing(ours.encode_ordinary, lambda text: theirs.encode(text).ids, known_texts) == []
    assert ours.vocab_size == 49153
    assert Tokenizer.from_json(ours.to_json()) == ours


def test_others_byte_level_files_load(tmp_path: Path):
    """What `tokenizers` itself trains and saves, with the settings that are implemented."""
    from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

    text = ["It's 1984 and the cat's   hat…\n\n naïve <extra> 中文"] * 20
    plain, level = pre_tokenizers.ByteLevel(False, use_regex=False), pre_tokenizers.ByteLevel(False)
    for pre in (
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), level]),
        pre_tokenizers.Sequence([pre_tokenizers.Digits(), level]),
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\d|\s\w+"), "isolated"), plain]),
        pre_tokenizers.Sequence([pre_tokenizers.Split("a", "isolated"), plain]),
    ):
        theirs = tokenizers.Tokenizer(models.BPE())
        theirs.pre_tokenizer = pre
        theirs.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=320,
            show_progress=False,
            special_tokens=["<s>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
        theirs.train_from_iterator(text, trainer)
        theirs.add_tokens(["<extra>"])
        path = tmp_path / "tokenizer.json"
        theirs.save(str(path))
        ours = Tokenizer.load(path)
        for sample in (text[0], "12 a3", "", " ", "x<extra>12<extra>", "<s>a<s>"):
            assert ours.encode(sample, allowed_special="all").tolist() == theirs.encode(sample).ids, (
                pre,
                sample,
            )
        assert json.loads(Tokenizer.from_json(ours.to_json()).to_json()) == json.loads(ours.to_json())
