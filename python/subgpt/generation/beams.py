"""Beam search: the most probable texts, several followed at once (Hugging Face's semantics).

A text's score is its log probability divided by length ** length_penalty, the token that ended it counted. Each step
looks at the best continuations of all beams; of the first `num_beams` those that end are finished texts, and the best
others go on. Sutskever et al.: "Sequence to Sequence Learning with Neural Networks", 2014; the length penalty as in
Murray and Chiang: "Correcting Length Bias in Neural Machine Translation", 2018.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from subgpt import _core
from subgpt.errors import ConfigError, InvalidValueError
from subgpt.generation.config import DRAWING, GenerationConfig


@dataclass(frozen=True)
class Beam:
    """A finished text: its tokens without the one that ended it, its score, and whether it ended of itself."""

    ids: list[int]
    score: float
    ended: bool


@dataclass(frozen=True)
class _Running:
    session: _core.Session
    ids: list[int]
    logprob: float


def check_beams(settings: GenerationConfig) -> None:
    """Raise ConfigError if options that a caller set make no sense beside `num_beams`."""
    given = [name for name in DRAWING if name in settings.model_fields_set]
    given += ["do_sample"] if "do_sample" in settings.model_fields_set and settings.do_sample else []
    given += [settings.structure] if settings.structure is not None else []
    if given:
        raise ConfigError(
            f"GenerationConfig: num_beams = {settings.num_beams} and {given[0]} do not go together: beam search "
            "draws nothing and knows no grammar; give one of the two"
        )
    if settings.num_return_sequences > settings.num_beams:
        raise ConfigError(
            f"GenerationConfig: num_return_sequences = {settings.num_return_sequences} is more than "
            f"num_beams = {settings.num_beams}, and a beam search finds no more texts than that; raise num_beams"
        )


def beam_search(
    session: _core.Session,
    settings: GenerationConfig,
    native: str,
    ends: Collection[int],
    is_stopped: Callable[[list[int]], bool],
) -> list[Beam]:
    """Find `settings.num_beams` texts after what `session` holds, at most, the best first.

    The session is used up. `ends` are ids that end a text, `is_stopped` says whether a stop text is in it. Equal
    scores keep the order of beams and ids, so that the result is always the same.

    Raises InvalidValueError if rules leave no text at all.
    """
    width, finished = settings.num_beams, list[Beam]()
    running = [_Running(session, [], 0.0)]
    for length in range(1, settings.max_new_tokens + 1):
        # So many that `width` are left whichever ids end here; where stop texts end more, fewer beams may go on.
        count = max(2, 1 + len(ends)) * width
        found = [
            (beam.logprob + logprob, at, id)
            for at, beam in enumerate(running)
            for id, logprob in beam.session.best(native, count)
        ]
        found.sort(key=lambda one: (-one[0], one[1], one[2]))
        going_on = list[tuple[float, int, int]]()
        for rank, (logprob, at, id) in enumerate(found[:count]):
            ids = [*running[at].ids, id]
            ended = id in ends or is_stopped(ids)
            if not ended:
                going_on.append((logprob, at, id))
            if rank < width and (ended or length == settings.max_new_tokens):
                text = ids[:-1] if id in ends else ids
                finished.append(Beam(text, logprob / length**settings.length_penalty, ended))
        finished = sorted(finished, key=lambda beam: -beam.score)[:width]
        if (
            length == settings.max_new_tokens
            or not going_on
            or _is_settled(finished, going_on[0][0], length, settings)
        ):
            break
        running = _step(running, going_on[:width])
    if settings.max_new_tokens == 0:
        return [Beam([], 0.0, False)]
    if not finished:
        raise InvalidValueError(
            "num_beams: the rules for bad words, repeated n-grams and min_new_tokens leave no text; loosen them"
        )
    return finished


def _is_settled(finished: list[Beam], best: float, length: int, settings: GenerationConfig) -> bool:
    """Whether no running beam, the best of which has log probability `best`, is waited for.

    With early_stopping that is so once there are enough texts; else once the best beam, as it is now, could not replace
    the worst of them. "never" grants it the length at which its score would be best.
    """
    if len(finished) < settings.num_beams:
        return False
    if settings.early_stopping is True:
        return True
    longest = settings.early_stopping == "never" and settings.length_penalty > 0
    hoped = settings.max_new_tokens if longest else length
    return bool(best / hoped**settings.length_penalty <= finished[-1].score)


def _step(running: list[_Running], chosen: list[tuple[float, int, int]]) -> list[_Running]:
    """Let beams go on with tokens; the last use of a session needs no copy of it."""
    uses = [at for _, at, _ in chosen]
    result = []
    for place, (logprob, at, id) in enumerate(chosen):
        beam = running[at]
        session = beam.session.fork() if at in uses[place + 1 :] else beam.session
        session.append([id])
        result.append(_Running(session, [*beam.ids, id], logprob))
    return result
