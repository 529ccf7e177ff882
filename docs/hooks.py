"""What the site does with pages that are also read in the repository: links out of `docs/` become names of files."""

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Say where in the repository a file is that is no page."""
    return _OUTWARD.sub(r"\1 (`\2`)", markdown)
