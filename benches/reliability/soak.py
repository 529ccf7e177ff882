"""Let training or a server work for long, and see whether memory, threads or open files grow.

    python benches/reliability/soak.py train --minutes 30
    python benches/reliability/soak.py serve --minutes 30

`train` makes one run after the other in one process: training with evaluation, best weights and checkpoints in the
background, an interruption in the middle, resumption, then evaluation, saving, loading and generation. `serve` starts
`subgpt serve` with a model that is trained for it; clients read streams to their end, leave in the middle, announce
more than they send, and ask for nonsense. What keeps earlier texts is limited to 16 MiB, so that it is full by then.

Resident memory, threads and open files are looked at every second after `--warm-up`. The command ends with 1 where the
median of the last quarter is above that of the first (memory: by more than 4 MiB and 2 %; others: by more than 4), or
where an answer was neither what was asked for nor an error that is the client's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

from course import Course, Watch
from visitors import visits

import subgpt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "serving"))
from load import running

TEXTS = [f"so much depends upon a red wheel barrow glazed with rain water {n}\n" * 3 for n in range(40)]
# What a server may say to these clients.
FINE = {"200", "400", "404", "405", "413", "422", "429", "left", "gone"}


class Stop(subgpt.Callback):
    """Ends a run at a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step(self, event: object) -> None:
        if event.step == self.step:
            signal.raise_signal(signal.SIGINT)


def fresh(seed: int) -> tuple[subgpt.GPT, subgpt.Tokenizer]:
    tokenizer = subgpt.Tokenizer.train(iter(TEXTS), level="char")
    shape = subgpt.GPTConfig(
        vocab_size=tokenizer.vocab_size, block_size=64, n_layer=2, n_head=2, n_embd=64, dropout=0.1
    )
    return subgpt.GPT(shape, seed=seed), tokenizer


def settings(steps: int, seed: int) -> subgpt.TrainConfig:
    return subgpt.TrainConfig(
        max_steps=steps, batch_size=8, eval_steps=20, save_steps=10, learning_rate=3e-3, load_best_model_at_end=True,
        seed=seed,
    )  # fmt: skip


def life(folder: Path, seed: int) -> None:
    """Make a run from its beginning to a text, with an interruption."""
    model, tokenizer = fresh(seed)
    config = settings(120, seed)
    run = subgpt.pretrain(model, tokenizer, iter(TEXTS), config, output_dir=folder, callbacks=[Stop(65)])
    assert run.interrupted
    subgpt.pretrain(model, tokenizer, iter(TEXTS), config, output_dir=folder, resume=True, callbacks=[])
    loaded, words = subgpt.load(folder)
    subgpt.evaluate(loaded, words, iter(TEXTS[:4]))
    subgpt.generate(loaded, words, "so much", max_new_tokens=40, seed=seed)
    shutil.rmtree(folder)


def train(minutes: float, warm_up: float) -> Course:
    begin, lives, watch = time.monotonic(), 0, None
    with tempfile.TemporaryDirectory() as folder:
        while (now := time.monotonic() - begin) < warm_up + minutes * 60:
            if watch is None and now >= warm_up:
                watch = Watch("self")
            life(Path(folder) / f"run-{lives}", seed=lives)
            lives += 1
    assert watch is not None
    print(f"{lives} runs, each interrupted and resumed")
    return watch.close()


def serve(minutes: float, warm_up: float, visitors: int) -> tuple[Course, bool]:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "soak"
        model, tokenizer = fresh(1)
        subgpt.pretrain(model, tokenizer, iter(TEXTS), settings(120, 1), output_dir=run, callbacks=[])
        with running(str(run), []) as server:
            # What it says has to be read, or it waits for it.
            threading.Thread(target=server.process.stderr.read, daemon=True).start()
            asyncio.run(visits(server.port, warm_up, visitors))
            watch = Watch(server.process.pid)
            seen = asyncio.run(visits(server.port, minutes * 60, visitors))
            course = watch.close()
    for what, count in sorted(seen.items()):
        print(f"    {count:8d} {what}")
    return course, all(what.split()[-1] in FINE for what in seen)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["train", "serve"])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--warm-up", type=float, default=60, help="seconds that are not looked at")
    parser.add_argument("--visitors", type=int, default=12, help="clients at a time")
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    options = parser.parse_args()
    fine = True
    if options.what == "train":
        course = train(options.minutes, options.warm_up)
    else:
        course, fine = serve(options.minutes, options.warm_up, options.visitors)
    course.show(options.what)
    if options.json:
        found = {name: course.quarters(name) for name in ("mib", "threads", "files")}
        found |= {"slope_mib_an_hour": course.slope(), "grows": course.grows(), "fine": fine}
        options.json.write_text(json.dumps(found, indent=1) + "\n")
    sys.exit(0 if fine and not course.grows() else 1)


if __name__ == "__main__":
    main()
