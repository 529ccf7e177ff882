"""Hugging Face transformers on PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from peers import EIGHT


class Transformers:
    """A loop of our own around the model: `generate` takes longer."""

    name = "transformers"
    kinds = ("float32", "bfloat16")

    def __init__(self, folder: Path, kind: str, threads: int) -> None:
        import torch
        from transformers import AutoModelForCausalLM

        torch.set_num_threads(threads)
        self._torch = torch
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, kind)).eval()

    def _read(self, ids: np.ndarray, rows: int = 1) -> Any:
        given = self._torch.from_numpy(ids.astype(np.int64))[None].expand(rows, -1)
        with self._torch.inference_mode():
            return self._model(given, use_cache=True, logits_to_keep=1)

    def prefill(self, ids: np.ndarray) -> None:
        self._read(ids)

    def decoder(self, ids: np.ndarray, new: int, rows: int = 1) -> Callable[[], list[int]]:
        out, torch = self._read(ids, rows), self._torch

        def run() -> list[int]:
            seen, cache, found = out.logits, out.past_key_values, []
            with torch.inference_mode():
                for _ in range(new):
                    drawn = seen[:, -1].argmax(-1, keepdim=True)
                    found.append(drawn[-1, 0].item())
                    step = self._model(drawn, past_key_values=cache, use_cache=True)
                    seen, cache = step.logits, step.past_key_values
            return found

        return run

    def eight(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        return self.decoder(ids, new, EIGHT)
