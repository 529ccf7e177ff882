"""Getting a model ready for conversations: the special tokens of its template, and where its turns end."""

from typing import TYPE_CHECKING

from subgpt.data.chat import CHATML, choose_template, missing_special_tokens
from subgpt.tokenizer import add_special_tokens

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

_END = "<|im_end|>"


def prepare_chat(model: "GPT", tokenizer: "Tokenizer", chat_template: str) -> "Tokenizer":
    """Give the tokenizer with the special tokens that ChatML needs, and the model an embedding for each, in place.

    Only where ChatML is the choice, and then its end of a turn ends texts from now on. chat_template: as for
    `choose_template`. A model whose vocabulary was rounded up has room already.
    """
    if choose_template(chat_template, tokenizer, model.chat_template) != CHATML:
        return tokenizer
    larger = add_special_tokens(tokenizer, missing_special_tokens(CHATML, tokenizer))
    model.resize_embeddings(max(model.config.vocab_size, larger.vocab_size))
    end = larger.special_tokens[_END]
    ends = model.generation_config.get("eos_token_id", [])
    ends = list(ends) if isinstance(ends, list | tuple) else [ends]
    if end not in ends:
        model.generation_config = {**model.generation_config, "eos_token_id": [*ends, end]}
    return larger
