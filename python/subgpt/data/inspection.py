"""What is in a set of examples, as a model would read it: counted, before anything is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subgpt.data.decoding import Errors
from subgpt.data.examples import fit_examples
from subgpt.data.instruct import ExampleSource, read_examples
from subgpt.data.masking import TokenExample, count_trained, tokenize_examples
from subgpt.data.segments import LossOn
from subgpt.data.sniff import SourceKind, sniff_kind
from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Inspection:
    """A set of examples, looked at.

    Attributes:
        kind: The format that was recognised.
        form: How conversations are written: the name of the template, or ``"plain"``.
        examples: All of them, as ids.
        verbatim: How many are prompts with completions, which are used as they are.
        trained: Tokens that are trained.
        masked: Tokens that are not.
        longest: Tokens of the longest example.
        block_size: What they were cut to; None: nothing was asked for.
        cut_prompts: Examples that lost the beginning of their prompt.
        cut_answers: Examples that lost the end of their answer.

    """

    kind: SourceKind
    form: str
    examples: Sequence[TokenExample]
    verbatim: int
    trained: int
    masked: int
    longest: int
    block_size: int | None
    cut_prompts: int
    cut_answers: int


def inspect_examples(
    source: ExampleSource,
    tok: Tokenizer,
    *,
    template: ChatTemplate | None = None,
    loss_on: LossOn = "answers",
    block_size: int | None = None,
    errors: Errors = "strict",
) -> Inspection:
    """Read examples as fine-tuning does, and count what a model would learn from them.

    Args:
        source: As for `read_examples`.
        tok: The model's tokenizer.
        template: As for `tokenize_examples`.
        loss_on: As for `tokenize_examples`.
        block_size: Most inputs in a row, to see what is cut.
        errors: ``"strict"`` or ``"replace"``, for bytes that are no text.

    Raises:
        MissingFileError, DataError: As for `read_examples` and `tokenize_examples`; running text.

    """
    kind = sniff_kind(source)
    if kind.kind == "text":
        raise DataError(f"{kind.why}: running text has no examples to look at; name a file with rows")
    examples = read_examples(source, errors=errors, free_turns=template is not None)
    rows = tokenize_examples(examples, tok, template=template, loss_on=loss_on)
    trained = count_trained(rows)
    fitted = None if block_size is None else fit_examples(rows, block_size, 1, 0)
    return Inspection(
        kind=kind,
        form="plain" if template is None else template.name,
        examples=rows,
        verbatim=sum(example.verbatim for example in examples),
        trained=trained,
        masked=sum(map(len, rows)) - trained,
        longest=max(map(len, rows)),
        block_size=block_size,
        cut_prompts=0 if fitted is None else fitted.cut_prompts,
        cut_answers=0 if fitted is None else fitted.cut_answers,
    )
