"""Short hashes that tell whether tokenizer and data are the ones a run began with."""

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer


def tokenizer_fingerprint(tokenizer: "Tokenizer") -> str:
    """Give 32 hexadecimal digits that depend on everything in the tokenizer's file."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save(folder)
        return hashlib.blake2b(Path(folder, "tokenizer.json").read_bytes(), digest_size=16).hexdigest()
