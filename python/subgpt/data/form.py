"""How examples are written down, as plain text or with a chat template, and what is learnt of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from subgpt.data.chat import ChatTemplate, missing_special_tokens
from subgpt.data.instruct import Example, read_examples
from subgpt.data.masking import TokenExample, tokenize_examples
from subgpt.data.segments import LossOn

if TYPE_CHECKING:
    from subgpt.data.decoding import Errors
    from subgpt.data.instruct import ExampleSource
    from subgpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Form:
    """How examples are written down, and what is learnt of them.

    Attributes:
        template: The chat template; None: the plain form.
        loss_on: See `tokenize_examples`.

    """

    template: ChatTemplate | None = None
    loss_on: LossOn = "answers"

    def read(self, source: ExampleSource, errors: Errors) -> list[Example]:
        """Read examples; the order of roles is a chat template's to judge."""
        return read_examples(source, errors=errors, free_turns=self.template is not None)

    def tokenize(self, examples: list[Example], tokenizer: Tokenizer) -> list[TokenExample]:
        """Turn examples into ids."""
        return tokenize_examples(examples, tokenizer, template=self.template, loss_on=self.loss_on)

    def describe(self, examples: list[Example], tokenizer: Tokenizer) -> list[str]:
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
