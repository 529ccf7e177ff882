"""The same ids as tiktoken and Hugging Face `tokenizers`, on real vocabularies, real text and hard text."""

import json
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from subgpt.tokenizer import Tokenizer

ATOMS = [
    *"aZéßſ中ㅎª19½٣ \n\r\t'!/_-’\u01c5\u02b0\u0301\u0903\u2167\u00a0\u0085\u3000\u200d\u200b\0",
    *["  ", "   ", "\r\n", "\n\n", "'s", "'S", "'ſ", "'ll", "'LL", "'re", "'vE", "'d", "//", "123", "12345"],
    *["😀", "👨‍👩‍👧", "🇩🇪", "hello", " World", "don't", "HTTPServer", "naïve", "\U0010ffff"],
    *["<|endoftext|>", "<|endof"],
]
BORDERS = st.lists(st.one_of(st.sampled_from(ATOMS), st.characters(codec="utf-8")), max_size=30).map("".join)


@pytest.fixture(scope="module")
def texts(shared):
    """Every text among the reference data, by its name."""
    folder = shared / "data"
    paths = [
        p for part in ("corpora", "unicode", "code", "finetune") for p in sorted((folder / part).rglob("*.*"))
    ]
    return {str(p.relative_to(folder)): p.read_bytes().decode("utf-8", "replace") for p in paths}


def differing(ours, theirs, texts):
    """Names of the texts that two encoders disagree about."""
    return [name for name, text in texts.items() if ours(text).tolist() != theirs(text)]


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


def test_a_saved_rank_file_gives_the_same_ids_in_tokenizers(pair, texts, tmp_path_factory):
    _, ours = pair
    path = tmp_path_factory.mktemp("saved") / "tokenizer.json"
    ours.save(path)
    theirs = tokenizers.Tokenizer.from_file(str(path))
    same = Tokenizer.load(path)
    assert same == ours
    part = {name: known(text[:60_000]) for name, text in texts.items()}
    assert differing(ours.encode_ordinary, lambda text: theirs.encode(text).ids, part) == []
    assert differing(ours.encode_ordinary, lambda text: same.encode_ordinary(text).tolist(), part) == []


def known(text):
    """Drop special tokens, and what the libraries' Unicode versions may differ about."""
    text = text.replace("<|endoftext|>", "")
    return "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs", "Co"))


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


@pytest.fixture(
    scope="module",
    params=["char", "word", "gpt2", "gpt4", "o200k"],
)
def trained(request, shared, tmp_path_factory):
    """A tokenizer trained here, saved, and loaded by `tokenizers`."""
    level = request.param if request.param in ("char", "word") else "subword"
    pattern = request.param if level == "subword" else "gpt4"
    sources = [shared / "data" / "corpora" / "tinyshakespeare.txt", shared / "data" / "unicode" / "udhr"]
    ours = Tokenizer.train(sources, level=level, pattern=pattern, vocab_size=4000)
    folder = tmp_path_factory.mktemp(level)
    ours.save(folder)
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json")), ours


def test_trained_tokenizers_give_the_same_ids_in_tokenizers(trained, texts):
    theirs, ours = trained
    part = {name: known(text[:100_000]) for name, text in texts.items()}
    assert differing(ours.encode_ordinary, lambda text: theirs.encode(text).ids, part) == []
    assert theirs.get_vocab_size() == ours.vocab_size
    for text in part.values():
        ids = ours.encode_ordinary(text)
        assert theirs.decode(ids.tolist(), skip_special_tokens=False) == ours.decode(ids)


@given(text=BORDERS)
def test_trained_tokenizers_on_the_borders(trained, text):
    theirs, ours = trained
    text = known(text)
    ids = ours.encode(text, allowed_special="all").tolist()
    assert ids == theirs.encode(text).ids
    assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids)
    if ours.unk_id not in ids:
        assert ours.decode(ids) == text


def test_special_tokens_in_tokenizers(trained):
    theirs, ours = trained
    text = "First<|endoftext|> Citizen:<|endoftext|><|endoftext|>\n"
    assert ours.encode(text, allowed_special="all").tolist() == theirs.encode(text).ids
    assert {t.content: i for i, t in theirs.get_added_tokens_decoder().items()} == ours.special_tokens


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
