"""Text to token shards: subgpt beside `datasets.map` with `tokenizers`, and beside nanoGPT's loop over documents.

A corpus of JSON Lines is drawn at random (words of a Zipf law, documents of some kilobytes, one in twenty a copy of an
earlier one), a tokenizer is trained on its beginning, and every side, in a process of its own, turns the corpus into
ids on the disk with that tokenizer. Printed are tokens per second and the peak of resident memory, summed over the
process and its children, as /proc has it twenty times a second (Linux). subgpt also hashes documents, removes the
copies and divides the sides; the others do not. All have to have made as many ids. What is not installed is left out:

    pip install tokenizers datasets
    python benches/data/prepare.py                            # 32 MB, half a minute
    python benches/data/prepare.py --size 2GB --processes 2
    python benches/data/prepare.py --sides subgpt --near-duplicates 0.8
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from subgpt import Tokenizer, prepare_data
from subgpt.cli.sizes import parse_bytes
from subgpt.units import in_bytes

SIDES = ("subgpt", "datasets", "nanogpt")
WORDS = 50_000


def draw_corpus(path: Path, size: int) -> None:
    """Write JSON Lines of about `size` bytes."""
    rng = np.random.default_rng(1)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = ["".join(rng.choice(letters[: 8 + i % 19], 2 + i % 9)) for i in range(WORDS)]
    recent: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            if recent and rng.random() < 0.05:
                text = recent[rng.integers(len(recent))]
            else:
                chosen = np.minimum(rng.zipf(1.2, int(rng.integers(50, 1500))), WORDS) - 1
                text = " ".join(words[i] for i in chosen.tolist()) + ".\n"
                recent = [*recent[-99:], text]
            file.write(json.dumps({"text": text}) + "\n")


def texts_of(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)["text"]


def run_subgpt(corpus: Path, tokenizer: Path, out: Path, processes: int, near: float | None) -> int:
    made = prepare_data(
        corpus, out, Tokenizer.load(tokenizer), processes=processes, near_duplicates=near, val_fraction=0.01
    )
    counts = made.manifest["sources"][0]
    print(
        f"removed {counts['exact_duplicates']} exact and {counts['near_duplicates']} near duplicates",
        flush=True,
    )
    # What was encoded, not what stays: the others keep the copies.
    return int(
        (made.train_tokens + made.val_tokens) * made.manifest["documents"]["read"] / counts["documents"]
    )


def run_datasets(corpus: Path, tokenizer: Path, out: Path, processes: int, near: float | None) -> int:
    del near
    import datasets
    from tokenizers import Tokenizer as Peer

    peer = Peer.from_file(str(tokenizer / "tokenizer.json"))
    end = peer.token_to_id("<|endoftext|>")

    def encode(batch):
        ids = [[*one.ids, end] for one in peer.encode_batch(batch["text"], add_special_tokens=False)]
        return {"ids": ids, "len": [len(row) for row in ids]}

    rows = datasets.load_dataset("json", data_files=str(corpus), split="train", cache_dir=str(out / "cache"))
    done = rows.map(
        encode, batched=True, remove_columns=rows.column_names, num_proc=processes if processes > 1 else None
    )
    total = int(np.sum(done["len"], dtype=np.uint64))
    ids = np.memmap(out / "train.bin", np.uint16, "w+", shape=(total,))
    at = 0
    for batch in done.with_format("numpy").iter(1024):
        row = np.concatenate(batch["ids"])
        ids[at : at + len(row)] = row
        at += len(row)
    ids.flush()
    return total


def run_nanogpt(corpus: Path, tokenizer: Path, out: Path, processes: int, near: float | None) -> int:
    del processes, near
    from tokenizers import Tokenizer as Peer

    peer = Peer.from_file(str(tokenizer / "tokenizer.json"))
    end = peer.token_to_id("<|endoftext|>")
    total = 0
    with (out / "train.bin").open("wb") as file:
        for text in texts_of(corpus):
            ids = peer.encode(text, add_special_tokens=False).ids
            ids.append(end)
            np.array(ids, np.uint16).tofile(file)
            total += len(ids)
    return total


def resident(process: int) -> int:
    """Bytes of memory of a process and all below it."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    total, waiting = 0, [process]
    while waiting:
        one = waiting.pop()
        waiting += parents.get(one, [])
        try:
            status = Path(f"/proc/{one}/status").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) << 10 for line in status.splitlines() if "VmRSS" in line), 0)
    return total


def measure(
    side: str, options: argparse.Namespace, corpus: Path, tokenizer: Path, out: Path
) -> dict[str, Any]:
    arguments = ["--one", side, "--corpus", corpus, "--tokenizer", tokenizer, "--out", out]
    arguments += ["--processes", options.processes]
    if options.near_duplicates is not None:
        arguments += ["--near-duplicates", options.near_duplicates]
    begin, peak = time.perf_counter(), 0
    process = subprocess.Popen(
        [sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )
    while process.poll() is None:
        peak = max(peak, resident(process.pid))
        time.sleep(0.05)
    seconds = time.perf_counter() - begin
    told = process.communicate()[0].splitlines()
    if process.returncode:
        raise SystemExit(f"{side}: failed with {process.returncode}")
    tokens = int(told[-1])
    size = corpus.stat().st_size
    print(
        f"{side:10} {seconds:8.1f} s  {tokens / seconds / 1e6:7.2f} M tokens/s  {size / seconds / 1e6:7.1f} MB/s  "
        f"peak {in_bytes(peak)}  {' '.join(told[:-1])}",
        flush=True,
    )
    return {"side": side, "tokens": tokens, "tokens_per_second": tokens / seconds, "peak_bytes": peak}


def check(found: list[dict[str, Any]]) -> None:
    """Stop where the sides encoded something else: what subgpt removed is known of documents, not of ids."""
    tokens = {row["side"]: row["tokens"] for row in found}
    if tokens and max(tokens.values()) > 1.03 * min(tokens.values()):
        raise SystemExit(f"other numbers of ids: {tokens}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=parse_bytes, default=32_000_000, help="of the corpus, as 32MB or 2GB")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--near-duplicates", type=float)
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES)
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    for name in ("--corpus", "--tokenizer", "--out"):
        parser.add_argument(name, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        work = {"subgpt": run_subgpt, "datasets": run_datasets, "nanogpt": run_nanogpt}[options.one]
        print(
            work(options.corpus, options.tokenizer, options.out, options.processes, options.near_duplicates)
        )
        return
    with tempfile.TemporaryDirectory() as folder:
        corpus, tokenizer = Path(folder, "corpus.jsonl"), Path(folder, "tok")
        draw_corpus(corpus, options.size)
        start = (text for _, text in zip(range(2000), texts_of(corpus), strict=False))
        Tokenizer.train(start, vocab_size=8192).save(tokenizer)
        print(f"corpus of {in_bytes(corpus.stat().st_size)}, {options.processes} process(es)", flush=True)
        found = []
        for side in options.sides:
            needs = {"subgpt": (), "datasets": ("datasets", "tokenizers"), "nanogpt": ("tokenizers",)}[side]
            if all(importlib.util.find_spec(name) for name in needs):
                out = Path(folder, side)
                out.mkdir()
                found.append(measure(side, options, corpus, tokenizer, out))
            else:
                print(f"{side:10} not installed")
        check(found)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
