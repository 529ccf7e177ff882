"""The special tokens that a template writes, and those of them that a tokenizer lacks."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from subgpt.data.chat.template import ChatTemplate
from subgpt.errors import ConfigError

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

# What nobody writes but as the name of a special token.
_NAME = re.compile(r"<\|[^|<>\s]{1,64}\|>")


def special_tokens_of(template: ChatTemplate) -> list[str]:
    """List the special tokens that a template writes, in the order in which it names them.

    Those are the names of the form ``<|…|>`` in its own text, and the tokens of the variables that it uses, such as
    ``eos_token``.

    Raises:
        ConfigError: The template is broken.

    >>> from subgpt.data.chat import CHATML
    >>> special_tokens_of(CHATML)
    ['<|im_start|>', '<|im_end|>']

    """
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError

    from subgpt.data.chat.sandbox import environment

    try:
        tree = environment().parse(template.source)
    except (TemplateError, RecursionError, ValueError) as error:
        raise ConfigError(f"the chat template {template.name} cannot be used: {error}") from None
    found: dict[str, None] = {}
    for node in tree.find_all((nodes.TemplateData, nodes.Const, nodes.Name)):
        if isinstance(node, nodes.Name):
            value = template.variables.get(node.name)
            names = [value] if isinstance(value, str) else []
        else:
            text = getattr(node, "data", None) or getattr(node, "value", None)
            names = _NAME.findall(text) if isinstance(text, str) else []
        found.update(dict.fromkeys(names))
    return list(found)


def missing_special_tokens(template: ChatTemplate, tokenizer: Tokenizer) -> list[str]:
    """List the special tokens that a template writes and a tokenizer does not have.

    `subgpt.tokenizer.add_special_tokens` adds them; the model's embeddings must then grow with the vocabulary.

    Raises:
        ConfigError: The template is broken.

    >>> import subgpt
    >>> from subgpt.data.chat import CHATML
    >>> missing_special_tokens(CHATML, subgpt.Tokenizer.train(["text"], vocab_size=257))
    ['<|im_start|>', '<|im_end|>']

    """
    return [name for name in special_tokens_of(template) if name not in tokenizer.special_tokens]
