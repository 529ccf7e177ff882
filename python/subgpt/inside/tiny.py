"""A fresh model that is small enough to look into, made for one text."""

from subgpt.errors import InvalidValueError
from subgpt.model.config import GPTConfig
from subgpt.model.gpt import GPT
from subgpt.tokenizer import Tokenizer


def tiny_model(text: str, *, seed: int = 0) -> tuple[GPT, Tokenizer]:
    """Make a tokenizer of the characters of `text` and a model of some thousand weights that can read all of it.

    >>> model, tokenizer = tiny_model("a sentence")
    >>> tokenizer.tokens("a sentence")[:3], model.config.n_layer
    (['a', ' ', 's'], 2)
    """
    if not isinstance(text, str) or len(text) < 2:
        raise InvalidValueError("tiny_model: text has no two characters; give a sentence")
    tokenizer = Tokenizer.train([text], level="char", special_tokens=())
    block = len(tokenizer.encode_ordinary(text))
    config = GPTConfig(tokenizer.vocab_size, block_size=block, n_layer=2, n_head=2, n_embd=16)
    return GPT(config, seed=seed), tokenizer
