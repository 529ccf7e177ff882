"""`evaluate`: how well a model predicts a text it has not seen."""

from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from subgpt.data.chat import choose_template
from subgpt.data.corpus import encode_corpus
from subgpt.data.documents import read_documents
from subgpt.data.examples import evaluation_example_batches, padding_id
from subgpt.data.form import PLAIN, Form
from subgpt.data.masking import TokenExample, count_trained
from subgpt.data.sniff import sniff_kind
from subgpt.data.token_sets import token_sources
from subgpt.errors import ConfigError
from subgpt.evaluation.measure import Evaluation, HeldOut, measure
from subgpt.model.fit import check_fit
from subgpt.training.data import Side, held_out_sets, held_out_text

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.data.documents import DocumentSource
    from subgpt.data.instruct import ExampleSource
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


def evaluate(
    model: "GPT",
    tokenizer: "Tokenizer",
    source: "DocumentSource | ExampleSource",
    *,
    block_size: int | None = None,
    batch_size: int = 16,
    text_field: str = "text",
    errors: Literal["replace", "strict"] = "strict",
    chat_template: "ChatTemplate | str" = "auto",
    side: Side = "val",
) -> Evaluation:
    """Measure loss, perplexity and bits per byte of `model` over the whole of `source`.

    Running text is cut into windows of `block_size` (the model's if not given) that do not overlap, so every
    token but the first is predicted once, the first of each window without context. Of questions with
    answers, the answers are; chat_template: how these are written, see `subgpt.data.choose_template`; the model's own
    is `model.chat_template`. Of ids that lie on the disk (a directory that `prepare_data` made, nanoGPT's or llm.c's
    files) what they hold out is measured, or with side="train" what they have to train on.

    Raises ConfigError if the tokenizer does not fit the model, DataError or MissingFileError if the source
    cannot be used, as prepared data of another tokenizer.
    """
    check_fit(model, tokenizer, "evaluate")
    width = model.config.block_size if block_size is None else block_size
    if not 1 <= width <= model.config.block_size:
        raise ConfigError(f"evaluate: block_size = {width}; give 1 to the model's {model.config.block_size}")
    held_out = held_out_source(
        source,
        tokenizer,
        block_size=width,
        batch_size=batch_size,
        text_field=text_field,
        errors=errors,
        form=Form(choose_template(chat_template, tokenizer, model.chat_template)),
        side=side,
    )
    return measure(model, held_out)


def held_out_source(
    source: "DocumentSource | ExampleSource",
    tokenizer: "Tokenizer",
    *,
    block_size: int,
    batch_size: int,
    text_field: str,
    errors: Literal["replace", "strict"],
    form: Form = PLAIN,
    side: Side = "val",
) -> HeldOut:
    """Take all of `source`, text or examples, which are written in `form`, as held-out data; of ids, one side."""
    named = token_sources(source)
    if named is not None:
        return held_out_sets(named, tokenizer, block_size, batch_size, side)
    if side != "val":
        raise ConfigError(f"side = {side!r} is for prepared data, which has two; leave it out")
    if sniff_kind(source, text_field=text_field).kind == "instruct":
        examples = form.read(cast("ExampleSource", source), errors)
        return held_out_examples(form.tokenize(examples, tokenizer), tokenizer, block_size, batch_size)
    documents = read_documents(cast("DocumentSource", source), text_field=text_field, errors=errors)
    return held_out_text(encode_corpus(documents, tokenizer), block_size, batch_size)


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
        targets=count_trained(examples),
        text_bytes=text_bytes,
    )
