"""Tokens as clients see them: their text, their bytes, where they begin, how probable they were."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from subgpt.generation.writing import Found
    from subgpt.tokenizer import Tokenizer

Known: TypeAlias = "tuple[int, Found | None]"
"""An id and what the model thought of it; nothing for the first of a text, before which nothing is."""


class Spelling:
    """How the entries of a tokenizer are written."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self.tokenizer = tokenizer
        self._bytes = tokenizer._native.token_bytes()

    def bytes_of(self, id: int) -> bytes:
        """Give the bytes of an entry; none for an id that the tokenizer has not."""
        return self._bytes[id] if id < len(self._bytes) else b""

    def text_of(self, id: int) -> str:
        r"""Give the text of an entry; one that is no text by itself is written as OpenAI does, `bytes:\xe2\x82`."""
        data = self.bytes_of(id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)

    def places(self, before: Sequence[int], *, hidden: int) -> "Places":
        """Start to count where tokens begin in the text that follows `before`; the first `hidden` are no part of it."""
        return Places(self.tokenizer, before, hidden)


class Places:
    """Where each token begins, in characters: one in the middle of a character, where that character begins."""

    def __init__(self, tokenizer: "Tokenizer", before: Sequence[int], hidden: int) -> None:
        self._decoder, self._size, self._at = tokenizer.decode_stream(), tokenizer.vocab_size, 0
        self._hidden = max(0, hidden - len(before))
        known = np.array([id for id in before[hidden:] if id < self._size], dtype=np.uint32)
        self._decoder.push_all(known)

    def next(self, id: int) -> int:
        """Give where the next token begins."""
        at = self._at
        if self._hidden > 0:
            self._hidden -= 1
        elif id < self._size:  # a model may have more ids than its tokenizer, which stand for nothing
            self._at += len(self._decoder.push(id))
        return at


def completion_logprobs(spelling: Spelling, places: Places, tokens: Iterable[Known]) -> dict[str, Any]:
    """Lay tokens out as `/v1/completions` has them: four lists, with the token itself among its likeliest."""
    names, logprobs, tops, offsets = (
        list[str](),
        list[float | None](),
        list[dict[str, float] | None](),
        list[int](),
    )
    for id, found in tokens:
        name = spelling.text_of(id)
        names.append(name)
        offsets.append(places.next(id))
        logprobs.append(None if found is None else found[0])
        if found is None:
            tops.append(None)
            continue
        top = dict[str, float]()
        for other, logprob in found[1]:
            top.setdefault(spelling.text_of(other), logprob)
        top.setdefault(name, found[0])
        tops.append(top)
    return {"tokens": names, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


def chat_logprobs(spelling: Spelling, tokens: Iterable[Known]) -> dict[str, Any]:
    """Lay tokens out as `/v1/chat/completions` has them."""
    content = []
    for id, found in tokens:
        own, top = (0.0, []) if found is None else found
        others = [_chat_token(spelling, other, logprob) for other, logprob in top]
        content.append({**_chat_token(spelling, id, own), "top_logprobs": others})
    return {"content": content, "refusal": None}


def _chat_token(spelling: Spelling, id: int, logprob: float) -> dict[str, Any]:
    return {"token": spelling.text_of(id), "logprob": logprob, "bytes": list(spelling.bytes_of(id))}
