"""What of a rendered conversation the model learns to write, and which names in it are special tokens.

A template gives a text, and a text does not say who wrote what. Two questions are answered here.

*What is an answer?* If the template marks it with ``{% generation %}``, that. Else the text between the rendering
of all that comes before a message, with the prompt for an answer, and the rendering of all up to it: as the model
will meet it. This needs every such rendering to be a beginning of the whole one, which is checked; templates that
take back what they wrote, such as the thoughts of earlier turns, are refused.

*What is a special token?* What the template wrote as one, never what a message has in it: see `guard`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from subgpt.data.chat.guard import SpecialNames
from subgpt.data.chat.template import ChatTemplate
from subgpt.data.messages import Message
from subgpt.data.segments import LossOn, Segment
from subgpt.errors import DataError

# Unicode promises that these 32 will never be characters.
_NEVER = [chr(code) for code in range(0xFDD0, 0xFDF0)]


class Marks(NamedTuple):
    """Characters that occur nowhere."""

    before: str
    after: str
    guard: str
    answer: str


def chat_segments(
    template: ChatTemplate,
    messages: Sequence[Message],
    special_tokens: Collection[str],
    loss_on: LossOn = "answers",
    where: str = "messages",
) -> tuple[Segment, ...]:
    """Write a conversation with a template, cut where training begins and ends.

    Args:
        template: The template.
        messages: The conversation.
        special_tokens: The names that the tokenizer knows.
        loss_on: What is trained: the assistant's ``"answers"``, ``"all"`` of it, or the ``"last"`` answer.
        where: File and line, for messages.

    Raises:
        DataError: The template refuses the messages, takes back what it wrote, or writes no answer.

    >>> from subgpt.data.chat import CHATML
    >>> talk = [Message("user", "Hi"), Message("assistant", "Hello")]
    >>> [s.text for s in chat_segments(CHATML, talk, ["<|im_end|>"]) if s.trained]
    ['Hello<|im_end|>']

    """
    names = SpecialNames.of(special_tokens)
    marks = find_marks(template, messages, where)
    try:
        guarded = [Message(m.role, names.guard(m.content, marks.guard)) for m in messages]
        text, spans = answer_spans(template, guarded, marks, names, loss_on)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    segments: list[Segment] = []
    for start, end, trained in _cut(spans, len(text)):
        segments += names.segments(text[start:end], trained, marks.guard)
    return tuple(segments)


def answer_spans(
    template: ChatTemplate,
    messages: Sequence[Message],
    marks: Marks,
    names: SpecialNames,
    loss_on: LossOn,
) -> tuple[str, list[tuple[int, int]]]:
    """Render the conversation, and tell where what is trained begins and ends."""
    marked = template.render_marked(messages, (marks.before, marks.after))
    text = marked.replace(marks.before, "").replace(marks.after, "")
    if loss_on == "all":
        return text, [(0, len(text))]
    spans = _generated(marked, marks)
    if spans:
        return text, spans[-1:] if loss_on == "last" else spans
    answers = [k for k, message in enumerate(messages) if message.role == "assistant"]
    for k in answers[-1:] if loss_on == "last" else answers:
        start, end = _between(template, messages, k, text)
        spans.append((start, start + len(_without_layout(text[start:end], names))))
    if not any(start < end for start, end in spans):
        raise DataError(
            f"the chat template {template.name} writes nothing of the answers, so there is nothing to train on"
        )
    return text, spans


def _generated(marked: str, marks: Marks) -> list[tuple[int, int]]:
    """Tell the places of what stands between marks, in the text without them."""
    spans, length, depth, start = [], 0, 0, 0
    for piece in re.split(f"([{marks.before}{marks.after}])", marked):
        if piece == marks.before:
            start = start if depth else length
            depth += 1
        elif piece == marks.after and depth:
            depth -= 1
            if not depth and length > start:
                spans.append((start, length))
        elif piece == marks.after:
            break
        else:
            length += len(piece)
    else:
        if not depth:
            return spans
    raise DataError(
        "the chat template writes only a part of what is between {% generation %} and {% endgeneration %}; "
        "put the tags around what is written in the end"
    )


def _between(template: ChatTemplate, messages: Sequence[Message], k: int, text: str) -> tuple[int, int]:
    """Tell where in the whole text answer `k` begins and ends."""
    before = template.render(messages[:k], add_generation_prompt=True)
    upto = text if k == len(messages) - 1 else template.render(messages[: k + 1])
    if not (upto.startswith(before) and text.startswith(upto)):
        raise DataError(
            f"the chat template {template.name} writes a conversation differently once message {k + 1} is answered, "
            "so what was an answer cannot be told; train on the last answer only (loss_on='last', "
            "--loss-on last), or mark answers in the template with {% generation %} and {% endgeneration %}"
        )
    return len(before), len(upto)


def _without_layout(answer: str, names: SpecialNames) -> str:
    """Leave out white space after the special token that ends an answer: when it is written, nobody writes on."""
    bare = answer.rstrip()
    return bare if bare.endswith(names.names) else answer


def _cut(spans: Sequence[tuple[int, int]], length: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the stretches of a text, trained and not, that are not empty."""
    borders = [0, *(place for span in spans for place in span), length]
    for number, (start, end) in enumerate(pairwise(borders)):
        if start < end:
            yield start, end, number % 2 == 1


def find_marks(template: ChatTemplate, messages: Sequence[Message], where: str) -> Marks:
    """Find characters that neither template nor messages have."""
    texts = [template.source, *map(str, template.variables.values()), *(m.content for m in messages)]
    free = [mark for mark in _NEVER if not any(mark in text for text in texts)]
    if len(free) < len(Marks._fields):
        raise DataError(f"{where}: the text has nearly all code points that are no characters; remove them")
    return Marks(*free[: len(Marks._fields)])
