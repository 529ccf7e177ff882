"""Models of the Hugging Face hub, by their id, through the `huggingface_hub` package (the `hub` extra).

It keeps what it fetched under `HF_HOME`, uses `HF_TOKEN`, and with `HF_HUB_OFFLINE=1` asks nobody. Only files that
`load` reads are fetched: no pickles.
"""

import re
from pathlib import Path

from subgpt.errors import CheckpointError, MissingExtraError, MissingFileError, first_line

_FILES = (
    "config.json", "generation_config.json", "*.safetensors", "model.safetensors.index.json", "adapter_config.json",
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja", "tokenizer.model",
    "vocab.json", "merges.txt",
)  # fmt: skip


def is_hub_id(name: str) -> bool:
    """Tell whether a name that is no path may be one of the hub: `owner/model`.

    >>> is_hub_id("Qwen/Qwen3-0.6B"), is_hub_id("./a/b"), is_hub_id("a/b/c"), is_hub_id("gpt2")
    (True, False, False, False)
    """
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", name) is not None and ".." not in name


def fetch(hub_id: str) -> Path:
    """Fetch a model, or find it where it was fetched to, and give its directory.

    Raises:
        MissingExtraError: `huggingface_hub` is not installed.
        MissingFileError: The hub has no such model, or none that may be read without a token, or it was not
            fetched before and the hub cannot be asked.

    """
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError:
        raise MissingExtraError(
            f"{hub_id}: no such directory; to fetch models of the Hugging Face hub by their id, install its "
            'package: pip install "subgpt[hub]"'
        ) from None
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(_FILES)))
    except LocalEntryNotFoundError:
        raise MissingFileError(
            f"{hub_id}: neither a directory nor a model that was fetched before, and the Hugging Face hub cannot "
            "be asked (HF_HUB_OFFLINE, or no network); give a directory with config.json and weights"
        ) from None
    except HfHubHTTPError as error:
        raise MissingFileError(
            f"{hub_id}: neither a directory nor a model of the Hugging Face hub that may be read "
            f"({first_line(error)}); look at its name, accept its licence on its page, and set HF_TOKEN if it "
            "asks for one"
        ) from None
    except Exception as error:  # whatever the package's network layer raises
        raise CheckpointError(f"{hub_id}: fetching it failed ({first_line(error)}); try again") from None
