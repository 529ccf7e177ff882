"""Ray, which not everybody has."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

from subgpt.errors import MissingExtraError


def need_ray() -> Any:
    """Import Ray, without its warnings; MissingExtraError, with the line to type, where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError('work over a cluster needs ray; pip install "subgpt[ray]"') from error
