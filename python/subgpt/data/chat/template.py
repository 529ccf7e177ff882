"""A chat template: what a model's makers wrote to turn a conversation into the text that the model reads."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from subgpt.data.messages import Message
from subgpt.data.rows import json_type
from subgpt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from jinja2 import Template

Messages: TypeAlias = "Sequence[Message] | Sequence[Mapping[str, Any]]"

_LONGEST_REASON = 500
"""Characters that a template may say when it refuses messages."""


@dataclass(frozen=True)
class ChatTemplate:
    r"""A Jinja template in the form of Hugging Face's chat templates, rendered as transformers does it.

    It runs in a sandbox with limits on time, steps and size, so that one from an untrusted model can do no harm.

    Attributes:
        source: The template.
        name: What people know it by: ``"chatml"`` or a file.
        variables: Names that it may use beside the messages, such as ``bos_token``.

    >>> CHATML.render([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n'

    """

    source: str
    name: str = "template"
    variables: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ChatTemplate:
        """Read the template of a model directory, or a file with one.

        Args:
            path: A directory with ``chat_template.jinja`` or a ``tokenizer_config.json`` that has the template,
                or one such file.

        Raises:
            MissingFileError: There is no such file or directory, or no template in it.
            ConfigError: The file is not what it should be.

        """
        from subgpt.data.chat.files import load_template

        return load_template(path)

    @classmethod
    def find(cls, directory: str | os.PathLike[str]) -> ChatTemplate | None:
        """Read the template of a model directory; None if it has none.

        Raises:
            ConfigError: A file is not what it should be.

        """
        from subgpt.data.chat.files import find_template

        return find_template(directory)

    def save(self, directory: str | os.PathLike[str]) -> None:
        """Write the template into a model directory, with the variables that it uses.

        Raises:
            OutputError: The directory cannot be written.

        """
        from subgpt.data.chat.files import save_template

        save_template(self, directory)

    def render(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        """Write a conversation down.

        Args:
            messages: Mappings with ``role`` and ``content``, and whatever else the template asks for.
            add_generation_prompt: End with what comes before an answer, for the model to go on.

        Raises:
            ConfigError: The template is broken.
            DataError: It refuses the messages (the error has its words), or wants more time or memory than it may
                have.

        """
        return self._render(_as_mappings(messages), add_generation_prompt, ("", ""))

    def render_marked(self, messages: Messages, marks: tuple[str, str]) -> str:
        """Write a conversation down, with a character before and after what the template says is generated."""
        return self._render(_as_mappings(messages), False, marks)

    def _render(self, messages: list[dict[str, Any]], prompt: bool, marks: tuple[str, str]) -> str:
        from jinja2.exceptions import SecurityError, TemplateError

        from subgpt.data.chat.generation import MARKS
        from subgpt.data.chat.meter import metered
        from subgpt.data.chat.sandbox import RefusedError

        compiled = _compiled(self.source, self.name)
        given = {**self.variables, "messages": messages, "add_generation_prompt": prompt}
        marked = MARKS.set(marks)
        try:
            with metered(_size(messages)):
                return "".join(compiled.generate(tools=None, documents=None, **given))
        except RefusedError as error:
            raise DataError(f"the chat template {self.name} refuses the messages: {_short(error)}") from None
        except SecurityError as error:
            raise DataError(
                f"the chat template {self.name} was stopped: {error}; take a template from somebody you trust"
            ) from None
        except (RecursionError, MemoryError):
            raise DataError(
                f"the chat template {self.name} was stopped: it calls itself too deeply or is too large; "
                "take a template from somebody you trust"
            ) from None
        # A template can fail in every way in which an expression can: types, keys, division.
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            raise DataError(f"the chat template {self.name} fails on the messages: {_short(error)}") from None
        finally:
            MARKS.reset(marked)


CHATML = ChatTemplate(
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "chatml",
)
"""What many models use, and what a model without a template of its own gets."""


def render_chat(
    messages: Messages,
    *,
    template: ChatTemplate | str | os.PathLike[str] = CHATML,
    add_generation_prompt: bool = False,
) -> str:
    r"""Write a conversation down as a model expects it.

    Args:
        messages: Mappings with ``role`` and ``content``.
        template: A template, or a model directory or file that has one.
        add_generation_prompt: End with what comes before an answer, for the model to go on.

    Raises:
        MissingFileError, ConfigError, DataError: As for `ChatTemplate.load` and `ChatTemplate.render`.

    >>> render_chat([{"role": "user", "content": "Hi"}])
    '<|im_start|>user\nHi<|im_end|>\n'

    """
    opened = template if isinstance(template, ChatTemplate) else ChatTemplate.load(template)
    return opened.render(messages, add_generation_prompt)


def _as_mappings(messages: Messages) -> list[dict[str, Any]]:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise DataError(f"messages must be a list of messages, not {json_type(messages)}")
    made = []
    for number, message in enumerate(messages, start=1):
        if isinstance(message, Message):
            made.append(message.as_dict())
        elif isinstance(message, Mapping):
            made.append(dict(message))
        else:
            raise DataError(
                f"message {number} must be a mapping with 'role' and 'content', not {json_type(message)}"
            )
    return made


def _short(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= _LONGEST_REASON else text[:_LONGEST_REASON] + "…"


def _size(messages: list[dict[str, Any]]) -> int:
    """Count the characters that a rendering is about."""
    return sum(len(value) for message in messages for value in message.values() if isinstance(value, str))


@lru_cache(maxsize=32)
def _compiled(source: str, name: str) -> Template:
    from jinja2.exceptions import TemplateError, TemplateSyntaxError

    from subgpt.data.chat.sandbox import LONGEST_TEMPLATE, environment

    if len(source) > LONGEST_TEMPLATE:
        raise ConfigError(
            f"the chat template {name} has {len(source):,} characters; "
            f"at most {LONGEST_TEMPLATE:,} are accepted"
        )
    try:
        return environment().from_string(source)
    except TemplateSyntaxError as error:
        raise ConfigError(f"the chat template {name}, line {error.lineno}: {error.message}") from None
    # Python itself compiles what Jinja writes, and has its own limits.
    except (TemplateError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(
            f"the chat template {name} cannot be used: {error or type(error).__name__}"
        ) from None
