"""Questions with answers as training data: the loss is taken on the answers only."""

from typing import TYPE_CHECKING, cast

from subgpt.data.examples import ExampleLoader, evaluation_example_batches
from subgpt.data.instruct import read_examples, split_examples
from subgpt.data.masking import TokenExample, preview, tokenize_examples
from subgpt.data.sniff import sniff_kind
from subgpt.evaluation.measure import HeldOut
from subgpt.training.data import TrainingData, fingerprint, text_data, unknown_note

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource
    from subgpt.data.instruct import ExampleSource
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.config import TrainConfig


def finetuning_data(
    source: "DocumentSource | ExampleSource", tokenizer: "Tokenizer", config: "TrainConfig"
) -> TrainingData:
    """Read running text or examples with answers: told apart by looking, and said in the notes."""
    kind = sniff_kind(source, text_field=config.text_field)
    if kind.kind == "text":
        made = text_data(cast("DocumentSource", source), tokenizer, config)
    else:
        made = example_data(cast("ExampleSource", source), tokenizer, config)
    return TrainingData(made.loader, made.tokens, made.held_out, made.fingerprint, (str(kind), *made.notes))


def example_data(source: "ExampleSource", tokenizer: "Tokenizer", config: "TrainConfig") -> TrainingData:
    """Read and divide examples by their prompt; `config` is resolved."""
    train, val, how = split_examples(
        read_examples(source, errors=config.errors), val_fraction=config.val_fraction, seed=config.seed
    )
    rows, held = tokenize_examples(train, tokenizer), tokenize_examples(val, tokenizer)
    block_size = config.block_size or 1
    loader = ExampleLoader(
        rows, block_size=block_size, batch_size=config.batch_size, seed=config.seed, pad=_pad(tokenizer)
    )
    return TrainingData(
        loader=loader,
        tokens=_trained(rows),
        held_out=held_out_examples(held, tokenizer, block_size, config.batch_size) if held else None,
        fingerprint=fingerprint([array for row in (*rows, *held) for array in (row.ids, row.trained)]),
        notes=(
            loader.describe(),
            how,
            *unknown_note([row.ids for row in (*rows, *held)], tokenizer),
            "the first example, as it is trained:",
            *preview(rows[0], tokenizer).splitlines(),
        ),
    )


def held_out_examples(
    examples: list[TokenExample], tokenizer: "Tokenizer", block_size: int, batch_size: int
) -> HeldOut:
    """Take every example once, with the loss on its answer; the end of text after it counts no bytes."""
    answers = [row.ids[row.trained & (row.ids != tokenizer.eot_id)] for row in examples]
    text_bytes = sum(len(tokenizer.decode_bytes(ids)) for ids in answers)
    pad = _pad(tokenizer)
    return HeldOut(
        lambda: evaluation_example_batches(examples, block_size=block_size, batch_size=batch_size, pad=pad),
        targets=_trained(examples),
        text_bytes=text_bytes,
    )


def _trained(examples: list[TokenExample]) -> int:
    return sum(int(row.trained.sum()) for row in examples)


def _pad(tokenizer: "Tokenizer") -> int:
    return 0 if tokenizer.eot_id is None else tokenizer.eot_id
