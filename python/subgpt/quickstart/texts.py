"""The texts of a quickstart, as files: corpus, questions, held-out questions."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subgpt import _core
from subgpt.data.split import text_hash
from subgpt.quickstart.corpus import python_corpus
from subgpt.quickstart.plan import Plan
from subgpt.quickstart.questions import question_pairs
from subgpt.units import in_bytes

HELD_OUT = 0.1
MAX_DIGITS = 0.05
"""The largest share of digits in a document that is used; 2 % of the library's text has more."""


@dataclass(frozen=True)
class Texts:
    """The texts of the corpus and the questions, divided, and the files they are in."""

    documents: Sequence[str]
    taught: Sequence[dict[str, str]]
    held_out: Sequence[dict[str, str]]
    corpus: Path
    pairs: Path
    held_out_pairs: Path
    description: str
    text_bytes: int


def collect(folder: Path, plan: Plan) -> Texts:
    """Collect the corpus and the questions of the running Python and write them into `folder`."""
    folder.mkdir()
    found = python_corpus()
    documents = evenly([d.text for d in found.documents if is_text(d.text)], plan.corpus_bytes)
    corpus, pairs, held_out = (folder / f"{name}.jsonl" for name in ("corpus", "questions", "held-out"))
    write_jsonl(corpus, ({"text": text} for text in documents))
    rows = question_pairs()
    rows = rows[:: max(1, len(rows) // plan.pairs)] if plan.pairs else rows
    kept = [row for row in rows if text_hash(row["question"], plan.seed) < HELD_OUT] or rows[:1]
    taught = [row for row in rows if row not in kept]
    write_jsonl(pairs, taught)
    write_jsonl(held_out, kept)
    size = sum(len(text.encode("utf-8", "surrogatepass")) for text in documents)
    part = "" if len(documents) == len(found.documents) else f", of which {in_bytes(size)} are used"
    return Texts(documents, taught, kept, corpus, pairs, held_out, found.describe() + part, size)


def write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    r"""Write rows as JSON Lines (UTF-8, ``\n``), whole or not at all; OutputError or MissingFileError."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    _core.write_atomic(str(path), "".join(lines).encode())


def is_text(text: str) -> bool:
    """Tell text from tables of characters and constants, which a small model would only babble after."""
    return sum(map(text.count, "0123456789")) <= MAX_DIGITS * len(text)


def evenly(texts: Sequence[str], limit: int | None) -> list[str]:
    """Pick texts of about `limit` bytes in all, evenly from the whole; all of them without a limit."""
    total = sum(map(len, texts))
    if limit is None or total <= limit:
        return list(texts)
    stride = max(1, total // limit)
    return list(texts[::stride])


def shown(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Pick the held-out questions to show: evenly spread, those about functions first."""
    functions = [row for row in rows if row["question"].startswith("What does ")] or list(rows)
    return functions[:: max(1, len(functions) // count)][:count]
