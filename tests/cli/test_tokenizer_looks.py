"""`subgpt tokenizer encode | decode | count | show | stats` on texts and files."""

import json
import sys
from pathlib import Path

import pytest

from subgpt import Tokenizer
from subgpt.cli.commands.tokenizer.arguments import short_names
from subgpt.data import read_shard

from .conftest import TEXT, invoke

HOSTILE = "<script>alert(1)</script>&\"' \x00\x1b[31m \u202eright\u202c e\u0301\u0301 a\nשלום 🙂<|endoftext|>"


@pytest.fixture
def text(tmp_path: Path) -> Path:
    file = tmp_path / "text.txt"
    file.write_text(TEXT, encoding="utf-8")
    return file


def test_a_file_becomes_shards_and_text_again(shop: Path, tmp_path: Path, text: Path) -> None:
    tok, out = shop / "subword", tmp_path / "made" / "shards"
    done = invoke(
        "tokenizer", "encode", "-t", tok, "--file", text, "--output-dir", out, "--shard-tokens", 700
    )
    assert done.code == 0, done.err
    shards = sorted(out.iterdir())
    ids = [id for shard in shards for id in read_shard(shard).tolist()]
    assert len(shards) > 1
    assert ids == Tokenizer.load(tok).encode(TEXT).tolist()
    back = "".join(invoke("tokenizer", "decode", "-t", tok, "--file", shard).out for shard in shards)
    assert back == TEXT
    assert sorted(p.name for p in out.parent.iterdir()) == ["shards"]


def test_shards_never_mix_with_what_is_there(shop: Path, tmp_path: Path, text: Path) -> None:
    encode = ("tokenizer", "encode", "-t", shop / "subword", "--file", text)
    assert "has something in it" in invoke(*encode, "--out", tmp_path).line()
    assert "text.txt" in invoke(*encode, "--out", text).line()
    (tmp_path / "empty").mkdir()
    told = json.loads(invoke(*encode, "--out", tmp_path / "empty", "--json").out)
    assert told["tokens"] == Tokenizer.load(shop / "subword").count(TEXT)


def test_shards_never_replace_the_directory_that_one_is_in(
    shop: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    encode = ("tokenizer", "encode", "-t", shop / "subword", "--file", text)
    for named in (".", ""):
        assert ".: no directory can take its place" in invoke(*encode, "-o", named).line()


def test_shards_are_whole_or_not_there(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_bytes(b"fine\n" * 1000 + b"\xff")
    done = invoke(
        "tokenizer", "encode", "-t", shop / "subword", "--file", tmp_path / "bad.txt", "--out", tmp_path / "s",
        "--shard-tokens", 10,
    )  # fmt: skip
    assert done.code == 1
    assert "bad.txt" in done.line()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.txt"]


def test_ids_from_a_file_of_text(shop: Path, tmp_path: Path, text: Path) -> None:
    ids = invoke("tokenizer", "encode", "-t", shop / "subword", "--file", text)
    (tmp_path / "ids.txt").write_text(ids.out, encoding="utf-8")
    assert invoke("tokenizer", "decode", "-t", shop / "subword", "--file", tmp_path / "ids.txt").out == TEXT


def test_a_shard_of_another_tokenizer_is_refused(shop: Path, tmp_path: Path, text: Path) -> None:
    encode = ("tokenizer", "encode", "-t", shop / "subword", "--file", text, "--out", tmp_path / "s")
    assert invoke(*encode).code == 0
    done = invoke("tokenizer", "decode", "-t", shop / "char", "--file", tmp_path / "s" / "00000.bin")
    assert (done.code, "another tokenizer" in done.line()) == (1, True)


def test_count(shop: Path, tmp_path: Path, text: Path) -> None:
    tok = Tokenizer.load(shop / "subword")
    count = ("tokenizer", "count", "-t", shop / "subword")
    assert invoke(*count, "The cat").out == f"{tok.count('The cat')}\n"
    assert invoke(*count, "-", stdin="The cat").out == f"{tok.count('The cat')}\n"
    assert invoke(*count, "--file", text).out == f"{tok.count(TEXT)}\n"
    (tmp_path / "b.txt").write_text("b<|endoftext|>", encoding="utf-8")
    several = invoke(*count, "--file", text, tmp_path / "b.txt", "--json", "--allow-special")
    told = json.loads(several.out)
    assert [row["tokens"] for row in told["files"]] == [tok.count(TEXT), 2]
    assert told["tokens"] == tok.count(TEXT) + 2
    lines = invoke(*count, "--file", text, "--file", tmp_path / "b.txt").out.splitlines()
    assert lines[-1].endswith(" total")


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode"], ["count"], ["show"], ["decode"], ["encode", "a", "b"], ["encode", "a", "--file", "{text}"],
        ["encode", "--out", "x"], ["encode", "a", "--out", "x"], ["decode", "1", "--file", "{text}"],
        ["encode", "--file", "{text}", "--out", "x", "--shard-tokens", "0"],
    ],
)  # fmt: skip
def test_texts_and_files_that_are_missing_or_too_many(shop: Path, text: Path, arguments: list[str]) -> None:
    given = [argument.format(text=text) for argument in arguments]
    done = invoke("tokenizer", *given, "-t", shop / "subword")
    assert done.code == 2
    assert f"subgpt tokenizer {arguments[0]} --help" in done.line()


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "a", "-t", "none"],
        ["count", "--file", "none"],
        ["stats", "none"],
        ["decode", "--file", "none"],
    ],
)
def test_missing_files_are_named(shop: Path, arguments: list[str]) -> None:
    done = invoke("tokenizer", *arguments, "-t", shop / "subword")
    assert done.code == 1
    assert "none" in done.line()


