"""OpenVINO's engine for text, openvino_genai, from what `optimum-cli export openvino` makes of the folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from peers import CONTEXT, EIGHT, tool

_FORMATS = {"float32": "fp32", "bfloat16": "fp32", "int8": "int8", "int4": "int4"}


class OpenVino:
    """The pipeline of continuous batches: it is what `LLMPipeline` uses by itself, and is led step by step.

    `bfloat16` computes with the weights of float32 rounded, int8 and int4 with the weights as the exporter compresses
    them by default, and in bfloat16, the processor's own choice. Nothing is kept of a text for the next one.
    """

    name = "openvino"
    kinds = tuple(_FORMATS)

    def __init__(self, folder: Path, kind: str, threads: int) -> None:
        import openvino
        import openvino_genai

        self._tensor, self._genai = openvino.Tensor, openvino_genai
        converted = folder / f"openvino-{_FORMATS[kind]}"
        if not converted.exists():
            task = ("--task", "text-generation-with-past", "--weight-format", _FORMATS[kind])
            tool("optimum.commands.optimum_cli", "export", "openvino", "--model", folder, *task, converted)
        schedule = openvino_genai.SchedulerConfig()
        schedule.enable_prefix_caching = False
        schedule.max_num_seqs = EIGHT
        schedule.max_num_batched_tokens = EIGHT * CONTEXT
        schedule.cache_size = 1
        properties = {
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32" if kind == "float32" else "bf16",
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._pipe = openvino_genai.ContinuousBatchingPipeline(converted, schedule, "CPU", properties)
        self._asked = 0

    def _begin(self, ids: np.ndarray, new: int, texts: int = 1) -> list[object]:
        """Read the prompt of each text and draw its first token; it is to become `new` more."""
        config = self._genai.GenerationConfig(max_new_tokens=new + 1, ignore_eos=True)
        asked = []
        for _ in range(texts):
            self._asked += 1
            asked.append(
                self._pipe.add_request(self._asked, self._tensor(ids.astype(np.int64)[None]), config)
            )
        self._pipe.step()
        return asked

    def prefill(self, ids: np.ndarray) -> None:
        self._begin(ids, 0)

    def decoder(self, ids: np.ndarray, new: int, texts: int = 1) -> Callable[[], list[int]]:
        asked = self._begin(ids, new, texts)

        def run() -> list[int]:
            for _ in range(new):
                self._pipe.step()
            if self._pipe.has_non_finished_requests():
                raise RuntimeError("openvino needs more steps than tokens")
            return asked[-1].read_all()[0].generated_ids[:new]

        return run

    def eight(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        return self.decoder(ids, new, EIGHT)
