"""A model in conversation: what it has read of one turn stays in its cache for the next."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subgpt import _core
from subgpt.data.chat import choose_template
from subgpt.data.messages import Message, parse_messages
from subgpt.data.prompting import AnswerPrompt, answer_prompt
from subgpt.generation.beginning import Opening
from subgpt.generation.stream import refuse_beams
from subgpt.generation.writing import Writing
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from subgpt.data.chat import ChatTemplate
    from subgpt.generation.config import GenerationConfig
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer.results import DecodeStream

    Messages = Sequence[Message] | Sequence[Mapping[str, Any]]

_ROOM = 4
"""A block keeps a quarter of itself for the answer, if that may become so long."""
_MOST = (1 << 31) - 1
"""The largest `min_new_tokens` that there is."""


class Conversation:
    """Answers messages by a model, turn after turn.

    A new turn is appended to what the model has read where that is the beginning of the conversation; else it is read
    anew. A seed's draws go on from turn to turn where a turn is appended, and begin again where all is read anew.

    chat_template: see `subgpt.data.choose_template`; "auto" is the model's own.

    Attributes:
        template: How messages are written; None: in the plain form.
        prompt_tokens: Tokens before the answer that was asked for last.
        cached_tokens: How many of these had been read before.

    """

    def __init__(
        self, model: "GPT", tokenizer: "Tokenizer", *, chat_template: "ChatTemplate | str" = "auto"
    ) -> None:
        check_fit(model, tokenizer, "chat")
        self.model = model
        self.tokenizer = tokenizer
        self.template = choose_template(chat_template, tokenizer, model.chat_template)
        self.prompt_tokens = self.cached_tokens = 0
        self._session: _core.Session | None = None
        self._drawn = 0  # tokens that the session has drawn for earlier answers
        self._writing: Writing | None = None

    @property
    def answer_tokens(self) -> int:
        """How many tokens the last answer has."""
        return 0 if self._writing is None else len(self._writing.ids)

    def answer(self, messages: "Messages", settings: "GenerationConfig") -> Iterator[str]:
        """Yield the answer to the last of `messages` in pieces, without white space around it.

        settings: all of them, as `merge_options` gives them. An end of a turn, as the template writes it, ends it; with
        ignore_eos only the ids and texts that settings name do.

        Raises DataError for what cannot be asked, and TokenizerError for unknown characters if settings.errors is
        "strict", with the call.
        """
        opening, settings = open_answer(self.model, self.tokenizer, self.template, messages, settings)
        self._drawn += 0 if self._writing is None else self._writing.drawn
        self._writing = None
        start = opening.finish(self._read(opening.ids))
        if settings.min_new_tokens:  # a session counts what it draws for all answers
            least = min(settings.min_new_tokens + self._drawn, _MOST)
            settings = settings.replace(min_new_tokens=least)
        writing = Writing(start, self.tokenizer, settings)
        self._writing = writing
        return trimmed(writing)

    def fit(self, messages: "Messages", max_new_tokens: int) -> tuple[Message, ...]:
        """Leave out the oldest turns, until the model sees all of the others and has room for an answer.

        System messages in front stay, and so does the last message, however long.
        """
        kept = parse_messages(messages, "chat")
        block_size = self.model.config.block_size
        room = block_size - min(max_new_tokens, block_size // _ROOM)
        while len(self._prompt(kept).ids) > room:
            asks = [place for place, message in enumerate(kept) if message.role == "user"]
            if len(asks) < 2:
                break
            kept = kept[: asks[0]] + kept[asks[1] :]
        return kept

    def _prompt(self, messages: "Messages") -> AnswerPrompt:
        return answer_prompt(parse_messages(messages, "chat"), self.tokenizer, self.template, "chat")

    def _read(self, ids: npt.NDArray[np.uint32]) -> _core.Session:
        """Give a session that has read `ids`: the last one, if what it has read begins them."""
        session = self._session
        known = 0 if session is None else len(session.ids)
        if session is None or not known < len(ids) or not np.array_equal(session.ids, ids[:known]):
            session, known = self.model.native.session(), 0
            self._drawn = 0
        self._session = None  # an interruption may leave it anywhere
        session.append(ids[known:])
        self._session = session
        self.prompt_tokens, self.cached_tokens = len(ids), known
        return session


def open_answer(
    model: "GPT",
    tokenizer: "Tokenizer",
    template: "ChatTemplate | None",
    messages: "Messages",
    settings: "GenerationConfig",
) -> tuple[Opening, "GenerationConfig"]:
    """Prepare the answer to the last of `messages`; give the settings with what ends it."""
    refuse_beams(settings, "chat", "it is for subgpt.generate")
    parsed = parse_messages(messages, "chat")
    prompt = answer_prompt(parsed, tokenizer, template, "chat")
    if settings.errors == "strict":
        for message in parsed:
            tokenizer.encode(message.content, disallowed_special=(), errors="strict")
    if not settings.ignore_eos:
        settings = settings.replace(
            eos_token_id=[*settings.eos_ids, *prompt.end_ids], stop=[*settings.stop, *prompt.stop]
        )

    def decoder() -> "DecodeStream":
        made = tokenizer.decode_stream()
        made.push_all(prompt.ids)
        return made

    return Opening(model, prompt.ids, decoder), settings


class Trim:
    """Leaves out the white space that a text in pieces begins and ends with.

    >>> trim = Trim()
    >>> [trim.push(piece) for piece in (" ", " one", " ", "two ", " ")]
    ['', 'one', '', ' two', '']
    """

    def __init__(self) -> None:
        self._begun, self._held = False, ""

    def push(self, piece: str) -> str:
        """Give the text that is certain after `piece`."""
        text = self._held + piece if self._begun else piece.lstrip()
        body = text.rstrip()
        self._begun = self._begun or bool(body)
        self._held = text[len(body) :]
        return body


def trimmed(pieces: Iterable[str]) -> Iterator[str]:
    """Leave out the white space that a text in pieces begins and ends with."""
    trim = Trim()
    yield from filter(None, map(trim.push, pieces))
