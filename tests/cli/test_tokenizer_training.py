"""`subgpt tokenizer train`: sizes, formats, limits, and being interrupted."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from subgpt import Tokenizer
from subgpt.cli import meter
from subgpt.cli.commands.tokenizer import train as command
from subgpt.cli.sizes import parse_bytes, parse_sizes
from subgpt.units import in_bytes

from .conftest import invoke


def test_several_sizes_make_a_directory_each(shop: Path, tmp_path: Path) -> None:
    done = invoke(
        "tokenizer", "train", shop / "corpus", "--vocab-size", "280,300", "--output-dir", tmp_path / "toks"
    )
    assert done.code == 0, done.err
    small, large = (Tokenizer.load(tmp_path / "toks" / size) for size in ("280", "300"))
    assert (len(small), len(large)) == (280, 300)
    assert small == Tokenizer.train(shop / "corpus", vocab_size=280)
    assert "show -t" in done.err


def test_options_reach_the_training(shop: Path, tmp_path: Path) -> None:
    out = tmp_path / "tok"
    options = (
        "--max-token-length", 2, "--min-frequency", 3, "--pattern", "gpt2", "--max-memory", "64MiB",
    )  # fmt: skip
    assert invoke("tokenizer", "train", shop / "corpus", "--vocab-size", 290, *options, "-o", out).code == 0
    expected = Tokenizer.train(
        shop / "corpus", vocab_size=290, max_token_length=2, min_frequency=3, pattern="gpt2"
    )
    assert Tokenizer.load(out) == expected
    options = ("--level", "char", "--limit-alphabet", 5)
    assert invoke("tokenizer", "train", shop / "corpus", *options, "-o", tmp_path / "few").code == 0
    assert len(Tokenizer.load(tmp_path / "few")) == 7


def test_text_fields_and_broken_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"body": "a rose is a rose"}\n', encoding="utf-8")
    (tmp_path / "b.txt").write_bytes(b"broken \xff bytes")
    out = tmp_path / "tok"
    train = ("tokenizer", "train", "-o", out, "--level", "word")
    assert invoke(*train, tmp_path / "a.jsonl", "--text-field", "body").code == 0
    assert Tokenizer.load(out).token_to_id("rose") is not None
    assert "b.txt" in invoke(*train, tmp_path / "b.txt").line()
    assert invoke(*train, tmp_path / "b.txt", "--errors", "replace").code == 0


def test_other_formats(shop: Path, tmp_path: Path) -> None:
    train = ("tokenizer", "train", shop / "corpus", "--vocab-size", 280)
    assert invoke(*train, "-o", tmp_path / "t", "--format", "tiktoken").code == 0
    assert (tmp_path / "t" / "tokenizer.tiktoken").is_file()
    assert invoke(*train, "-o", tmp_path / "v", "--format", "vocab-merges").code == 0
    assert (tmp_path / "v" / "merges.txt").is_file()
    for name in ("t.gguf", "t.tiktoken"):
        assert invoke(*train, "-o", tmp_path / name).code == 0
        assert (tmp_path / name).is_file()
    assert Tokenizer.load(tmp_path / "t.gguf").vocab_size == 280


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--vocab-size", "8k"], ["--vocab-size", "'8k'"]),
        (["--vocab-size", "300,300"], ["twice"]),
        (["--vocab-size", ""], ["--vocab-size"]),
        (["--max-memory", "lots"], ["--max-memory", "2GiB"]),
        (["--format", "yaml"], ["'yaml'", "tiktoken"]),
        (["--level", "char", "--format", "tiktoken"], ["subwords only", "tokenizer.json"]),
        (["--level", "char", "-o", "{tmp}/t.gguf"], ["subwords only", "tokenizer.json"]),
        (["--vocab-size", "300,400", "-o", "{tmp}/t.json"], ["directory"]),
    ],
)
def test_what_an_option_cannot_be_is_wrong_usage(
    shop: Path, tmp_path: Path, options: list[str], words: list[str]
) -> None:
    given = [option.format(tmp=tmp_path) for option in options]
    done = invoke("tokenizer", "train", shop / "corpus", "-o", tmp_path / "t", *given)
    assert done.code == 2
    assert all(word in done.line() for word in (*words, "subgpt tokenizer train --help"))
    assert not list(tmp_path.iterdir())


def test_too_little_memory_is_a_warning_of_one_line(tmp_path: Path) -> None:
    done = invoke("tokenizer", "train", tmp_path, "--max-memory", "1k", "-o", tmp_path / "t")
    assert done.code == 1
    (tmp_path / "a.txt").write_text("a rose", encoding="utf-8")
    done = invoke("tokenizer", "train", tmp_path / "a.txt", "--max-memory", "1k", "-o", tmp_path / "t")
    assert done.code == 1
    assert "max_memory" in done.line()


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing_behind(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meter._Lines, "__call__", interrupt)
    done = invoke("tokenizer", "train", shop / "corpus", "--vocab-size", "300", "-o", tmp_path / "tok")
    assert (done.code, done.out, done.err) == (130, "", "subgpt: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_encoding_leaves_nothing_behind(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meter._Lines, "__call__", interrupt)
    encode = ("tokenizer", "encode", "-t", shop / "subword", "--file", shop / "corpus" / "a.txt")
    done = invoke(*encode, "--out", tmp_path / "shards")
    assert (done.code, done.out) == (130, "")
    assert list(tmp_path.iterdir()) == []


def test_a_bar_in_a_terminal(shop: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    parent, child = pty.openpty()
    (tmp_path / "a.txt").write_text(" ".join(f"w{i * i:x}" for i in range(200_000)), encoding="utf-8")
    command = [sys.executable, "-m", "subgpt.cli", "tokenizer", "train", str(tmp_path / "a.txt")]
    env = {**os.environ, "TERM": "xterm-256color"}
    options = ["-o", str(tmp_path / "tok"), "--vocab-size", "20000"]
    with subprocess.Popen([*command, *options], stdout=child, stderr=child, stdin=child, env=env) as process:
        os.close(child)
        screen = b""
        while process.poll() is None or screen[-1:] == b"":
            try:
                screen += os.read(parent, 65536)
            except OSError:
                break
    os.close(parent)
    assert process.returncode == 0
    assert b"left" in screen
    assert b"merging" in screen


def test_lines_in_a_log(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: now[0])
    with meter.metering() as show:
        for now[0] in (1.0, 11.0, 12.0, 25.0):
            show("merging", int(now[0]) * 1000, 40_000)
    told = capsys.readouterr().err.splitlines()
    assert told in (
        ["merging: 11,000 of 40,000, about 29 s left", "merging: 25,000 of 40,000, about 15 s left"],
        [],
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("2GiB", 2 << 30), ("1.5k", 1500), ("64 mib", 64 << 20), ("7b", 7)],
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MB", "2XB", "-1", "1e9", "²GB", "ib"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="memory"):
        parse_bytes(text)


@pytest.mark.parametrize("text", ["", ",", "8192,", "1.5", "-5", "8_192", "²"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_sizes(text)


def test_sizes_of_files_read_well() -> None:
    assert [in_bytes(size) for size in (0, 999, 1000, 10**6, 10**10)] == [
        "0 bytes", "999 bytes", "1.0 kB", "1.0 MB", "10.0 GB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--format", "tiktoken", "-o", "{shop}/subword"],
            "holds a tokenizer.json, which would be loaded instead",
        ),
        (
            ["--format", "vocab-merges", "-o", "{shop}/subword"],
            "holds a tokenizer.json, which would be loaded",
        ),
        (["-o", "{tmp}/t.gguf", "--pattern", "\\w+"], "llama.cpp has no name for"),
    ],
)
def test_what_could_not_be_saved_is_refused_before_the_training(
    untouched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.setattr(command, "_train", lambda *_: pytest.fail("trained"))
    given = [option.format(shop=untouched, tmp=tmp_path) for option in options]
    done = invoke("tokenizer", "train", untouched / "corpus", "--vocab-size", "300", *given)
    assert done.code == 1
    assert words in done.line()
    assert list(tmp_path.iterdir()) == []
