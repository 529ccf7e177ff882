"""Files of ids that other programs wrote, read as they are.

* nanoGPT: ``train.bin`` and ``val.bin``, nothing but ids as u16 in the order of the machine, told by their names.
* llm.c: ``*.bin`` with a header of 256 int32 (magic, version, number of ids, zeros), then the ids: magic 20240520
  and version 1 with u16, magic 20240801 and version 7 with u32.

None of them says which tokenizer it was made with; all that can be checked is that no id is beyond the vocabulary.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subgpt.data.shards import MAGIC, map_records, read_shard
from subgpt.errors import DataError

RAW_NAMES = ("train.bin", "val.bin")
LLMC_HEADER = 256 * 4
_LLMC: dict[tuple[int, int], np.dtype[Any]] = {(20240520, 1): np.dtype("<u2"), (20240801, 7): np.dtype("<u4")}
_LLMC_MAGICS = {magic for magic, _ in _LLMC}
_VALIDATION = re.compile(r"(^|[^a-z0-9])(val|valid|validation)([^a-z0-9]|$)", re.IGNORECASE)


def is_token_file(path: Path) -> bool:
    """Tell whether a file holds ids, by its name and its first bytes.

    >>> is_token_file(Path("no/such/file.bin"))
    False
    """
    try:
        if path.suffix.lower() != ".bin" or not path.is_file():
            return False
        return path.name in RAW_NAMES or _starts_like_ids(path)
    except (OSError, ValueError):  # a name that no file can have
        return False


def is_validation_name(path: Path) -> bool:
    """Tell by its name whether a file of ids is for validation.

    >>> is_validation_name(Path("fineweb_val_000000.bin")), is_validation_name(Path("valley_train_1.bin"))
    (True, False)
    """
    return _VALIDATION.search(path.stem) is not None


def read_ids(path: Path, fingerprint: str) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Map a file of ids of any kind that is known.

    Args:
        path: The file.
        fingerprint: Of the tokenizer, for shards that say theirs.

    Raises:
        DataError: It is none, damaged, or of another tokenizer.

    """
    head = _head(path)
    if _is_shard(head):
        return read_shard(path, fingerprint=fingerprint)
    if len(head) >= 12 and int.from_bytes(head[:4], "little") in _LLMC_MAGICS:
        return _read_llmc(path, head)
    if path.name not in RAW_NAMES:
        raise DataError(
            f"{path}: holds no ids in a known form; nanoGPT's files are called train.bin and val.bin, llm.c's begin "
            "with its header: prepare text with subgpt data prepare"
        )
    size = path.stat().st_size
    if size % 2:
        raise DataError(
            f"{path}: has {size} bytes, which are no whole ids of two bytes; is the file complete?"
        )
    return map_records(path, np.dtype(np.uint16), 0, size // 2)


def _read_llmc(path: Path, head: bytes) -> npt.NDArray[np.unsignedinteger[Any]]:
    magic, version, count = np.frombuffer(head[:12], "<i4").tolist()
    dtype = _LLMC.get((magic, version))
    if dtype is None:
        raise DataError(
            f"{path}: version {version} of llm.c's files (magic {magic}) is not known; known are 1 of 20240520 and 7 "
            "of 20240801"
        )
    expected, size = LLMC_HEADER + count * dtype.itemsize, path.stat().st_size
    if count < 0 or size != expected:
        raise DataError(
            f"{path}: has {size} bytes where its header promises {expected}; is the file complete?"
        )
    return map_records(path, dtype, LLMC_HEADER, count)


def is_shard(path: Path) -> bool:
    """Tell whether a file of ids is one that `Tokenizer.encode_file` or `prepare_data` wrote."""
    return _is_shard(_head(path))


def _is_shard(head: bytes) -> bool:
    return head.startswith(MAGIC)


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(12)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _starts_like_ids(path: Path) -> bool:
    head = _head(path)
    return _is_shard(head) or (len(head) >= 12 and int.from_bytes(head[:4], "little") in _LLMC_MAGICS)
