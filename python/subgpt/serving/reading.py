"""`read_request`: a body becomes a checked request, or an error that says what is wrong with it."""

from typing import Any, TypeVar

import pydantic_core
from pydantic import ValidationError

from subgpt.serving.errors import ApiError
from subgpt.serving.schemas import ModelRequest
from subgpt.serving.settings import ServerSettings

RequestT = TypeVar("RequestT", bound=ModelRequest)

# What clients send that has no bearing on the text.
_LET_BE = (
    "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
    "parallel_tool_calls", "prediction",
)  # fmt: skip
_NOT_HERE = {
    "suffix": "texts that end in a given way",
    "tools": "tools",
    "tool_choice": "tools",
    "functions": "functions",
    "function_call": "functions",
    "audio": "audio",
    "reasoning_effort": "reasoning",
    "verbosity": "verbosity",
    "web_search_options": "web search",
    "num_beams": "beam search",
    "dimensions": "embeddings of another length",
}


def read_request(kind: type[RequestT], body: bytes, settings: ServerSettings) -> RequestT:
    """Make a request of a body; ApiError (400) says what is wrong with it.

    A field that is null is one that is not there, as clients write it.
    """
    try:
        values = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        said = str(error)
        if "recursion limit" in said:
            raise _too_deep(settings) from None
        raise ApiError(400, f"the body is not JSON: {said}", code="invalid_json") from None
    if not isinstance(values, dict):
        raise ApiError(400, "the body must be a JSON object", code="invalid_json")
    if _depth(values, settings.max_json_depth) > settings.max_json_depth:
        raise _too_deep(settings)
    values = {name: value for name, value in values.items() if value is not None and name not in _LET_BE}
    for name, meaning in _NOT_HERE.items():
        if name in values and name not in kind.model_fields and not _is_empty(name, values[name]):
            raise ApiError(400, f"{name}: this server has no {meaning}", param=name, code="unsupported")
        if name not in kind.model_fields:
            values.pop(name, None)
    try:
        return kind.model_validate(_without_nulls(values))
    except ValidationError as error:
        raise _complaint(error) from None


def _is_empty(name: str, value: Any) -> bool:
    """Whether an option that is not supported asks for nothing."""
    return value in ([], "") or (name in ("tool_choice", "function_call") and value in ("none", "auto"))


def _without_nulls(values: dict[str, Any]) -> dict[str, Any]:
    """Leave what is null out of messages too, and what clients put back into them from an answer."""
    messages = values.get("messages")
    if not isinstance(messages, list):
        return values
    kept = [
        {
            key: value
            for key, value in message.items()
            if value is not None and (key, value) != ("annotations", [])
        }
        if isinstance(message, dict)
        else message
        for message in messages
    ]
    return {**values, "messages": kept}


def _depth(value: Any, most: int) -> int:
    """Measure how deeply arrays and objects are nested, up to `most` + 1."""
    depth, level = 0, [value]
    while depth <= most:
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            return depth
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _too_deep(settings: ServerSettings) -> ApiError:
    return ApiError(
        400, f"the body nests more than {settings.max_json_depth} arrays and objects", code="too_deep"
    )


def _complaint(error: ValidationError) -> ApiError:
    """Say what pydantic found: which field, and what would be right; never what was in it.

    Of what a field can be, that is meant which came farthest.
    """
    found = max(error.errors(include_url=False, include_input=False), key=lambda one: len(one["loc"]))
    parts = [str(part) for part in found["loc"]]
    field = ".".join(
        part for part in parts if (part.isidentifier() and part not in ("str", "int")) or part.isdigit()
    )
    if found["type"] == "unknown_option":
        field = ".".join([*([field] if field else []), found["ctx"]["name"]])
        return ApiError(400, found["msg"], param=field, code="unknown_option")
    said = found["msg"].removeprefix("Value error, ")
    said = said[0].lower() + said[1:]
    return ApiError(400, f"{field}: {said}" if field else said, param=field or None)
