"""The types of fields in requests, each with what bounds it: a body of some MiB must not take seconds to refuse."""

from typing import Annotated, Any, TypeAlias, TypeVar

import pydantic_core
from pydantic import BeforeValidator, Field, PlainValidator

Item = TypeVar("Item")

LONGEST_FORM = 32768
"""Bytes of a regex, JSON schema or grammar: a larger one keeps the others of a model waiting."""
_MOST_BIASES, _MOST_PROMPTS = 4096, 2048


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(id) is int and 0 <= id < 1 << 32 for id in value)


def _ids(value: Any) -> Any:
    if not _is_ids(value):
        raise ValueError("give a list of token ids")
    return value


def _prompt(value: Any) -> Any:
    """Take a text, ids, or a list of either; by hand, since a list of a million ids is to be read at once."""
    of_one = isinstance(value, str) or _is_ids(value)
    if isinstance(value, list) and not of_one and len(value) > _MOST_PROMPTS:
        raise ValueError(f"give {_MOST_PROMPTS} prompts at most")
    of_many = isinstance(value, list) and all(isinstance(one, str) or _is_ids(one) for one in value)
    if not of_one and not of_many:
        raise ValueError("give a text, a list of texts, a list of token ids, or a list of such lists")
    return value


def _few_biases(value: Any) -> Any:
    if isinstance(value, dict) and len(value) > _MOST_BIASES:
        raise ValueError(f"give {_MOST_BIASES} biases at most")
    return value


def _short_schema(value: Any) -> Any:
    if isinstance(value, dict) and len(pydantic_core.to_json(value)) > LONGEST_FORM:
        raise ValueError(f"give a schema of {LONGEST_FORM} bytes at most")
    return value


# A body of some MiB can be wrong in a million places; the first is enough to know.
Items: TypeAlias = Annotated[list[Item], Field(fail_fast=True)]
Ids: TypeAlias = Annotated[list[int], PlainValidator(_ids)]
Prompt: TypeAlias = Annotated[str | list[Any], PlainValidator(_prompt)]
Biases: TypeAlias = Annotated[
    dict[str, Annotated[float, Field(ge=-100, le=100)]], BeforeValidator(_few_biases)
]
Schema: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_short_schema)]
StopText: TypeAlias = Annotated[str, Field(min_length=1, max_length=1000)]
