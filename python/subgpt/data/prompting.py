"""A conversation to the ids after which a model writes its answer.

They are the ids that `masking` makes of the same conversation with an answer, as far as the answer: what a model was
trained to go on from is what it is asked with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.data.chat.prompt import prompt_segments
from subgpt.data.encoding import END_WITHOUT_EOT, encode_segments
from subgpt.data.masking import join_segments
from subgpt.data.messages import Message
from subgpt.data.plain import check_turns, plain_segments
from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.data.segments import Segment
    from subgpt.tokenizer import Tokenizer


class AnswerPrompt(NamedTuple):
    """What a model reads before it answers, and what ends the answer.

    Attributes:
        ids: uint32 (n,).
        end_ids: Special tokens that end the turn, beside those that end any text.
        stop: Texts that end it where no special token does.

    """

    ids: npt.NDArray[np.uint32]
    end_ids: tuple[int, ...]
    stop: tuple[str, ...]


def answer_prompt(
    messages: Sequence[Message],
    tok: Tokenizer,
    template: ChatTemplate | None,
    where: str = "messages",
) -> AnswerPrompt:
    r"""Write a conversation down for the answer to its last message.

    Args:
        messages: The conversation; the last message is the user's.
        tok: The model's tokenizer.
        template: How it is written; None: in the plain form.
        where: For messages of errors.

    Raises:
        DataError: The last message is not the user's, the template refuses the messages, or the plain form has no
            words for the order of their roles.

    >>> from subgpt import Tokenizer
    >>> tok = Tokenizer.train(["Question: Is it? Answer: It is."], vocab_size=270)
    >>> tok.decode(answer_prompt([Message("user", "Is it?")], tok, None).ids)
    'Question: Is it?\nAnswer:'

    """
    if messages[-1].role != "user":
        raise DataError(
            f"{where}: the last message is of {messages[-1].role!r}; end with one of 'user', for the model to answer"
        )
    if template is None:
        check_turns(messages, where)
        ids = _encode(plain_segments(messages), tok, plain=True)
        return AnswerPrompt(ids, (), (END_WITHOUT_EOT,) if tok.eot_id is None else ())
    prompt = prompt_segments(template, messages, tok.special_tokens, where)
    ids = _encode(prompt.segments, tok, plain=False)
    if not len(ids):
        raise DataError(
            f"{where}: the chat template {template.name} writes nothing of them; use another template"
        )
    end_ids = () if prompt.end is None else (tok.special_tokens[prompt.end],)
    return AnswerPrompt(ids, end_ids, (prompt.stop,) if prompt.stop else ())


def _encode(segments: Sequence[Segment], tok: Tokenizer, *, plain: bool) -> npt.NDArray[np.uint32]:
    (pieces,) = encode_segments([segments], tok)
    return join_segments(segments, pieces, tok, plain=plain)[0]
