"""What the processes of a test do: `program.py JOB`, a file that says what to train. Each says what it has."""

import json
import os
import sys
from hashlib import sha256
from pathlib import Path

from subgpt import GPT, GPTConfig, Tokenizer, TrainConfig, _core, dpo, finetune, pretrain
from subgpt.distributed.launch import find_group
from subgpt.training.callbacks import Callback

SHAPE = {"vocab_size": 300, "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 24}


class Stumbles(Callback):
    """Does something at a step, in the process that watches."""

    def __init__(self, step: int, what: str) -> None:
        self.step, self.what = step, what

    def on_step(self, event: object) -> None:
        if event.step == self.step and self.what == "interrupt":  # type: ignore[attr-defined]
            os.kill(os.getpid(), 2)


def main(job: dict) -> None:
    group = find_group()
    rank = 0 if group is None else group.rank
    tokenizer = Tokenizer.load(job["tokenizer"])
    shape = {**SHAPE, "vocab_size": tokenizer.vocab_size, **job.get("model", {})}
    if rank == job.get("spoil", {}).get("rank"):
        job = {**job, **job["spoil"]}
    model = GPT(GPTConfig(**shape), seed=job.get("seed", 7))
    verb = {"pretrain": pretrain, "finetune": finetune, "dpo": dpo}[job.get("verb", "pretrain")]
    watchers = [Stumbles(*job["stumble"])] if "stumble" in job else []
    if "spike" in job:
        spike_at(*job["spike"])
    if job.get("die") and rank == job["die"]["rank"]:
        fail_at(job["die"])
    run = verb(
        model,
        tokenizer,
        job["data"],
        TrainConfig(**job["train"]),
        output_dir=job.get("output_dir"),
        resume=job.get("resume", False),
        callbacks=None if job.get("watch") else watchers,
    )
    weights = model.state_dict()
    if model.active_adapter is not None:
        weights = _core.adapter_tensors(model.native, model.active_adapter)
    digest = sha256(b"".join(value.tobytes() for value in weights.values())).hexdigest()
    said = {
        "rank": rank,
        "losses": run.losses,
        "norms": run.grad_norms,
        "val_losses": run.val_losses,
        "weights": digest,
        "interrupted": run.interrupted,
        "rollbacks": len(run.rollbacks),
        "after": {name: seen.loss for name, seen in run.after.items()},
        "passes": model.native.dropout_state[1],
    }
    # In one write, so that the lines of processes do not mix.
    os.write(1, f"result:{json.dumps(said)}\n".encode())


def spike_at(step: int, loss: float) -> None:
    """Have an update's loss leap, once."""
    import subgpt.training.loop as module

    update, seen = module.update, []

    def leaping(*args: object, **options: object) -> object:
        if args[5] == step and not seen:
            seen.append(step)
            if module.is_spike(options["recent"], loss, options["spike_z_score"]):  # type: ignore[arg-type]
                raise module.spiked(args[0], options["recent"], loss, step)  # type: ignore[arg-type]
        return update(*args, **options)  # type: ignore[arg-type]

    module.update = leaping  # type: ignore[assignment]


def fail_at(what: dict) -> None:
    """Have this process fail in the middle of an update."""
    import subgpt.distributed.exchange as module

    reduce, count = module.Exchange.reduce, 0

    def failing(self: object, number: int, gradients: object) -> object:
        nonlocal count
        count += 1
        if count == what["exchange"]:
            if what["how"] == "raise":
                raise RuntimeError("a fault in the middle")
            os.kill(os.getpid(), 19 if what["how"] == "stop" else 9)
        return reduce(self, number, gradients)  # type: ignore[arg-type]

    module.Exchange.reduce = failing  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
