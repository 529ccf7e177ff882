"""`/v1/completions`: texts after prompts."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from subgpt.serving.context import Context, context_of
from subgpt.serving.errors import ApiError
from subgpt.serving.models import Served
from subgpt.serving.schemas import CompletionRequest
from subgpt.serving.scoring import check_length, hidden_tokens, prompt_tokens, score_prompt
from subgpt.serving.streaming import respond
from subgpt.serving.texts import Answer, Emit, usage
from subgpt.serving.tokens import Known, Places, completion_logprobs

if TYPE_CHECKING:
    from subgpt.generation.engine import Asked
    from subgpt.generation.job import Job, Piece

_DEFAULT_TOKENS = 16  # OpenAI's


async def completions(request: Request) -> Response:
    """Answer `/v1/completions`."""
    context = context_of(request)
    asked = await context.read(request, CompletionRequest)
    answer = Completions(context, context.find(asked.model), asked)
    return await respond(request, answer, stream=asked.stream)


@dataclass(frozen=True)
class _Prompt:
    """A prompt.

    Attributes:
        ids: Its tokens.
        hidden: How many of the first stand before every text, and are no part of this one.
        echo: What of it the texts begin with: all or nothing.
        known: Its tokens and what the model thought of them, if they are echoed with log probabilities.

    """

    ids: list[int]
    hidden: int
    echo: str
    known: tuple[Known, ...]


class Completions(Answer):
    """`n` texts for each prompt; with max_tokens = 0 none, but for the prompts themselves with `echo`."""

    def __init__(self, context: Context, served: Served, asked: CompletionRequest) -> None:
        super().__init__(context, served)
        _check(asked, context)
        self._asked = asked
        self._max_tokens = context.max_tokens(asked.max_tokens, _DEFAULT_TOKENS)
        self._prompts: list[_Prompt] = []
        self._places: dict[int, Places] = {}
        self._spelling = context.spelling(served)
        self._head = {
            "id": f"cmpl-{secrets.token_hex(12)}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": served.name,
        }

    def begin(self) -> None:
        """Read the prompts and ask for their texts."""
        asked, engine = self._asked, self.served.engine
        for given in asked.prompts:
            ids, opened = self._open(given)
            self._prompts.append(self._prompt(given, ids))
            if opened is not None:
                for number in range(asked.n):
                    seed = asked.seed_of(number)
                    self.jobs.append(engine.start(opened, seed=seed, logprobs=asked.logprobs))

    def _open(self, given: str | list[int]) -> "tuple[list[int], Asked | None]":
        """Give the ids of a prompt, encoded once, and what its texts begin with, if there are to be any."""
        asked, most = self._asked, self.context.settings.max_prompt_tokens
        if not self._max_tokens:
            return prompt_tokens(self.served, given, most, parse_special=asked.parse_special), None
        if not isinstance(given, str):
            prompt_tokens(self.served, given, most)  # what is wrong with ids is said as the request has them
        options = asked.options(self._max_tokens)
        options |= {"token_healing": asked.token_healing, "parse_special": asked.parse_special}
        opened = self.served.engine.open(given, **options)
        check_length(len(opened.prompt), most, "prompt")
        return opened.prompt.tolist(), opened

    def whole(self, texts: list[str]) -> dict[str, Any]:
        """Lay out all texts, those of the first prompt first."""
        choices = []
        for number in range(len(self._prompts) * self._asked.n):
            job = self.jobs[number] if self.jobs else None
            prompt = self._prompts[number // self._asked.n]
            tokens = [*prompt.known, *([] if job is None else [*_known(job.ids, job.found), *_end(job)])]
            text = prompt.echo + (texts[number] if job else "")
            reason = job.finish_reason if job else "length"
            choices.append(self._choice(number, text, tokens, reason))
        return {**self._head, "choices": choices, "usage": self._usage()}

    async def stream(self, emit: Emit) -> None:
        """Send the prompts where they are echoed, then the texts as they come."""
        numbers = range(len(self._prompts) * self._asked.n)

        async def send(number: int, text: str, tokens: Sequence[Known], reason: str | None = None) -> None:
            if text or tokens or reason is not None:
                choice = self._choice(number, text, tokens, reason)
                await emit({**self._head, "choices": [choice], **self._no_usage})

        async def on_piece(number: int, piece: "Piece") -> None:
            await send(number, piece.text, _known(piece.ids, piece.found))

        async def on_end(number: int) -> None:
            await send(number, "", _end(self.jobs[number]), self.jobs[number].finish_reason)

        for number in numbers:
            prompt = self._prompts[number // self._asked.n]
            await send(number, prompt.echo, prompt.known)
        await self.follow(on_piece, on_end)
        for number in () if self.jobs else numbers:
            await send(number, "", (), "length")
        if self._asked.wants_usage:
            await emit({**self._head, "choices": [], "usage": self._usage()})

    def _prompt(self, given: str | list[int], ids: list[int]) -> _Prompt:
        hidden = hidden_tokens(self.served, given, parse_special=self._asked.parse_special)
        if not self._asked.echo:
            return _Prompt(ids, hidden, "", ())
        text = given if isinstance(given, str) else self.served.tokenizer.decode(ids)
        top = self._asked.logprobs
        return _Prompt(ids, hidden, text, () if top is None else score_prompt(self.served, ids, top))

    def _choice(self, number: int, text: str, tokens: Sequence[Known], reason: str | None) -> dict[str, Any]:
        """Lay out a text or the next piece of it, with its tokens."""
        logprobs = None
        if self._asked.logprobs is not None and (tokens or not self._asked.stream):
            logprobs = completion_logprobs(self._spelling, self._places_of(number), tokens)
        return {"text": text, "index": number, "logprobs": logprobs, "finish_reason": reason}

    def _places_of(self, number: int) -> Places:
        """Count places in the text that is given back: from the prompt's beginning or from its end."""
        if number not in self._places:
            prompt = self._prompts[number // self._asked.n]
            before = () if self._asked.echo else prompt.ids
            self._places[number] = self._spelling.places(before, hidden=prompt.hidden)
        return self._places[number]

    @property
    def _no_usage(self) -> dict[str, Any]:
        """What events before the last have where the last has the usage."""
        return {"usage": None} if self._asked.wants_usage else {}

    def _usage(self) -> dict[str, Any]:
        return usage(sum(len(prompt.ids) for prompt in self._prompts), self.jobs, self._asked.n)


def _known(ids: Sequence[int], found: Sequence[Any]) -> list[Known]:
    return list(zip(ids, found, strict=True)) if found else []


def _end(job: "Job") -> list[Known]:
    """Give the token that ended a text, which is among the tokens of OpenAI's API and no part of the text."""
    ended_by = None if job.writing is None else job.writing.ended_by
    return [] if ended_by is None or ended_by[1] is None else [ended_by]


def _check(asked: CompletionRequest, context: Context) -> None:
    context.check_counts(asked.n, len(asked.prompts))
    context.check_logprobs(asked.logprobs, "logprobs")
    if asked.best_of is not None and asked.best_of != asked.n:
        raise ApiError(
            400,
            f"best_of: this server writes the texts that it gives back and no others; leave it out (n = {asked.n})",
            param="best_of",
            code="unsupported",
        )
    if asked.token_healing and (asked.echo or asked.logprobs is not None):
        raise ApiError(
            400,
            "token_healing: a healed token is of the prompt and of the text; leave echo and logprobs out beside it",
            param="token_healing",
        )
