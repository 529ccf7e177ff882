"""`begin`: from a prompt to a text that has it and nothing else yet."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.generation.config import GenerationConfig
from subgpt.generation.healing import heal
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


def begin(model: "GPT", tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig) -> Beginning:
    """Start a text with `prompt`, after looking whether tokenizer and model belong together."""
    check_fit(model, tokenizer, "generate")
    ids = prompt_ids(tokenizer, prompt, settings.errors)
    as_it_is = decoder_after(tokenizer, prompt, settings)
    if not prompt or not settings.heals or settings.max_new_tokens == 0:
        return Beginning(_read(model, ids), as_it_is)
    session, healed = heal(model, tokenizer, ids, settings)
    if np.array_equal(healed, ids):
        return Beginning(session, as_it_is)
    decoder, start = tokenizer.decode_stream(), len(tokenizer.template[0])
    prompt_text = tokenizer.decode_stream().push_all(ids[start:])
    text = decoder.push_all(healed[start:])
    if not text.startswith(prompt_text):  # a decoder that changes what it has joined
        return Beginning(_read(model, ids), as_it_is)
    return Beginning(session, decoder, text[len(prompt_text) :], 1)


def _read(model: "GPT", ids: npt.NDArray[np.uint32]) -> _core.Session:
    session = model.native.session()
    session.append(ids)
    return session


def decoder_after(tokenizer: "Tokenizer", prompt: str, settings: GenerationConfig) -> "DecodeStream":
    """Make the decoder of what follows `prompt`."""
    decoder = tokenizer.decode_stream()
    if prompt:
        decoder.push_all(prompt_ids(tokenizer, prompt, settings.errors)[len(tokenizer.template[0]) :])
    elif settings.structure is not None:
        decoder.push(anchor(tokenizer))  # a grammar knows tokens as they are in the middle of a text
    return decoder
