r"""The plain form of a conversation, for models that know no chat template.

It is plain text, ``"Question: {question}\nAnswer:"`` and then ``" {answer}"`` and the end of text, turn after
turn; a system text stands on a line before the first question. The space belongs to the answer, because
tokenizers join a space to the word after it: so the answer begins with the token that it would have in
running text.
"""

from __future__ import annotations

from collections.abc import Sequence

from subgpt.data.messages import Message
from subgpt.data.segments import LossOn, Segment
from subgpt.errors import DataError


def format_question(question: str, system: str = "") -> str:
    r"""Put a question as fine-tuned models expect it; what they generate next is the answer.

    >>> format_question("What is a poem?")
    'Question: What is a poem?\nAnswer:'
    """
    asked = f"Question: {question}\nAnswer:"
    return f"{system}\n{asked}" if system else asked


def plain_segments(
    messages: Sequence[Message], *, verbatim: bool = False, loss_on: LossOn = "answers"
) -> tuple[Segment, ...]:
    r"""Write a conversation in the plain form.

    Args:
        messages: The conversation.
        verbatim: Its texts are used as they are, nothing added.
        loss_on: What is trained: the assistant's ``"answers"``, ``"all"`` of it, or the ``"last"`` answer.

    >>> [s.text for s in plain_segments([Message("user", "Is it?"), Message("assistant", "It is.")])]
    ['Question: Is it?\nAnswer:', ' It is.']

    """
    segments: list[Segment] = []
    system = ""
    for number, message in enumerate(messages, start=1):
        answers = message.role == "assistant"
        if message.role == "system":
            system = message.content
            continue
        trained = loss_on == "all" or (answers and (loss_on == "answers" or number == len(messages)))
        text = message.content
        if not verbatim:
            text = f" {text}" if answers else format_question(text, system)
        segments.append(Segment(text, trained, ends=answers))
        system = ""
    return tuple(segments)


def check_turns(messages: Sequence[Message], where: str) -> None:
    """Refuse a conversation that the plain form cannot hold.

    Raises:
        DataError: User and assistant do not take turns, beginning with user after an optional system message.

    """
    turns = messages[1:] if messages[0].role == "system" else messages
    for number, message in enumerate(turns):
        wanted = ("user", "assistant")[number % 2]
        if message.role != wanted:
            raise DataError(
                f"{where}: after an optional system message, user and assistant must take turns, "
                f"beginning with user; a message of {wanted!r} is expected where {message.role!r} stands"
            )
