"""subgpt's side of the comparison."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from peers import EIGHT

import subgpt
from subgpt import _core

GREEDY = subgpt.GenerationConfig(temperature=0, seed=1, ignore_eos=True)


class Ours:
    """subgpt, its weights as `kind` says."""

    name = "subgpt"

    def __init__(self, folder: Path, kind: str) -> None:
        self.model, _ = subgpt.load(folder, quantize=None if kind == "float32" else kind)
        self._options = GREEDY.to_native()

    def prefill(self, ids: np.ndarray) -> None:
        self.model.native.session().append(ids)

    def decoder(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        session = self.model.native.session()
        session.append(ids)
        return lambda: session.run(new, self._options, []).tolist()

    def eight(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        batch, sessions = _core.Batch(self.model.native), [self.model.native.session() for _ in range(EIGHT)]
        batch.append(sessions, [ids] * EIGHT)

        def run() -> list[int]:
            found = []
            for _ in range(new):
                drawn = batch.sample(sessions, [self._options] * EIGHT, [None] * EIGHT)
                batch.append(sessions, [[id] for id in drawn])
                found.append(drawn[-1])
            return found

        return run

    def bytes(self) -> int:
        return int(self.model.native.memory(1, 1, False)["parameters"])
