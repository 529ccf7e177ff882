"""Questions with answers as training data: the loss is taken on the answers only."""

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from subgpt.data.chat import CHATML, ChatTemplate, choose_template, missing_special_tokens
from subgpt.data.examples import ExampleLoader, padding_id
from subgpt.data.form import PLAIN, Form
from subgpt.data.instruct import split_examples
from subgpt.data.masking import count_trained, preview
from subgpt.data.packing import PackedLoader
from subgpt.data.sniff import sniff_kind
from subgpt.data.token_sets import token_sources
from subgpt.errors import ConfigError
from subgpt.evaluation.evaluate import held_out_examples
from subgpt.training.data import TrainingData, fingerprint, text_data, token_data, unknown_note

if TYPE_CHECKING:
    from subgpt.data.documents import DocumentSource
    from subgpt.data.instruct import ExampleSource
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.config import TrainConfig


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
        tokens=count_trained(rows),
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
