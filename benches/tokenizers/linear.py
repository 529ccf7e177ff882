"""Whether encoding takes time in proportion to the text: for 2n below 2.3 times that for n, whatever the text.

Every text is one that some tokenizer is slow for: a single piece of n characters, or one made of the vocabulary's own
merges. Median of pairs, n and 2n in turns, of the processor's time on one thread; no piece is met twice.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from corpus import SHARED

import subgpt
from subgpt import Tokenizer

VOCABULARIES = {"r50k": "r50k_base", "cl100k": "cl100k_base", "o200k": "o200k_base"}
SIZES = (100_000, 400_000, 1_000_000, 4_000_000)
MOST = 2.3
Text = Callable[[int], str]


def repeated(unit: str) -> Text:
    return lambda n: (unit * (n // len(unit) + 1))[:n]


def base64_text(n: int) -> str:
    return base64.b64encode(random.Random(n).randbytes(n)).decode()[:n]


def letters(n: int) -> str:
    return "".join(random.Random(n).choices("abcdefghijklmnopqrstuvwxyz", k=n))


def chains(tokenizer: Tokenizer) -> dict[str, str]:
    """Give the letters whose merges are the worst: tokens of which the most begin, or end, one another.

    In `left` every prefix of a token is a token, so that an encoder which goes by longest matches finds one at each
    byte and has to go back; in `right` every suffix is; the last letter is changed, so that the whole is no token.
    """
    names = {tokenizer.id_to_token(id) for id in range(tokenizer.vocab_size)}
    words = [name for name in names if name and name.isascii() and name.isalpha() and name.islower()]

    def depth(word: str, shorter: Callable[[str], str]) -> int:
        found = 0
        while len(word) > 1 and word in names:
            word = shorter(word)
            found += 1
        return found

    left = max(sorted(words), key=lambda word: depth(word, lambda w: w[:-1]))
    right = max(sorted(words), key=lambda word: depth(word, lambda w: w[1:]))
    return {"left": left, "right": right, "left cut": left[:-1], "right cut": right[1:]}


def fibonacci(left: str, right: str) -> Text:
    """Give words of two tokens in an order that never repeats, so that no look-ahead of any length settles it."""

    def text(n: int) -> str:
        before, word = left, left + right
        while len(word) < n:
            before, word = word, word + before
        return word[:n]

    return text


def texts(tokenizer: Tokenizer) -> dict[str, Text]:
    found: dict[str, Text] = {
        "a": repeated("a"),
        "^": repeated("^"),
        "space": repeated(" "),
        "newline": repeated("\n"),
        "digit": repeated("7"),
        "emoji": repeated("😀"),
        "joiner": repeated("\u200d"),
        "base64": base64_text,
        "letters": letters,
    }
    ends = chains(tokenizer)
    found |= {f"chain {name} {unit!r}": repeated(unit) for name, unit in ends.items()}
    found["two chains, never the same"] = fibonacci(ends["left"], ends["right cut"])
    return found


def encode_seconds(tokenizer: Tokenizer, text: str) -> float:
    # The processor's time: other work on the machine is not the text's fault.
    begin = time.process_time()
    tokenizer.encode_ordinary(text)
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vocabularies", nargs="*", default=list(VOCABULARIES), metavar="VOCABULARY")
    parser.add_argument("--pairs", type=int, default=5, help="pairs for a ratio (default 5)")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="n, in characters")
    parser.add_argument("--check", action="store_true", help=f"fail where a ratio is {MOST} or more")
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    arguments = parser.parse_args()
    subgpt.set_num_threads(1)
    heads = "".join(f"{f'n = {n:,}':>16}" for n in arguments.sizes)
    print(f"{'vocabulary':<12}{'text':<34}{heads}{'MB/s':>8}", flush=True)
    rows = []
    for name in arguments.vocabularies:
        tokenizer = Tokenizer.load(SHARED / "vocab" / "tiktoken" / f"{VOCABULARIES[name]}.tiktoken")
        for what, make in texts(tokenizer).items():
            ratios, rate = [], 0.0
            for n in arguments.sizes:
                both = []
                for turn in range(arguments.pairs):
                    # Other lengths each time, so that no piece is remembered.
                    short, long = make(n + turn), make(2 * (n + turn))
                    both.append((encode_seconds(tokenizer, short), encode_seconds(tokenizer, long)))
                ratios.append(statistics.median(b / a for a, b in both))
                rate = len(long.encode()) / 1e6 / statistics.median(b for _, b in both)
            rows.append({"vocabulary": name, "text": what, "ratios": ratios, "mb_per_second": rate})
            shown = "".join(f"{ratio:>15.2f}{'!' if ratio >= MOST else ' '}" for ratio in ratios)
            print(f"{name:<12}{what:<34}{shown}{rate:>8.1f}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    missed = sum(ratio >= MOST for row in rows for ratio in row["ratios"])
    if arguments.check and missed:
        sys.exit(f"{missed} ratios are {MOST} or more")


if __name__ == "__main__":
    main()
