"""`begin`: from a prompt to a text that has it and nothing else yet."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.errors import InvalidValueError
from subgpt.generation.config import GenerationConfig
from subgpt.generation.healing import Healing
from subgpt.generation.prompt import prompt_ids
from subgpt.generation.structured import anchor
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer.results import DecodeStream


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


class Opening:
    """What a text is to begin with: read `ids`, then `finish`.

    Attributes:
        ids: What is to be read first (n,), uint32: the prompt, without what its healing decides on.

    """

    def __init__(
        self,
        model: "GPT",
        ids: npt.NDArray[np.uint32],
        decoder: "Callable[[], DecodeStream]",
        healing: tuple["Tokenizer", GenerationConfig] | None = None,
    ) -> None:
        self._model, self._make_decoder, self._healing = model, decoder, None
        self._decoder = decoder()
        self.prompt = self.ids = ids
        if healing is not None:
            self._tokenizer, self._settings = healing
            self._healing = Healing(self._tokenizer, ids)
            self.ids = self._healing.before

    def again(self, settings: GenerationConfig) -> "Opening":
        """Give the same for another text, whose end is healed as its own settings say; nothing is encoded again."""
        healing = None if self._healing is None else (self._tokenizer, settings)
        return Opening(self._model, self.prompt, self._make_decoder, healing)

    def finish(self, session: _core.Session) -> Beginning:
        """Go on from a session that has read `ids`."""
        if self._healing is None:
            return Beginning(session, self._decoder)
        session, healed = self._healing.finish(self._model, session, self._settings)
        if np.array_equal(healed, self.prompt):
            return Beginning(session, self._decoder)
        decoder, start = self._tokenizer.decode_stream(), len(self._tokenizer.template[0])
        prompt_text = self._tokenizer.decode_stream().push_all(self.prompt[start:])
        text = decoder.push_all(healed[start:])
        if not text.startswith(prompt_text):  # a decoder that changes what it has joined
            return Beginning(read(self._model, self.prompt), self._decoder)
        return Beginning(session, decoder, text[len(prompt_text) :], 1)


def open_text(model: "GPT", tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig) -> Opening:
    """Prepare a text that begins with `prompt`, after looking whether tokenizer and model belong together."""
    check_fit(model, tokenizer, "generate")
    ids = prompt_ids(tokenizer, prompt, settings.errors, parse_special=settings.parse_special)
    heals = prompt and settings.heals and settings.max_new_tokens > 0

    def decoder() -> "DecodeStream":
        return _decoder_after(tokenizer, prompt, settings, ids)

    return Opening(model, ids, decoder, (tokenizer, settings) if heals else None)


def open_ids(model: "GPT", tokenizer: "Tokenizer", given: Sequence[int]) -> Opening:
    """Do the same for ids. They are read as they are: nothing is put before them, and they are never healed."""
    check_fit(model, tokenizer, "generate")
    size = model.config.vocab_size
    try:
        ids = np.asarray(given)
    except ValueError:  # lists of several lengths
        ids = np.array([])
    if ids.ndim == 0:
        raise InvalidValueError(f"prompt is {type(given).__name__}; give a str or a list of token ids")
    if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= size:
        raise InvalidValueError(f"prompt: give one token id at least, each from 0 to {size - 1}")
    read_as = ids.astype(np.uint32)

    def decoder() -> "DecodeStream":
        made = tokenizer.decode_stream()
        made.push_all(read_as[read_as < tokenizer.vocab_size])
        return made

    return Opening(model, read_as, decoder)


def begin(model: "GPT", tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig) -> Beginning:
    """Start a text with `prompt`, after looking whether tokenizer and model belong together."""
    opening = open_text(model, tokenizer, prompt, settings)
    return opening.finish(read(model, opening.ids))


def read(model: "GPT", ids: npt.NDArray[np.uint32]) -> _core.Session:
    """Make a session that has read `ids`."""
    session = model.native.session()
    session.append(ids)
    return session


def _decoder_after(
    tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig, ids: npt.NDArray[np.uint32]
) -> "DecodeStream":
    """Make the decoder of what follows `prompt`, of which `ids` (n,) are the tokens."""
    if prompt:
        return decoder_after_ids(tokenizer, ids)
    decoder = tokenizer.decode_stream()
    if settings.structure is not None:
        decoder.push(anchor(tokenizer))  # a grammar knows tokens as they are in the middle of a text
    return decoder


def decoder_after_ids(tokenizer: "Tokenizer", ids: npt.NDArray[np.uint32]) -> "DecodeStream":
    """Make the decoder of what follows the ids of a prompt, which begin with what the tokenizer puts before a text."""
    decoder = tokenizer.decode_stream()
    decoder.push_all(ids[len(tokenizer.template[0]) :])
    return decoder
