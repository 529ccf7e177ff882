"""What the site does with pages that are also read in the repository.

Links out of `docs/` become names of files; what marks a block that no test runs is taken off, since with it the site
would not see a block there.
"""

import re
from typing import Any

_OUTWARD = re.compile(r"\[([^\]]+)\]\(\.\./([^)]+)\)")
_NOT_RUN = re.compile(r"^(\s*```\w+) notest$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Say where in the repository a file is that is no page, and begin blocks with the language alone."""
    return _NOT_RUN.sub(r"\1", _OUTWARD.sub(r"\1 (`\2`)", markdown))
