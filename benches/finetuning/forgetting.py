"""What fine-tuning forgets, with and without replay: a model of stories learns Shakespeare.

The model is llama2.c's stories260K; the old data is a sample of its stories, four fifths for replay, the rest to
measure on. Every run sees as many batches of the new data, so that what is gained is the same.

    python benches/finetuning/forgetting.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import subgpt

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=300, help="batches of the new data")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.0, 0.1, 0.25, 0.5])
    arguments = parser.parse_args()
    stories = (DATA / "corpora" / "tinystories_sample.txt").read_text()
    shakespeare = (DATA / "corpora" / "tinyshakespeare.txt").read_text()
    cut = 4 * len(stories) // 5
    print(f"{'replay':>8}{'steps':>8}{'new before':>12}{'after':>8}{'old before':>12}{'after':>8}")
    for ratio in arguments.ratios:
        model, tok = subgpt.load(DATA / "model" / "stories260K.bin")
        steps = round(arguments.steps / (1 - ratio))
        replay = {"replay_ratio": ratio} if ratio else {}
        config = subgpt.TrainConfig(
            max_steps=steps,
            learning_rate=1e-3,
            batch_size=8,
            block_size=256,
            eval_steps=0,
            eval_batches=40,
            **replay,
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
        print("{:>8.2f}{:>8}{:>12.3f}{:>8.3f}{:>12.3f}{:>8.3f}".format(ratio, steps, *losses), flush=True)


if __name__ == "__main__":
    main()
