"""A talk with a model at the terminal: what was said, how answers are drawn, and the loop from line to line."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from subgpt.cli.outcome import describe
from subgpt.cli.talk.commands import run_command
from subgpt.cli.terminal import complain, copied, detail, note, out, speed, warn, write_pieces
from subgpt.data.messages import Message
from subgpt.errors import DataError, SubgptError

if TYPE_CHECKING:
    from subgpt.generation.config import GenerationConfig
    from subgpt.generation.conversation import Conversation


class Talk:
    """What was said, and what goes on from it.

    Attributes:
        conversation: Answers.
        settings: How, for every answer from now on.
        system: What the model is told before everything else; may be empty.
        turns: Questions and answers in turn, as many of one as of the other.

    """

    def __init__(
        self,
        conversation: "Conversation",
        settings: "GenerationConfig",
        *,
        system: str = "",
    ) -> None:
        self.conversation = conversation
        self.settings = settings
        self.system = system
        self.turns: list[Message] = []
        self._told_of_limit = False

    @property
    def messages(self) -> list[Message]:
        """All that was said, the system's message in front."""
        return [*([Message("system", self.system)] if self.system else []), *self.turns]

    def ask(self, question: str) -> bool:
        """Print the answer to a question and keep both; False if Ctrl-C stopped it, which keeps what there is.

        A question without an answer is not kept.
        """
        said: list[str] = []
        begin = time.monotonic()
        try:
            asked = self._fitting([*self.messages, Message("user", question)])
            pieces = self.conversation.answer(asked, self.settings)
            if self.conversation.prompt_tokens > self.conversation.model.config.block_size:
                warn("the question is longer than the model's context, so only the end of it is seen")
            write_pieces(copied(pieces, said))
            stopped = False
        except KeyboardInterrupt:  # also while the question is read
            stopped = True
        out().print()
        sys.stdout.flush()  # a remark on standard error comes behind it
        answer = "".join(said).strip()
        if answer:
            self.turns += [Message("user", question), Message("assistant", answer)]
        elif not stopped:
            note("(no answer)")
        if said:
            detail(self._speed(time.monotonic() - begin))
        return not stopped

    def _fitting(self, messages: list[Message]) -> tuple[Message, ...]:
        kept = self.conversation.fit(messages, self.settings.max_new_tokens)
        if len(kept) < len(messages) and not self._told_of_limit:
            self._told_of_limit = True
            size = self.conversation.model.config.block_size
            note(
                f"the talk has outgrown the model's context of {size} tokens: from now on it does not see the oldest "
                "turns"
            )
        return kept

    def _speed(self, seconds: float) -> str:
        read, new = self.conversation.prompt_tokens, self.conversation.answer_tokens
        return (
            f"{speed(new, seconds)}; "
            f"{self.conversation.cached_tokens} of {read} tokens before them were read earlier"
        )


def run_talk(talk: Talk, read: Callable[[], str], *, interactive: bool) -> bool:
    """Take line after line until there are no more, or one leaves; True if no line failed.

    Ctrl-C stops an answer; where somebody types, a second one leaves.
    """
    well, interrupted = True, False
    while True:
        try:
            line = read()
        except EOFError:
            return well
        except KeyboardInterrupt:
            if not interactive:
                raise
            if interrupted:
                return well
            interrupted = True
            note("Ctrl-C again, or /quit, leaves")
            continue
        except DataError as error:  # of one line, behind which others are
            well = False
            complain(describe(error))
            continue
        interrupted = False
        try:
            if line.startswith("/") and not line.startswith("//"):
                if not run_command(talk, line):
                    return well
            elif line.strip():
                interrupted = not talk.ask(
                    line.strip().removeprefix("/") if line.startswith("//") else line.strip()
                )
                if interrupted and not interactive:
                    raise KeyboardInterrupt
        except BrokenPipeError:  # nobody reads answers any more
            raise
        except (SubgptError, OSError, MemoryError) as error:
            well = False
            complain(describe(error))
