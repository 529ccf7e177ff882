"""Small random checkpoints of every family, made by transformers, and what PyTorch says about them.

Where torch and transformers are, this writes them; where they are not, subgpt is held against them:

    python -m tests.parity.make.families references
    SUBGPT_REFERENCES=references python -m pytest tests/parity/test_models.py

Each name of `tests/parity/families.py` becomes a folder with `config.json`, `generation_config.json`, safetensors
and `reference.npz`. Results are for the weights as stored; what ends in `_f64`, `long_logits`, greedy ids and
gradients are computed in float64.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from subgpt import GPTConfig

from ..families import FAMILIES
from ..float64 import float64, in_float64

LENGTH = 48  # tokens of a row
PROMPTS, NEW = 32, 64  # prompts to choose from, and greedy ids after one
TIE = 1e-3  # a gap between best and second logit that rounding could close
STORED = {"mistral": torch.float16, "qwen2": torch.bfloat16}
SHARDED = {"llama-tied": "60KB"}
TRAINED = {"gpt2", "llama", "qwen3"}
MASKED = -100


def checkpoint(config: GPTConfig, folder: Path, dtype: torch.dtype, shard: str) -> torch.nn.Module:
    """Let transformers make and save a model, and give it as it is read back, in float32."""
    values = config.to_hf(bos_token_id=1, eos_token_id=2)
    for ours in ("subgpt", "torch_dtype", "rope_theta", "rope_scaling", "rope_local_base_freq"):
        values.pop(ours, None)  # what transformers from 5 on does not write itself
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values))
    with torch.no_grad():
        for weight in model.parameters():  # large enough for every part to matter, norms and biases too
            weight.add_(torch.randn_like(weight), alpha=0.1)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    return AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def random_ids(config: GPTConfig, *shape: int) -> torch.Tensor:
    """Draw tokens."""
    return torch.randint(config.vocab_size, shape)


def results(model: torch.nn.Module, config: GPTConfig) -> dict[str, torch.Tensor]:
    """Compute logits, loss, gradients and the logits of a sequence that fills all positions."""
    ids, long = random_ids(config, 2, LENGTH), random_ids(config, 1, config.block_size)
    labels = ids.clone()
    labels[0, :11] = labels[1, 20:27] = labels[1, -2:] = MASKED
    with torch.no_grad():
        single = model(ids, labels=labels)
    with float64():
        exact = in_float64(model)
        double = exact(ids, labels=labels)
        double.loss.backward()
        with torch.no_grad():
            far = exact(long).logits
    assert double.logits.dtype == far.dtype == torch.float64
    return {
        "input_ids": ids, "labels": labels, "long_input_ids": long, "long_logits": far.to(torch.float32),
        "logits": single.logits, "loss": single.loss, "logits_f64": double.logits, "loss_f64": double.loss,
        **{f"grad/{name}": weight.grad.to(torch.float32) for name, weight in exact.named_parameters()},
    }  # fmt: skip


def greedy(model: torch.nn.Module, config: GPTConfig, case: int, length: int) -> dict[str, torch.Tensor]:
    """Continue prompts of `length` tokens, and keep the text with most different tokens that was never near a tie."""
    prompts = random_ids(config, PROMPTS, length)
    options = {"attention_mask": torch.ones_like(prompts), "eos_token_id": None, "pad_token_id": 0}
    with float64():
        out = in_float64(model).generate(
            prompts, do_sample=False, max_new_tokens=NEW, output_logits=True, return_dict_in_generate=True, **options
        )  # fmt: skip
    best = torch.stack(out.logits).topk(2).values
    margins = (best[..., 0] - best[..., 1]).amin(0)
    different = torch.tensor([len(set(text[length:].tolist())) for text in out.sequences])
    kept = torch.where(margins > TIE, different, 0).argmax()
    assert margins[kept] > TIE
    return {
        f"prompt/{case}": prompts[kept],
        f"greedy/{case}": out.sequences[kept],
        f"greedy_margin/{case}": margins[kept],
    }


def train(model: torch.nn.Module, batches: torch.Tensor) -> torch.Tensor:
    """Give the loss before each step of AdamW, which decays every parameter."""
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, betas=(0.9, 0.98), eps=1e-7, weight_decay=0.05)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = model(batch, labels=batch).loss
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses)


def training(model: torch.nn.Module, config: GPTConfig) -> dict[str, torch.Tensor]:
    """Compute ten steps of AdamW; `model` is another one afterwards."""
    batches = random_ids(config, 10, 2, 25)
    with float64():
        exact = in_float64(model)
        losses = train(exact, batches)
    return {
        "adamw/batches": batches, "adamw/losses": train(model, batches), "adamw/losses_f64": losses,
        **{f"adamw/final_norm/{name}": weight.norm() for name, weight in exact.named_parameters()},
    }  # fmt: skip


def write_older_spelling(folder: Path) -> None:
    """Write the `config.json` of `folder` once more, as transformers before 5 had it, in a folder beside."""
    values = json.loads((folder / "config.json").read_text())
    rope = values.pop("rope_parameters")
    values |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope, "torch_dtype": values.pop("dtype")}
    older = folder.with_name(f"{folder.name}-old-config")
    older.mkdir(exist_ok=True)
    (older / "config.json").write_text(json.dumps(values, indent=2) + "\n")


def main(out: Path) -> None:
    """Write a folder for every family."""
    for seed, (name, config) in enumerate(FAMILIES.items()):
        torch.manual_seed(seed)
        folder = out / name
        model = checkpoint(config, folder, STORED.get(name, torch.float32), SHARDED.get(name, "1GB"))
        found = results(model, config) | greedy(model, config, 0, 1) | greedy(model, config, 1, 9)
        if name in TRAINED:
            found |= training(model, config)
        np.savez_compressed(
            folder / "reference.npz", **{key: value.detach().numpy() for key, value in found.items()}
        )
        off = (found["logits"] - found["logits_f64"]).abs().max()
        margin = min(found["greedy_margin/0"], found["greedy_margin/1"])
        print(f"{name}: float32 is off by {off:.1e}, least margin of greedy ids {margin:.1e}", flush=True)
    write_older_spelling(out / "llama3-rope")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
