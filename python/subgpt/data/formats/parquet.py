"""Parquet: tables of columns, read batch by batch with pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from subgpt.data.decoding import Errors, check_errors
from subgpt.data.formats.extra import need_module
from subgpt.data.rows import Row
from subgpt.errors import DataError, first_line


def read_parquet(path: Path, errors: Errors = "replace") -> Iterator[Row]:
    """Yield the rows of a Parquet file, numbered from 1.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: The file is damaged.

    """
    check_errors(errors)
    parquet = need_module("pyarrow.parquet", f"{path}: reading Parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for fields in batch.to_pylist():
                    number += 1
                    yield Row(fields, str(path), number)
    # pyarrow's errors are a family of ValueError, OSError, NotImplementedError and KeyError.
    except (ValueError, OSError, NotImplementedError, KeyError) as error:
        raise DataError(
            f"{path}: not readable as Parquet after {number} rows ({first_line(error)}); fetch the file again"
        ) from error
