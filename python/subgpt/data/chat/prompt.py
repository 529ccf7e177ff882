"""What stands before an answer: a conversation up to it, cut as training cuts the same conversation with the answer."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

from subgpt.data.chat.guard import SpecialNames
from subgpt.data.chat.spans import Marks, answer_spans, find_marks
from subgpt.data.chat.template import ChatTemplate
from subgpt.data.messages import Message
from subgpt.data.segments import Segment
from subgpt.errors import DataError


class ChatPrompt(NamedTuple):
    """What stands before an answer, and what ends it.

    Attributes:
        segments: The conversation up to the answer, cut as for training.
        end: The special token with which the template ends an answer; None if it uses none.
        stop: What it writes between an answer and the next message, where no special token ends it; else empty.

    """

    segments: tuple[Segment, ...]
    end: str | None
    stop: str


def prompt_segments(
    template: ChatTemplate,
    messages: Sequence[Message],
    special_tokens: Collection[str],
    where: str = "messages",
) -> ChatPrompt:
    r"""Write a conversation with a template, up to the answer to its last message.

    It is cut where `chat_segments` cuts the conversation with the answer, so that both have the same tokens.

    Args:
        template: The template.
        messages: The conversation; the last message asks.
        special_tokens: The names that the tokenizer knows.
        where: For messages of errors.

    Raises:
        DataError: The template refuses the messages.

    >>> from subgpt.data.chat import CHATML
    >>> prompt = prompt_segments(CHATML, [Message("user", "Hi")], ["<|im_start|>", "<|im_end|>"])
    >>> "".join(segment.text for segment in prompt.segments), prompt.end
    ('<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n', '<|im_end|>')

    """
    names = SpecialNames.of(special_tokens)
    marks = find_marks(template, messages, where)
    try:
        guarded = [Message(m.role, names.guard(m.content, marks.guard)) for m in messages]
        asked = template.render(guarded, add_generation_prompt=True)
        answered = [*guarded, Message("assistant", marks.answer)]
        borders = _borders_before(template, answered, marks, names, asked)
        end, stop = _end(template, answered, marks, names)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    segments: list[Segment] = []
    for start, finish in pairwise([0, *borders, len(asked)]):
        if start < finish:
            segments += names.segments(asked[start:finish], False, marks.guard)
    return ChatPrompt(tuple(segments), end, stop)


def _borders_before(
    template: ChatTemplate,
    answered: Sequence[Message],
    marks: Marks,
    names: SpecialNames,
    asked: str,
) -> list[int]:
    """Tell where training on the conversation with its last answer cuts what stands before that answer."""
    for loss_on in ("answers", "last"):
        try:
            text, spans = answer_spans(template, answered, marks, names, loss_on)
        except DataError:  # it takes back what it wrote before earlier answers: only the last can be trained
            continue
        if text.startswith(asked):
            return [border for span in spans for border in span if border < len(asked)]
    return []


def _end(
    template: ChatTemplate, answered: Sequence[Message], marks: Marks, names: SpecialNames
) -> tuple[str | None, str]:
    """Tell what the template writes behind the last answer: a special token, else text before the next message."""
    behind = template.render(answered).rpartition(marks.answer)[2]
    found = names.pattern.search(behind)
    if found is not None:
        return found[0], ""
    followed = template.render([*answered, Message("user", marks.before)])
    return None, followed.rpartition(marks.answer)[2].partition(marks.before)[0].rstrip()
