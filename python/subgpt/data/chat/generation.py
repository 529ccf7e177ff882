"""The tag ``{% generation %}`` … ``{% endgeneration %}``, with which a template says what the assistant wrote."""

from __future__ import annotations

from contextvars import ContextVar

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Macro

MARKS: ContextVar[tuple[str, str]] = ContextVar("marks", default=("", ""))
"""Characters that the rendering puts before and after what is between the tags."""


class GenerationMarks(Extension):
    """Writes a character before and after what is between the tags.

    Places in the output could be counted while it is written; but a macro or a ``set`` block writes its text
    somewhere else first. Marks travel with the text.
    """

    tags = {"generation"}  # noqa: RUF012 (Jinja's own form)

    def parse(self, parser: Parser) -> nodes.Node:
        """Read the block."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("mark"), [], [], body).set_lineno(line)

    def mark(self, caller: Macro) -> str:
        """Put the marks around what the block writes."""
        before, after = MARKS.get()
        return f"{before}{caller()}{after}"
