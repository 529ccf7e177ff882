"""Modules that reading some kinds of data needs, and that not everybody has."""

from __future__ import annotations

import importlib
from typing import Any

from subgpt.errors import MissingExtraError


def need_module(name: str, what: str) -> Any:
    """Import a module of the extra ``data``.

    Raises:
        MissingExtraError: It is not installed; the message has the line to type.

    >>> need_module("no_such_module", "qa.parquet: reading Parquet")
    Traceback (most recent call last):
    subgpt.errors.MissingExtraError: qa.parquet: reading Parquet needs no_such_module; pip install "subgpt[data]"

    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        needed = name.split(".", maxsplit=1)[0]
        raise MissingExtraError(f'{what} needs {needed}; pip install "subgpt[data]"') from error
