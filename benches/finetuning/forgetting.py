"""What fine-tuning forgets, with and without replay, and with adapters: a model of stories learns Shakespeare.

The model is llama2.c's stories260K; the old data is a sample of its stories, four fifths for replay, the rest to
measure on. Every run sees as many batches of the new data. Adapters (over all linear layers) need a higher rate; their
runs go on to the gain of full training where they reach it.

    python benches/finetuning/forgetting.py
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import subgpt

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="batches of the new data")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.0, 0.1, 0.25, 0.5])
    parser.add_argument("--lora", type=int, nargs="*", default=[8, 32], help="ranks of adapters")
    parser.add_argument("--lora-rate", type=float, default=5e-3)
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    arguments = parser.parse_args()
    stories = (DATA / "corpora" / "tinystories_sample.txt").read_text()
    shakespeare = (DATA / "corpora" / "tinyshakespeare.txt").read_text()
    cut = 4 * len(stories) // 5
    print(
        f"{'method':>8}{'replay':>8}{'steps':>8}{'new before':>12}{'after':>8}{'old before':>12}{'after':>8}"
    )
    ways = [("full", ratio, {"learning_rate": 1e-3}) for ratio in arguments.ratios]
    for rank in arguments.lora:
        adapter = {"lora_r": rank, "learning_rate": arguments.lora_rate}
        ways += [(f"r = {rank}", ratio, adapter) for ratio in arguments.ratios[:2]]
    rows = []
    for method, ratio, settings in ways:
        model, tok = subgpt.load(DATA / "model" / "stories260K.bin")
        steps = round(arguments.steps / (1 - ratio))
        replay = {"replay_ratio": ratio} if ratio else {}
        config = subgpt.TrainConfig(
            max_steps=steps, batch_size=8, block_size=256, eval_steps=0, eval_batches=40, **settings, **replay
        )
        run = subgpt.finetune(
            model,
            tok,
            iter([shakespeare]),
            config,
            old_source=iter([stories[cut:]]),
            replay_source=iter([stories[:cut]]) if ratio else None,
            callbacks=(),
        )
        losses = [losses[name].loss for name in ("new", "old") for losses in (run.before, run.after)]
        print(
            f"{method:>8}{ratio:>8.2f}{steps:>8}" + "{:>12.3f}{:>8.3f}{:>12.3f}{:>8.3f}".format(*losses),
            flush=True,
        )
        names = ("new_before", "new_after", "old_before", "old_after")
        row = {"method": method, "replay": ratio, **dict(zip(names, losses, strict=True))}
        first = next((other for other in rows if other["method"] == method), row)
        forgotten = [each["old_after"] - each["old_before"] for each in (row, first)]
        rows.append({**row, "forgotten_less": 1 - forgotten[0] / forgotten[1]})
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
