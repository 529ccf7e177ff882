"""Questions and answers, in any of the shapes that data sets come in, to one: a conversation.

Accepted, told apart row by row by the keys (other keys are ignored):

==========================================  ===========================================================
``prompt``, ``completion``                  used as they are, nothing added
``question``, ``answer`` or ``q``, ``a``    a question of the user and an answer of the assistant
``instruction`` (``input``), ``output``     likewise, with the input on the lines after the instruction
``messages`` or ``conversations``           see `messages`
==========================================  ===========================================================

How a conversation is written down for a model is another matter: `plain`, or a template of `chat`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from subgpt.data.decoding import Errors, check_errors, clean
from subgpt.data.documents import Origin
from subgpt.data.formats import ALL_NAMES, find_row_files, format_of
from subgpt.data.messages import KEYS, Message, check_answered, parse_conversation
from subgpt.data.plain import check_turns, plain_segments
from subgpt.data.rows import Row, list_keys, need_str
from subgpt.data.segments import Segment
from subgpt.data.sources import FileSource
from subgpt.data.split import check_fraction, in_validation, text_hash
from subgpt.errors import DataError

ExampleSource: TypeAlias = "FileSource | Iterable[Mapping[str, Any]]"

ACCEPTED = (
    "prompt + completion, question + answer, q + a, instruction (+ input) + output, messages or conversations"
)

_PAIRS = (("prompt", "completion"), ("question", "answer"), ("instruction", "output"), ("q", "a"))


@dataclass(frozen=True, slots=True)
class Example:
    """One example of what to answer.

    Attributes:
        messages: What is said, in order; the last is the assistant's.
        origin: Where it stands.
        verbatim: Prompt and completion, whose texts are used as they are.

    """

    messages: tuple[Message, ...]
    origin: Origin
    verbatim: bool = False

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The conversation in the plain form, its answers trained."""
        return plain_segments(self.messages, verbatim=self.verbatim)

    @property
    def prompt(self) -> str:
        """All that stands before the first answer, in the plain form."""
        first = next(i for i, message in enumerate(self.messages) if message.role == "assistant")
        return "".join(s.text for s in plain_segments(self.messages[:first], verbatim=self.verbatim))


def read_examples(
    source: ExampleSource, *, errors: Errors = "replace", free_turns: bool = False
) -> list[Example]:
    """Read all examples of ``source``.

    Args:
        source: Files of JSON Lines, CSV, TSV, JSON or Parquet as `find_files` takes them (the text ones may be
            ``.gz``), a directory that `datasets` saved, or an iterable of mappings such as a
            ``datasets.Dataset``.
        errors: ``"replace"`` or ``"strict"``, for bytes that are no text.
        free_turns: Leave the order of roles to the chat template; the plain form needs user and assistant in
            turn.

    Raises:
        MissingFileError: A file that was named is not there.
        MissingExtraError: A kind of file that needs a package which is not installed.
        DataError: A row in no accepted shape, an empty answer, or no row at all; with file, line and the keys
            there are.

    >>> read_examples([{"question": "Is it?", "answer": "It is."}])[0].segments[1]
    Segment(text=' It is.', trained=True)

    """
    check_errors(errors)
    examples = [parse_row(row, errors, free_turns=free_turns) for row in rows_of(source, errors)]
    if not examples:
        raise DataError(f"{named(source)}: no examples in it; each row must have {ACCEPTED}")
    return examples


def parse_row(row: Row, errors: Errors = "replace", *, free_turns: bool = False) -> Example:
    """Turn one row into an example; arguments as for `read_examples`.

    Raises:
        DataError: Its keys are none of the accepted ones, a value is no text, or there is nothing to train
            on.

    """
    key = next((key for key in KEYS if key in row.fields), None)
    verbatim = False
    if key is not None:
        messages = parse_conversation(row, key)
        if not free_turns:
            check_turns(messages, row.where)
        check_answered(messages, row.where)
    else:
        messages, verbatim = _pair(row)
    cleaned = tuple(Message(m.role, clean(m.content, row.where, errors).text) for m in messages)
    return Example(cleaned, Origin(row.file, row.line), verbatim)


def shape_of(fields: Mapping[str, Any]) -> str | None:
    """Name the accepted shape that the keys of a row have, or None.

    >>> shape_of({"question": "a?", "answer": "b", "id": 7}), shape_of({"text": "a"})
    ('question + answer', None)
    """
    key = next((key for key in KEYS if key in fields), None)
    return key or next((f"{p} + {a}" for p, a in _PAIRS if p in fields and a in fields), None)


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


def is_rows(source: object) -> bool:
    """Tell rows in memory from names of files."""
    if isinstance(source, (str, os.PathLike)) or not isinstance(source, Iterable):
        return False
    return not (isinstance(source, (list, tuple)) and source and isinstance(source[0], (str, os.PathLike)))


def named(source: ExampleSource) -> str:
    """Name a source for a message: its files, or the rows given."""
    return "the rows given" if is_rows(source) else find_row_files(cast("FileSource", source)).named()


def rows_of(source: ExampleSource, errors: Errors) -> Iterator[Row]:
    """Yield the rows of files, or those given."""
    if is_rows(source):
        _refuse_splits(source)
        for number, fields in enumerate(cast("Iterable[Mapping[str, Any]]", source), start=1):
            if not isinstance(fields, Mapping):
                raise DataError(f"row {number} is {type(fields).__name__}, not a mapping with {ACCEPTED}")
            yield Row(fields, "row", number)
        return
    found = find_row_files(cast("FileSource", source))
    kinds = [(path, kind) for path in found.files if (kind := format_of(path)) is not None]
    if not kinds:
        raise DataError(
            f"{found.named()}: no .jsonl file among them, nor another with rows; examples are read from "
            f"{ALL_NAMES}, each row with {ACCEPTED}"
        )
    for path, kind in kinds:
        yield from kind.read(path, errors)


def _refuse_splits(source: object) -> None:
    """Refuse a mapping, such as the splits of a data set, whose rows nobody could mean."""
    if isinstance(source, Mapping):
        raise DataError(f"a mapping of {list_keys(source)} was given; give the rows of one of these")


def _pair(row: Row) -> tuple[tuple[Message, ...], bool]:
    """Read a question and its answer; says whether they are used as they are."""
    fields, where = row.fields, row.where
    pair = next(((p, a) for p, a in _PAIRS if p in fields and a in fields), None)
    if pair is None:
        raise DataError(f"{where}: the keys {list_keys(fields)} are no example; expected {ACCEPTED}")
    asked, answered = (need_str(fields, key, where, "") for key in pair)
    if not answered.strip():
        raise DataError(
            f"{where}: field {pair[1]!r} is empty, so there is nothing to train on; remove the line"
        )
    if pair[0] != "prompt" and not asked.strip():
        raise DataError(f"{where}: field {pair[0]!r} is empty; remove the line")
    if pair[0] == "instruction" and fields.get("input"):
        asked = f"{asked}\n{need_str(fields, 'input', where, '')}"
    return (Message("user", asked), Message("assistant", answered)), pair[0] == "prompt"
