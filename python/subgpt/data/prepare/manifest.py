"""`dataset.json`: what a prepared data set is made of. Written last: its presence says that the set is whole.

It names no time and no process, so that the same preparation writes the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subgpt import _core
from subgpt.errors import DataError, MissingFileError

NAME = "dataset.json"
FORMAT = "subgpt dataset"
VERSION = 1
_LARGEST = 1 << 30


def is_prepared(path: Path) -> bool:
    """Tell whether a directory is a prepared data set."""
    try:
        return (path / NAME).is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def dataset_fingerprint(tokenizer: str, sides: Mapping[str, Mapping[str, Any]]) -> str:
    """Give 32 hexadecimal digits that depend on every id and on where documents begin."""
    digest = hashlib.blake2b(tokenizer.encode(), digest_size=16)
    for name in ("train", "val"):
        for shard in sides[name]["shards"]:
            digest.update(f"{name} {shard['tokens']} {shard['checksum']} {shard['index_checksum']};".encode())
    return digest.hexdigest()


def write_manifest(folder: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Write `dataset.json`, whole or not at all; give what it says."""
    head = {"format": FORMAT, "version": VERSION, "subgpt_version": _core.__version__}
    whole = {**head, **values}
    text = json.dumps(whole, indent=1, ensure_ascii=False)
    _core.write_atomic(str(folder / NAME), (text + "\n").encode("utf-8", "backslashreplace"))
    return whole


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check `dataset.json`.

    Raises:
        MissingFileError: The directory has none: it was never prepared, or not to the end.
        DataError: It is damaged, of a newer version, or something else.

    """
    path = folder / NAME
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file; make the directory with subgpt data prepare, and let it come to its end"
        )
    if path.stat().st_size > _LARGEST:
        raise DataError(f"{path}: larger than 1 GiB; that is no description of a data set")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{path}: not readable as JSON ({error}); prepare the data again") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise DataError(
            f"{path}: describes no data set of subgpt; name a directory made by subgpt data prepare"
        )
    if values.get("version") != VERSION:
        raise DataError(
            f"{path}: version {values.get('version')!r} is not known, this subgpt reads {VERSION}; update subgpt"
        )
    _check(path, values)
    return values


def _check(path: Path, values: Mapping[str, Any]) -> None:
    """Look at every field that readers use: a damaged file is named here, and nowhere else has to be thought of."""

    def need(condition: object, field: str) -> None:
        if not condition:
            raise DataError(f"{path}: the field {field!r} is missing or wrong; prepare the data again")

    tokenizer = values.get("tokenizer")
    need(isinstance(tokenizer, dict) and isinstance(tokenizer.get("fingerprint"), str), "tokenizer")
    need(isinstance(values.get("fingerprint"), str), "fingerprint")
    need(isinstance(values.get("split"), str), "split")
    for name in ("train", "val"):
        side = values.get(name)
        need(isinstance(side, dict), name)
        assert isinstance(side, dict)
        for field in ("tokens", "documents", "text_bytes"):
            need(isinstance(side.get(field), int) and side[field] >= 0, f"{name}.{field}")
        need(isinstance(side.get("shards"), list), f"{name}.shards")
        for shard in side["shards"]:
            need(isinstance(shard, dict) and isinstance(shard.get("file"), str), f"{name}.shards.file")
            need(Path(shard["file"]).name == shard["file"], f"{name}.shards.file")
            need(isinstance(shard.get("tokens"), int) and shard["tokens"] >= 0, f"{name}.shards.tokens")
            need(isinstance(shard.get("checksum"), str), f"{name}.shards.checksum")
            need(isinstance(shard.get("index_checksum"), str), f"{name}.shards.index_checksum")
