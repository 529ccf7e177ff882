"""Text that every machine with Python has: the standard library's sources and the language reference.

Nothing is downloaded and nothing is shipped. The sources are read as files (never imported), the reference
comes from `pydoc_data.topics`, the texts behind ``help("topics")``. Where the sources are missing, as in an
embedded Python with a zipped library, the docstrings of modules written in C stand in.
"""

from __future__ import annotations

import importlib
import os
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from subgpt.data.documents import Document, Origin
from subgpt.data.reading import read_text
from subgpt.errors import DataError, SubgptError
from subgpt.quickstart.docstrings import builtin_docs
from subgpt.units import in_bytes

SKIPPED_DIRECTORIES = frozenset(
    {"test", "tests", "idle_test", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages"}
    | {
        "__pycache__",
        "ensurepip",
        "encodings",
        "pydoc_data",
        "__phello__",
        "lib-dynload",
        "msilib",
        "_pyrepl",
    }
)
"""Tests, other people's packages, generated tables, programs about to be retired."""

MIN_BYTES = 10_000
"""Less text than this teaches nothing; then the Python at hand is too bare for a quickstart."""


@dataclass(frozen=True, slots=True)
class PythonCorpus:
    """What the running Python has to read.

    Attributes:
        documents: Sources in the order of their paths, then topics in alphabetical order.
        source_files: How many are sources.
        topics: How many are texts of the reference.
        text_bytes: UTF-8 bytes of all.

    """

    documents: tuple[Document, ...]
    source_files: int
    topics: int
    text_bytes: int

    def describe(self) -> str:
        """One line for the terminal."""
        others = len(self.documents) - self.source_files - self.topics
        parts = [f"{self.source_files} library sources", f"{self.topics} reference topics"]
        if others:
            parts.append(f"{others} docstrings")
        return f"{', '.join(parts)}: {in_bytes(self.text_bytes)} of text"


def python_corpus(*, stdlib: Path | None = None) -> PythonCorpus:
    """Collect the texts of the running Python.

    Args:
        stdlib: Where the library's sources lie; asked of `sysconfig` by default.

    Returns:
        The same documents in the same order whenever it is called under the same Python.

    Raises:
        DataError: Less than 10 kB of text, as in a Python stripped of its library and its docstrings.

    """
    sources = source_documents(stdlib or Path(sysconfig.get_path("stdlib")))
    topics = topic_documents()
    documents = sources + topics
    if not sources:
        documents += [Document(doc.text, Origin(doc.name, 1)) for doc in builtin_docs()]
    text_bytes = sum(len(d.text.encode("utf-8")) for d in documents)
    if text_bytes < MIN_BYTES:
        raise DataError(
            f"this Python comes with only {text_bytes} bytes of text (no library sources, no pydoc topics); "
            "train on a text of your own with: subgpt pretrain --data TEXT"
        )
    return PythonCorpus(tuple(documents), len(sources), len(topics), text_bytes)


def source_documents(stdlib: Path) -> list[Document]:
    """Read the library's modules, without tests, tables and installed packages; [] if there are none.

    The origin is the path below the library, with slashes, so that it does not tell where Python is
    installed.
    """
    documents = []
    for path in source_files(stdlib):
        try:
            decoded = read_text(path)
        except SubgptError:
            continue  # a file that this user may not read; the others will do
        if decoded.text.strip() and not decoded.damaged:
            documents.append(Document(decoded.text, Origin(path.relative_to(stdlib).as_posix(), 1)))
    return documents


def source_files(stdlib: Path) -> list[Path]:
    """List the ``.py`` files of the library that are worth reading, in the order of their paths."""
    files: list[Path] = []
    for folder, names, entries in os.walk(stdlib):
        names[:] = [n for n in names if n not in SKIPPED_DIRECTORIES and not n.startswith(("config-", "."))]
        files += (
            Path(folder, e) for e in entries if e.endswith(".py") and not e.startswith("_sysconfigdata")
        )
    return sorted(files, key=lambda path: path.relative_to(stdlib).parts)


def topic_documents() -> list[Document]:
    """Read the texts of the language reference that come with `pydoc`; [] if this Python has none."""
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        return []
    return [
        Document(text, Origin(f"pydoc_data.topics/{name}", 1))
        for name, text in sorted(topics.items())
        if isinstance(text, str) and text.strip()
    ]
