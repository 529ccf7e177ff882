"""Directories that `datasets.Dataset.save_to_disk` wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from subgpt.data.decoding import Errors, check_errors
from subgpt.data.formats.extra import need_module
from subgpt.data.rows import Row
from subgpt.errors import DataError

_OF_A_DATASET = ("dataset_info.json", "state.json")
_OF_SPLITS = "dataset_dict.json"


def is_saved_dataset(path: Path) -> bool:
    """Tell whether a directory is a saved dataset, or several as its splits."""
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        return (path / _OF_SPLITS).is_file() or all((path / name).is_file() for name in _OF_A_DATASET)
    return False


def read_saved_dataset(path: Path, errors: Errors = "replace") -> Iterator[Row]:
    """Yield the rows of a saved dataset, numbered from 1; of several splits those of ``train``.

    Raises:
        MissingExtraError: datasets is not installed.
        DataError: There is no split ``train``, or the directory is damaged.

    """
    check_errors(errors)
    if (path / _OF_SPLITS).is_file():
        splits = sorted(entry.name for entry in path.iterdir() if is_saved_dataset(entry))
        if "train" not in splits:
            raise DataError(f"{path}: no split 'train' in it; name one of {', '.join(splits) or 'no splits'}")
        path = path / "train"
    datasets = need_module("datasets", f"{path}: reading a saved dataset")
    try:
        rows = datasets.load_from_disk(str(path))
    except Exception as error:  # datasets and pyarrow raise whatever their parts raise
        raise DataError(f"{path}: not readable as a dataset ({str(error)[:200]}); save it again") from error
    for number, fields in enumerate(rows, start=1):
        yield Row(fields, str(path), number)
