"""Whether a tokenizer and a model belong together."""

from typing import TYPE_CHECKING

from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


def check_fit(model: "GPT", tokenizer: "Tokenizer", verb: str) -> None:
    """Raise ConfigError, with `verb` in front, if the tokenizer has ids that the model has no embedding for.

    A model may have more: vocabularies are often rounded up to a multiple that is quick to multiply with.
    """
    if tokenizer.vocab_size > model.config.vocab_size:
        raise ConfigError(
            f"{verb}: the tokenizer has {tokenizer.vocab_size} tokens, the model a vocabulary of "
            f"{model.config.vocab_size}; they do not belong together: give the model's own tokenizer, or make "
            f"the model with vocab_size={tokenizer.vocab_size} or more"
        )
