import contextlib
import hashlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from subgpt.cli import main

TEXT = "".join(
    f"The {color} {animal} sat on the {thing} and sang to the moon.\n"
    for color in ("red", "green", "grey", "small")
    for animal in ("cat", "dog", "owl", "fox", "hen")
    for thing in ("mat", "hill", "roof", "old wall")
)
SHAPE = ("--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--block-size", "16", "--batch-size", "4")


@dataclass(frozen=True)
class Result:
    """What a command printed and how it ended."""

    code: int
    out: str
    err: str

    def line(self) -> str:
        """The one line of complaint; nothing else may be on standard error, and no traceback anywhere."""
        assert "Traceback" not in self.err + self.out
        complaints = [line for line in self.err.splitlines() if line.startswith("subgpt: error: ")]
        assert len(complaints) == 1, self.err
        return complaints[0]


def invoke(*arguments: object, stdin: str | bytes = "") -> Result:
    """Run the command line in this process, as the entry point does."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    streams = [io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", newline="") for data in (given, b"", b"")]
    with contextlib.ExitStack() as stack:
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            stack.callback(setattr, sys, name, getattr(sys, name))
            setattr(sys, name, stream)
        code = main([str(argument) for argument in arguments])
        for stream in streams[1:]:
            stream.flush()
    out, err = (stream.buffer.getvalue().decode() for stream in streams[1:])  # type: ignore[attr-defined]
    return Result(code, out, err)


def snapshot(folder: Path) -> dict[str, str]:
    """The content of every file below `folder`, locks aside."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "lock"
    }


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a corpus, questions, tokenizers and a run, all made by the commands under test."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "corpus").mkdir()
    for name, text in (("a.txt", TEXT), ("b.txt", TEXT.replace("moon", "sun"))):
        (folder / "corpus" / name).write_text(text, encoding="utf-8")
    rows = [f'{{"question": "Who sat on {i}?", "answer": "The cat sat on {i}."}}' for i in range(24)]
    (folder / "qa.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    for level, size in (("subword", 300), ("char", 60)):
        made = invoke(
            "tokenizer",
            "train",
            folder / "corpus",
            "--level",
            level,
            "--vocab-size",
            size,
            "-o",
            folder / level,
        )
        assert made.code == 0, made.err
    trained = invoke(
        "pretrain", "--data", folder / "corpus", "--tokenizer", folder / "subword", "-o", folder / "run",
        *SHAPE, "--max-steps", 4, "--eval-steps", 2,
    )  # fmt: skip
    assert trained.code == 0, trained.err
    return folder


@pytest.fixture
def untouched(shop: Path) -> Iterator[Path]:
    """The shop, which the test must leave exactly as it was."""
    before = snapshot(shop)
    yield shop
    assert snapshot(shop) == before
