"""Models behind HTTP, in the shape of OpenAI's API, for whatever speaks it. Needs the extra `serve`.

`models` has what is served, `settings` how. `run` listens and ends well; `app` puts the routes together, and around
them who may ask (`access`, `login`) and how much it may take (`limits`, `protocol`). A request is checked against
`schemas`; `completions` and `chat` lay out the texts that the engine writes (`texts`), which `streaming` sends, with
`tokens` as clients know them; `plain_routes` are the others. `errors` is what goes wrong, `metrics` what is counted.

Nothing else in the package needs this one.
"""

import importlib
from typing import TYPE_CHECKING, Any

from subgpt.errors import MissingExtraError

if TYPE_CHECKING:
    from subgpt.serving.app import create_app
    from subgpt.serving.models import Served, load_served
    from subgpt.serving.run import make_server, run_server
    from subgpt.serving.settings import ServerSettings

_HOMES = {
    "Served": "models",
    "ServerSettings": "settings",
    "create_app": "app",
    "load_served": "models",
    "make_server": "run",
    "run_server": "run",
}
__all__ = ["Served", "ServerSettings", "create_app", "load_served", "make_server", "run_server"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'subgpt.serving' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"subgpt.serving.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("subgpt"):
            raise
        raise MissingExtraError(f'serving needs {error.name}: pip install "subgpt[serve]"') from None
