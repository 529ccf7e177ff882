"""The tab *Chat*: a talk with the model; what was said stays in this page alone."""

import secrets
from typing import TYPE_CHECKING, Any

from nicegui import ui

from subgpt.data.messages import Message
from subgpt.errors import SubgptError
from subgpt.generation.conversation import Conversation
from subgpt.playground.limits import MAX_TOKENS, MAX_TURNS, cut
from subgpt.playground.options import TEXTS
from subgpt.playground.parts import button, card, copy, text_area
from subgpt.playground.tabs.write import option_cards
from subgpt.playground.visit import Visit
from subgpt.playground.working import Notice
from subgpt.playground.writing import Writer

if TYPE_CHECKING:
    from subgpt.generation.job import Job
    from subgpt.serving.models import Served

_EMPTY = "Nothing was said yet."


class Chat:
    """The messages so far, and a field for the next one."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._messages: list[Message] = []
        with ui.element("div").classes("columns"):
            with ui.element("div").classes("stack"), card("Chat"):
                self._form = ui.label().classes("note")
                with ui.element("div").classes("talk").props('tabindex=0 role=log aria-label="The talk"'):
                    self._said = ui.element("div").classes("said")
                with self._said:
                    self._empty = ui.label(_EMPTY).classes("note")
                self._notice = Notice()
                self._field = text_area("Your message", rows=2)
                self._field.props("autofocus data-enter=plain")
                with ui.element("div").classes("strip"):
                    self._writer = Writer("Send", self._send, self._notice)
                    button(
                        "Undo", self._step_back, icon="undo", hint="Take the last question and answer back"
                    )
                    button("Copy", self._copy, icon="copy", hint="Copy the talk")
                    button("Start anew", self._reset, icon="reset", hint="Forget what was said")
                    self._writer.add_meter()
            with ui.element("div").classes("stack"):
                with card(
                    "System message", "What the model is told before everything else; it may stay empty."
                ):
                    self._system = text_area("", rows=2)
                    self._system.props["aria-label"] = "System message"
                self._panel = option_cards(TEXTS, visit.max_tokens)
        visit.on_model(self._changed_model)
        self._say_form()

    async def _send(self) -> None:
        question = cut(self._field.value)
        if self._writer.is_running or not question.strip():
            return
        try:
            options = self._panel.options()
        except SubgptError as error:
            self._notice.show(error)
            return
        seed = options.setdefault("seed", secrets.randbits(32))
        served, asked = self._visit.chosen, [*self._messages, Message("user", question)]
        told = [*self._system_messages(), *asked]
        self._messages, self._field.value = asked, ""
        self._bubble(asked[-1])
        answer = self._bubble(Message("assistant", ""))
        ended = await self._writer.write(lambda: _ask(served, told, options), answer.set_text, f"seed {seed}")
        if self._messages is not asked or self._field.client.is_deleted:
            return  # it was started anew meanwhile, or left
        if ended is None:  # an error: the question can be asked again
            self._messages, self._field.value = asked[:-1], question
            self._draw()
            return
        written = ended[0].strip()
        self._messages = _with_answer(asked, written)
        if not written:
            answer.text = "(nothing)"

    def _system_messages(self) -> list[Message]:
        said = cut(self._system.value).strip()
        return [Message("system", said)] if said else []

    def _bubble(self, message: Message) -> ui.label:
        self._empty.set_visibility(False)
        with self._said, ui.element("div").classes(f"bubble {message.role}"):
            ui.label("You" if message.role == "user" else self._visit.chosen.name).classes("who")
            return ui.label(message.content).classes("saying")

    def _step_back(self) -> None:
        self._writer.stop()
        while self._messages:
            last = self._messages[-1]
            self._messages = self._messages[:-1]
            if last.role == "user":
                self._field.value = last.content
                break
        self._draw()

    def _reset(self) -> None:
        self._writer.stop()
        self._messages = []
        self._notice.clear()
        self._writer.clear()
        self._draw()

    def _draw(self) -> None:
        """Show the messages from the beginning."""
        for child in list(self._said)[1:]:
            child.delete()
        self._empty.set_visibility(not self._messages)
        for message in self._messages:
            self._bubble(message)

    async def _copy(self) -> None:
        lines = [f"{'You' if m.role == 'user' else 'Model'}: {m.content}" for m in self._messages]
        await copy("\n\n".join(lines))

    def _changed_model(self) -> None:
        self._reset()
        self._say_form()

    def _say_form(self) -> None:
        self._form.text = form_of(self._visit.chosen)


def _ask(served: "Served", messages: list[Message], options: dict[str, Any]) -> "Job":
    """Ask with as many of the messages as the model sees at once."""
    talk = Conversation(served.model, served.tokenizer)
    fitting = talk.fit(messages, options.get("max_new_tokens", MAX_TOKENS))
    return served.engine.chat([message.as_dict() for message in fitting], **options)


def _with_answer(asked: list[Message], written: str) -> list[Message]:
    """Add an answer; a question that got none is not asked again, since no template has a place for it."""
    return [*asked, Message("assistant", written)][-MAX_TURNS:] if written else asked[:-1]


def form_of(served: "Served") -> str:
    """Say how a model is asked, and whether it learned to be."""
    template = Conversation(served.model, served.tokenizer).template
    if served.model.chat_template is not None:
        return "This model brought a chat template with it: it is asked as it was trained."
    if template is not None:
        return "Asked in ChatML, for which the tokenizer has the special tokens."
    return (
        "Asked in the plain form, “Question: … Answer:”. A model that was not fine-tuned on questions "
        "goes on as its texts do."
    )


def chat_tab(visit: Visit) -> None:
    """Show a talk."""
    Chat(visit)
