"""The playground: a page in the browser that shows what a model does, from text to tokens to probabilities to text.

`page` is the page, `tabs` has one module a tab, `views` what they show as plain data, `parts` what they share. The page
is made with NiceGUI, and needs the extra `serve`; nothing else of the package imports anything here.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subgpt.errors import InvalidValueError, MissingExtraError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from subgpt.serving.models import Served


def mount(
    app: "FastAPI", served: "Sequence[Served]", runs: Path | None = None, *, max_tokens: int | None = None
) -> None:
    """Put the page at `/` of `app`, behind all of its routes and within its middleware.

    served: the models that the page shows, the first one at the beginning. runs: a folder whose runs and tokenizers
    the page shows as well, two levels deep; the browser names none but these. max_tokens: new tokens that a text may
    have; the page never writes more than 2,048. Call it last: what is at `/` afterwards
    answers all paths that no route before it has. Several apps of a process may have the page, of which one runs at a
    time: NiceGUI itself is there once.

    Raises MissingExtraError where NiceGUI is not installed, InvalidValueError without a model.
    """
    try:
        import nicegui  # noqa: F401
    except ImportError:
        raise MissingExtraError('the playground needs nicegui: pip install "subgpt[serve]"') from None
    if not served:
        raise InvalidValueError("playground: there is no model to show; serve one at least")
    from subgpt.playground.limits import MAX_TOKENS
    from subgpt.playground.page import put_page

    put_page(app, list(served), runs, MAX_TOKENS if max_tokens is None else min(max_tokens, MAX_TOKENS))
