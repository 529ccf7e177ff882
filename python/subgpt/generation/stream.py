"""`stream`: text as it is written, never half a character, never the beginning of a stop text."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.generation.config import SAMPLING, GenerationConfig
from subgpt.generation.healing import heal
from subgpt.generation.prompt import end_ids, prompt_ids
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer.results import DecodeStream


def stream(
    model: "GPT",
    tokenizer: "Tokenizer",
    prompt: str,
    *,
    config: GenerationConfig | None = None,
    **options: Any,
) -> Iterator[str]:
    """Yield what the model writes after `prompt`, in pieces: joined, `generate`'s text without the prompt.

    options: those of `GenerationConfig`, over `config`. A prompt that ends inside of a token is healed, as by
    `generate`. The first error of an option or the prompt comes at
    once, not with the first piece.
    """
    settings = merge_options(model, config, options)
    return pieces(begin(model, tokenizer, prompt, settings), tokenizer, settings)


class Beginning(NamedTuple):
    """A text that has its prompt and nothing else yet.

    Attributes:
        session: Goes on with it.
        decoder: Makes text of the ids that follow. It has decoded the prompt, because some tokenizers leave the space
            out that the first word of a text, and no other, begins with.
        text: What the prompt's healed token has beyond the prompt.
        written: How many of the new tokens that is: one or none.

    """

    session: _core.Session
    decoder: "DecodeStream"
    text: str = ""
    written: int = 0


def begin(model: "GPT", tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig) -> Beginning:
    """Start a text with `prompt`, after looking whether tokenizer and model belong together."""
    check_fit(model, tokenizer, "generate")
    ids = prompt_ids(tokenizer, prompt, settings.errors)
    if not prompt:
        return Beginning(_read(model, ids), tokenizer.decode_stream())
    decoder, start = tokenizer.decode_stream(), len(tokenizer.template[0])
    prompt_text = decoder.push_all(ids[start:])
    if not settings.token_healing or settings.max_new_tokens == 0:
        return Beginning(_read(model, ids), decoder)
    session, healed = heal(model, tokenizer, ids, settings)
    if np.array_equal(healed, ids):
        return Beginning(session, decoder)
    decoder = tokenizer.decode_stream()
    text = decoder.push_all(healed[start:])
    if not text.startswith(prompt_text):  # a decoder that changes what it has joined
        return begin(model, tokenizer, prompt, settings.replace(token_healing=False))
    return Beginning(session, decoder, text[len(prompt_text) :], 1)


def _read(model: "GPT", ids: npt.NDArray[np.uint32]) -> _core.Session:
    session = model.native.session()
    session.append(ids)
    return session


def merge_options(model: "GPT", config: GenerationConfig | None, options: dict[str, Any]) -> GenerationConfig:
    """Put `options` over what `config` sets, and that over what the model's own files say.

    Who gives a temperature or another rule of sampling wants to sample, whatever the files say.
    """
    settings = GenerationConfig(**options) if config is None else config.replace(**options)
    if settings.model_fields_set & set(SAMPLING):
        settings = settings.with_defaults(do_sample=True)
    return settings.with_defaults(**model.generation_config)


def pieces(start: Beginning, tokenizer: "Tokenizer", settings: GenerationConfig) -> Iterator[str]:
    """Yield what the model writes from `start` on, up to an id or text that ends it."""
    session, decoder = start.session, start.decoder
    guard = StopGuard(settings.stop)
    ends = frozenset(end_ids(tokenizer, settings))
    native = settings.to_native()
    piece = guard.push(start.text)
    if piece:
        yield piece
    for _ in range(settings.max_new_tokens - start.written):
        if guard.done:
            return
        token = session.sample(native)
        if token in ends:
            break
        session.append([token])
        piece = guard.push(decoder.push(token) if token < tokenizer.vocab_size else "")
        if piece:
            yield piece
    piece = guard.push(decoder.flush()) + guard.flush()
    if piece:
        yield piece


class StopGuard:
    """Lets text through up to the first stop text, holding back what may turn out to be the beginning of one.

    >>> guard = StopGuard(["END"])
    >>> [guard.push(piece) for piece in ("one E", "N", "tEN", "D more")], guard.done
    (['one ', '', 'ENt', ''], True)
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.done = False
        self._held = ""

    def push(self, piece: str) -> str:
        """Give the text that is certain after `piece`; empty once a stop text was met."""
        if self.done:
            return ""
        text = self._held + piece
        found = [at for stop in self.stops if (at := text.find(stop)) >= 0]
        if found:
            self.done, self._held = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self.stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Give what was held back and, as the text has ended, is no stop text after all."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """Measure the longest proper beginning of `stop` that `text` ends with."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
