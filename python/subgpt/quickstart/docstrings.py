"""The docstrings of the running Python, without running any of its code.

Modules written in Python are parsed, not imported: importing some opens a browser or prints a poem. What is
written in C has no source to parse, so a fixed list of modules, all free of side effects, is imported and
looked at.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["module", "class", "function"]

C_MODULES = (
    *(
        "builtins",
        "array",
        "atexit",
        "binascii",
        "bisect",
        "cmath",
        "collections",
        "errno",
        "functools",
        "gc",
    ),
    *("heapq", "io", "itertools", "marshal", "math", "operator", "random", "select", "signal", "string"),
    *("struct", "sys", "time", "types", "unicodedata", "weakref", "zlib"),
)
"""Modules with parts in C that do nothing when they are imported."""

_SIGNATURE = re.compile(
    r"^[A-Za-z_][\w.]*\(.*?\)"  # D.update([E, ]**F)
    r"(?:\s*->\s*[^\n]*?(?=\s--|\n|\.\s|:\s|$))?"  # -> None
    r"\s*(?:--|[.:,])?\s*",  # the mark before the sentence
    re.DOTALL,
)
"""The call that older docstrings in C begin with."""


class Doc(NamedTuple):
    """A public name and its docstring.

    Attributes:
        name: As one would write it, such as ``os.path.join``.
        kind: What it names.
        text: The docstring, unindented.

    """

    name: str
    kind: Kind
    text: str


def source_docs(path: Path, module: str) -> Iterator[Doc]:
    """Yield the public docstrings of a Python file, in the order of the file; nothing if it does not parse.

    Args:
        path: The file.
        module: The name that its contents are reached by.

    """
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return
    if text := ast.get_docstring(tree):
        yield Doc(module, "module", text)
    yield from _members(tree.body, module)


def module_name(relative: Path) -> str | None:
    """Turn a path below the library into the public name of its module; None if a part is private.

    ``posixpath`` and ``ntpath`` are known as ``os.path``; the one of the other system is left out.

    >>> [module_name(Path(p)) for p in ("json/__init__.py", "json/decoder.py", "_pydecimal.py")]
    ['json', 'json.decoder', None]

    """
    if relative.as_posix() == "_collections_abc.py":
        return "collections.abc"
    parts = list(relative.with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    if not parts or any(part.startswith("_") for part in parts):
        return None
    name = ".".join(parts)
    if name in ("posixpath", "ntpath"):
        return "os.path" if name == os.path.__name__ else None
    return name


def builtin_docs() -> list[Doc]:
    """List the docstrings of built-in functions and types and of the modules in C, without signatures."""
    docs: list[Doc] = []
    for name in C_MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue  # not on this platform, or left out of this build
        docs += _module_docs(module, name)
    return docs


def _members(body: list[ast.stmt], prefix: str) -> Iterator[Doc]:
    for node in body:
        if isinstance(node, (ast.If, ast.Try)):
            yield from _members(node.body, prefix)  # a definition for one platform, or one with a fallback
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name[0] != "_":
            name = f"{prefix}.{node.name}"
            if text := ast.get_docstring(node):
                yield Doc(name, "class" if isinstance(node, ast.ClassDef) else "function", text)
            if isinstance(node, ast.ClassDef):
                yield from _members(node.body, name)


def _module_docs(module: types.ModuleType, name: str) -> Iterator[Doc]:
    prefix = "" if name == "builtins" else f"{name}."
    for key, value in sorted(vars(module).items()):
        if key.startswith("_") or _home(value) not in (name, f"_{name}", "builtins", "posix", "nt", None):
            continue
        if isinstance(value, type):
            yield from _class_docs(value, prefix + key)
        elif inspect.isbuiltin(value):
            yield from _doc(prefix + key, "function", value)


def _class_docs(cls: type, name: str) -> Iterator[Doc]:
    if "_" in name and issubclass(cls, BaseException):
        return
    yield from _doc(name, "class", cls)
    for key, value in sorted(vars(cls).items()):
        if not key.startswith("_") and inspect.isroutine(value):
            yield from _doc(f"{name}.{key}", "function", value)


def _doc(name: str, kind: Kind, value: object) -> Iterator[Doc]:
    text = getattr(value, "__doc__", None)
    if isinstance(text, str) and text.strip():
        yield Doc(name, kind, _SIGNATURE.sub("", inspect.cleandoc(text), count=1))


def _home(value: object) -> str | None:
    home = getattr(value, "__module__", None)
    return home if isinstance(home, str) else None
