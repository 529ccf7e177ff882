"""How fast texts are written, beside other libraries: the same weights, the same prompt, greedy, by turns.

    python benches/generation/compare.py                                 # what is installed of the peers
    python benches/generation/compare.py --pairs 9 --weights bfloat16,int8 --json generation.json
    python benches/generation/compare.py --peers llama.cpp,openvino

The peers: `pip install torch transformers ctranslate2 openvino-genai optimum-intel[openvino] llama-cpp-python`, the
last one compiled for the machine (`CMAKE_ARGS=-DGGML_NATIVE=ON`). One that is missing is left out.

The shape is GPT-2's with 124 million parameters, fresh weights; a prompt of random ids. What is measured:

- prefill: reading 128 and 512 tokens up to the first logits, tokens a second;
- decode: `--new` tokens after 128, tokens a second;
- eight: eight texts together, tokens a second of all.

Each figure is the median over pairs, ours and the peer's one after the other; "best" is the fastest of each. "of
memory" is the median share of what memory gives just before ours, measured by reading an array of 1 GiB in both
threads: bytes of the weights a token, over the time of a token.

Before anything is timed each side proves what it computes: it continues eight prompts of 16 to 128 tokens by four, the
last one also eight times together, and our model in float32 says how probable these tokens are after what is before
them. With fresh weights many tokens are nearly as probable as the best one, so that few bits choose another; the same
token is no fair test. How far the logit of the chosen one is below the best is: counted in standard deviations of all
logits, of which a token by chance is 3.8 below. `BOUNDS` says what is let pass, on average; "off" is what was found.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from ours import Ours
from peers import EIGHT, Peer, Side
from peers.ctranslate import CTranslate2
from peers.llama import LlamaCpp
from peers.openvino import OpenVino
from peers.transformers import Transformers

import subgpt

VOCABULARY = Path(__file__).parents[3] / "shared" / "data" / "vocab" / "gpt2"
PROMPT, LONG = 128, 512
PEERS: dict[str, type[Peer]] = {each.name: each for each in (Transformers, LlamaCpp, OpenVino, CTranslate2)}
BOUNDS = {"float32": 0.01, "bfloat16": 0.05, "int8": 0.05, "int4": 0.5}
QUIET = 0.25  # seconds: threads of OpenMP wait for more work awake, by 0.2 s, and would take the other side's time


def main() -> None:
    args = arguments()
    subgpt.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = subgpt.GPTConfig.preset("gpt2")
        tokenizer = subgpt.Tokenizer.load(VOCABULARY) if VOCABULARY.exists() else None
        model = subgpt.GPT(config, seed=1)
        model.save(folder, tokenizer=tokenizer)
        ids = np.random.default_rng(1).integers(0, 50_000, LONG).astype(np.uint32)
        memory = Memory(args.threads)
        print(
            f"memory gives {memory.speed() / 1e9:.1f} GB/s; instruction set {subgpt.isa()}, {args.threads} threads"
        )
        results: list[dict[str, Any]] = []
        for kind in args.weights.split(","):
            results += measured(model, folder, kind, ids, memory, args)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="float32,bfloat16,int8,int4")
    parser.add_argument("--peers", default=",".join(PEERS), help="of %(default)s")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--new", type=int, default=128, help="tokens to write")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


class Memory:
    """What memory gives, now."""

    def __init__(self, threads: int) -> None:
        self._parts = np.array_split(np.ones(1 << 28, dtype=np.float32), threads)
        self._pool = ThreadPoolExecutor(threads)

    def speed(self) -> float:
        """Measure how many bytes a second all threads read, the better of three."""

        def once() -> float:
            begin = time.perf_counter()
            list(self._pool.map(np.max, self._parts))
            return sum(part.nbytes for part in self._parts) / (time.perf_counter() - begin)

        return max(once() for _ in range(3))


def measured(
    model: subgpt.GPT, folder: Path, kind: str, ids: np.ndarray, memory: Memory, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Take turns with each peer that is installed and knows this kind of weights."""
    ours, found = Ours(folder, kind), []
    print(f"{kind:9} {ours.name}: off by {off(model, ours, kind, ids[:PROMPT]):.3f}", flush=True)
    for name in args.peers.split(","):
        if kind not in PEERS[name].kinds:
            continue
        try:
            peer = PEERS[name](folder, kind, args.threads)
        except (ImportError, FileNotFoundError) as error:
            print(f"{kind:9} without {name}: {error}")
            continue
        print(f"{kind:9} {name}: off by {off(model, peer, kind, ids[:PROMPT]):.3f}", flush=True)
        for what, tokens, ready in works(ids, args.new):
            times, shares = [], []
            for _ in range(args.pairs):
                limit = memory.speed() if what == "decode" else math.inf
                times.append((timed(ready, ours), timed(ready, peer)))
                shares.append(ours.bytes() * tokens / times[-1][0] / limit)
            ratio, share = (
                statistics.median(theirs / mine for mine, theirs in times),
                statistics.median(shares),
            )
            mine, theirs = (tokens / min(one[side] for one in times) for side in (0, 1))
            print(
                f"{kind:9} {what:12} {ratio:5.2f} x {name}: best {mine:7.1f} and {theirs:7.1f} tokens/s"
                + (f", {share:.0%} of memory" if share else ""),
                flush=True,
            )
            result = {"weights": kind, "what": what, "peer": name, "ratio": ratio}
            found.append({**result, "ours": mine, "theirs": theirs, "of_memory": share})
    return found


def works(ids: np.ndarray, new: int) -> list[tuple[str, int, Callable[[Side], Callable[[], Any]]]]:
    """List what is measured: a name, its tokens, and what makes a side ready for it."""
    prompt = ids[:PROMPT]
    return [
        ("prefill 128", PROMPT, lambda side: lambda: side.prefill(prompt)),
        ("prefill 512", LONG, lambda side: lambda: side.prefill(ids)),
        ("decode", new, lambda side: side.decoder(prompt, new)),
        ("eight", EIGHT * new, lambda side: side.eight(prompt, new)),
    ]


def timed(ready: Callable[[Side], Callable[[], Any]], side: Side) -> float:
    time.sleep(QUIET)
    run = ready(side)
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def off(model: subgpt.GPT, side: Side, kind: str, ids: np.ndarray) -> float:
    """Say how far below the best logits those of a side's tokens are; stop where it computes something else."""
    prompts = [ids[-length:] for length in range(len(ids) // EIGHT, len(ids) + 1, len(ids) // EIGHT)]
    below = [_below(model, prompt, side.decoder(prompt, 4)()) for prompt in prompts]
    below.append(_below(model, prompts[-1], side.eight(prompts[-1], 4)()))
    found = float(np.mean(below))
    if found > BOUNDS[kind]:
        raise SystemExit(
            f"{side.name}, {kind}: off by {found:.2f}, more than {BOUNDS[kind]}: {np.round(below, 2)}"
        )
    return found


def _below(model: subgpt.GPT, prompt: np.ndarray, written: list[int]) -> np.ndarray:
    read = np.concatenate([prompt, np.array(written[:-1], dtype=np.uint32)])
    logits = model.forward(read)[-len(written) :]
    chosen = logits[np.arange(len(written)), written]
    return (logits.max(axis=1) - chosen) / logits.std(axis=1)


if __name__ == "__main__":
    main()
