"""`Served`: a model with all that a server needs of it. Loading those that are named; which one a request means."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.errors import ConfigError

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
        created: When it was loaded, in seconds since 1970.

    """

    name: str
    run: Path
    model: "GPT"
    tokenizer: "Tokenizer"
    engine: "Engine"
    created: int = field(default_factory=lambda: int(time.time()))


@contextlib.contextmanager
def load_served(
    runs: Sequence[str | Path],
    *,
    name: str | None = None,
    dtype: str = "float32",
    quantize: str | None = None,
    max_batch: int = 32,
    max_waiting: int = 256,
    prefix_cache_mib: int = 256,
) -> Iterator[list[Served]]:
    """Load models, with an engine for each that ends when this does.

    name: what to call the one model, in place of its directory's name. dtype, quantize: see `subgpt.load`. The others:
    see `Engine`.

    Raises ConfigError if two models would have the same name, MissingFileError if one has no tokenizer.
    """
    from subgpt.checkpoint.load import load_with_tokenizer
    from subgpt.generation.engine import Engine

    paths = [Path(run) for run in runs]
    names = served_names(paths, name)
    with contextlib.ExitStack() as engines:
        served = []
        for called, run in zip(names, paths, strict=True):
            model, tokenizer = load_with_tokenizer(run, dtype=dtype, quantize=quantize)
            engine = Engine(
                model,
                tokenizer,
                max_batch=max_batch,
                max_waiting=max_waiting,
                prefix_cache_mib=prefix_cache_mib,
            )
            served.append(Served(called, run, model, tokenizer, engines.enter_context(engine)))
        yield served


def served_names(runs: Sequence[Path], name: str | None) -> list[str]:
    """Choose what models are called: the names of their directories, or of their files without the ending.

    >>> served_names([Path("runs/base"), Path("stories.gguf")], None)
    ['base', 'stories']
    """
    if not runs:
        raise ConfigError("serve: no model is named; give one run directory at least")
    if name is not None:
        if len(runs) > 1:
            raise ConfigError(f"serve: --name is for one model, and {len(runs)} are given; leave it out")
        if not name.strip():
            raise ConfigError("serve: --name is empty; give what requests call the model")
        return [name]
    names = [run.stem if run.suffix in (".gguf", ".bin") else run.resolve().name for run in runs]
    for called in names:
        if names.count(called) > 1:
            raise ConfigError(
                f"serve: two models would be called {called!r}; rename a directory, or serve them on two ports"
            )
    return names


def find_served(served: Sequence[Served], name: str | None) -> Served | None:
    """Find the model of that name; without a name the only one, None if there are several or none of that name."""
    if name is None:
        return served[0] if len(served) == 1 else None
    return next((one for one in served if one.name == name), None)
