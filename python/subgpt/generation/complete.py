"""`complete`: texts after a prompt with what is known of them: why each ended, its tokens, how probable they were."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from subgpt import _core
from subgpt.errors import ConfigError
from subgpt.generation.beams import beam_search
from subgpt.generation.beginning import Opening, decoder_after_ids, open_text, read
from subgpt.generation.config import GenerationConfig
from subgpt.generation.prompt import end_ids
from subgpt.generation.reading import Reading
from subgpt.generation.stream import merge_options
from subgpt.generation.writing import FinishReason, Found, Writing, check_logprobs

if TYPE_CHECKING:
    import numpy.typing as npt

    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenLogprob:
    """A token and how probable the model thought it.

    Attributes:
        text: The token as `Tokenizer.id_to_token` shows it; empty for an id that the tokenizer has not.
        id: Its id.
        logprob: The logarithm of its probability under the model's own distribution, before all rules of
            sampling; None for the first token of a text, before which nothing is.
        top: The most probable tokens in its place, the best first, each without a `top` of its own.

    """

    text: str
    id: int
    logprob: float | None
    top: tuple["TokenLogprob", ...] = ()


@dataclass(frozen=True)
class Completion:
    """One text after a prompt.

    Attributes:
        text: What was written, up to a stop text; behind the prompt with `echo`.
        ids: The tokens of `text`, without one that ended it; the last may reach into a stop text.
        finish_reason: "stop" at an end of text, a stop text or the end of what a grammar lets; "length" at
            max_new_tokens.
        tokens: Each of `ids` with its log probability, if `logprobs` was given.

    """

    text: str
    ids: tuple[int, ...]
    finish_reason: FinishReason
    tokens: tuple[TokenLogprob, ...] | None = None


def complete(
    model: "GPT",
    tokenizer: "Tokenizer",
    prompt: str,
    *,
    logprobs: int | None = None,
    echo: bool = False,
    config: GenerationConfig | None = None,
    **options: Any,
) -> list[Completion]:
    """Write `num_return_sequences` texts after `prompt`, which is computed once for all of them, and never healed.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        prompt: What the texts begin with.
        logprobs: How many of the most probable tokens to list in the place of each token, beside the token's
            own log probability; 0: that alone; None: neither.
        echo: Put the prompt before each text, its ids and tokens likewise.
        config: Options, under the others.
        options: Those of `GenerationConfig`. Text i of `num_return_sequences` (also `n`) is that of
            `generate` with the seed `seed + i` (and token_healing=False); of a beam search it is the i-th best.

    Raises:
        ConfigError: An option cannot be, or greedy texts, which are all the same, are asked for several times.
        InvalidValueError: The rules leave no token that could come next.

    >>> import subgpt
    >>> tok = subgpt.Tokenizer.train(iter(["to be or not to be"]), level="char", special_tokens=())
    >>> model = subgpt.GPT(subgpt.GPTConfig.preset("nano", vocab_size=tok.vocab_size), seed=1)
    >>> first, second = subgpt.complete(model, tok, "to", n=2, seed=4, max_new_tokens=5, logprobs=0)
    >>> first.finish_reason, len(first.tokens), second.ids == subgpt.complete(
    ...     model, tok, "to", seed=5, max_new_tokens=5
    ... )[0].ids
    ('length', 5, True)

    """
    settings = merge_options(model, config, options)
    _check(settings, logprobs)
    # A healed token would belong to the prompt and to the text.
    opening = open_text(model, tokenizer, prompt, settings.replace(token_healing=False))
    ids, session = opening.ids, read(model, opening.ids)
    if settings.num_beams > 1:
        known = ids if prompt else np.empty(0, np.uint32)
        written = _search(session, tokenizer, known, settings, logprobs)
    else:
        written = _draw(session, tokenizer, opening, settings, logprobs)
    if not echo:
        return written
    tokens = (
        None if logprobs is None else _tokens(tokenizer, ids.tolist(), prompt_found(model, ids, logprobs))
    )
    return [
        Completion(
            prompt + one.text,
            (*ids.tolist(), *one.ids),
            one.finish_reason,
            None if tokens is None or one.tokens is None else tokens + one.tokens,
        )
        for one in written
    ]


def _check(settings: GenerationConfig, logprobs: int | None) -> None:
    check_logprobs(logprobs, "complete")
    if settings.num_return_sequences > 1 and settings.num_beams == 1 and settings.is_greedy:
        raise ConfigError(
            f"complete: num_return_sequences = {settings.num_return_sequences} texts of the most probable tokens are "
            "all the same; give a temperature above 0, or num_beams"
        )


def _draw(
    session: _core.Session,
    tokenizer: "Tokenizer",
    opening: Opening,
    settings: GenerationConfig,
    top: int | None,
) -> list[Completion]:
    """Draw texts, each with a seed of its own, on copies of the session."""
    count, written = settings.num_return_sequences, []
    for number in range(count):
        own = session if number == count - 1 else session.fork()
        seed = None if settings.seed is None else (settings.seed + number) % (1 << 64)
        start = opening.again(settings).finish(own)
        writing = Writing(start, tokenizer, settings.replace(seed=seed), top)
        text = "".join(writing)
        tokens = None if top is None else _tokens(tokenizer, writing.ids, writing.found)
        written.append(Completion(text, tuple(writing.ids), writing.finish_reason, tokens))
    return written


def _search(
    session: _core.Session,
    tokenizer: "Tokenizer",
    known: "npt.NDArray[np.uint32]",
    settings: GenerationConfig,
    top: int | None,
) -> list[Completion]:
    """Search for the most probable texts; `known` (n,) are the ids that were decoded before."""

    def cut(ids: list[int]) -> tuple[Reading, str]:
        reading = Reading(decoder_after_ids(tokenizer, known), settings.stop, tokenizer.vocab_size)
        text = "".join(reading.push(id) for id in ids)
        return reading, text + reading.finish()

    def is_stopped(ids: list[int]) -> bool:
        """Look for stop texts in a candidate, of which there are many at each token."""
        if not settings.stop:
            return False
        decoder, new = decoder_after_ids(tokenizer, known), np.array(ids, dtype=np.uint32)
        text = decoder.push_all(new[new < tokenizer.vocab_size]) + decoder.flush()
        return any(stop in text for stop in settings.stop)

    origin = session.fork()
    ends = end_ids(tokenizer, settings)
    written = []
    for beam in beam_search(session, settings, settings.to_native(tokenizer), ends, is_stopped):
        reading, text = cut(beam.ids)
        ids = beam.ids[: reading.kept]
        tokens = None if top is None else _tokens(tokenizer, ids, _found_after(origin, ids, top))
        written.append(Completion(text, tuple(ids), "stop" if beam.ended else "length", tokens))
    return written[: settings.num_return_sequences]


def _found_after(origin: _core.Session, ids: Sequence[int], top: int) -> list[Found]:
    """Look up what the model thinks of `ids` after what `origin` holds."""
    session, found = origin.fork(), []
    for place, id in enumerate(ids):
        if place:  # not after the last: where the window has slid, reading a token computes all of it again
            session.append([ids[place - 1]])
        found.append(session.logprobs(id, top))
    return found


def prompt_found(model: "GPT", ids: "np.ndarray[Any, np.dtype[np.uint32]]", top: int) -> list[Found]:
    """Look up what the model thought of the tokens of a prompt but the first: one pass, then its window slides.

    ids: (n,), uint32. top: how many of the most probable ids to list for each.
    """
    block = model.config.block_size
    found = model.native.token_logprobs(ids[:block], top)
    if len(ids) > block:
        session = model.native.session()
        session.append(ids[:block])
        found += _found_after(session, ids[block:].tolist(), top)
    return found


def _tokens(tokenizer: "Tokenizer", ids: Sequence[int], found: Iterable[Found]) -> tuple[TokenLogprob, ...]:
    """Put ids and what was found of them together; of a prompt nothing was found for the first."""
    found = list(found)
    missing = [None] * (len(ids) - len(found))
    return tuple(
        TokenLogprob(_shown(tokenizer, id), id, None)
        if one is None
        else TokenLogprob(
            _shown(tokenizer, id),
            id,
            one[0],
            tuple(TokenLogprob(_shown(tokenizer, other), other, logprob) for other, logprob in one[1]),
        )
        for id, one in zip(ids, [*missing, *found], strict=True)
    )


def _shown(tokenizer: "Tokenizer", id: int) -> str:
    return (tokenizer.id_to_token(id) or "") if id < tokenizer.vocab_size else ""
