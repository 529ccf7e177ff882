r"""Questions and answers, in any of the shapes that data sets come in, to one: segments, trained or not.

Accepted, told apart row by row by the keys (other keys are ignored):

==========================================  ===========================================================
``prompt``, ``completion``                  used as they are, nothing added
``question``, ``answer`` or ``q``, ``a``    the template below
``instruction`` (``input``), ``output``     the template, with the input on the lines after the instruction
``messages``                                turns of ``role`` and ``content``; roles ``system`` (first,
optional),
                                            then ``user`` and ``assistant`` in turn; every assistant turn is
                                            trained
==========================================  ===========================================================

The template is plain text, ``"Question: {question}\nAnswer:"`` and then ``" {answer}"`` and the end of text,
turn after turn; a system text stands on a line before the first question. The space belongs to the answer,
because tokenizers join a space to the word after it: so the answer begins with the token that it would have
in running text.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

from subgpt.data.decoding import Errors, check_errors, clean
from subgpt.data.documents import Origin
from subgpt.data.jsonl import Row, is_jsonl, json_type, list_keys, need_str, read_rows
from subgpt.data.sources import FileSource, find_files
from subgpt.data.split import check_fraction, in_validation, text_hash
from subgpt.errors import DataError

ExampleSource: TypeAlias = "FileSource | Iterable[Mapping[str, Any]]"

ACCEPTED = "prompt + completion, question + answer, q + a, instruction (+ input) + output, or messages"

_PAIRS = (("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("q", "a"))


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an example. Each trained one is followed by the end of text when it is tokenized."""

    text: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Example:
    """One example of what to answer.

    Attributes:
        segments: What is shown and what is to be answered, in order; at least one is trained.
        origin: Where it stands.

    """

    segments: tuple[Segment, ...]
    origin: Origin

    @property
    def prompt(self) -> str:
        """All that stands before the first answer."""
        first = next(i for i, segment in enumerate(self.segments) if segment.trained)
        return "".join(segment.text for segment in self.segments[:first])


def format_question(question: str, system: str = "") -> str:
    r"""Put a question as fine-tuned models expect it; what they generate next is the answer.

    >>> format_question("What is a poem?")
    'Question: What is a poem?\nAnswer:'
    """
    return f"{system}\n{_ask(question)}" if system else _ask(question)


def read_examples(source: ExampleSource, *, errors: Errors = "replace") -> list[Example]:
    """Read all examples of ``source``.

    Args:
        source: ``.jsonl`` files (or ``.gz`` of them) as `find_files` takes them, or an iterable of mappings.
        errors: ``"replace"`` or ``"strict"``, for bytes that are no text.

    Raises:
        MissingFileError: A file that was named is not there.
        DataError: A row in no accepted shape, an empty answer, or no row at all; with file, line and the keys
            there are.

    >>> read_examples([{"question": "Is it?", "answer": "It is."}])[0].segments[1]
    Segment(text=' It is.', trained=True)

    """
    check_errors(errors)
    examples = [parse_row(row, errors) for row in _rows(source, errors)]
    if not examples:
        where = "the rows given" if _is_rows(source) else find_files(cast("FileSource", source)).named()
        raise DataError(f"{where}: no examples in it; each line of a .jsonl file must have {ACCEPTED}")
    return examples


def parse_row(row: Row, errors: Errors = "replace") -> Example:
    """Turn one row into an example.

    Raises:
        DataError: Its keys are none of the accepted ones, a value is no text, or there is nothing to train
            on.

    """
    segments = _segments(row)
    cleaned = tuple(Segment(clean(s.text, row.where, errors).text, s.trained) for s in segments)
    return Example(cleaned, Origin(row.file, row.line))


def shape_of(fields: Mapping[str, Any]) -> str | None:
    """Name the accepted shape that the keys of a row have, or None.

    >>> shape_of({"question": "a?", "answer": "b", "id": 7}), shape_of({"text": "a"})
    ('question + answer', None)
    """
    if "messages" in fields:
        return "messages"
    return next((f"{p} + {a}" for p, a in _PAIRS if p in fields and a in fields), None)


