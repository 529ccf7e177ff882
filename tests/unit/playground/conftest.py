"""Models as the playground is given them, and a run on the disk."""

from __future__ import annotations

from pathlib import Path

import pytest

import subgpt
from subgpt.serving.models import Served


@pytest.fixture
def served(model, tokenizer, tmp_path):
    """A tiny model that is served."""
    with subgpt.Engine(model, tokenizer) as engine:
        yield Served("plums", tmp_path / "plums", model, tokenizer, engine)


@pytest.fixture(scope="session")
def run_folder(tiny, tokenizer, poems, tmp_path_factory) -> Path:
    """A folder with the run `plums`, of six updates, and the tokenizer `letters`."""
    folder = tmp_path_factory.mktemp("runs")
    settings = subgpt.TrainConfig(
        max_steps=6,
        batch_size=2,
        eval_steps=3,
        eval_batches=1,
        sample_steps=2,
        sample_prompt="so",
        sample_tokens=4,
    )
    model = subgpt.GPT(tiny(), seed=1)
    subgpt.pretrain(model, tokenizer, poems, settings, output_dir=folder / "plums", callbacks=())
    tokenizer.save(folder / "more" / "letters")
    return folder
