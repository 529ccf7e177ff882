"""`Engine`: many texts at once by one model, each as it would be alone.

All texts that are being written go through the model in one pass a token: the weights are read once for all of them,
and reading them is what a token costs. A text joins when it comes and leaves when it ends (continuous batching, Yu et
al., "Orca", 2022); prompts are read in chunks between the others' tokens. What was read for one text is copied for
another that begins alike.

A text has the tokens that it would have alone, whatever else goes on: row by row the kernels give the same bits.
"""

import os
import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from subgpt import _core
from subgpt.data.chat import choose_template
from subgpt.errors import BusyError, ConfigError, InvalidValueError
from subgpt.generation.beginning import Opening, open_ids, open_text
from subgpt.generation.config import GenerationConfig
from subgpt.generation.conversation import open_answer
from subgpt.generation.job import Job, wake
from subgpt.generation.prefix_cache import PrefixCache, Read, common_length
from subgpt.generation.speculation import check_assistant
from subgpt.generation.stream import merge_options, refuse_beams
from subgpt.generation.structured import Matcher
from subgpt.generation.writing import check_logprobs
from subgpt.model.fit import check_fit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    import numpy.typing as npt

    from subgpt.data.chat import ChatTemplate
    from subgpt.generation.conversation import Messages
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

_CHUNK = 256
"""Tokens of prompts that are read between two tokens of the texts that go on."""
_SHARED = 64
"""Tokens that another text is reading just now and this one begins with, so that it is worth waiting for them."""


@dataclass(frozen=True)
class EngineStats:
    """What an engine does, and what it did since it was made.

    Attributes:
        running: Texts that are being written or read.
        waiting: Texts that wait for their turn.
        jobs: Texts that have ended, however they did.
        prompt_tokens: Tokens of prompts that were read.
        cached_tokens: Tokens of prompts that had been read for other texts.
        new_tokens: Tokens drawn.
        cache_bytes: Memory of the keys and values that are kept for other texts.

    """

    running: int
    waiting: int
    jobs: int
    prompt_tokens: int
    cached_tokens: int
    new_tokens: int
    cache_bytes: int


@dataclass(frozen=True)
class Asked:
    """What an engine is to write, once or several times: what `open` and `open_chat` give and `start` takes.

    Attributes:
        prompt: The ids (n,), uint32, before the end is healed.

    """

    opening: Opening
    settings: GenerationConfig
    trims: bool = False

    @property
    def prompt(self) -> "npt.NDArray[np.uint32]":
        """The ids of the prompt."""
        return self.opening.prompt


class _Running:
    """A job and the session that reads its prompt, then goes on with it."""

    def __init__(self, job: Job, session: _core.Session, known: int) -> None:
        self.job, self.session = job, session
        self.known = known  # tokens of the opening that it has read
        self.next = 0  # the token that was drawn last, and not read yet

    @property
    def left(self) -> int:
        return len(self.job.opening.ids) - self.known

    def read(self) -> Read:
        return Read(self.session, self.session.ids)


