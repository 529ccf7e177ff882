"""A disk that takes no more: files may not grow past a limit, so that writing fails half way."""

import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SHAPE, snapshot

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs ulimit")


def limited(kilobytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line with a limit on the size of every file it writes."""
    # bash counts in KiB, sh in half of them: either is far below what is written here.
    command = ["sh", "-c", f'ulimit -f {kilobytes}; exec "$@"', "sh", sys.executable, "-m", "subgpt.cli"]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("subgpt: error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_tokenizer_that_does_not_fit_leaves_the_old_one(untouched: Path) -> None:
    options = ("--vocab-size", 320, "-o", untouched / "subword")
    line = complaint(limited(1, "tokenizer", "train", untouched / "corpus", *options))
    assert "tokenizer" in line


def test_a_run_that_does_not_fit_names_the_file(untouched: Path, tmp_path: Path) -> None:
    given = ("--data", untouched / "corpus", "--tokenizer", untouched / "subword", "-o", tmp_path / "run")
    line = complaint(limited(4, "pretrain", *given, *SHAPE, "--max-steps", 2))
    assert str(tmp_path / "run") in line


def test_a_resumed_run_that_does_not_fit_keeps_its_checkpoint(shop: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = ("--data", shop / "corpus", "--tokenizer", shop / "subword", "-o", run, *SHAPE)
    assert limited(10**6, "pretrain", *given, "--max-steps", 2).returncode == 0
    kept = snapshot(run / "training" / "checkpoints")
    complaint(limited(8, "pretrain", "-o", run, "--resume", "--max-steps", 4))
    assert snapshot(run / "training" / "checkpoints") == kept


def test_a_preparation_that_does_not_fit_goes_on_when_there_is_room(shop: Path, tmp_path: Path) -> None:
    given = ("data", "prepare", shop / "corpus", "-t", shop / "subword", "-o", tmp_path / "out")
    line = complaint(limited(1, *given))
    assert str(tmp_path / "out") in line
    assert limited(10**6, *given).returncode == 0
    whole = ("data", "prepare", shop / "corpus", "-t", shop / "subword", "-o", tmp_path / "whole")
    assert limited(10**6, *whole).returncode == 0
    assert snapshot(tmp_path / "out") == snapshot(tmp_path / "whole")
