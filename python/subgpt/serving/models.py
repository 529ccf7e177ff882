"""`Served`: a model with all that a server needs of it. Which one a request means."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subgpt.generation.engine import Engine
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Served:
    """A model that is served.

    Attributes:
        name: What requests call it; no two served models have the same.
        run: The run directory that it was loaded from.
        model: The model.
        tokenizer: Its tokenizer.
        engine: Writes the texts that are asked for.

    """

    name: str
    run: Path
    model: "GPT"
    tokenizer: "Tokenizer"
    engine: "Engine"


def find_served(served: Sequence[Served], name: str | None) -> Served | None:
    """Find the model of that name; without a name the only one, None if there are several or none of that name."""
    if name is None:
        return served[0] if len(served) == 1 else None
    return next((one for one in served if one.name == name), None)
