"""Old data among the new, so that a model that learns something does not forget what it knew.

Whole batches are of one kind: examples and running text have rows of other shapes. Which ones are old is
arithmetic on the number of the batch, so that a run resumes where it was.

Robins: "Catastrophic forgetting, rehearsal and pseudorehearsal", 1995.
"""

import math
from dataclasses import replace
from typing import Any

from subgpt.errors import ConfigError
from subgpt.training.data import Loader, TrainingData


class ReplayLoader:
    """Batches of `new` with a share `ratio` of batches of `old`, evenly spread.

    >>> class Named:
    ...     def __init__(self, name): self.name = name
    ...     def batch(self, step): return f"{self.name}{step}"
    >>> loader = ReplayLoader(Named("new"), Named("old"), 0.4)
    >>> [loader.batch(step) for step in range(6)]
    ['new0', 'new1', 'old0', 'new2', 'old1', 'new3']
    """

    def __init__(self, new: Loader, old: Loader, ratio: float) -> None:
        if not 0 < ratio < 1:
            raise ConfigError(f"replay_ratio = {ratio!r} is not between 0 and 1; 0.1 is usual")
        self.new, self.old, self.ratio = new, old, ratio

    def batch(self, step: int) -> Any:
        """Give batch `step`, from 0."""
        before, after = self._replays(step), self._replays(step + 1)
        return self.old.batch(before) if after > before else self.new.batch(step - before)

    def _replays(self, steps: int) -> int:
        """Count the old ones among the first `steps` batches."""
        return math.floor(steps * self.ratio + 1e-9)


def with_replay(data: TrainingData, old: TrainingData, ratio: float) -> TrainingData:
    """Mix old training data into new; what is held out stays that of the new."""
    note = f"replay: {ratio:.0%} of the batches are of the old data, {old.tokens:,} tokens"
    return replace(
        data,
        loader=ReplayLoader(data.loader, old.loader, ratio),
        fingerprint=f"{data.fingerprint}+{old.fingerprint}@{ratio}",
        notes=(*data.notes, note, *(f"replayed: {line}" for line in old.notes)),
        padded=data.padded or old.padded,
    )
