"""Opening what a command works on: a saved model that has its tokenizer with it."""

from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.errors import MissingFileError

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


def load_with_tokenizer(run: Path) -> "tuple[GPT, Tokenizer]":
    """Load the model in `run` and its tokenizer, which must be there too."""
    from subgpt.checkpoint.load import load

    model, tokenizer = load(run)
    if tokenizer is None:
        raise MissingFileError(
            f"{run / 'tokenizer.json'}: no such file; copy the model's tokenizer.json beside it"
        )
    return model, tokenizer


def question_prompt(question: str) -> str:
    """Put a question as the fine-tuning data puts it."""
    from subgpt.data.instruct import format_question

    return format_question(question)
