"""What templates may do to values: operators, filters and methods, each paid for before it makes anything large."""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from string import Formatter
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.tests import TESTS

from subgpt.data.chat.meter import LimitError, meter

_METHODS: dict[type, frozenset[str]] = {
    str: frozenset([
        "capitalize", "count", "endswith", "find", "format", "index", "isalnum", "isalpha", "isdecimal", "isdigit",
        "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip", "partition",
        "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split",
        "splitlines", "startswith", "strip", "swapcase", "title", "upper",
    ]),
    dict: frozenset(["copy", "get", "items", "keys", "values"]),
    list: frozenset(["copy", "count", "index"]),
    tuple: frozenset(["count", "index"]),
}  # fmt: skip
# Filters that only pass their value on or look at its surface: they need not pay for what is inside.
_SHALLOW = [
    "count", "d", "default", "first", "items", "last", "length", "list", "map", "reject", "rejectattr", "reverse",
    "select", "selectattr",
]  # fmt: skip
_DEEP = [
    "abs", "capitalize", "dictsort", "e", "escape", "float", "indent", "int", "join", "lower", "max", "min",
    "replace", "safe", "sort", "string", "title", "trim", "unique", "upper",
]  # fmt: skip
_COMPARING = [
    "==", "!=", "<", "<=", ">", ">=", "eq", "equalto", "ne", "in", "lt", "lessthan", "le", "gt", "greaterthan", "ge",
]  # fmt: skip
_WIDTH = 16  # of an indent or a separator
_PERCENT = re.compile(r"%(?:\(\w*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?")


def allows_method(value: object, name: str) -> bool:
    """Say whether templates may use the method `name` of a value."""
    return any(isinstance(value, kind) and name in names for kind, names in _METHODS.items())