def split_examples(
    examples: Sequence[Example], *, val_fraction: float = 0.1, seed: int = 0
) -> tuple[list[Example], list[Example], str]:
    """Divide examples by a hash of the prompt, so that no question is on both sides.

    Args:
        examples: What `read_examples` gave.
        val_fraction: Share of validation, in [0, 1); 0 for none.
        seed: Any integer.

    Returns:
        Training examples, validation examples (in their order), and how they were divided, in words. With two
        or more different prompts neither side is empty: the prompt with the smallest hash, or all but it, is
        the side.

    """
    check_fraction(val_fraction)
    hashes = {prompt: text_hash(prompt, seed) for prompt in {example.prompt for example in examples}}
    if val_fraction == 0 or len(hashes) < 2:
        why = "none was asked for" if val_fraction == 0 else "all examples have the same prompt"
        return list(examples), [], f"no validation examples: {why}"
    val_prompts = {p for p in hashes if in_validation(p, val_fraction=val_fraction, seed=seed)}
    ranked = sorted(hashes, key=lambda p: (hashes[p], p))
    val_prompts = (val_prompts | {ranked[0]}) - {ranked[-1]}
    train = [e for e in examples if e.prompt not in val_prompts]
    val = [e for e in examples if e.prompt in val_prompts]
    return train, val, f"by prompt: {len(train)} train, {len(val)} validation"


def _rows(source: ExampleSource, errors: Errors) -> Iterator[Row]:
    if _is_rows(source):
        for number, fields in enumerate(cast("Iterable[Mapping[str, Any]]", source), start=1):
            if not isinstance(fields, Mapping):
                raise DataError(f"row {number} is {type(fields).__name__}, not a mapping with {ACCEPTED}")
            yield Row(fields, "row", number)
        return
    for path in example_files(cast("FileSource", source)):
        yield from read_rows(path, errors)


def _is_rows(source: object) -> bool:
    if isinstance(source, (str, os.PathLike)) or not isinstance(source, Iterable):
        return False
    return not (isinstance(source, (list, tuple)) and source and isinstance(source[0], (str, os.PathLike)))


def example_files(source: FileSource) -> list[Path]:
    """Find the ``.jsonl`` files of a source.

    Raises:
        DataError: There is none.

    """
    found = find_files(source)
    files = [path for path in found.files if is_jsonl(path)]
    if not files:
        raise DataError(
            f"{found.named()}: no .jsonl file among them; examples are "
            f"read from JSON Lines, one object a line with {ACCEPTED}"
        )
    return files


def _segments(row: Row) -> list[Segment]:
    fields, where = row.fields, row.where
    if "messages" in fields:
        return _chat(fields["messages"], where)
    pair = next(((p, a) for p, a in _PAIRS if p in fields and a in fields), None)
    if pair is None:
        raise DataError(f"{where}: the keys {list_keys(fields)} are no example; expected {ACCEPTED}")
    asked, answered = (need_str(fields, key, where, "") for key in pair)
    if not answered.strip():
        raise DataError(
            f"{where}: field {pair[1]!r} is empty, so there is nothing to train on; remove the line"
        )
    if pair[0] == "prompt":
        return [Segment(asked, False), Segment(answered, True)]
    if not asked.strip():
        raise DataError(f"{where}: field {pair[0]!r} is empty; remove the line")
    if pair[0] == "instruction" and fields.get("input"):
        asked = f"{asked}\n{need_str(fields, 'input', where, '')}"
    return [Segment(_ask(asked), False), Segment(_reply(answered), True)]


def _chat(messages: object, where: str) -> list[Segment]:
    if not isinstance(messages, list) or not messages:
        raise DataError(
            f"{where}: 'messages' must be an array of at least one message, not {json_type(messages)}"
        )
    turns = [_turn(message, f"{where}: message {n}") for n, message in enumerate(messages, start=1)]
    system = turns.pop(0)[1] if turns[0][0] == "system" else ""
    if not turns:
        raise DataError(f"{where}: there is only a system message, so there is nothing to train on")
    segments: list[Segment] = []
    for number, (role, content) in enumerate(turns):
        wanted = ("user", "assistant")[number % 2]
        if role != wanted:
            raise DataError(
                f"{where}: after an optional system message, user and assistant must take turns, "
                f"beginning with user; a message of {wanted!r} is expected where {role!r} stands"
            )
        if role == "assistant":
            segments.append(Segment(_reply(content), True))
        else:
            segments.append(Segment(format_question(content, "" if segments else system), False))
    if not segments[-1].trained:
        raise DataError(
            f"{where}: the last message is the user's and has no answer; add one, or remove the message"
        )
    return segments


def _turn(message: object, where: str) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        raise DataError(f"{where} must be an object with 'role' and 'content', not {json_type(message)}")
    role, content = (
        need_str(message, key, where, "a message has a role and a content") for key in ("role", "content")
    )
    if role not in ("system", "user", "assistant"):
        raise DataError(f"{where}: unknown role {role!r}; known are 'system', 'user' and 'assistant'")
    if not content.strip():
        raise DataError(f"{where}: the content of {role!r} is empty; remove the message or the line")
    return role, content


def _ask(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def _reply(answer: str) -> str:
    return f" {answer}"
