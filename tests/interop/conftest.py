"""Vocabularies as their makers' library opens them, without the network, and as subgpt does."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import subgpt

_URL = "https://openaipublic.blob.core.windows.net"
_FILES = {
    "gpt-2/encodings/main/vocab.bpe": "gpt2/vocab.bpe",
    "gpt-2/encodings/main/encoder.json": "gpt2/encoder.json",
    **{
        f"encodings/{name}_base.tiktoken": f"tiktoken/{name}_base.tiktoken"
        for name in ("r50k", "cl100k", "o200k")
    },
}
VOCABULARIES = ("gpt2", "r50k", "cl100k", "o200k")


@pytest.fixture(scope="session")
def ours(shared: Path) -> Callable[[str], subgpt.Tokenizer]:
    """Open a published vocabulary by its name."""
    folder = shared / "data" / "vocab"
    opened: dict[str, subgpt.Tokenizer] = {}

    def open_vocabulary(name: str) -> subgpt.Tokenizer:
        path = (
            folder / "gpt2" / "vocab.bpe" if name == "gpt2" else folder / "tiktoken" / f"{name}_base.tiktoken"
        )
        if name not in opened:
            opened[name] = subgpt.Tokenizer.load(path)
        return opened[name]

    return open_vocabulary


@pytest.fixture(scope="session")
def tiktokens(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Let tiktoken open a vocabulary of its own by its name: what it would fetch lies in its cache already."""
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed: pip install tiktoken")
    cache = tmp_path_factory.mktemp("tiktoken")
    for address, file in _FILES.items():
        name = hashlib.sha1(f"{_URL}/{address}".encode()).hexdigest()
        (cache / name).symlink_to(shared / "data" / "vocab" / file)

    def open_vocabulary(name: str) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TIKTOKEN_CACHE_DIR", str(cache))
            return tiktoken.get_encoding(name if name == "gpt2" else f"{name}_base")

    return open_vocabulary
