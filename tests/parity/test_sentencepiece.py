"""SentencePiece models and llama2.c's files: the ids and texts of the `sentencepiece` package."""

from __future__ import annotations

import io
import itertools
import pickle
import re
import struct
import unicodedata
from functools import cache
from pathlib import Path

import pytest
import sentencepiece
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from subgpt.errors import TokenizerError
from subgpt.tokenizer import Tokenizer

CORPUS = [
    "It's 1984 and the cat's   hat… naïve ﬁne Ångström <sep> 中文 ①②",
    "the cat sat on the mat. The mat sat on the CAT! (really?) 12345 and 67",
    "  leading, and trailing  white space ▁ marks▁inside -- x--y",
    "Straße ÀÉÎ 안녕 각 a rose is a rose is a rose aaaa aaa aa",
] * 20

OPTIONS = {
    "plain": {
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
    },
    "llama without fallback": {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "identity": {"normalization_rule_name": "identity"},
    "identity fallback": {"normalization_rule_name": "identity", "byte_fallback": True},
    "nfkc": {"normalization_rule_name": "nfkc"},
    "nmt_nfkc": {},
    "nmt_nfkc_cf": {"normalization_rule_name": "nmt_nfkc_cf", "byte_fallback": True},
    "no prefix": {"add_dummy_prefix": False},
    "no prefix identity": {
        "add_dummy_prefix": False,
        "normalization_rule_name": "identity",
        "byte_fallback": True,
    },
    "user-defined": {"user_defined_symbols": ["<sep>", "the", "CAT", "--", "a rose"]},
    "user-defined identity": {
        "user_defined_symbols": ["<sep>", "aa"],
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
    },
    "control": {"control_symbols": ["<pad>", "<mask>"], "normalization_rule_name": "identity"},
    "digits": {"split_digits": True, "normalization_rule_name": "identity"},
    "across words": {"split_by_whitespace": False, "normalization_rule_name": "identity"},
    "space pieces": {"allow_whitespace_only_pieces": True, "remove_extra_whitespaces": False},
    "few characters": {
        "character_coverage": 0.98,
        "normalization_rule_name": "identity",
        "byte_fallback": True,
    },
    "few characters unknown": {"character_coverage": 0.98},
}

# Those that a tokenizer.json has words for: no map of characters, no pieces that ignore spaces.
WRITABLE = [
    name
    for name, options in OPTIONS.items()
    if options.get("normalization_rule_name") == "identity" and "user_defined_symbols" not in options
]

ATOMS = [
    *"aZéßſ中ㅎª19½٣ \n\r\t'!/_-’ǅ\u0301Ⅷ\u00a0\u0085\u3000\u200d\u200b▁",
    *[
        "  ",
        "   ",
        "\r\n",
        "'s",
        "the",
        " the",
        "cat",
        "--",
        "ﬁ",
        "①",
        "각",
        "e\u0301\u0323",
        "Å",
        "a rose",
        "aaaa",
    ],
    *["😀", "👨‍👩‍👧", "<sep>", " <sep> ", "<s>", "<unk>", "<0x0A>", "▁▁", "▁the"],
]
BORDERS = st.lists(st.one_of(st.sampled_from(ATOMS), st.characters(codec="utf-8")), max_size=30).map("".join)


@cache
def pair(name, folder):
    """A model trained with these options, in both libraries."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type="bpe",
        vocab_size=500 if OPTIONS[name].get("byte_fallback") else 250,
        hard_vocab_limit=False,
        minloglevel=2,
        **OPTIONS[name],
    )
    path = folder / f"{name}.model"
    path.write_bytes(model.getvalue())
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue()), Tokenizer.load(path)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models")


def known(text):
    """Drop what the libraries' Unicode versions may differ about, and zero bytes, which end strings in one of them."""
    return "".join(c for c in text if c != "\0" and unicodedata.category(c) not in ("Cn", "Cs", "Co"))


def check(theirs, ours, text):
    ids = ours.encode_ordinary(text).tolist()
    assert ids == theirs.encode(text), text
    if theirs.unk_id() not in ids:
        assert ours.decode(ids) == theirs.decode(ids), text
    stream = ours.decode_stream()
    assert "".join([*map(stream.push, ids), stream.flush()]) == ours.decode(ids)
    located = ours.encode_with_offsets(text, disallowed_special=())
    assert located.ids.tolist() == ids
    assert all(start <= end <= len(text) for start, end in located.chars.tolist())


@pytest.mark.parametrize("name", OPTIONS)
def test_ids_and_texts(name, folder):
    theirs, ours = pair(name, folder)
    assert ours.vocab_size == theirs.get_piece_size()
    assert [ours.id_to_token(i) for i in range(ours.vocab_size)] == [
        theirs.id_to_piece(i) for i in range(theirs.get_piece_size())
    ]
    for text in [
        *CORPUS[:4],
        "",
        " ",
        "   ",
        "▁",
        " ▁ ",
        "a",
        " a",
        "a ",
        "\n",
        "é" * 3,
        "😀😀x",
        "ￋ 한글",
        *ATOMS,
    ]:
        check(theirs, ours, text)


@pytest.mark.parametrize("name", OPTIONS)
@given(text=BORDERS)
def test_ids_and_texts_on_the_borders(name, folder, text):
    theirs, ours = pair(name, folder)
    check(theirs, ours, known(text))


@pytest.mark.parametrize("name", OPTIONS)
def test_copies_and_saved_ones_are_the_same(name, folder, tmp_path):
    _, ours = pair(name, folder)
    ours.save(tmp_path / "saved")
    for again in (pickle.loads(pickle.dumps(ours)), Tokenizer.load(tmp_path / "saved")):
        assert again == ours
        assert again.encode_ordinary(CORPUS[0]).tolist() == ours.encode_ordinary(CORPUS[0]).tolist()


@pytest.mark.parametrize("name", OPTIONS)
def test_what_a_tokenizer_json_can_say_is_written(name, folder):
    theirs, ours = pair(name, folder)
    if name not in WRITABLE:
        with pytest.raises(TokenizerError, match=r"tokenizer\.json: cannot hold this tokenizer"):
            ours.to_json()
        return
    json = ours.to_json()
    assert Tokenizer.from_json(json) == ours
    hugging_face = tokenizers.Tokenizer.from_str(json)
    for text in [*CORPUS[:4], "", " ", "  a", "a  b ", "😀😀x"]:
        assert hugging_face.encode(text, add_special_tokens=False).ids == theirs.encode(text)


def test_formats_that_cannot_hold_it_say_so(folder, tmp_path):
    _, ours = pair("plain", folder)
    for format in ("tiktoken", "vocab-merges"):
        with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
            ours.save(tmp_path / "x", format=format)
    ours.save(tmp_path / "x.gguf", format="gguf")
    assert Tokenizer.load(tmp_path / "x.gguf") == ours
    ours.save(tmp_path / "saved")
    assert Tokenizer.load(tmp_path / "saved") == ours


def test_special_tokens_are_found_where_they_are_allowed(folder):
    _, ours = pair("plain", folder)
    assert ours.special_tokens == {"<unk>": 0, "<s>": 1, "</s>": 2}
    assert ours.encode("<s>", allowed_special="all").tolist() == [1]
    with pytest.raises(TokenizerError, match="special token"):
        ours.encode("<s>")


@pytest.mark.parametrize("kind", ["unigram", "word", "char"])
def test_other_models_are_refused(kind, tmp_path):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type=kind,
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path / "x.model"
    path.write_bytes(model.getvalue())
    with pytest.raises(TokenizerError, match=rf"(?i)model_type.*{kind}.*--model_type=bpe"):
        Tokenizer.load(path)


@pytest.fixture(scope="session")
def texts(shared):
    folder = shared / "data"
    paths = [p for part in ("unicode", "code") for p in sorted((folder / part).rglob("*.*"))]
    paths += [folder / "corpora" / "tinystories_small.txt", folder / "corpora" / "tinyshakespeare.txt"]
    return [known(p.read_bytes().decode("utf-8", "replace"))[:200_000] for p in paths]


def test_llama2cs_file_is_the_model(shared, texts):
    folder = shared / "data" / "model"
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tok512.model"))
    model, ours = Tokenizer.load(folder / "tok512.model"), Tokenizer.load(folder / "tok512.bin")
    assert ours.template == ([1], [])
    for text in texts:
        # llama2.c takes spaces as they come, and the character that stands for them as any other.
        plain = re.sub(" +", " ", text.replace("▁", "")).strip(" ")
        assert model.encode_ordinary(text).tolist() == theirs.encode(text)
        assert ours.encode_ordinary(plain).tolist() == theirs.encode(plain)
        assert ours.decode(ours.encode_ordinary(plain)) == plain
    story = (folder / "stories260K_greedy.txt").read_text()
    assert Tokenizer.from_json(ours.to_json()) == ours
    assert ours.decode([1, *ours.encode_ordinary(story).tolist()]).endswith(story)


def llama2c_ids(path: Path, text: str) -> list[int]:
    """What llama2.c's run.c does: the best pair first, found by looking at all."""
    data, tokens = path.read_bytes(), {}
    at, scores = 4, []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        tokens.setdefault(data[at + 8 : at + 8 + length], len(scores))
        scores.append(score)
        at += 8 + length
    names = {id: name for name, id in tokens.items()}
    ids = [tokens[b" "]] if text else []
    for c in text:
        encoded = c.encode()
        ids += [tokens[encoded]] if encoded in tokens else [byte + 3 for byte in encoded]
    while True:
        pairs = [
            (scores[tokens[names[a] + names[b]]], -i)
            for i, (a, b) in enumerate(itertools.pairwise(ids))
            if names[a] + names[b] in tokens
        ]
        if not pairs:
            return ids
        i = -max(pairs)[1]
        ids[i : i + 2] = [tokens[names[ids[i]] + names[ids[i + 1]]]]


@given(text=BORDERS)
def test_llama2cs_ids(shared, text):
    path = shared / "data" / "model" / "tok512.bin"
    text = text.replace("\0", "")
    assert Tokenizer.load(path).encode_ordinary(text).tolist() == llama2c_ids(path, text)


def test_the_reference_model_is_unigram(shared):
    with pytest.raises(TokenizerError, match=r"test_model\.model.*Unigram.*--model_type=bpe"):
        Tokenizer.load(shared / "data" / "vocab" / "sentencepiece" / "test_model.model")
