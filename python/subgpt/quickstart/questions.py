"""Questions with true answers: "What does os.path.join do?" and the first sentence of its docstring.

The filters keep what reads as an answer: one sentence of 15 to 160 characters, in plain characters, with a
capital letter at its head and a full stop at its end, about a public name. Every question and every answer
occurs once: an answer that fits five questions would only teach that questions do not matter.
"""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from subgpt.errors import DataError
from subgpt.quickstart.corpus import source_files
from subgpt.quickstart.docstrings import Doc, builtin_docs, module_name, source_docs

MIN_CHARS, MAX_CHARS = 15, 160
MIN_WORDS = 3
MIN_PAIRS = 100
"""With fewer pairs there is nothing to fine-tune on (python -OO, no sources)."""

MAX_PARTS = 4
"""Names with more dots than this are nobody's question."""

_NOT_AN_ANSWER = re.compile(
    r">>>|::|\{\{|`{2}|\bXXX\b|TODO|[Dd]eprecated|^See |^Same as |^Like |^Implement|\|"
)
_ABBREVIATIONS = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Dr|Mr|approx)|\b[A-Z])\.$")
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")


def question_pairs(*, stdlib: Path | None = None) -> list[dict[str, str]]:
    """Make question and answer rows of the docstrings of the running Python.

    Args:
        stdlib: Where the library's sources lie; asked of `sysconfig` by default.

    Returns:
        Rows with ``question`` and ``answer``, in a fixed order: built-ins and C modules first, then the
        sources in the order of their paths.

    Raises:
        DataError: Fewer than 100 pairs, as under ``python -OO``, which drops docstrings.

    """
    rows = list(pairs_of(_docs(stdlib or Path(sysconfig.get_path("stdlib")))))
    if len(rows) < MIN_PAIRS:
        raise DataError(
            f"this Python's docstrings gave only {len(rows)} questions; run Python without -OO, or fine-tune on "
            "rows of your own with: subgpt finetune RUN --data FILE"
        )
    return rows


def pairs_of(docs: Iterable[Doc]) -> Iterator[dict[str, str]]:
    """Turn docstrings into rows, without repeating a question or an answer.

    >>> list(pairs_of([Doc("math.sqrt", "function", "Return the square root of x.")]))
    [{'question': 'What does math.sqrt do?', 'answer': 'Return the square root of x.'}]
    """
    questions: set[str] = set()
    answers: set[str] = set()
    for doc in docs:
        question = _question(doc)
        answer = first_sentence(doc.text)
        if answer is None or question in questions or answer.lower() in answers:
            continue
        if doc.name.count(".") >= MAX_PARTS or any(part.startswith("_") for part in doc.name.split(".")):
            continue
        questions.add(question)
        answers.add(answer.lower())
        yield {"question": question, "answer": answer}


def first_sentence(docstring: str) -> str | None:
    r"""Cut the first sentence out of a docstring, on one line; None if it does not read as an answer.

    >>> first_sentence("Return the sum,\n    e.g. 3.  Then rest.\n\nMore.")
    'Return the sum, e.g. 3.'
    >>> first_sentence("x.foo() -> bar") is None
    True
    """
    paragraph = " ".join(docstring.strip().split("\n\n", 1)[0].split())
    sentence = paragraph
    for match in _SENTENCE_END.finditer(paragraph):
        if not _ABBREVIATIONS.search(paragraph[: match.end()]):
            sentence = paragraph[: match.end()]
            break
    else:
        # A headline without a full stop is a sentence; a paragraph that ends in a colon introduces a list.
        if not paragraph or not (paragraph[-1].isalnum() or paragraph[-1] in ")'\""):
            return None
        sentence = paragraph + "."
    return sentence if _reads_well(sentence) else None


def _reads_well(sentence: str) -> bool:
    return (
        MIN_CHARS <= len(sentence) <= MAX_CHARS
        and len(sentence.split()) >= MIN_WORDS
        and sentence[0].isupper()
        and sentence.isascii()
        and sentence.isprintable()
        and sentence.count("(") == sentence.count(")")
        and "->" not in sentence
        and _NOT_AN_ANSWER.search(sentence) is None
    )


def _question(doc: Doc) -> str:
    if doc.kind == "module":
        return f"What is the module {doc.name} for?"
    return f"What is {doc.name}?" if doc.kind == "class" else f"What does {doc.name} do?"


def _docs(stdlib: Path) -> Iterator[Doc]:
    yield from builtin_docs()
    for path in source_files(stdlib):
        name = module_name(path.relative_to(stdlib))
        if name is not None:
            yield from source_docs(path, name)
