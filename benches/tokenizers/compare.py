"""subgpt's tokenizer beside others, in pairs: encoding, decoding, cold starts and training.

Both sides are in one process and take turns; a row is the median of the pairs' ratios, with the median speeds
beside it. Ids are compared before anything is timed; of trained tokenizers, whose ties each breaks otherwise, the
numbers of entries are. Run where the peers are installed, with subgpt on the path:

    pip install gigatoken tiktoken rustbpe tokenizers
    python benches/tokenizers/compare.py                  # everything, some minutes
    python benches/tokenizers/compare.py encode decode    # some parts; --help names them
"""

# ruff: noqa: B023  (every closure is called within the turn of its loop)

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from corpus import SHARED, documents

import subgpt
from subgpt import Tokenizer

VOCABULARIES = {"o200k": "o200k_base", "cl100k": "cl100k_base", "gpt2": "r50k_base"}
CORES = sorted(os.sched_getaffinity(0))
Work = Callable[[], Any]


def ranks(name: str) -> Path:
    return SHARED / "vocab" / "tiktoken" / f"{VOCABULARIES[name]}.tiktoken"


def on_cores(count: int) -> None:
    os.sched_setaffinity(0, CORES[:count])
    subgpt.set_num_threads(count)


def seconds(work: Work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def pairs(ours: Work, theirs: Work, count: int) -> tuple[float, float, float]:
    """Run both in turns; give the median ratio (theirs to ours) and both median times."""
    both = [(seconds(ours), seconds(theirs)) for _ in range(count)]
    ratio = statistics.median(other / own for own, other in both)
    return ratio, *(statistics.median(times) for times in zip(*both, strict=True))


class Peers:
    """The others, with one vocabulary."""

    def __init__(self, name: str):
        import gigatoken
        import tiktoken
        from tiktoken.load import load_tiktoken_bpe

        self.ours = Tokenizer.load(ranks(name))
        self.gigatoken = gigatoken.Tokenizer.from_tiktoken(ranks(name))
        self.tiktoken = tiktoken.Encoding(
            name,
            pat_str=_PATTERNS[name],
            mergeable_ranks=load_tiktoken_bpe(str(ranks(name))),
            special_tokens=self.ours.special_tokens,
        )


_PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s",
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "o200k": (
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
}


class Table:
    """Rows as they come, and all of them as JSON at the end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        print(f"{'work':<58}{'peer':>12}{'ratio':>8}{'ours':>12}{'theirs':>12}", flush=True)

    def add(
        self,
        work: str,
        peer: str,
        measured: tuple[float, float, float],
        size: float,
        peaks: tuple[float, float] | None = None,
    ) -> None:
        ratio, ours, theirs = measured
        shown = [f"{size / t:.0f} MB/s" if size else f"{t * 1e3:.1f} ms" for t in (ours, theirs)]
        print(f"{work:<58}{peer:>12}{ratio:>7.2f}x{shown[0]:>12}{shown[1]:>12}", flush=True)
        row: dict[str, Any] = {"work": work, "peer": peer, "ratio": ratio, "ours_s": ours, "theirs_s": theirs}
        if peaks:
            print(f"    peak memory {peaks[0]:.0f} MB against {peaks[1]:.0f} MB")
            row |= {"ours_peak_mb": peaks[0], "theirs_peak_mb": peaks[1]}
        self.rows.append(row)


def same(ours: Any, theirs: Any, what: str) -> None:
    if not np.array_equal(np.asarray(ours, np.uint32), np.asarray(theirs, np.uint32)):
        raise SystemExit(f"{what}: other ids")


def flat(rows: Any) -> Any:
    import awkward as ak

    return ak.to_numpy(ak.flatten(rows))


def encode(table: Table, count: int) -> None:
    on_cores(1)
    docs = documents()
    text = "".join(docs)
    part = text[: len(text) // 8]
    size = len(text.encode()) / 1e6
    for name in VOCABULARIES:
        peers = Peers(name)
        ours, giga, tik = peers.ours, peers.gigatoken, peers.tiktoken
        same(ours.encode_ordinary(text), giga.encode(text), name)
        same(ours.encode_ordinary(part), tik.encode_ordinary(part), name)
        string = f"encode one string, {name}, 1 thread"
        table.add(
            string,
            "gigatoken",
            pairs(lambda: ours.encode_ordinary(text), lambda: giga.encode(text), count),
            size,
        )
        small = len(part.encode()) / 1e6
        measured = pairs(
            lambda: ours.encode_ordinary(part),
            lambda: tik.encode_to_numpy(part, disallowed_special=()),
            max(3, count // 3),
        )
        table.add(f"encode one string of {small:.0f} MB, {name}, 1 thread", "tiktoken", measured, small)
        batch = [
            lambda: ours.encode_batch(docs, disallowed_special=()),
            lambda: giga.encode_batch(docs, parallel=False),
        ]
        same(batch[0]()[0], flat(batch[1]()), name)
        table.add(f"encode documents, {name}, 1 thread", "gigatoken", pairs(*batch, count), size)


def short(table: Table, count: int) -> None:
    on_cores(1)
    text = "".join(documents())
    for name in VOCABULARIES:
        peers = Peers(name)
        for length in (100, 600, 2000):
            texts = [text[i : i + length] for i in range(0, len(text) // 2, length)]
            size = sum(len(t.encode()) for t in texts) / 1e6
            batch = [
                lambda texts=texts: peers.ours.encode_batch(texts, disallowed_special=()),
                lambda texts=texts: peers.gigatoken.encode_batch(texts, parallel=False),
            ]
            same(batch[0]()[0], flat(batch[1]()), name)
            table.add(f"encode texts of {length}, {name}, 1 thread", "gigatoken", pairs(*batch, count), size)


def threads(table: Table, count: int) -> None:
    docs = documents()
    size = sum(len(d.encode()) for d in docs) / 1e6
    for name in VOCABULARIES:
        on_cores(2)
        peers = Peers(name)
        batch = [
            lambda: peers.ours.encode_batch(docs, disallowed_special=()),
            lambda: peers.gigatoken.encode_batch(docs, parallel=True),
            lambda: peers.gigatoken.encode_batch(docs, parallel=False),
        ]
        same(batch[0]()[0], flat(batch[1]()), name)
        for other, mode in zip(batch[1:], ("parallel", "serial"), strict=True):
            table.add(
                f"encode documents, {name}, 2 threads", f"giga {mode}", pairs(batch[0], other, count), size
            )

        def one() -> None:
            on_cores(1)
            batch[0]()
            on_cores(2)

        table.add(f"encode documents, {name}, 2 threads", "our 1 thread", pairs(batch[0], one, count), size)


def cold(table: Table, count: int) -> None:
    """The first MB after loading, and loading with one sentence, each with a new tokenizer."""
    import gigatoken

    on_cores(1)
    text = "".join(documents())[:1_000_000]
    for name in VOCABULARIES:
        makers = [lambda: Tokenizer.load(ranks(name)), lambda: gigatoken.Tokenizer.from_tiktoken(ranks(name))]
        same(makers[0]().encode_ordinary(text), makers[1]().encode(text), name)
        first, load = [], []
        for _ in range(count):
            made, loading = [], []
            for make in makers:
                begin = time.perf_counter()
                tokenizer = make()
                getattr(tokenizer, "encode_ordinary", tokenizer.encode)("One sentence to begin with.")
                loading.append(time.perf_counter() - begin)
                tokenizer = make()
                made.append(seconds(lambda: getattr(tokenizer, "encode_ordinary", tokenizer.encode)(text)))
            first.append(made)
            load.append(loading)
        for what, times in (
            (f"first MB after loading, {name}", first),
            (f"load and one sentence, {name}", load),
        ):
            ratio = statistics.median(b / a for a, b in times)
            table.add(
                what, "gigatoken", (ratio, *(statistics.median(t) for t in zip(*times, strict=True))), 0
            )


def languages(table: Table, count: int) -> None:
    on_cores(1)
    files = sorted((SHARED / "unicode" / "udhr").glob("*.txt"))
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
    rng = random.Random(1)
    text = "".join("".join(rng.sample(lines, len(lines))) for _ in range(60))
    size = len(text.encode()) / 1e6
    for name in VOCABULARIES:
        peers = Peers(name)
        same(peers.ours.encode_ordinary(text), peers.gigatoken.encode(text), name)
        both = (lambda: peers.ours.encode_ordinary(text), lambda: peers.gigatoken.encode(text))
        table.add(
            f"{len(files)} languages shuffled, {name}, 1 thread", "gigatoken", pairs(*both, count), size
        )


def decode(table: Table, count: int) -> None:
    on_cores(1)
    docs = documents()[:800]
    size = sum(len(d.encode()) for d in docs) / 1e6
    for name in VOCABULARIES:
        peers = Peers(name)
        ours, theirs = peers.ours, peers.tiktoken
        ids = [ours.encode_ordinary(d) for d in docs]
        listed = [i.tolist() for i in ids]
        assert [ours.decode(i) for i in ids] == [theirs.decode(i) for i in listed] == docs

        def tik() -> None:
            for i in listed:
                theirs.decode(i)

        for what, given in (("", ids), (" from Python lists", listed)):
            both = (lambda given=given: [ours.decode(i) for i in given], tik)
            table.add(f"decode documents{what}, {name}", "tiktoken", pairs(*both, count), size)


_TRAINERS = {
    "subgpt": (
        "subgpt.set_num_threads(2); made = subgpt.Tokenizer.train(path, vocab_size=size)",
        "made.vocab_size",
    ),
    "gigatoken": (
        "made, _ = gigatoken.train_bpe("
        "gigatoken.TextFileSource([path], separator=b'<|endoftext|>'), size, ['<|endoftext|>'])",
        "len(made)",
    ),
    "rustbpe": (
        "made = rustbpe.Tokenizer(); made.train_from_iterator(documents(), size)",
        "len(made.get_mergeable_ranks())",
    ),
}
"""What trains on the file `path`, and the number of entries then."""


def train(table: Table, count: int) -> None:
    """Each training in a process of its own, since peak memory is asked for as well."""
    on_cores(2)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.txt"
        path.write_text("<|endoftext|>".join(documents()))
        for size in (8192, 32768):
            times: dict[str, list[float]] = {name: [] for name in _TRAINERS}
            memory: dict[str, float] = {}
            for _ in range(max(3, count // 3)):
                for name in _TRAINERS:
                    elapsed, peak = _train_once(name, path, size)
                    times[name].append(elapsed)
                    memory[name] = peak
            for peer in ("gigatoken", "rustbpe"):
                ratio = statistics.median(b / a for a, b in zip(times["subgpt"], times[peer], strict=True))
                medians = (statistics.median(times["subgpt"]), statistics.median(times[peer]))
                peaks = (memory["subgpt"], memory[peer])
                table.add(f"train {size}, 100 MB, 2 threads", peer, (ratio, *medians), 0, peaks)


def _train_once(name: str, path: Path, size: int) -> tuple[float, float]:
    call, entries = _TRAINERS[name]
    # rustbpe takes texts: it gets them as they are read, since the others do not have them all in memory either.
    script = f"""
import re, time, {name}
path, size = {str(path)!r}, {size}

def documents():
    rest = ""
    with open(path) as file:
        while chunk := file.read(1 << 20):
            *whole, rest = (rest + chunk).split("<|endoftext|>")
            yield from whole
    yield rest

begin = time.perf_counter()
{call}
elapsed = time.perf_counter() - begin
# Not getrusage, whose maximum a process inherits from the one that started it.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1e3
print(elapsed, peak, {entries})
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    elapsed, peak, made = done.stdout.split()[-3:]
    if int(made) != size:
        raise SystemExit(f"{name}: {made} entries instead of {size}")
    return float(elapsed), float(peak)


PARTS = {f.__name__: f for f in (encode, short, threads, cold, languages, decode, train)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--pairs", type=int, default=9, help="pairs for a row (default 9)")
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    arguments = parser.parse_args()
    table = Table()
    for part in arguments.parts:
        PARTS[part](table, arguments.pairs)
    if arguments.json:
        arguments.json.write_text(json.dumps(table.rows, indent=1))


if __name__ == "__main__":
    main()
