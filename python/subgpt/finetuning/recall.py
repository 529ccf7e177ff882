"""What a model could say before: texts that it writes itself, to see later how well it still knows them.

Nobody may have the data that a base model was trained on; what the model itself draws from its distribution stands in
for it. Robins: "Catastrophic forgetting, rehearsal and pseudorehearsal", 1995.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from subgpt.checkpoint.load import read_json
from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.errors import CheckpointError
from subgpt.evaluation.measure import HeldOut
from subgpt.generation.config import GenerationConfig
from subgpt.generation.prompt import prompt_ids
from subgpt.model.gpt import GPT

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.config import TrainConfig

_LENGTH = 64


def recalled(
    model: GPT, tokenizer: "Tokenizer", config: "TrainConfig", output_dir: str | Path | None, resume: bool
) -> tuple[HeldOut | None, list[tuple[Path, list[list[int]]]]]:
    """Let the model write `config.recall_tokens` tokens, or read what it wrote before this run was interrupted.

    config: resolved. Gives None where there is nothing to be written; and what is to be kept, and where, once nothing
    is left that could refuse the run.
    """
    length = min(_LENGTH, config.block_size or 1, max(config.recall_tokens, 1))
    count = config.recall_tokens // length
    if count == 0 or length < 2:
        return None, []
    place = None if output_dir is None else RunDirectory(output_dir).recalled
    kept: list[tuple[Path, list[list[int]]]] = []
    if resume and place is not None and place.exists():
        rows = _kept(place, model)
    else:
        rows = np.stack([_write(model, tokenizer, length, config.seed + number) for number in range(count)])
        if place is not None:
            kept.append((place, rows.tolist()))
    ids, targets = rows[:, :-1].astype(np.uint32), rows[:, 1:]
    size = config.batch_size
    batches = [(ids[i : i + size], targets[i : i + size]) for i in range(0, len(ids), size)]
    return HeldOut(batches, targets.size), kept


def _kept(place: Path, model: GPT) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Read texts that were kept; CheckpointError if they are not of this model."""
    try:
        rows = np.array(read_json(place), dtype=np.int64)
    except (TypeError, ValueError, OverflowError):
        rows = np.empty(0, dtype=np.int64)
    inside = rows.ndim == 2 and rows.shape[1] > 1 and rows.size > 0
    if not inside or rows.min() < 0 or rows.max() >= model.config.vocab_size:
        raise CheckpointError(
            f"{place}: holds no texts of this model; remove it, and what is forgotten is measured from here on"
        )
    return rows


def _write(
    model: GPT, tokenizer: "Tokenizer", length: int, seed: int
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Draw one text of as many tokens, its beginning included, past the ends of documents."""
    session = model.native.session()
    session.append(prompt_ids(tokenizer, ""))
    options = GenerationConfig(seed=seed % (1 << 64))
    session.run(max(length - len(session.ids), 0), options.to_native(), [])
    return session.ids[:length].astype(np.int64)
