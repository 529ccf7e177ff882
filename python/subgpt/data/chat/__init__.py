"""Chat templates: how a conversation is written down for a model that was trained on conversations.

Reading order: `template` (a template, rendered) -> `files` (those of models) -> `choice` (which one) -> `spans`
(what of it is trained, with `guard`) -> `prompt` (what stands before an answer) -> `needs` (the special tokens it
writes). `sandbox`, `generation`, `operations` and `meter` keep templates, which are programs, from doing harm.
"""

from subgpt.data.chat.choice import absolute_choice, choose_template
from subgpt.data.chat.needs import missing_special_tokens
from subgpt.data.chat.spans import chat_segments
from subgpt.data.chat.template import CHATML, ChatTemplate, render_chat

__all__ = [
    "CHATML",
    "ChatTemplate",
    "absolute_choice",
    "chat_segments",
    "choose_template",
    "missing_special_tokens",
    "render_chat",
]
