"""Questions with answers as training data: the loss is taken on the answers only."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from subgpt.data.chat import CHATML, ChatTemplate, choose_template, missing_special_tokens
from subgpt.data.examples import ExampleLoader, evaluation_example_batches
from subgpt.data.instruct import Example, read_examples, split_examples
from subgpt.data.masking import TokenExample, preview, tokenize_examples
from subgpt.data.packing import PackedLoader
from subgpt.data.segments import LossOn
from subgpt.data.sniff import sniff_kind
from subgpt.data.token_sets import token_sources
from subgpt.errors import ConfigError
from subgpt.evaluation.measure import HeldOut
from subgpt.training.data import TrainingData, fingerprint, text_data, token_data, unknown_note

if TYPE_CHECKING:
    from subgpt.data.decoding import Errors
    from subgpt.data.documents import DocumentSource
    from subgpt.data.instruct import ExampleSource
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.config import TrainConfig


@dataclass(frozen=True)
class Form:
    """How examples are written down, and what is learnt of them.

    Attributes:
        template: The chat template; None: the plain form.
        loss_on: See `tokenize_examples`.

    """

    template: ChatTemplate | None = None
    loss_on: LossOn = "answers"

    def read(self, source: "ExampleSource", errors: "Errors") -> list[Example]:
        """Read examples; the order of roles is a chat template's to judge."""
        return read_examples(source, errors=errors, free_turns=self.template is not None)

    def tokenize(self, examples: list[Example], tokenizer: "Tokenizer") -> list[TokenExample]:
        """Turn examples into ids."""
        return tokenize_examples(examples, tokenizer, template=self.template, loss_on=self.loss_on)

    def describe(self, examples: list[Example], tokenizer: "Tokenizer") -> list[str]:
        """Say how examples are written, and what could surprise about it."""
        trained = {"answers": "the answers", "all": "all text", "last": "the last answer"}[self.loss_on]
        if self.template is None:
            return [f"written in the plain form; the loss is on {trained}"]
        lines = [f"written with the chat template {self.template.name}; the loss is on {trained}"]
        verbatim = sum(example.verbatim for example in examples)
        if verbatim:
            lines.append(
                f"{verbatim} examples have prompt + completion and are used as they are, without template"
            )
        missing = missing_special_tokens(self.template, tokenizer)
        if missing:
            lines.append(
                f"the tokenizer has no special tokens {', '.join(missing)}; they are ordinary text to it"
            )
        return lines


PLAIN = Form()


def choose_form(config: "TrainConfig", tokenizer: "Tokenizer", own: ChatTemplate | None = None) -> Form:
    """Choose how examples are written, as `config` asks; `own` is the model's template, if it has one.

    Raises ConfigError if ChatML was asked for and the tokenizer has not its tokens: taken as ordinary text, any message
    could end its turn by writing them.
    """
    template = choose_template(config.chat_template, tokenizer, own)
    missing = missing_special_tokens(CHATML, tokenizer) if template == CHATML else []
    if missing:
        raise ConfigError(
            f"chat_template = {config.chat_template!r}: the tokenizer has no special tokens {', '.join(missing)}; "
            "add them and their embeddings with subgpt.finetuning.chat.prepare_chat(model, tokenizer, 'chatml'), "
            "or use chat_template='plain' (--chat-template plain)"
        )
    return Form(template, config.loss_on)


def finetuning_data(
    source: "DocumentSource | ExampleSource",
    tokenizer: "Tokenizer",
    config: "TrainConfig",
    form: Form = PLAIN,
) -> TrainingData:
    """Read running text or examples with answers: told apart by looking, and said in the notes.

    Ids that lie on the disk are running text that was read before.
    """
    named = token_sources(source)
    if named is not None:
        return token_data(named, tokenizer, config)
    kind = sniff_kind(source, text_field=config.text_field)
    if kind.kind == "text":
        made = text_data(cast("DocumentSource", source), tokenizer, config)
    else:
        made = example_data(cast("ExampleSource", source), tokenizer, config, form)
    return replace(made, notes=(str(kind), *made.notes))


def example_data(
    source: "ExampleSource", tokenizer: "Tokenizer", config: "TrainConfig", form: Form = PLAIN
) -> TrainingData:
    """Read and divide examples by their prompt; `config` is resolved.

    Held-out examples have rows to themselves even where the others are packed: losses can then be compared.
    """
    examples = form.read(source, config.errors)
    train, val, how = split_examples(examples, val_fraction=config.val_fraction, seed=config.seed)
    rows, held = form.tokenize(train, tokenizer), form.tokenize(val, tokenizer)
    block_size = config.block_size or 1
    make_loader = PackedLoader if config.packing else ExampleLoader
    loader = make_loader(
        rows, block_size=block_size, batch_size=config.batch_size, seed=config.seed, pad=padding_id(tokenizer)
    )
    return TrainingData(
        loader=loader,
        tokens=_trained(rows),
        held_out=held_out_examples(held, tokenizer, block_size, config.batch_size) if held else None,
        fingerprint=fingerprint([array for row in (*rows, *held) for array in (row.ids, row.trained)]),
        notes=(
            loader.describe(),
            how,
            *form.describe(examples, tokenizer),
            *unknown_note([row.ids for row in (*rows, *held)], tokenizer),
            "the first example, as it is trained:",
            *preview(rows[0], tokenizer).splitlines(),
        ),
        padded=True,
    )


def held_out_examples(
    examples: list[TokenExample], tokenizer: "Tokenizer", block_size: int, batch_size: int
) -> HeldOut:
    """Take every example once, with the loss on what is trained; special tokens but <unk> count no bytes."""
    silent = [id for id in tokenizer.special_tokens.values() if id != tokenizer.unk_id]
    answers = [row.ids[row.trained & ~np.isin(row.ids, silent)] for row in examples]
    text_bytes = sum(len(tokenizer.decode_bytes(ids)) for ids in answers)
    pad = padding_id(tokenizer)
    return HeldOut(
        evaluation_example_batches(examples, block_size=block_size, batch_size=batch_size, pad=pad),
        targets=_trained(examples),
        text_bytes=text_bytes,
    )


def _trained(examples: list[TokenExample]) -> int:
    return sum(int(row.trained.sum()) for row in examples)


def padding_id(tokenizer: "Tokenizer") -> int:
    """Give the id that fills rows up: the end of text, where there is one; no loss is taken on it."""
    return 0 if tokenizer.eot_id is None else tokenizer.eot_id
