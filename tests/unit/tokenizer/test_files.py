"""Saving and loading: what is written, where, and by which names."""

import json
from pathlib import Path

import pytest

from subgpt.errors import (
    DtypeError,
    InvalidValueError,
    MissingFileError,
    OutputError,
    SubgptError,
    TokenizerError,
)
from subgpt.tokenizer import Tokenizer
from subgpt.tokenizer.saving import check_target, save

TEXT = "the cat sat on the mat, 12 naïve cats\n" * 5


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def sub():
    return Tokenizer.train([TEXT], vocab_size=300)


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_a_directory_holds_two_files_that_load(level, tmp_path: Path):
    tok = Tokenizer.train([TEXT], level=level, vocab_size=300)
    tok.save(tmp_path / "a" / "b")
    assert names_in(tmp_path / "a" / "b") == ["tokenizer.json", "tokenizer_config.json"]
    config = json.loads((tmp_path / "a" / "b" / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert config["eos_token"] == "<|endoftext|>"
    for path in (tmp_path / "a" / "b", tmp_path / "a" / "b" / "tokenizer.json"):
        same = Tokenizer.load(path)
        assert same == tok
        assert (same.level, same.pattern, same.unk_id) == (tok.level, tok.pattern, tok.unk_id)


def test_a_json_path_is_one_file(sub, tmp_path: Path):
    sub.save(str(tmp_path / "mine.json"))
    assert names_in(tmp_path) == ["mine.json"]
    assert Tokenizer.load(tmp_path / "mine.json") == sub
    sub.save(tmp_path / "mine.json")
    assert names_in(tmp_path) == ["mine.json"]


def test_the_ending_says_the_format(sub, tmp_path: Path):
    for name in ("mine.gguf", "MINE.GGUF", "mine.tiktoken"):
        sub.save(tmp_path / name)
        assert (tmp_path / name).is_file()
    bare = {"pattern": sub.pattern, "special_tokens": sub.special_tokens}
    assert Tokenizer.load(tmp_path / "mine.gguf") == sub
    assert Tokenizer.load(tmp_path / "mine.tiktoken", **bare).special_tokens == sub.special_tokens
    (tmp_path / "run.gguf").mkdir()
    sub.save(tmp_path / "run.gguf")
    assert names_in(tmp_path / "run.gguf") == ["tokenizer.json", "tokenizer_config.json"]


def test_where_nothing_can_be_written(sub, tmp_path: Path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(SubgptError, match="file"):
        sub.save(tmp_path / "file" / "sub")
    with pytest.raises(SubgptError, match="missing"):
        sub.save(tmp_path / "missing" / "x.json")
    for bad in (None, 3, b"path"):
        with pytest.raises(DtypeError):
            sub.save(bad)


@pytest.mark.parametrize("pattern", ["gpt2", "gpt4", "o200k", r"\d|\D+"])
def test_patterns_survive(pattern, tmp_path: Path):
    tok = Tokenizer.train([TEXT], vocab_size=300, pattern=pattern)
    tok.save(tmp_path)
    assert Tokenizer.load(tmp_path).pattern == pattern
    assert Tokenizer.load(tmp_path) == tok


def test_nothing_is_saved_where_loading_would_pass_it_over(sub, tmp_path: Path):
    sub.save(tmp_path / "json")
    sub.save(tmp_path / "pair", format="vocab-merges")
    for folder, before, formats in (
        ("json", "tokenizer.json", ("vocab-merges", "tiktoken")),
        ("pair", "vocab.json", ("tiktoken",)),
    ):
        names = names_in(tmp_path / folder)
        for format in formats:
            with pytest.raises(TokenizerError, match=rf"{folder}.*holds a {before}.*another directory"):
                sub.save(tmp_path / folder, format=format)
        assert names_in(tmp_path / folder) == names
    sub.save(tmp_path / "pair", format="vocab-merges")
    sub.save(tmp_path / "json" / "beside.tiktoken", format="tiktoken")


def test_what_is_no_tokenizer_is_named(tmp_path: Path):
    with pytest.raises(MissingFileError, match="nope"):
        Tokenizer.load(tmp_path / "nope.json")
    with pytest.raises(TokenizerError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path)
    (tmp_path / "x.model").write_bytes(b"x")
    with pytest.raises(TokenizerError, match="SentencePiece"):
        Tokenizer.load(tmp_path / "x.model")
    (tmp_path / "x.zip").write_bytes(b"x")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path / "x.zip")
    (tmp_path / "vocab.json").write_text("{}")
    with pytest.raises(TokenizerError, match=r"merges\.txt"):
        Tokenizer.load(tmp_path)
    with pytest.raises(DtypeError):
        Tokenizer.load(None)


GIVE = "give the directory or file of a tokenizer (subgpt tokenizer train makes one)"


@pytest.mark.parametrize("name", ["absent", "absent.txt", "a\0b"])
def test_what_is_not_there_is_said_with_what_to_give(tmp_path: Path, name):
    with pytest.raises(MissingFileError) as caught:
        Tokenizer.load(tmp_path / name)
    assert str(caught.value) == f"{tmp_path / name}: no such file or directory; {GIVE}, or a run's"


def test_a_plain_text_is_no_tokenizer_but_beside_a_vocabulary(sub, tmp_path: Path):
    sub.save(tmp_path, format="vocab-merges")
    merges = tmp_path / "merges.txt"
    for name in ("vocab.json", "encoder.json"):
        assert ids_of(Tokenizer.load(merges)) == ids_of(sub)
        (tmp_path / name).rename(tmp_path / "encoder.json")
    (tmp_path / "encoder.json").unlink()
    with pytest.raises(TokenizerError) as caught:
        Tokenizer.load(merges)
    said = f"{merges}: is no tokenizer, and as merges it needs vocab.json or encoder.json beside it; {GIVE}"
    assert str(caught.value) == said


def ids_of(tokenizer):
    return tokenizer.encode(TEXT).tolist()


def test_a_tokenizer_json_carries_its_own_settings(sub, tmp_path: Path):
    sub.save(tmp_path)
    with pytest.raises(TokenizerError, match="pattern"):
        Tokenizer.load(tmp_path, pattern="gpt2")
    with pytest.raises(TokenizerError, match="special_tokens"):
        Tokenizer.load(tmp_path, special_tokens=["<x>"])
    sub.save(tmp_path / "mine.gguf")
    for options in ({"pattern": "gpt2"}, {"special_tokens": ["<x>"]}):
        with pytest.raises(
            TokenizerError, match=r"mine\.gguf: carries its own .*; leave pattern and special_tokens out$"
        ):
            Tokenizer.load(tmp_path / "mine.gguf", **options)


def ranks(tokens):
    from base64 import b64encode

    lines = (f"{b64encode(t).decode()} {i}" for i, t in enumerate(tokens))
    return "\r\n".join(lines)


def test_rank_files_take_pattern_and_special_tokens(tmp_path: Path):
    path = tmp_path / "mine.tiktoken"
    path.write_text(ranks([*(bytes([b]) for b in range(256)), b"ab", b" ab"]))
    with pytest.raises(TokenizerError, match="pattern"):
        Tokenizer.load(path)
    with pytest.raises(InvalidValueError, match="gpt9"):
        Tokenizer.load(path, pattern="gpt9")
    plain = Tokenizer.load(tmp_path, pattern="gpt2")
    assert (plain.vocab_size, plain.special_tokens) == (258, {})
    named = Tokenizer.load(path, pattern="gpt2", special_tokens=["<|endoftext|>", "<x>"])
    assert named.special_tokens == {"<|endoftext|>": 258, "<x>": 259}
    gap = Tokenizer.load(path, pattern="gpt2", special_tokens={"<x>": 300})
    assert (gap.vocab_size, gap.special_tokens) == (301, {"<x>": 300})
    assert gap.id_to_token(270) is None
    assert gap.decode([270, 256]) == "\ufffdab"
    assert gap.encode("ab ab").tolist() == [256, 257]
    with pytest.raises(TokenizerError, match="id 5"):
        Tokenizer.load(path, pattern="gpt2", special_tokens={"<x>": 5})
    for wrong, error, said in [
        ({"<x>": "5"}, DtypeError, "special_tokens['<x>'] must be int, not str"),
        ({"<x>": -5}, InvalidValueError, "special_tokens['<x>'] is -5; it must be between 0 and 4294967295"),
        (
            {"a": 1, "b": 2**32},
            InvalidValueError,
            "special_tokens['b'] is 4294967296; it must be between 0 and",
        ),
        ([3], DtypeError, "special_tokens[0] must be str, not int"),
        *(
            (
                [f"a{half}"],
                InvalidValueError,
                f"special_tokens: 'a\\u{ord(half):x}' contains a lone surrogate",
            )
            for half in ("\ud800", "\udfff")
        ),
    ]:
        with pytest.raises(error) as caught:
            Tokenizer.load(path, pattern="gpt2", special_tokens=wrong)
        assert str(caught.value).startswith(said)
    gap.save(tmp_path / "out")
    assert Tokenizer.load(tmp_path / "out") == gap


def test_no_merge_makes_a_special_token(tmp_path: Path):
    tok = Tokenizer.train(["Question Questions"] * 9, vocab_size=300, pattern="gpt2")
    made = tok.token_to_id("Question")
    assert tok.encode("Question").tolist() == [made]
    tok.save(tmp_path, format="vocab-merges")
    named = Tokenizer.load(tmp_path / "vocab.json", special_tokens=["Question"])
    assert named.special_tokens == {"Question": made}
    for text in ("Question", "a Question", "Questions"):
        ids = named.encode_ordinary(text)
        assert made not in ids
        assert named.decode(ids) == text
    assert named.encode("Question", allowed_special="all").tolist() == [made]
    assert Tokenizer.from_json(named.to_json()) == named


@pytest.mark.parametrize("format", ["tokenizer.json", "gguf"])
def test_where_no_folder_can_be_the_place_is_named(sub, tmp_path, format):
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(OutputError, match="file"):
        sub.save(tmp_path / "file" / "folder", format=format)


@pytest.mark.parametrize("format", ["tokenizer.json", "tiktoken", "vocab-merges", "gguf"])
def test_what_stands_in_the_way_of_saving_is_told_before(sub, tmp_path: Path, format):
    """By the words that saving itself has, and nothing is written."""
    words = Tokenizer.train([TEXT], level="word")
    if format == "tokenizer.json":
        check_target(words, tmp_path / "new", format)
    else:
        said = []
        for act in (check_target, save):
            with pytest.raises(TokenizerError) as caught:
                act(words, tmp_path / "new", format)
            said.append(str(caught.value))
        assert said[0] == said[1]
        assert said[0].startswith(
            str(tmp_path / "new" / "tokenizer.gguf: ") if format == "gguf" else ("tiktoken", "vocab")
        )
    check_target(sub, tmp_path / "new", format)
    assert not names_in(tmp_path)


def test_a_folder_of_a_gguf_file_is_made_and_may_be_there(sub, tmp_path: Path):
    for _ in range(2):
        sub.save(tmp_path / "a" / "b", format="gguf")
    assert names_in(tmp_path / "a" / "b") == ["tokenizer.gguf"]
