"""Token healing: a prompt that ends inside of a token goes on as if it did not.

"Once upon a ti" ends in the tokens " t" and "i". The model learnt from texts in which " time" is one token, so it has
hardly ever seen " t", "i" there, and what it writes next is a stab in the dark. Healing takes the last tokens back as
far as an entry of the vocabulary could begin with their bytes, and chooses the token that covers them by the model's
own probabilities: " time", if that is what it expects.

The choice is among all ways to write the prompt that differ in its last token only: for every number of tokens taken
back, each entry that begins with their bytes, with the probability of the tokens that stay times its own. The prompt as
it was tokenized is one of them. So the text always begins with the prompt, and nothing that the model could write after
it is ruled out. Sources: Lundberg, "The art of prompt design: prompt boundaries and token healing" (2023), of guidance;
the cover encodings of Phan et al., "Exact byte-level probabilities from tokenized language models" (2024).
"""

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.generation.config import DRAWING, GenerationConfig
from subgpt.tokenizer.prefixes import EntryPrefixes, entry_prefixes

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

Ids: TypeAlias = npt.NDArray[np.uint32]


class Healing:
    """A prompt of `ids` (n,), uint32, whose last tokens may be replaced by one that covers them.

    Special tokens are never taken back. Nothing changes at levels of characters and words, and where no entry begins
    with the bytes of the last tokens and goes on.

    Attributes:
        before: The ids (m,) to read before `finish` chooses; the whole prompt where there is nothing to choose.

    """

    def __init__(self, tokenizer: "Tokenizer", ids: Ids) -> None:
        # A document begins after the end of text, so that the first token can be healed where there is one.
        fixed = 1 if tokenizer.eot_id is None else 0
        self._ids = ids
        self._prefixes = entry_prefixes(tokenizer) if tokenizer.level == "subword" else None
        self._tails = [] if self._prefixes is None else covered_tails(self._prefixes, ids[fixed:])
        stays = len(ids) - len(self._tails)
        self.before = ids[:stays] if stays else np.array([tokenizer.eot_id or 0], dtype=np.uint32)

    def finish(
        self, model: "GPT", session: _core.Session, settings: GenerationConfig
    ) -> tuple[_core.Session, Ids]:
        """Choose the end of a prompt of which `session` has read `before`; give a session that has read it, and it."""
        ids = self._ids
        if self._prefixes is None or not self._tails:
            return session, ids
        last = ids[len(ids) - len(self._tails) :]
        ways = _weigh(session, self._prefixes, last, self._tails)
        back, token = ways[_draw(np.array([weight for *_, weight in ways]), settings)][:2]
        healed = np.append(ids[: len(ids) - back], np.uint32(token))
        if np.array_equal(session.ids, healed[:-1]):
            session.append(healed[-1:])
            return session, healed
        session = model.native.session()  # the other has read on, or stands behind an end of text
        session.append(healed)
        return session, healed


def covered_tails(prefixes: EntryPrefixes, ids: Ids) -> list[bytes]:
    """List the bytes of the last token, of the last two and so on, as far as a longer entry begins with them."""
    tails: list[bytes] = []
    far, tail = 0, b""
    for id in ids[::-1].tolist():
        tail = prefixes.entries[id] + tail
        if not prefixes.entries[id] or len(tail) >= prefixes.longest:
            break
        tails.append(tail)
        if prefixes.has_longer(tail):
            far = len(tails)
    return tails[:far]


def _weigh(
    session: _core.Session, prefixes: EntryPrefixes, last: Ids, tails: list[bytes]
) -> list[tuple[int, int, float]]:
    """List the ways to write the last tokens: how many are taken back, what is put there, the log of its probability.

    session stands before all of them, and afterwards before the last.
    """
    ways: list[tuple[int, int, float]] = []
    stayed = 0.0
    for back in range(len(tails), 0, -1):
        log_probs = _log_softmax(session.logits())
        ways += [
            (back, id, stayed + log_probs[id]) for id in prefixes.beginning_with(tails[back - 1]).tolist()
        ]
        if back > 1:
            own = int(last[len(last) - back])
            stayed += log_probs[own]
            session.append([own])
    return ways


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))


def _draw(weights: npt.NDArray[np.float64], settings: GenerationConfig) -> int:
    """Draw one of some logarithms of weights (n,) by the rules of drawing; the others are for ids."""
    rules = {name: getattr(settings, name) for name in (*DRAWING, "do_sample")}
    options = GenerationConfig(seed=0, **rules).to_native()
    probs = _core.sampling_probs(weights.astype(np.float32), None, 0, options)
    at = np.random.default_rng(settings.seed).random() * probs.sum()
    return min(int(np.searchsorted(probs.cumsum(), at, side="right")), int(probs.nonzero()[0][-1]))