def test_show_puts_tokenizers_under_each_other(shop: Path) -> None:
    done = invoke("tokenizer", "show", "-t", shop / "subword", "-t", shop / "char", "--bytes", "The cat")
    assert done.code == 0
    assert done.out.index("subword") < done.out.index("char, ")
    assert "6174" in done.out
    assert done.out.count("bytes per token") == 2


def test_show_keeps_a_split_character_whole(shop: Path) -> None:
    done = invoke("tokenizer", "show", "-t", shop / "subword", "--bytes", "a🙂b\nc")
    top, ids, raw = done.out.splitlines()[:3]
    assert top.split() == ["a", "🙂", "b", "⏎"]
    assert ids.split()[1] == "240+159+153+130"
    assert raw.split()[1] == "f0+9f+99+82"
    assert "9 tokens" not in done.out


def test_show_steers_no_terminal(shop: Path) -> None:
    done = invoke("tokenizer", "show", "-t", shop / "subword", HOSTILE)
    assert not any(sign in done.out for sign in "\x00\x1b\u202e")
    assert "\\x00" in done.out
    assert "\\u202e" in done.out


def test_show_for_scripts(shop: Path) -> None:
    done = invoke("tokenizer", "show", "-t", shop / "subword", "é<|endoftext|>", "--json", "--allow-special")
    (told,) = json.loads(done.out)["tokenizers"]
    assert [token["id"] for token in told["tokens"]] == [195, 169, 299]
    assert [token["kind"] for token in told["tokens"]] == ["ordinary", "ordinary", "special"]
    assert told["segments"][0] == {"text": "é", "tokens": 2}
    assert (told["count"], told["bytes"]) == (3, 15)


def test_show_writes_a_page(shop: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = invoke("tokenizer", "show", "-t", shop / "subword", "-", "--html", page, stdin=HOSTILE)
    assert (done.code, "page.html" in done.out) == (0, True)
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;" in html
    assert (
        "no/such"
        in invoke(
            "tokenizer", "show", "-t", shop / "subword", "a", "--html", tmp_path / "no/such.html"
        ).line()
    )


def test_stats(shop: Path, tmp_path: Path, text: Path) -> None:
    both = ("-t", shop / "subword", "-t", shop / "char")
    done = invoke("tokenizer", "stats", *both, text, "--plot", tmp_path / "p.svg", "--most", 3)
    assert done.code == 0, done.err
    assert "bytes per token" in done.out
    assert "never used" in done.out
    assert "<svg" in (tmp_path / "p.svg").read_text(encoding="utf-8")
    told = json.loads(invoke("tokenizer", "stats", *both, text, "--json").out)["tokenizers"]
    assert told[0]["tokens"] == Tokenizer.load(shop / "subword").count(TEXT)
    assert told[1]["characters_per_token"] == 1.0
    assert told[0]["dead"]


def test_a_plot_without_matplotlib_is_refused_before_the_work(
    shop: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stats = ("tokenizer", "stats", "-t", shop / "subword", text, "--plot")
    assert ".png" in invoke(*stats, tmp_path / "p.gif").line()
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert 'pip install "subgpt[plot]"' in invoke(*stats, tmp_path / "p.png").line()


def test_convert_is_told_what_ranks_do_not_say(shop: Path, tmp_path: Path) -> None:
    ranks, back = tmp_path / "ranks.tiktoken", tmp_path / "back"
    assert invoke("tokenizer", "convert", shop / "subword", "--out", ranks).code == 0
    assert "pattern" in invoke("tokenizer", "convert", ranks, "--out", back).line()
    told = ("--pattern", "gpt4", "--special-token", "<|endoftext|>")
    assert invoke("tokenizer", "convert", ranks, "--output", back, *told).code == 0
    again, first = Tokenizer.load(back), Tokenizer.load(shop / "subword")
    assert again.encode(TEXT).tolist() == first.encode(TEXT).tolist()
    assert again.special_tokens == first.special_tokens


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names([Path("/far/a/tok"), Path("/far/b/tok"), Path("x/gpt2")]) == ["a/tok", "b/tok", "gpt2"]
    assert short_names([Path("tok"), Path("tok")]) == ["tok", "tok"]
    assert short_names([Path("tok"), Path("b/tok")]) == ["tok", "b/tok"]
