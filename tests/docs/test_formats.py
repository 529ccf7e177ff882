"""What the page on files says is in them, and what is written is what the page says."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import subgpt
from subgpt.finetuning.chat import prepare_chat

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
TEXTS = ["so much depends upon a red wheel barrow glazed with rain water\n" * 20] * 8
ANSWERS = [{"question": f"so much{' ' * n}?", "answer": "depends"} for n in range(8)]
PAIRS = [{"prompt": f"so much{' ' * n}?", "chosen": "depends", "rejected": "glazed"} for n in range(8)]


def rows(title: str) -> list[list[str]]:
    """Give the names in backquotes of each cell of the table under a heading."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ") and "---" not in line][1:]
    return [re.findall(r"`([^`]+)`", line) for line in lines]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = subgpt.Tokenizer.train(iter(TEXTS), level="char")
    model = subgpt.GPT(
        subgpt.GPTConfig(tokenizer.vocab_size, block_size=16, n_layer=1, n_head=1, n_embd=16), seed=1
    )
    out = tmp_path_factory.mktemp("formats") / "run"
    config = subgpt.TrainConfig(
        max_steps=8, eval_steps=4, save_steps=4, sample_steps=4, load_best_model_at_end=True, report_to="csv",
        output_dir=out,
    )  # fmt: skip
    subgpt.pretrain(model, tokenizer, iter(TEXTS), config, callbacks=())
    return out


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of fine-tuning, with a chat template and probes, and one on preferences."""
    tokenizer = subgpt.Tokenizer.train(iter(TEXTS), level="char")
    config = subgpt.GPTConfig(tokenizer.vocab_size, block_size=64, n_layer=1, n_head=1, n_embd=16)
    folder = tmp_path_factory.mktemp("tuned")
    model = subgpt.GPT(config, seed=1)
    tokenizer = prepare_chat(model, tokenizer, "chatml")
    short = subgpt.TrainConfig(max_steps=2, recall_tokens=32, chat_template="chatml")
    probes = {"seen": ANSWERS[:1]}
    subgpt.finetune(
        model, tokenizer, ANSWERS, short, probes=probes, output_dir=folder / "finetune", callbacks=()
    )
    subgpt.dpo(model, tokenizer, PAIRS, short, output_dir=folder / "dpo", callbacks=())
    return {"finetune": folder / "finetune", "dpo": folder / "dpo"}


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "dpo"])
def test_every_file_of_a_run_is_on_the_page(verb, run, tuned):
    run = {"pretrain": run, **tuned}[verb]
    named = {name for row in rows("A run directory") for name in row}
    for path in run.rglob("*"):
        place = path.relative_to(run).as_posix()
        if place.startswith("training/checkpoints/") or path.is_dir():
            continue
        assert place in named or place.removeprefix("training/") in named, place


def test_lines_of_metrics_have_the_fields_of_the_page(run):
    update, validation, _ = rows("metrics.jsonl")
    lines = [json.loads(line) for line in (run / "training" / "metrics.jsonl").read_text().splitlines()]
    assert {tuple(line) for line in lines} == {tuple(update), tuple(validation)}


def test_a_checkpoint_is_what_the_page_says(run):
    folders = sorted((run / "training" / "checkpoints").iterdir())
    assert {folder.name.split("-")[0] for folder in folders} == {"best", "step"}
    named = {name for row in rows("A checkpoint") for name in row}
    state = json.loads((folders[-1] / "state.json").read_text())
    assert {path.name for path in folders[-1].iterdir()} <= named
    section = PAGE.split("`state.json` holds ")[1].split("\n\n")[0]
    assert set(state) <= set(re.findall(r"`([^`]+)`", section))
    checksum = state.pop("checksum")
    text = json.dumps(state, sort_keys=True)
    assert hashlib.sha256(text.encode()).hexdigest() == checksum
    for name, expected in state["sha256"].items():
        assert hashlib.sha256((folders[-1] / name).read_bytes()).hexdigest() == expected
