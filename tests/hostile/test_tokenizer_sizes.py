"""Texts of sizes that nobody tries before a user does: one word, or one line, that is most of the memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from subgpt.errors import TokenizerError
from subgpt.tokenizer import Tokenizer


def test_a_word_of_100_mb():
    word = "a" * 100_000_000
    tok = Tokenizer.train(["ab" * 5 + " " + "a" * 64], vocab_size=270)
    ids = tok.encode(word)
    # However it is merged, what it is merged into is the text.
    assert tok.decode(ids) == word
    front = tok.encode(word[: 1 << 20])
    assert np.array_equal(ids[: len(front) // 2], front[: len(front) // 2])
    assert len(ids) < len(word) / 16


def test_a_word_longer_than_two_to_the_31_is_refused():
    tok = Tokenizer.train(["a b"], vocab_size=257)
    word = "a" * (1 << 31)
    with pytest.raises(TokenizerError, match="2147483648 bytes"):
        tok.encode(word)


COUNT_IN_LITTLE_MEMORY = """
import resource, sys
from subgpt.tokenizer import Tokenizer

tok = Tokenizer.load(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(tok.count_file(sys.argv[2]), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_one_line_of_1_gb_is_counted_in_little_memory(tmp_path: Path):
    tok = Tokenizer.train(["the cat sat on the mat"], vocab_size=270)
    tok.save(tmp_path / "tok")
    block = "the cat sat on the mat, " * 40_000
    times = 10**9 // len(block) + 1
    with (tmp_path / "line.txt").open("w") as file:
        for _ in range(times):
            file.write(block)
    done = subprocess.run(
        [sys.executable, "-c", COUNT_IN_LITTLE_MEMORY, str(tmp_path / "tok"), str(tmp_path / "line.txt")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    count, kilobytes = map(int, done.stdout.split())
    # Each sentence but the first begins with a space that the one before ends with.
    assert count == tok.count(block * 3) + (times - 3) * (tok.count(block * 3) - tok.count(block * 2))
    assert kilobytes < 100_000
