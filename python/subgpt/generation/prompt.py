"""From a prompt to the ids that a model begins with; the ids that end its text, and those it must not write."""

from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from subgpt.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from subgpt.generation.config import GenerationConfig
    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer.arguments import Specials


def prompt_ids(
    tokenizer: "Tokenizer",
    prompt: str,
    errors: Literal["replace", "strict"] = "replace",
    *,
    parse_special: bool = True,
) -> npt.NDArray[np.uint32]:
    """Encode `prompt` to at least one id, behind those that the tokenizer's template puts before every text.

    A prompt without any token, as an empty one, starts from the end-of-text token, after which every training
    document began; a tokenizer without one starts from id 0. Names of special tokens inside the prompt are these
    tokens, which is how a prompt can end a document, but without `parse_special`: then they are plain text.
    Characters that the tokenizer does not know become its `<unk>`, or raise TokenizerError if `errors` is "strict".
    """
    if not isinstance(prompt, str):
        raise InvalidValueError(
            f"prompt is {type(prompt).__name__}; give a str (GPT.generate and Engine.submit take token ids)"
        )
    before, _ = tokenizer.template
    allowed: Specials = "all" if parse_special else ()
    ids = tokenizer.encode(prompt, allowed_special=allowed, disallowed_special=(), errors=errors)
    if not parse_special or ids[: len(before)].tolist() != before:  # it may have them itself
        ids = np.concatenate([np.array(before, dtype=np.uint32), ids])
    if not len(ids):
        return np.array([0 if tokenizer.eot_id is None else tokenizer.eot_id], dtype=np.uint32)
    return ids


def end_ids(tokenizer: "Tokenizer", settings: "GenerationConfig") -> list[int]:
    """List the ids that end a text, each once: those asked for, and the end of text unless it is ignored."""
    ends = settings.eos_ids
    if tokenizer.eot_id is not None and not settings.ignore_eos:
        ends.append(tokenizer.eot_id)
    return list(dict.fromkeys(ends))


def bad_words_ids(tokenizer: "Tokenizer", words: "Sequence[str]") -> list[list[int]]:
    """Encode texts that must not be written, each as it begins a text and as it follows a space.

    A tokenizer cuts a word differently after a space, mostly into a token of its own. What it has no entry
    for it cannot write, so that nothing is to be forbidden.
    """
    found = [tokenizer.encode_ordinary(text).tolist() for word in words for text in (word, " " + word)]
    known = [ids for ids in found if ids and tokenizer.unk_id not in ids]
    return [ids for at, ids in enumerate(known) if ids not in known[:at]]
