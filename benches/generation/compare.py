"""How fast texts are written, beside other libraries: the same weights, the same prompt, greedy, by turns.

    python benches/generation/compare.py                                 # what is installed of the peers
    python benches/generation/compare.py --pairs 9 --weights bfloat16,int8 --json generation.json

The shape is GPT-2's with 124 million parameters, fresh weights; a prompt of random ids. What is measured:

- prefill: reading 128 and 512 tokens up to the first logits, tokens a second;
- decode: `--new` tokens after 128, tokens a second;
- eight: eight texts together, tokens a second of all (here and in transformers).

Each figure is the median over pairs, ours and the peer's one after the other; "best" is the fastest of each. Before
anything is timed the peer's greedy tokens in float32 must be ours; in fewer bits the first token must be among our ten
most probable. "of memory" is the share of what memory gives, measured by adding up an array of 1 GiB in both threads:
bytes of the weights a token, over the time of a token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import subgpt
from subgpt import _core

VOCABULARY = Path(__file__).parents[3] / "shared" / "data" / "vocab" / "gpt2"
GREEDY = subgpt.GenerationConfig(temperature=0, seed=1, ignore_eos=True)
PROMPT, LONG, EIGHT = 128, 512, 8


class Ours:
    """subgpt, its weights as `kind` says."""

    name = "subgpt"

    def __init__(self, folder: Path, kind: str) -> None:
        self.model, _ = subgpt.load(folder, quantize=None if kind == "float32" else kind)
        self._options = GREEDY.to_native()

    def prefill(self, ids: np.ndarray) -> None:
        self.model.native.session().append(ids)

    def decoder(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        """Read the prompt; what is timed is the rest."""
        session = self.model.native.session()
        session.append(ids)
        return lambda: session.run(new, self._options, []).tolist()

    def eight(self, ids: np.ndarray, new: int) -> Callable[[], None]:
        batch, sessions = _core.Batch(self.model.native), [self.model.native.session() for _ in range(EIGHT)]
        batch.append(sessions, [ids] * EIGHT)

        def run() -> None:
            for _ in range(new):
                drawn = batch.sample(sessions, [self._options] * EIGHT, [None] * EIGHT)
                batch.append(sessions, [[id] for id in drawn])

        return run

    def bytes(self) -> int:
        return int(self.model.native.memory(1, 1, False)["parameters"])


class Transformers:
    """Hugging Face transformers on PyTorch."""

    name = "transformers"
    kinds = ("float32", "bfloat16")

    def __init__(self, folder: Path, kind: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, kind)).eval()

    def _read(self, ids: np.ndarray, rows: int = 1) -> Any:
        given = self._torch.from_numpy(ids.astype(np.int64))[None].expand(rows, -1)
        with self._torch.inference_mode():
            return self._model(given, use_cache=True, logits_to_keep=1)

    def prefill(self, ids: np.ndarray) -> None:
        self._read(ids)

    def decoder(self, ids: np.ndarray, new: int, rows: int = 1) -> Callable[[], list[int]]:
        out, torch = self._read(ids, rows), self._torch

        def run() -> list[int]:
            # A loop of our own: `generate` takes longer.
            seen, cache, found = out.logits, out.past_key_values, []
            with torch.inference_mode():
                for _ in range(new):
                    drawn = seen[:, -1].argmax(-1, keepdim=True)
                    found.append(drawn[0, 0].item())
                    step = self._model(drawn, past_key_values=cache, use_cache=True)
                    seen, cache = step.logits, step.past_key_values
            return found

        return run

    def eight(self, ids: np.ndarray, new: int) -> Callable[[], Any]:
        return self.decoder(ids, new, EIGHT)


_FILES = {"float32": "f32", "bfloat16": "bf16", "int8": "q8_0", "int4": "q4_0"}


class LlamaCpp:
    """llama.cpp through llama-cpp-python, from a GGUF file that subgpt wrote."""

    name = "llama.cpp"
    kinds = ("float32", "bfloat16", "int8", "int4")

    def __init__(self, folder: Path, kind: str, threads: int) -> None:
        from llama_cpp import Llama

        from subgpt.gguf.model import save_gguf

        file = folder / f"{kind}.gguf"
        if not file.exists():
            model, tokenizer = subgpt.load(folder)
            save_gguf(model, file, tokenizer=tokenizer, quantize=_FILES[kind])
        self._llama = Llama(
            str(file), n_ctx=1024, n_threads=threads, n_threads_batch=threads, n_batch=512, verbose=False
        )

    def prefill(self, ids: np.ndarray) -> None:
        self._llama.reset()
        self._llama.eval(ids.tolist())

    def decoder(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        self.prefill(ids)
        llama = self._llama

        def run() -> list[int]:
            found = []
            for _ in range(new):
                found.append(int(llama.sample(temp=0.0)))
                llama.eval(found[-1:])
            return found

        return run

    eight = None


PEERS: list[Any] = [Transformers, LlamaCpp]


def main() -> None:
    args = arguments()
    subgpt.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = subgpt.GPTConfig.preset("gpt2")
        tokenizer = subgpt.Tokenizer.load(VOCABULARY) if VOCABULARY.exists() else None
        subgpt.GPT(config, seed=1).save(folder, tokenizer=tokenizer)
        ids = np.random.default_rng(1).integers(0, 50_000, LONG).astype(np.uint32)
        memory = memory_speed()
        print(f"memory gives {memory / 1e9:.1f} GB/s; instruction set {subgpt.isa()}, {args.threads} threads")
        results: list[dict[str, Any]] = []
        for kind in args.weights.split(","):
            results += measured(folder, kind, ids, memory, args)
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="float32,bfloat16,int8,int4")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--new", type=int, default=128, help="tokens to write")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="file for the figures")
    return parser.parse_args()


def memory_speed() -> float:
    """Measure how many bytes a second both threads read, at best."""
    from concurrent.futures import ThreadPoolExecutor

    parts = np.array_split(np.ones(1 << 28, dtype=np.float32), 2)
    best = 0.0
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            begin = time.perf_counter()
            list(pool.map(np.max, parts))
            best = max(best, 4 * (1 << 28) / (time.perf_counter() - begin))
    return best


def measured(
    folder: Path, kind: str, ids: np.ndarray, memory: float, args: argparse.Namespace
) -> list[dict[str, Any]]:
    """Take turns with each peer that is installed and knows this kind of weights."""
    ours, found = Ours(folder, kind), []
    for peer_class in PEERS:
        if kind not in peer_class.kinds:
            continue
        try:
            peer = peer_class(folder, kind, args.threads)
        except ImportError as error:
            print(f"{kind}: without {peer_class.name}: {error}")
            continue
        agree(ours, peer, kind, ids[:PROMPT])
        for what, tokens, ready in works(peer, ids, args.new):
            times: list[tuple[float, float]] = []
            for _ in range(args.pairs):
                times.append((timed(ready(ours)), timed(ready(peer))))
            ratio = statistics.median(theirs / mine for mine, theirs in times)
            mine, theirs = (tokens / min(one[side] for one in times) for side in (0, 1))
            share = f", {ours.bytes() * mine / memory:.0%} of memory" if what == "decode" else ""
            print(
                f"{kind:9} {what:12} {ratio:5.2f} x {peer.name}: best {mine:7.1f} and {theirs:7.1f} tokens/s{share}",
                flush=True,
            )
            found.append(
                {
                    "weights": kind,
                    "what": what,
                    "peer": peer.name,
                    "ratio": ratio,
                    "ours": mine,
                    "theirs": theirs,
                }
            )
    return found


def works(peer: Any, ids: np.ndarray, new: int) -> list[tuple[str, int, Callable[[Any], Any]]]:
    """List what is measured: a name, its tokens, and what makes a side ready for it."""
    prompt = ids[:PROMPT]
    listed: list[tuple[str, int, Callable[[Any], Any]]] = [
        ("prefill 128", PROMPT, lambda side: lambda: side.prefill(prompt)),
        ("prefill 512", LONG, lambda side: lambda: side.prefill(ids)),
        ("decode", new, lambda side: side.decoder(prompt, new)),
    ]
    if peer.eight is not None:
        listed.append(("eight", EIGHT * new, lambda side: side.eight(prompt, new)))
    return listed


def timed(run: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def agree(ours: Ours, peer: Any, kind: str, ids: np.ndarray) -> None:
    """Stop where the peer computes something else."""
    theirs = peer.decoder(ids, 8)()
    if kind == "float32":
        mine = ours.decoder(ids, 8)()
        if mine != theirs:
            raise SystemExit(f"{peer.name}: wrote {theirs}, not {mine}")
        return
    best = np.argsort(ours.model.forward(ids)[-1])[-10:]
    if theirs[0] not in best:
        raise SystemExit(f"{peer.name}, {kind}: began with {theirs[0]}, not with one of {best.tolist()}")


if __name__ == "__main__":
    main()
