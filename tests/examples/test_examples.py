"""The examples run on the real data, in a tiny form, and print their tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEST = ("| loss on test data", "| loss on old data")


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        ("knowledge.py", (), ["| seen | exact match 0 of ", "| paraphrased | ", "loss on old data"]),
        (
            "voice.py",
            ("--voice", "VOICE"),
            ["loss on new data", "loss on old data", "sample    Once upon a time"],
        ),
        (
            "qa.py",
            (),
            [
                "| loss on test data",
                "| whole answers to it | exact match ",
                "| tokens of answers to it | tokens foretold ",
            ],
        ),
        (
            "speciality.py",
            ("maths",),
            [*TEST, "whole answers to it | right number ", "| tokens of its solutions | "],
        ),
        (
            "speciality.py",
            ("code",),
            [*TEST, "whole answers to it | exact match ", "| tokens of its solutions | "],
        ),
    ],
)
def test_an_example_runs(shared, script, more, said):
    data = shared / "data"
    more = [data / "corpora" / "books" / "the_time_machine.txt" if word == "VOICE" else word for word in more]
    words = [sys.executable, EXAMPLES / script, *more, "--data", data, "--steps", "2", "--held-out", "8"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    for words in said:
        assert words in done.stdout


def test_three_learning_rates_are_drawn(shared, tmp_path):
    pytest.importorskip("matplotlib")
    words = [sys.executable, EXAMPLES / "learning_rates.py", "--data", shared / "data", "--steps", "8"]
    words += ["-o", tmp_path / "rates.png"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 3 | too large | 4.23 | " in done.stdout
    assert "no number after step" in done.stdout
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")
