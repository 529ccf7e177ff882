"""What a model does inside with a text: attention maps, and what its layers would predict."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.generation.prompt import prompt_ids
from subgpt.inside.lens import Lens, lens_of
from subgpt.playground.limits import MAX_INSIDE
from subgpt.playground.views.bars import piece_of

if TYPE_CHECKING:
    from subgpt.serving.models import Served


class Glance(NamedTuple):
    """One token that looks at an earlier one, and how much of its attention it gives."""

    at: int
    text: str
    seen: int
    seen_text: str
    weight: float


@dataclass(frozen=True)
class Insides:
    """What was found for one text by one model.

    Attributes:
        served: The model.
        text: The text.
        maps: Attention, (n_layer, n_head, T, T).
        lens: What each layer would predict at each of the T positions.
        pieces: The T tokens as they stand in the text.
        about: Which part of the text that is.

    """

    served: "Served"
    text: str
    maps: npt.NDArray[np.float32]
    lens: Lens
    pieces: Sequence[str]
    about: str

    def strongest(self, layer: int, head: int, count: int = 5) -> list[Glance]:
        """Find the tokens of one head that look hardest at an earlier one, which is not the first: many rest there."""
        weights = np.tril(self.maps[layer, head], -1)
        weights[:, 0] = 0.0
        best = np.argsort(-weights, axis=None, kind="stable")[:count]
        found = zip(*np.unravel_index(best, weights.shape), strict=True)
        names, first = self.pieces, self.lens.first
        return [
            Glance(first + int(i), names[i], first + int(j), names[j], float(weights[i, j]))
            for i, j in found
            if weights[i, j] > 0
        ]


def insides_of(served: "Served", text: str) -> Insides:
    """Look at the last tokens of `text`, MAX_INSIDE at most and no more than the model's block."""
    model = served.model
    ids = prompt_ids(served.tokenizer, text)
    most = min(MAX_INSIDE, model.config.block_size)
    last = ids[-most:]
    lens = lens_of(model, served.tokenizer, last, first=len(ids) - len(last))
    said = (
        f"all {len(ids):,} tokens"
        if len(last) == len(ids)
        else f"the last {len(last)} of {len(ids):,} tokens"
    )
    pieces = [piece_of(served.tokenizer, id) for id in last.tolist()]
    return Insides(served, text, model.attention_maps(last), lens, pieces, said)
