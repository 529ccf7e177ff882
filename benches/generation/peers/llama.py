"""llama.cpp through llama-cpp-python, from a GGUF file that subgpt wrote."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from peers import CONTEXT, EIGHT

_FILES = {"float32": "f32", "bfloat16": "bf16", "int8": "q8_0", "int4": "q4_0"}


def gguf(folder: Path, kind: str) -> Path:
    """Write the model of a folder for llama.cpp, if that is not done."""
    file = folder / f"{kind}.gguf"
    if not file.exists():
        import subgpt
        from subgpt.gguf.model import save_gguf

        model, tokenizer = subgpt.load(folder)
        save_gguf(model, file, tokenizer=tokenizer, quantize=_FILES[kind])
    return file


class LlamaCpp:
    """A loop of our own around `llama_decode`: the binding's `Llama` copies and checks more, and knows one text only.

    Keys and values are as llama.cpp has them by itself, and so is attention: flash attention, on a CPU. Compiled by
    GCC 12 for a processor with AMX it ends with an illegal instruction on int8 and int4: the settings of the tiles are
    dropped as never read (llama.cpp's pull request 26954 mends it).
    """

    name = "llama.cpp"
    kinds = tuple(_FILES)

    def __init__(self, folder: Path, kind: str, threads: int, texts: int = EIGHT) -> None:
        import llama_cpp

        self._native, self._texts = llama_cpp, texts
        self._silence = llama_cpp.llama_log_callback(lambda level, text, data: None)  # noqa: ARG005
        # A thread of its own: llama.cpp sets up the AMX tiles of a thread once, and others leave them otherwise.
        self._thread = ThreadPoolExecutor(1)
        self._thread.submit(self._open, gguf(folder, kind), threads).result()

    def _open(self, file: Path, threads: int) -> None:
        native = self._native
        native.llama_log_set(self._silence, None)
        native.llama_backend_init()
        self._model = native.llama_model_load_from_file(
            str(file).encode(), native.llama_model_default_params()
        )
        params = native.llama_context_default_params()
        params.n_ctx, params.n_seq_max = CONTEXT * self._texts, self._texts
        params.n_batch = CONTEXT * self._texts
        params.n_threads = params.n_threads_batch = threads
        self._context = native.llama_init_from_model(self._model, params)
        if not self._context:
            raise RuntimeError(f"llama.cpp does not open {file}")
        self._width = native.llama_vocab_n_tokens(native.llama_model_get_vocab(self._model))
        self._batch = native.llama_batch_init(params.n_batch, 0, 1)

    def __del__(self) -> None:
        if getattr(self, "_context", None):
            self._native.llama_batch_free(self._batch)
            self._native.llama_free(self._context)
            self._native.llama_model_free(self._model)

    def _read(self, rows: Sequence[Sequence[int]], start: int) -> list[int]:
        """Read tokens of each text that follow its first `start`; the most probable next ones."""
        batch, at, ends = self._batch, 0, []
        for text, row in enumerate(rows):
            for position, id in enumerate(row, start):
                batch.token[at], batch.pos[at], batch.n_seq_id[at] = id, position, 1
                batch.seq_id[at][0], batch.logits[at] = text, False
                at += 1
            batch.logits[at - 1] = True
            ends.append(at - 1)
        batch.n_tokens = at
        if self._native.llama_decode(self._context, batch):
            raise RuntimeError("llama.cpp does not read that")
        logits = (self._native.llama_get_logits_ith(self._context, end) for end in ends)
        return [int(np.ctypeslib.as_array(each, (self._width,)).argmax()) for each in logits]

    def _begin(self, ids: np.ndarray, rows: int) -> list[int]:
        self._native.llama_memory_clear(self._native.llama_get_memory(self._context), True)
        return self._read([ids.tolist()] * rows, 0)

    def prefill(self, ids: np.ndarray) -> None:
        self._thread.submit(self._begin, ids, 1).result()

    def decoder(self, ids: np.ndarray, new: int, rows: int = 1) -> Callable[[], list[int]]:
        first = self._thread.submit(self._begin, ids, rows).result()

        def run() -> list[int]:
            drawn, found = first, []
            for position in range(len(ids), len(ids) + new):
                found.append(drawn[-1])
                drawn = self._read([[id] for id in drawn], position)
            return found

        return lambda: self._thread.submit(run).result()

    def eight(self, ids: np.ndarray, new: int) -> Callable[[], list[int]]:
        return self.decoder(ids, new, EIGHT)