class Engine:
    """Writes many texts at once with one model, in a thread of its own. Its methods may be called from any thread.

    The model must not be trained, and its adapter not be changed, while the engine goes on. A forked child has not its
    thread: what is asked of it there is an InvalidValueError.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        max_batch: Texts that go on at once; others wait.
        max_waiting: Texts that may wait; more raise BusyError.
        prefix_cache_mib: Memory in MiB for keys and values of earlier texts; 0: nothing is kept.
        assistant_model: A smaller model with the same tokenizer that guesses what comes, as in `generate`.

    >>> import subgpt
    >>> tok = subgpt.Tokenizer.train(iter(["to be or not to be"]), level="char", special_tokens=())
    >>> model = subgpt.GPT(subgpt.GPTConfig.preset("nano", vocab_size=tok.vocab_size), seed=1)
    >>> with subgpt.Engine(model, tok) as engine:
    ...     jobs = [engine.submit(text, temperature=0, max_new_tokens=5) for text in ("to", "not to")]
    ...     texts = [job.text() for job in jobs]
    >>> texts[1] == subgpt.generate(model, tok, "not to", temperature=0, max_new_tokens=5, return_prompt=False)
    True

    """

    def __init__(
        self,
        model: "GPT",
        tokenizer: "Tokenizer",
        *,
        max_batch: int = 32,
        max_waiting: int = 256,
        prefix_cache_mib: int = 256,
        assistant_model: "GPT | None" = None,
    ) -> None:
        for name, value, least in (
            ("max_batch", max_batch, 1),
            ("max_waiting", max_waiting, 0),
            ("prefix_cache_mib", prefix_cache_mib, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(f"Engine: {name} = {value!r}; give a whole number from {least} on")
        check_fit(model, tokenizer, "Engine")
        check_assistant(model, assistant_model, GenerationConfig(), "Engine")
        self.assistant_model = assistant_model
        self.model, self.tokenizer = model, tokenizer
        self.max_batch, self.max_waiting = max_batch, max_waiting
        self._batch = _core.Batch(model.native)
        self._prefixes = PrefixCache(prefix_cache_mib << 20)
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._running: list[_Running] = []
        self._closed = False
        self._process = os.getpid()
        self._jobs = self._prompt_tokens = self._cached_tokens = self._new_tokens = 0
        self._thread = threading.Thread(target=self._run, name="subgpt-engine", daemon=True)
        self._thread.start()

    def submit(
        self,
        prompt: "str | Sequence[int]",
        *,
        config: GenerationConfig | None = None,
        logprobs: int | None = None,
        **options: Any,
    ) -> Job:
        """Ask for what the model writes after `prompt`, a text or token ids, which are read as they are.

        logprobs: how many of the most probable tokens to list for each token, beside its own log probability.
        options: those of `GenerationConfig`, over `config`; the text is that of `generate` with the same. Errors of
        options and prompt are raised here. BusyError if max_waiting texts wait already.
        """
        asked = self.open(prompt, config=config, **options)
        return self._add(asked.opening, asked.settings, logprobs)

    def chat(
        self,
        messages: "Messages",
        *,
        config: GenerationConfig | None = None,
        logprobs: int | None = None,
        chat_template: "ChatTemplate | str" = "auto",
        **options: Any,
    ) -> Job:
        """Ask for the answer to the last of `messages`, as `subgpt.chat` gives it; else like `submit`."""
        asked = self.open_chat(messages, config=config, chat_template=chat_template, **options)
        return self._add(asked.opening, asked.settings, logprobs, trims=True)

    def open(
        self, prompt: "str | Sequence[int]", *, config: GenerationConfig | None = None, **options: Any
    ) -> Asked:
        """Read a prompt as `submit` does without asking for anything yet: `start` asks for as many texts as are wanted.

        So a prompt is encoded once, and how long it is (`prompt`) is known before. Errors are those of `submit`.
        """
        settings = merge_options(self.model, config, options)
        refuse_beams(settings, "Engine.submit", "call subgpt.complete")
        if isinstance(prompt, str):
            return Asked(open_text(self.model, self.tokenizer, prompt, settings), settings)
        return Asked(open_ids(self.model, self.tokenizer, prompt), settings)

    def open_chat(
        self,
        messages: "Messages",
        *,
        config: GenerationConfig | None = None,
        chat_template: "ChatTemplate | str" = "auto",
        **options: Any,
    ) -> Asked:
        """Read messages as `chat` does, for `start`."""
        settings = merge_options(self.model, config, options)
        template = choose_template(chat_template, self.tokenizer, self.model.chat_template)
        opening, settings = open_answer(self.model, self.tokenizer, template, messages, settings)
        return Asked(opening, settings, trims=True)

    def start(self, asked: Asked, *, seed: int | None = None, logprobs: int | None = None) -> Job:
        """Ask for a text of what was opened; seed: in place of that of its options. BusyError as of `submit`."""
        settings = asked.settings if seed is None else asked.settings.replace(seed=seed)
        return self._add(asked.opening.again(settings), settings, logprobs, trims=asked.trims)

    @property
    def stats(self) -> EngineStats:
        """What goes on and what was done."""
        self._check_process()
        with self._changed:
            return EngineStats(
                len(self._running),
                len(self._waiting),
                self._jobs,
                self._prompt_tokens,
                self._cached_tokens,
                self._new_tokens,
                self._prefixes.bytes,
            )

    def close(self) -> None:
        """Cancel all texts and end the thread; texts that were asked for before have an end all the same."""
        if os.getpid() != self._process:  # there is no thread, and somebody may have held the lock
            return
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: "TracebackType | None",
    ) -> None:
        self.close()

    def _add(
        self, opening: Opening, settings: GenerationConfig, logprobs: int | None, *, trims: bool = False
    ) -> Job:
        check_logprobs(logprobs, "Engine")
        self._check_process()
        # Its errors and its time belong to who asks, not to the engine's thread, which all texts share.
        matcher = None if settings.structure is None else Matcher(self.tokenizer, settings)
        check_assistant(self.model, self.assistant_model, settings, "Engine")
        job = Job(
            opening,
            self.tokenizer,
            settings,
            logprobs,
            trims=trims,
            assistant=self.assistant_model,
            matcher=matcher,
        )
        with self._changed:
            if self._closed:
                raise InvalidValueError("Engine: it is closed; make another")
            if len(self._waiting) + len(self._running) >= self.max_batch + self.max_waiting:
                raise BusyError(
                    f"Engine: max_batch = {self.max_batch} texts go on and max_waiting = {self.max_waiting} wait; "
                    "try again later"
                )
            self._waiting.append(job)
            self._changed.notify_all()
        return job

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise InvalidValueError(
                "Engine: it belongs to the process that this one was forked from; make another"
            )

    # --- in the engine's thread ---

    def _run(self) -> None:
        while self._wait():
            try:
                self._admit()
                self._draw()
                self._read()
            except BaseException as error:  # a defect, or no memory: nobody waits for ever
                self._fail(error)
        self._fail(None)

    def _wait(self) -> bool:
        """Wait for work; False once there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting or self._running)
            return not self._closed

    def _fail(self, error: BaseException | None) -> None:
        with self._changed:
            jobs = [one.job for one in self._running] + ([] if error else list(self._waiting))
            self._running = []
            if error is None:
                self._waiting.clear()
            self._jobs += len(jobs)
        for job in jobs:
            job.end(error)

    def _end(self, one: _Running, error: BaseException | None = None) -> None:
        with self._changed:
            self._running.remove(one)
            self._jobs += 1
        try:
            # A window that has slid away from its beginning is of no use to others.
            if error is None and len(one.session.ids) <= self.model.config.block_size:
                one.session.speculate(0)  # nor are guesses, and an assistant's own cache
                self._prefixes.put(one.read())
        finally:  # whatever goes wrong with what is kept, somebody waits
            one.job.end(error)

    def _admit(self) -> None:
        """Drop what is asked for no more, and let in what has room."""
        for one in [one for one in self._running if one.job.is_cancelled]:
            self._end(one)
        with self._changed:
            dropped = [job for job in self._waiting if job.is_cancelled]
            self._waiting = deque(job for job in self._waiting if not job.is_cancelled)
            self._jobs += len(dropped)
            room = self.max_batch - len(self._running)
            waiting = list(self._waiting)
        for job in dropped:
            job.end()
        for job in waiting:
            if room <= 0:
                break
            if self._begin(job):
                room -= 1

    def _begin(self, job: Job) -> bool:
        """Let a job in, unless another one is reading what it begins with: its time comes when that is read."""
        ids = job.opening.ids
        reading = [one for one in self._running if one.left > 0]
        if any(common_length(one.job.opening.ids, ids) - one.known >= _SHARED for one in reading):
            return False
        try:
            session = self._prefixes.take(ids, [one.read() for one in self._running])
            known = 0 if session is None else len(session.ids)
            one = _Running(job, session or self.model.native.session(), known)
        except Exception as error:  # no memory: it would be no better the next time
            with self._changed:
                self._waiting.remove(job)
                self._jobs += 1
            job.end(error)
            return False
        job.cached_tokens = known
        with self._changed:
            self._waiting.remove(job)
            self._running.append(one)
            self._prompt_tokens += len(ids)
            self._cached_tokens += known
        return True

    def _draw(self) -> None:
        """Draw the next token of every text whose prompt is read, and feed them back in one pass."""
        ready = [one for one in self._running if one.left == 0]
        drawing = []
        for one in ready:
            try:
                if one.job.writing is None:
                    start = one.job.opening.finish(one.session)
                    one.session = start.session
                    one.job.begin(start)
                writing = one.job.writing
                assert writing is not None
                if not writing.done:
                    drawing.append((one, writing, writing.mask()))
            except Exception as error:
                self._end(one, error)
        if drawing:
            drawn = self._batch.sample(
                [one.session for one, *_ in drawing],
                [writing.native for _, writing, _ in drawing],
                [mask for *_, mask in drawing],
            )
            for (one, *_), token in zip(drawing, drawn, strict=True):
                self._push(one, token)
        wake(one.job for one in ready)
        for one in [one for one in self._running if one.job.writing is not None and one.job.writing.done]:
            self._end(one)

    def _push(self, one: _Running, token: int | Exception) -> None:
        if isinstance(token, Exception):
            self._end(one, token)
            return
        try:
            one.job.push(token)
        except Exception as error:
            self._end(one, error)
            return
        one.next = token
        with self._changed:
            self._new_tokens += 1

    def _read(self) -> None:
        """Feed drawn tokens and chunks of prompts to the model, in one pass."""
        sessions, ids = [], []
        budget = _CHUNK
        for one in self._running:
            if one.left == 0:
                sessions.append(one.session)
                ids.append(np.array([one.next], dtype=np.uint32))
            elif budget > 0:
                chunk = one.job.opening.ids[one.known : one.known + budget]
                budget -= len(chunk)
                one.known += len(chunk)
                sessions.append(one.session)
                ids.append(chunk)
        if sessions:
            self._batch.append(sessions, ids)
