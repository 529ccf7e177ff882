"""Examples in docstrings as code: the site's generator takes what begins with `>>>` for a quotation."""

import re

import griffe

_EXAMPLE = re.compile(r"(?:^[ ]*>>> .*\n(?:^(?!\s*$).*\n?)*)+", re.MULTILINE)


class Doctests(griffe.Extension):
    """Puts a fence around each example."""

    def on_object(self, *, obj: griffe.Object, **_: object) -> None:
        """Change the docstring of an object before it is read."""
        if obj.docstring is not None:
            obj.docstring.value = _EXAMPLE.sub(_fenced, obj.docstring.value + "\n").rstrip()


def _fenced(found: "re.Match[str]") -> str:
    return f"```pycon\n{found[0].rstrip()}\n```\n"
