"""How soon the first token is there, beside llama.cpp: a new process, GPT-2 with 124 million parameters in bfloat16.

    python benches/generation/start.py
    python benches/generation/start.py --pairs 15 --json start.json

A process starts, loads the model and draws one token after a prompt of eight. Ours reads a folder as people publish
them, with safetensors in bfloat16; "gguf" is ours with the file that llama.cpp reads, which subgpt wrote in bfloat16.
The files lie in the page cache, and all modules are compiled, as pip leaves them. The sides take turns. What is printed
is the median over pairs of llama.cpp's time over ours, and the median times of both. Before anything is timed the first
tokens are compared: ours are the same from both files, and llama.cpp's is among the most probable ones to the model in
float32, as in `compare.py`, which says why not more can be asked.

- all: from before the process is started until its token is there: interpreter and imports are a part of it;
- load, first token: the parts of it within the process, without interpreter and imports. llama.cpp maps the file, and
  reads it with the first token: only their sum can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

IDS = np.arange(1000, 1008, dtype=np.uint32)
SIDES = ("subgpt", "gguf", "llama.cpp")
PARTS = ("all", "load", "first token")
BELOW = 0.3  # how far below the best logit that of a first token may be, in their standard deviations; by chance 3.8


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", help="file for the figures")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        parts, token = start(args.side, args.folder, args.threads)
        print(json.dumps(parts), flush=True)
        print(token())
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        logits = prepare(folder)
        check(logits, {side: watched(side, folder, args.threads)[1] for side in SIDES})
        times = [{side: watched(side, folder, args.threads)[0] for side in SIDES} for _ in range(args.pairs)]
    results = compared(times)
    for each in results:
        print(
            f"{each['part']:12} {each['ratio']:5.2f} x llama.cpp: {each['side']} {each['ours'] * 1e3:6.1f} ms, "
            f"llama.cpp {each['theirs'] * 1e3:6.1f} ms"
        )
    if args.json:
        Path(args.json).write_text(json.dumps(results, indent=1) + "\n")


def prepare(folder: Path) -> np.ndarray:
    """Write the model as both sides read it; give the logits of its first token in float32."""
    from peers.llama import gguf

    import subgpt

    model = subgpt.GPT(subgpt.GPTConfig.preset("gpt2"), seed=1)
    model.save(folder)
    gguf(folder, "bfloat16")
    publish(model.state_dict(), folder / "model.safetensors")
    return model.forward(IDS)[-1]


def check(logits: np.ndarray, tokens: dict[str, int]) -> None:
    """Stop where a side draws another first token than the model."""
    below = {side: float((logits.max() - logits[token]) / logits.std()) for side, token in tokens.items()}
    if max(below.values()) > BELOW or tokens["subgpt"] != tokens["gguf"]:
        raise SystemExit(f"other first tokens: {tokens}, below the best logit by {below}")


def publish(tensors: dict[str, np.ndarray], path: Path) -> None:
    """Write tensors in bfloat16, which NumPy has no type for: a header with names and places, and the numbers."""
    header, end = {}, 0
    for name, numbers in tensors.items():
        header[name] = {
            "dtype": "BF16",
            "shape": numbers.shape,
            "data_offsets": (end, end + 2 * numbers.size),
        }
        end += 2 * numbers.size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for numbers in tensors.values():
            file.write(halves(numbers).tobytes())


def halves(numbers: np.ndarray) -> np.ndarray:
    """Round to bfloat16, ties to even."""
    bits = numbers.view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def watched(side: str, folder: Path, threads: int) -> tuple[dict[str, float], int]:
    """Start a process and wait for its token, not for its end; give its times and the token."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--threads", str(threads)]
    begin = time.perf_counter()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        whole = time.perf_counter() - begin
        token = process.stdout.readline()
    if process.returncode:
        raise SystemExit(f"{side} ended with {process.returncode}")
    return {"all": whole, **json.loads(line)}, int(token)


def start(side: str, folder: Path, threads: int) -> tuple[dict[str, float], Callable[[], int]]:
    """Load and draw a token, in this process; give the times, and what tells the token."""
    if side == "llama.cpp":
        import llama_cpp  # noqa: F401  # imports are no part of the times below
        from peers.llama import LlamaCpp

        begin = time.perf_counter()
        llama = LlamaCpp(folder, "bfloat16", threads, texts=1)
        loaded = time.perf_counter()
        # It has drawn the first token by now, and would draw the second one to tell it.
        write = llama.decoder(IDS, 1)
    else:
        import subgpt

        subgpt.set_num_threads(threads)
        greedy = subgpt.GenerationConfig(temperature=0, seed=1, ignore_eos=True).to_native()
        begin = time.perf_counter()
        file = folder / "bfloat16.gguf" if side == "gguf" else folder
        model, _ = subgpt.load(file, quantize="bfloat16")
        loaded = time.perf_counter()
        session = model.native.session()
        session.append(IDS)
        drawn = session.run(1, greedy, [])

        def write() -> Sequence[int]:
            return drawn

    times = {"load": loaded - begin, "first token": time.perf_counter() - loaded}
    return times, lambda: int(write()[0])


def compared(times: list[dict[str, dict[str, float]]]) -> list[dict[str, str | float]]:
    """Set each of our sides beside llama.cpp, part by part."""
    found: list[dict[str, str | float]] = []
    for side in SIDES[:-1]:
        for part in PARTS:
            pairs = [(each[side][part], each["llama.cpp"][part]) for each in times]
            ratio = statistics.median(theirs / mine for mine, theirs in pairs)
            mine, theirs = (statistics.median(pair[at] for pair in pairs) for at in (0, 1))
            found.append({"side": side, "part": part, "ratio": ratio, "ours": mine, "theirs": theirs})
    return found


if __name__ == "__main__":
    main()
