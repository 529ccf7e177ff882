import json
from pathlib import Path

import pytest

from .conftest import invoke

HARD = "Tabs\t, two  spaces,\r\nan é, a 漢 and 🙂.\n\n"


def test_train_says_what_it_made(shop: Path, tmp_path: Path) -> None:
    result = invoke("tokenizer", "train", shop / "corpus", "--vocab-size", 280, "-o", tmp_path / "tok")
    assert result.code == 0
    assert "280 tokens" in result.out
    assert (tmp_path / "tok" / "tokenizer.json").is_file()


def test_train_keeps_special_tokens_whole(shop: Path, tmp_path: Path) -> None:
    tok = tmp_path / "tok"
    options = ("--vocab-size", 290, "--special-token", "<|user|>", "--special-token", "<|bot|>")
    assert invoke("tokenizer", "train", shop / "corpus", *options, "-o", tok).code == 0
    plain = json.loads(invoke("tokenizer", "encode", "-t", tok, "<|user|>", "--json").out)["ids"]
    special = json.loads(
        invoke("tokenizer", "encode", "-t", tok, "<|user|>", "--json", "--allow-special").out
    )["ids"]
    assert len(plain) > 1
    assert len(special) == 1


@pytest.mark.parametrize("text", ["", "The cat", HARD])
def test_encode_and_decode_give_the_text_back(shop: Path, text: str) -> None:
    ids = invoke("tokenizer", "encode", "-t", shop / "subword", "-", stdin=text)
    assert ids.code == 0
    back = invoke("tokenizer", "decode", "-t", shop / "subword", "-", stdin=ids.out)
    assert back.out == text


def test_decode_takes_ids_as_arguments_in_any_notation(shop: Path) -> None:
    ids = json.loads(invoke("tokenizer", "encode", "-t", shop / "subword", "The owl", "--json").out)["ids"]
    assert invoke("tokenizer", "decode", "-t", shop / "subword", *ids).out == "The owl"
    assert invoke("tokenizer", "decode", "-t", shop / "subword", json.dumps(ids)).out == "The owl"


def test_show_makes_blanks_visible(shop: Path) -> None:
    result = invoke("tokenizer", "show", "-t", shop / "subword", "The cat\n\x1b[31m🙂")
    assert result.code == 0
    assert "·" in result.out
    assert "⏎" in result.out
    assert "\x1b" not in result.out
    assert "bytes per token" in result.out


def test_a_run_directory_serves_as_tokenizer(shop: Path) -> None:
    assert (
        invoke("tokenizer", "encode", "-t", shop / "run", "cat").out
        == invoke("tokenizer", "encode", "-t", shop / "subword", "cat").out
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "nowhere", "-o", "{tmp}/t"], ["nowhere"]),
        (["train", "{shop}/corpus", "--vocab-size", "9", "-o", "{tmp}/t"], ["9"]),
        (["train", "{shop}/corpus", "--level", "syllable", "-o", "{tmp}/t"], ["syllable", "subword"]),
        (["train", "{shop}/corpus", "--pattern", "(", "-o", "{tmp}/t"], []),
        (["train", "{shop}/corpus", "-o", "{shop}/qa.jsonl"], ["qa.jsonl"]),
        (["encode", "-t", "{tmp}/none", "a"], ["none"]),
        (["decode", "-t", "{shop}/subword", "one"], ["'one'", "not an id"]),
        (["decode", "-t", "{shop}/subword", "4000000"], ["4000000"]),
        (["decode", "-t", "{shop}/subword", "99999999999999999999999"], []),
        (["decode", "-t", "{shop}/subword", "--", "-1"], ["-1"]),
    ],
)
def test_mistakes_are_named_in_one_line(
    untouched: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    given = [a.format(shop=untouched, tmp=tmp_path) for a in arguments]
    result = invoke("tokenizer", *given)
    assert result.code == (2 if "syllable" in arguments else 1)
    assert all(word in result.line() for word in words)
    assert not (tmp_path / "t" / "tokenizer.json").exists()
