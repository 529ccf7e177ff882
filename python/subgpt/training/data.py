"""What the loop needs to know of the data, and how running text becomes it."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from subgpt.data.corpus import TokenCorpus, load_corpus
from subgpt.data.loader import Batch, WindowLoader, evaluation_batches
from subgpt.data.packing import DocumentLoader, PackedBatch, part_documents
from subgpt.errors import ConfigError
from subgpt.evaluation.measure import HeldOut
from subgpt.training.objective import NEXT_TOKEN, Objective

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource
    from subgpt.evaluation.probes import Probe
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.config import TrainConfig


class Loader(Protocol):
    """Batches as a pure function of their number: the position in the data is an integer."""

    def batch(self, step: int) -> Any:
        """Give batch `step`, from 0, as the objective reads it.

        For that of the next token: ids uint32 (B, T) and targets int64 (B, T), or a `PackedBatch`.
        """


@dataclass(frozen=True)
class TrainingData:
    """A loader, what is held out (None: nothing), a fingerprint of both, lines worth telling, and the objective.

    probes: what is asked before and after the run, by name; no part of the fingerprint, since it trains nothing.
    """

    loader: Loader
    tokens: int
    held_out: HeldOut | None
    fingerprint: str
    notes: tuple[str, ...] = ()
    objective: Objective = NEXT_TOKEN
    probes: Mapping[str, "Probe"] = field(default_factory=dict)


def text_data(source: "DocumentSource", tokenizer: "Tokenizer", config: "TrainConfig") -> TrainingData:
    """Read, divide and encode running text; every position of every window is a training example.

    `config` is resolved: its block_size is a number. With packing the documents of a window see nothing of each other;
    ConfigError if the tokenizer has no end-of-text id, which parts them.
    """
    block_size, eot_id = config.block_size or 1, tokenizer.eot_id if config.packing else None
    if config.packing and eot_id is None:
        raise ConfigError(
            "packing = True parts documents at their end-of-text id, which this tokenizer has not; leave packing out"
        )
    train, val, summary = load_corpus(
        source,
        tokenizer,
        val_fraction=config.val_fraction,
        seed=config.seed,
        text_field=config.text_field,
        errors=config.errors,
    )
    windows = WindowLoader(
        train.tokens, block_size=block_size, batch_size=config.batch_size, seed=config.seed
    )
    return TrainingData(
        loader=windows if eot_id is None else DocumentLoader(windows, eot_id),
        tokens=len(train),
        held_out=held_out_text(val, block_size, config.batch_size, eot_id) if len(val) else None,
        fingerprint=fingerprint([train.tokens, val.tokens]),
        notes=(*summary.describe(), *unknown_note([train.tokens, val.tokens], tokenizer)),
    )


def held_out_text(
    corpus: TokenCorpus, block_size: int, batch_size: int, eot_id: int | None = None
) -> HeldOut:
    """Take every token of `corpus` but the first as a target, once, in windows that do not overlap.

    eot_id: where documents end, if those of a window see nothing of each other.
    """

    def batches() -> "Iterable[Batch | PackedBatch]":
        windows = evaluation_batches(corpus.tokens, block_size=block_size, batch_size=batch_size)
        return windows if eot_id is None else (part_documents(window, eot_id) for window in windows)

    return HeldOut(batches, len(corpus) - 1, corpus.text_bytes)


def unknown_note(rows: Sequence[npt.NDArray[np.uint32]], tokenizer: "Tokenizer") -> list[str]:
    """Say how much of the data the tokenizer does not know: nothing, or one line."""
    if tokenizer.unk_id is None:
        return []
    unknown = sum(int(np.count_nonzero(row == tokenizer.unk_id)) for row in rows)
    share = 100 * unknown / max(1, sum(map(len, rows)))
    return [f"{unknown} tokens ({share:.2g} %) are <unk>: the tokenizer has not seen them"] if unknown else []


def fingerprint(arrays: Sequence[npt.NDArray[Any]]) -> str:
    """Give 32 hexadecimal digits that depend on every number in `arrays`."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
