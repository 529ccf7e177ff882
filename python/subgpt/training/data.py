"""What the loop needs to know of the data, and how running text, or ids that were made of it before, become it."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt.data.corpus import TokenCorpus, load_corpus
from subgpt.data.loader import Batches, WindowLoader, evaluation_batches
from subgpt.data.mixture import MixtureLoader, shares
from subgpt.data.packing import DocumentLoader, part_documents
from subgpt.data.permutation import counter_hash
from subgpt.data.token_sets import Named, TokenSet, default_weights, open_token_set
from subgpt.data.tokens import Tokens
from subgpt.errors import ConfigError, DataError
from subgpt.evaluation.measure import HeldOut
from subgpt.training.objective import NEXT_TOKEN, Objective

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource
    from subgpt.evaluation.probes import Probe
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.config import TrainConfig


Side: TypeAlias = Literal["val", "train"]


class Loader(Protocol):
    """Batches as a pure function of their number: the position in the data is an integer."""

    def batch(self, step: int) -> Any:
        """Give batch `step`, from 0, as the objective reads it.

        For that of the next token: ids uint32 (B, T) and targets int64 (B, T), or a `PackedBatch`.
        """


@dataclass(frozen=True)
class TrainingData:
    """A loader, what is held out (None: nothing), a fingerprint of both, lines worth telling, and the objective.

    tokens: what there is to learn from, counted once: the ids of running text, or the answers' tokens. probes: what is
    asked before and after the run, by name; no part of the fingerprint, since it trains nothing. padded: batches have
    places that teach nothing, and not all of them as many.
    """

    loader: Loader
    tokens: int
    held_out: HeldOut | None
    fingerprint: str
    notes: tuple[str, ...] = ()
    objective: Objective = NEXT_TOKEN
    probes: Mapping[str, "Probe"] = field(default_factory=dict)
    padded: bool = False


def text_data(source: "DocumentSource", tokenizer: "Tokenizer", config: "TrainConfig") -> TrainingData:
    """Read, divide and encode running text; every position of every window is a training example.

    `config` is resolved: its block_size is a number. With packing the documents of a window see nothing of each other;
    ConfigError if the tokenizer has no end-of-text id, which parts them.
    """
    block_size, eot_id = config.block_size or 1, _parting_id(tokenizer, config)
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


def token_data(named: "Sequence[Named]", tokenizer: "Tokenizer", config: "TrainConfig") -> TrainingData:
    """Open sets of ids that lie on the disk, and draw windows of each by its weight.

    `config` is resolved. What is held out is what the sets bring for it, all of it together. Raises DataError for a set
    that is damaged, of another tokenizer, or shorter than a window; ConfigError as `text_data`.
    """
    block_size, eot_id = config.block_size or 1, _parting_id(tokenizer, config)
    sets = [open_token_set(one.path, tokenizer, val_fraction=config.val_fraction) for one in named]
    trained = [one for one in sets if len(one.train)]
    if not trained:
        names = ", ".join(one.name for one in sets)
        raise DataError(f"{names}: nothing to train on, only to validate; name the files to train on as well")
    loaders = [_windows(one, number, block_size, config) for number, one in enumerate(trained)]
    weights = default_weights(sets, named)
    loader = loaders[0] if len(loaders) == 1 else MixtureLoader(loaders, weights, seed=config.seed)
    places = shares(weights)
    identity = "".join(f"{one.fingerprint} {share};" for one, share in zip(trained, places, strict=True))
    return TrainingData(
        loader=loader if eot_id is None else DocumentLoader(loader, eot_id),
        tokens=sum(len(one.train) for one in trained),
        held_out=_side_of(sets, "val", block_size, config.batch_size, eot_id),
        fingerprint=hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(),
        notes=(*(note for one in sets for note in one.notes), *_weights_note(trained, weights)),
    )


def _windows(one: TokenSet, number: int, block_size: int, config: "TrainConfig") -> WindowLoader:
    # The first has the seed itself: a set that is alone gives the batches of the text it was made from.
    seed = config.seed if number == 0 else int(counter_hash(config.seed, number)[0])
    try:
        return WindowLoader(one.train, block_size=block_size, batch_size=config.batch_size, seed=seed)
    except DataError as error:
        raise DataError(f"{one.name}: {error}") from None


def _weights_note(sets: Sequence[TokenSet], weights: Sequence[float]) -> list[str]:
    if len(sets) == 1:
        return []
    total = sum(weights)
    shares = (f"{one.name} {100 * weight / total:.3g} %" for one, weight in zip(sets, weights, strict=True))
    return [f"windows are drawn from {', '.join(shares)}"]


def held_out_sets(
    named: "Sequence[Named]", tokenizer: "Tokenizer", block_size: int, batch_size: int, side: Side = "val"
) -> HeldOut:
    """Take what sets of ids hold out, or with side="train" what they have to train on, to measure on it.

    Files that bring nothing to validate on are measured as a whole. Raises DataError for a set that is damaged or of
    another tokenizer, or if there is nothing on that side; ConfigError for weights.
    """
    if side not in ("val", "train"):
        raise ConfigError(f"side = {side!r}; give 'val' or 'train'")
    if weighed := next((one for one in named if one.weight is not None), None):
        raise ConfigError(
            f"{weighed.path}: has the weight {weighed.weight:g}, which is for training; leave it out"
        )
    share = 1.0 if side == "val" else 0.0
    sets = [open_token_set(one.path, tokenizer, val_fraction=share) for one in named]
    held_out = _side_of(sets, side, block_size, batch_size, None)
    if held_out is None:
        names = ", ".join(one.name for one in sets)
        other = {
            "val": "held out; name other data, or measure on side='train' (--side train)",
            "train": "to train on",
        }
        raise DataError(f"{names}: nothing in it is {other[side]}")
    return held_out


def _side_of(
    sets: Sequence[TokenSet], side: Side, block_size: int, batch_size: int, eot_id: int | None
) -> HeldOut | None:
    rows = [(one.val, one.val_bytes) if side == "val" else (one.train, one.train_bytes) for one in sets]
    parts = [
        held_out_tokens(tokens, size, block_size, batch_size, eot_id)
        for tokens, size in rows
        if len(tokens) > 1
    ]
    if not parts:
        return None
    sizes = [part.text_bytes for part in parts]
    ends = list(accumulate(len(part.batches) for part in parts))

    def make(number: int) -> Any:
        part = bisect_right(ends, number)
        return parts[part].batches[number - ends[part]]  # below zero: from the part's end

    return HeldOut(
        Batches(range(ends[-1]), make),
        sum(part.targets for part in parts),
        sum(sizes) if all(sizes) else 0,
    )


def _parting_id(tokenizer: "Tokenizer", config: "TrainConfig") -> int | None:
    """Give the id at which the documents of a window are kept apart; None if they are not."""
    if config.packing and tokenizer.eot_id is None:
        raise ConfigError(
            "packing = True parts documents at their end-of-text id, which this tokenizer has not; leave packing out"
        )
    return tokenizer.eot_id if config.packing else None


def held_out_text(
    corpus: TokenCorpus, block_size: int, batch_size: int, eot_id: int | None = None
) -> HeldOut:
    """Take every token of `corpus` but the first as a target, once, in windows that do not overlap.

    eot_id: where documents end, if those of a window see nothing of each other.
    """
    return held_out_tokens(corpus.tokens, corpus.text_bytes, block_size, batch_size, eot_id)


def held_out_tokens(
    tokens: Tokens, text_bytes: int, block_size: int, batch_size: int, eot_id: int | None = None
) -> HeldOut:
    """Do as `held_out_text` with ids wherever they lie; `text_bytes` is 0 where nobody knows them."""
    windows: Batches[Any] = evaluation_batches(tokens, block_size=block_size, batch_size=batch_size)
    if eot_id is not None:
        whole = windows
        windows = Batches(range(len(whole)), lambda number: part_documents(whole[number], eot_id))
    return HeldOut(windows, len(tokens) - 1, text_bytes)


def unknown_note(rows: Sequence[npt.NDArray[np.uint32]], tokenizer: "Tokenizer") -> list[str]:
    """Say how much of the data the tokenizer does not know: nothing, or one line."""
    if tokenizer.unk_id is None:
        return []
    unknown = sum(int(np.count_nonzero(row == tokenizer.unk_id)) for row in rows)
    share = 100 * unknown / max(1, sum(map(len, rows)))
    return [f"{unknown} tokens ({share:.2g} %) are <unk>: the tokenizer has not seen them"] if unknown else []


def fingerprint(arrays: Iterable[npt.NDArray[Any]]) -> str:
    """Give 32 hexadecimal digits that depend on every number in `arrays`."""
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(
            np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        )  # its own memory, not a copy
    return digest.hexdigest()
