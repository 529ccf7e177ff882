"""CTranslate2, from what its own converter makes of the folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import numpy as np

from peers import EIGHT, tool


class CTranslate2:
    """Its generator, which goes from a prompt to the end of the text: it is stopped after the first token.

    Its matrices are int8 or float32 on a CPU: no bfloat16, no int4.
    """

    name = "ctranslate2"
    kinds = ("float32", "int8")

    def __init__(self, folder: Path, kind: str, threads: int) -> None:
        import ctranslate2

        converted = folder / "ctranslate2"
        if not converted.exists():
            _convert(folder, converted)
        self._words = json.loads((converted / "vocabulary.json").read_text())
        self._generator = ctranslate2.Generator(
            str(converted), compute_type=kind, intra_threads=threads, inter_threads=1
        )
        self._thread = ThreadPoolExecutor(1)

    def _write(
        self, ids: np.ndarray, tokens: int, texts: int = 1, step: Callable[[object], bool] | None = None
    ) -> list[int]:
        words = [self._words[id] for id in ids]
        written = self._generator.generate_batch(
            [words] * texts,
            max_length=tokens,
            end_token=[],
            include_prompt_in_result=False,
            callback=step,
        )
        return written[-1].sequences_ids[0]

    def prefill(self, ids: np.ndarray) -> None:
        # `forward_batch` would compute the logits of every token.
        self._write(ids, 1)

    def decoder(self, ids: np.ndarray, new: int, texts: int = 1) -> Callable[[], list[int]]:
        begun, further = Event(), Event()

        def step(_: object) -> bool:
            begun.set()
            further.wait()
            return False

        written = self._thread.submit(self._write, ids, new + 1, texts, step)
        begun.wait()

        def run() -> list[int]:
            further.set()
            return written.result()[:new]

        return run

    def eight(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        return self.decoder(ids, new, EIGHT)


def _convert(folder: Path, converted: Path) -> None:
    if not (folder / "tokenizer.json").exists():
        raise FileNotFoundError("its converter wants a tokenizer beside the model")
    tool("ctranslate2.converters.transformers", "--model", folder, "--output_dir", converted)
    # A tokenizer without a token for what is unknown is written as null, and then not read.
    file = converted / "config.json"
    config = json.loads(file.read_text())
    config["unk_token"] = config["unk_token"] or config["eos_token"]
    file.write_text(json.dumps(config))
