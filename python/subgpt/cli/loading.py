"""Opening what a command works on: a saved model that has its tokenizer with it."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer


def open_run(run: Path, dtype: str = "float32", quantize: str | None = None) -> "tuple[GPT, Tokenizer]":
    """Load the model in `run`, to compute in `dtype` or quantized, and its tokenizer; -v says what was opened."""
    from subgpt.checkpoint.load import load_with_tokenizer
    from subgpt.cli.terminal import detail
    from subgpt.units import duration

    begin = time.monotonic()
    model, tokenizer = load_with_tokenizer(run, dtype=dtype, quantize=quantize)
    kept = model.quantization or model.dtype
    detail(
        f"{run}: {model.num_params():,} parameters, {kept}, opened in {duration(time.monotonic() - begin)}"
    )
    return model, tokenizer


def source_paths(names: Iterable[str]) -> list[Path]:
    """Make paths of the files, directories and globs that were named; an empty name is refused.

    `Path("")` is the current directory, which nobody means by `--data "$UNSET"`.
    """
    paths = []
    for name in names:
        if not name:
            raise DataError(
                "a file name is empty; name a file, directory or glob ('.' for the current directory)"
            )
        paths.append(Path(name))
    return paths
