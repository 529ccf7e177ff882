"""What a sweep's trials read, and where other processes find it."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.data.sources import find_files
from subgpt.data.token_sets import token_sources
from subgpt.errors import CheckpointError, ConfigError, DataError
from subgpt.places import expanded
from subgpt.search.base import Base
from subgpt.search.plan import SweepDirectory

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer


def places_of(source: object) -> list[str | Path]:
    """List files, directories and globs; as for `pretrain`, several are paths, since several strings are texts."""
    if isinstance(source, str | Path) and str(source):
        return [source]
    places = list(source) if isinstance(source, Iterable) and not isinstance(source, str | Mapping) else []
    if not places or not all(isinstance(place, Path) for place in places):
        raise ConfigError(
            "sweep: source must be files, directories or globs (one, or a list of pathlib.Path; sets of ids with their "
            "weight behind them, as Path('DIR:0.7')), which the trials' own processes read; write texts to a file first"
        )
    return places


def model_place(start: str | Path) -> str:
    """Make the path of a saved model independent of the working directory; an id of the hub stays as it is."""
    path = expanded(start)
    return str(path.resolve()) if path.exists() else str(start)


def tokenizer_place(tokenizer: "Tokenizer | str | Path", directory: SweepDirectory) -> Path:
    """Say where the trials find the tokenizer; one that was saved there before must be the same."""
    if isinstance(tokenizer, str | Path):
        return expanded(tokenizer).resolve()
    if directory.tokenizer.exists():
        from subgpt.tokenizer import Tokenizer

        if Tokenizer.load(directory.tokenizer).fingerprint != tokenizer.fingerprint:
            raise CheckpointError(
                f"{directory.tokenizer}: the tokenizer is not the one this sweep began with; give that one"
            )
    return directory.tokenizer


def read_by_trials(base: Base) -> list[Path]:
    """List the files and directories that every trial reads, as far as they can be named before."""
    sets = token_sources(base.data)
    found = [] if sets is None else [one.path for one in sets]
    for place in map(Path, base.data if sets is None else ()):
        try:
            found += find_files(place).files
        except DataError:  # a kind of file that only fine-tuning reads
            found.append(place)
    named = [Path(place) for place in (base.tokenizer, base.start) if place is not None]
    return [place for place in (*found, *named) if place.exists()]
