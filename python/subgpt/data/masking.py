"""Examples to ids, with an exact mask of what is trained.

Tokenized as one text, the last characters of the prompt and the first of the answer could share a token, and no
mask could part them; and when the model is used, the prompt is tokenized alone as well, because the answer is not
there yet. So segments are tokenized apart (see `encoding`), and the border between tokens is the border between
segments, by construction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from subgpt.data.chat.spans import chat_segments
from subgpt.data.documents import Origin
from subgpt.data.encoding import encode_segments
from subgpt.data.instruct import Example
from subgpt.data.plain import plain_segments
from subgpt.data.segments import LossOn, Segment, check_loss_on
from subgpt.errors import DataError

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.tokenizer import Tokenizer

_BATCH = 4096


@dataclass(frozen=True, slots=True, eq=False)
class TokenExample:
    """An example as the model reads it.

    Attributes:
        ids: uint32 (n,).
        trained: bool (n,): True for the tokens that the model learns to write, such as answers and the end
            after each; False for all that is shown.
        origin: Where it stands.

    """

    ids: npt.NDArray[np.uint32]
    trained: npt.NDArray[np.bool_]
    origin: Origin

    def __len__(self) -> int:
        return len(self.ids)


def count_trained(examples: Sequence[TokenExample]) -> int:
    """Count the tokens that are learnt of all examples."""
    return sum(int(example.trained.sum()) for example in examples)


def tokenize_examples(
    examples: Sequence[Example],
    tok: Tokenizer,
    *,
    template: ChatTemplate | None = None,
    loss_on: LossOn = "answers",
) -> list[TokenExample]:
    """Tokenize examples, so that no token is half trained.

    In the plain form the end-of-text id comes after every answer, trained with it, or a newline if the
    tokenizer has no such id; a chat template ends its messages itself. An example that begins with its answer
    gets the end-of-text id (as after a document before it) in front, since the first token of a row is never a
    target. What the tokenizer's template puts before every text (a BOS) stands before the plain form, as before every
    prompt; a chat template writes it itself. What stands in messages is ordinary text, also where it looks like a
    special token.

    Args:
        examples: What `read_examples` gave.
        tok: The model's tokenizer.
        template: How conversations are written; None: in the plain form. Prompts with completions are used as
            they are, whatever it is.
        loss_on: What is trained: ``"answers"`` of the assistant, ``"all"`` of the text, or the ``"last"`` answer.

    Raises:
        DataError: An example without a single token to train on, or one that the template refuses; with its
            file and line.

    """
    check_loss_on(loss_on)
    tokenized: list[TokenExample] = []
    for first in range(0, len(examples), _BATCH):
        part = examples[first : first + _BATCH]
        written = [_write(example, tok, template, loss_on) for example in part]
        tokenized += (
            _join(example, segments, pieces, tok, template is None or example.verbatim)
            for example, segments, pieces in zip(part, written, encode_segments(written, tok), strict=True)
        )
    return tokenized


def join_segments(
    segments: Sequence[Segment],
    pieces: Sequence[npt.NDArray[np.uint32]],
    tok: Tokenizer,
    *,
    plain: bool,
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.bool_]]:
    """Join the ids of segments, with what the tokenizer puts before a plain text and ends of texts between them.

    Returns:
        ids, uint32 (n,); trained, bool (n,).

    """
    eot = np.array([] if tok.eot_id is None else [tok.eot_id], dtype=np.uint32)
    parts = [np.array(tok.template[0] if plain else [], dtype=np.uint32)]
    trained = [np.zeros(len(parts[0]), dtype=bool)]
    for segment, piece in zip(segments, pieces, strict=True):
        if segment.trained and segment.ends and not sum(map(len, parts)):
            parts.append(eot)
            trained.append(np.zeros(len(eot), dtype=bool))
        whole = np.concatenate([piece, eot]) if segment.ends else piece
        parts.append(whole)
        trained.append(np.full(len(whole), segment.trained))
    return np.concatenate(parts), np.concatenate(trained)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Tokens of an example that follow each other and are all trained, or all masked."""

    ids: npt.NDArray[np.uint32]
    trained: bool


def stretches(example: TokenExample) -> list[Stretch]:
    """Cut an example where training begins and ends."""
    borders = np.flatnonzero(np.diff(example.trained)) + 1
    parts = zip(np.split(example.ids, borders), np.split(example.trained, borders), strict=True)
    return [Stretch(ids, bool(trained[0])) for ids, trained in parts if len(ids)]


def preview(example: TokenExample, tok: Tokenizer) -> str:
    r"""Show what is masked and what is trained, one line for each stretch of either, as the ids decode.

    Returns:
        Lines such as ``masked    9 | 'Question: Is it?\nAnswer:'`` and ``trained   4 | ' It
        is.<|endoftext|>'``, with the number of tokens.

    """
    return "\n".join(
        f"{'trained' if part.trained else 'masked '} {len(part.ids):4} | {tok.decode(part.ids)!r}"
        for part in stretches(example)
    )


def _write(
    example: Example, tok: Tokenizer, template: ChatTemplate | None, loss_on: LossOn
) -> tuple[Segment, ...]:
    if template is None or example.verbatim:
        return plain_segments(example.messages, verbatim=example.verbatim, loss_on=loss_on)
    return chat_segments(template, example.messages, tok.special_tokens, loss_on, str(example.origin))


def _join(
    example: Example,
    segments: Sequence[Segment],
    pieces: Sequence[npt.NDArray[np.uint32]],
    tok: Tokenizer,
    plain: bool,
) -> TokenExample:
    ids, mask = join_segments(segments, pieces, tok, plain=plain)
    if int(ids.max(initial=0)) >= tok.vocab_size:
        raise DataError(
            f"the tokenizer gave id {int(ids.max())}, beyond its {tok.vocab_size} entries; is its file whole?"
        )
    if not mask[1:].any():
        raise DataError(
            f"{example.origin}: no token is left to train on; give it an answer, or remove the line"
        )
    return TokenExample(ids, mask, example.origin)
