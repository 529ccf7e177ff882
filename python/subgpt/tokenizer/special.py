"""Special tokens for a tokenizer that is there already: new ids at the end, all others as they were."""

from __future__ import annotations

import json
from collections.abc import Iterable

from subgpt.errors import DtypeError, TokenizerError
from subgpt.tokenizer.arguments import has_surrogate, text_argument
from subgpt.tokenizer.tokenizer import Tokenizer


def add_special_tokens(tokenizer: Tokenizer, names: Iterable[str]) -> Tokenizer:
    """Make a tokenizer that knows more special tokens; a model's embeddings must grow to its `vocab_size`.

    Args:
        tokenizer: The tokenizer, which stays as it is.
        names: Names of special tokens, which get the next ids in this order. Those that are special tokens already
            are left out; an ordinary entry of that name becomes special and keeps its id.

    Raises:
        TokenizerError: A name is empty, or the tokenizer is of a kind that `Tokenizer.to_json` cannot write.
        DtypeError: A name is no text.

    >>> tok = Tokenizer.train(["so much depends"], vocab_size=260)
    >>> more = add_special_tokens(tok, ["<|im_start|>", "<|im_end|>"])
    >>> more.vocab_size - tok.vocab_size, more.token_to_id("<|im_end|>") == tok.vocab_size + 1
    (2, True)

    """
    if isinstance(names, str):
        raise DtypeError(f"names must be several names, not the one text {names!r}; put it in a list")
    wanted = [name for name in dict.fromkeys(names) if _checked(name) not in tokenizer.special_tokens]
    if not wanted:
        return tokenizer
    # tokenizer.json holds all that a tokenizer is; its added tokens are the part that grows.
    file = json.loads(tokenizer.to_json())
    free = tokenizer.vocab_size
    for name in wanted:
        known = tokenizer.token_to_id(name)
        entry = {"id": free if known is None else known, "content": name, "single_word": False}
        entry |= {"lstrip": False, "rstrip": False, "normalized": False, "special": True}
        file["added_tokens"] = [e for e in file["added_tokens"] if e["content"] != name]
        file["added_tokens"].append(entry)
        free += known is None
    file["added_tokens"].sort(key=lambda entry: entry["id"])
    return Tokenizer.from_json(json.dumps(file, ensure_ascii=False))


def _checked(name: str) -> str:
    if not text_argument("name", name) or has_surrogate(name):
        raise TokenizerError(f"the name of a special token is {name!r}; give a text with something in it")
    return name