def call_method(method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Call a method of a text, list or mapping that `allows_method` allows."""
    value, name = method.__self__, method.__name__
    if name == "join" and args:
        args = (list(args[0]), *args[1:])
        meter().weigh(args[0], texts=True)
        meter().spend(len(args[0]) * len(value))
    else:
        meter().weigh((args, tuple(kwargs.values())))
    if name == "replace" and len(args) >= 2:
        _pay_replace(value, *args[:2])
    return meter().made(method(*args, **kwargs))


def safe_format(text: str) -> Callable[..., str]:
    """Give ``text.format`` without access to attributes, and without widths that fill the memory."""

    def format(*args: Any, **kwargs: Any) -> str:
        fields = list(Formatter().parse(text))
        for _, name, spec, _ in fields:
            if re.search(r"[.\[]", name or "") or re.search(r"[{}]|\d{4}", spec or ""):
                raise SecurityError(f"the field {name!r} of a format is not allowed")
        weight, _ = meter().weigh((args, tuple(kwargs.values())), texts=True)
        meter().spend(len(text) + len(fields) * (weight + 1000))
        return text.format(*args, **kwargs)

    return format


def binary(sign: str, left: Any, right: Any) -> Any:
    """Compute ``left sign right``."""
    if sign == "%" and isinstance(left, str):
        return _percent(left, right)
    if sign == "+" and hasattr(left, "__len__") and hasattr(right, "__len__"):
        meter().spend(8 * (len(left) + len(right)))
    elif sign == "*":
        _pay_product(left, right)
    elif sign == "**" and isinstance(left, int) and isinstance(right, int):
        meter().whole(left.bit_length() * max(right, 0))
    return meter().made(_OPERATORS[sign](left, right))


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "**": operator.pow,
    "%": operator.mod,
}


def filters() -> dict[str, Callable[..., Any]]:
    """Give the filters that templates have."""
    known: dict[str, Any] = dict(FILTERS)
    made = {name: _paid(known[name], name, deep=name in _DEEP) for name in (*_SHALLOW, *_DEEP)}
    return {
        **made,
        "tojson": tojson,
        "format": lambda text, *args, **named: _percent(str(text), named or args),
    }


def tests() -> dict[str, Callable[..., Any]]:
    """Give the tests that templates have."""
    known: dict[str, Any] = dict(TESTS)
    paid = {name: _paid(known[name], name, deep=True) for name in _COMPARING}
    return {**known, **paid}


def tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write a value as JSON, as transformers does: letters of all languages as they are, no HTML escapes."""
    weight, depth = meter().weigh(value, texts=True)
    width = indent if isinstance(indent, int) else len(indent or "")
    widths = (width, *map(len, separators or ()))
    if max(widths) > _WIDTH:
        raise LimitError(f"it indents JSON by more than {_WIDTH}")
    meter().spend(weight * (8 + max(width, 0) * depth))
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _paid(function: Callable[..., Any], name: str, *, deep: bool) -> Callable[..., Any]:
    """Wrap a filter or test of Jinja so that it is paid for."""
    marked = hasattr(function, "jinja_pass_arg")  # Jinja passes something of its own first

    @functools.wraps(function)  # with that mark
    def run(*args: Any, **kwargs: Any) -> Any:
        here = meter()
        given = [list(a) if deep and isinstance(a, Iterator) else a for a in args]
        if deep:
            values = given[1:] if marked else given
            here.weigh(
                (values, tuple(kwargs.values())), texts=name in ("join", "string", "replace", "indent")
            )
            _pay_growth(name, values, kwargs)
        return here.made(function(*given, **kwargs))

    return run


def _pay_growth(name: str, values: list[Any], kwargs: Mapping[str, Any]) -> None:
    """Pay for filters that can make much of little."""
    if name == "replace" and len(values) >= 3:
        _pay_replace(str(values[0]), str(values[1]), str(values[2]))
    elif name == "replace":
        named = [str(kwargs.get(key, "")) for key in ("old", "new")]
        given = [*map(str, values), *named][:3] if len(values) < 2 else [*map(str, values), named[1]]
        _pay_replace(*given)
    elif name == "join":
        between = kwargs.get("d", values[1] if len(values) > 1 else "")
        meter().spend(len(values[0]) * len(str(between)) if isinstance(values[0], (list, tuple, str)) else 1)
    elif name == "indent":
        width = kwargs.get("width", values[1] if len(values) > 1 else 4)
        wide = width if isinstance(width, int) else len(str(width))
        meter().spend((str(values[0]).count("\n") + 1) * max(wide, 0))
    elif name in ("sort", "unique", "min", "max", "dictsort") and values:
        meter().spend(20 * len(values[0]) if hasattr(values[0], "__len__") else 1)


def _pay_replace(text: str, old: Any, new: Any) -> None:
    if isinstance(old, str) and isinstance(new, str):
        meter().spend(len(text) + text.count(old) * len(new))


def _pay_product(left: Any, right: Any) -> None:
    if isinstance(left, int) and isinstance(right, int):
        meter().whole(left.bit_length() + right.bit_length())
    for value, times in ((left, right), (right, left)):
        if hasattr(value, "__len__") and isinstance(times, int):
            meter().spend(8 * len(value) * max(times, 0))


def _percent(text: str, values: Any) -> str:
    """Compute ``text % values`` with widths of at most three digits."""
    for match in _PERCENT.finditer(text):
        if any(width and (width == "*" or len(width) > 3) for width in match.groups()):
            raise LimitError("it writes fields that are too wide")
    weight, _ = meter().weigh(values, texts=True)
    meter().spend(len(text) + text.count("%") * (weight + 1000))
    made: str = text % values
    return made


def joined(parts: Iterable[Any]) -> str:
    """Write values one after the other (``~``)."""
    meter().weigh(parts, texts=True)
    return "".join(map(str, parts))


def written(value: Any) -> Any:
    """Pay for what is written out."""
    if isinstance(value, str):
        meter().spend(1 + len(value))
    else:
        meter().weigh(value, texts=True)
    return value
