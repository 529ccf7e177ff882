"""`chat` and `stream_chat`: messages in, the model's answer out, written as fine-tuning writes them."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from subgpt.generation.config import GenerationConfig
from subgpt.generation.conversation import Conversation
from subgpt.generation.stream import merge_options

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.generation.conversation import Messages
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


def chat(
    model: "GPT",
    tokenizer: "Tokenizer",
    messages: "Messages",
    *,
    config: GenerationConfig | None = None,
    chat_template: "ChatTemplate | str" = "auto",
    **options: Any,
) -> str:
    """Give the model's answer to the last of `messages`, without white space around it.

    messages: mappings with role ("system", "user" or "assistant") and content; the last one is the user's. They are
    written down as fine-tuning writes them, id for id: with `model.chat_template`, ChatML where the tokenizer has its
    two special tokens, or in the plain form (chat_template: see `subgpt.data.choose_template`). The answer ends where
    the template ends a turn, at the end of text, a stop text or max_new_tokens. options: those of `GenerationConfig`,
    over `config`. Of a conversation longer than the model's block the end is seen; `Conversation.fit` shortens one.

    Raises DataError for messages that the template refuses, or whose roles the plain form has no place for.
    """
    return "".join(
        stream_chat(model, tokenizer, messages, config=config, chat_template=chat_template, **options)
    )


def stream_chat(
    model: "GPT",
    tokenizer: "Tokenizer",
    messages: "Messages",
    *,
    config: GenerationConfig | None = None,
    chat_template: "ChatTemplate | str" = "auto",
    **options: Any,
) -> Iterator[str]:
    """Yield the answer in pieces as it is written: joined, what `chat` gives.

    The first error of an option or a message comes at once, not with the first piece.
    """
    settings = merge_options(model, config, options)
    return Conversation(model, tokenizer, chat_template=chat_template).answer(messages, settings)
