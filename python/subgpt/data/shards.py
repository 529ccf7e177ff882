"""Token shards: ids in files that are mapped into memory as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subgpt.errors import DataError, MissingFileError

_MAGIC = b"subgptok"
_VERSION = 1
_HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("width", "<u4"),
        ("count", "<u8"),
        ("fingerprint", "V32"),
        ("zeros", "V8"),
    ]
)


def read_shard(
    path: str | os.PathLike[str], *, fingerprint: str | None = None
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Map a shard that `Tokenizer.encode_file` wrote.

    Args:
        path: The file.
        fingerprint: The fingerprint of the tokenizer that it has to come from; None: any.

    Returns:
        The ids, shape (n,), uint16 or uint32, read-only, in the file until they are used.

    Raises:
        DataError: The file is no shard, damaged, or of another tokenizer.
        MissingFileError: There is no such file.

    """
    file = Path(path)
    if not file.exists():
        raise MissingFileError(f"{file}: there is no such file")
    with file.open("rb") as opened:
        header = np.frombuffer(opened.read(_HEADER.itemsize).ljust(_HEADER.itemsize, b"\0"), _HEADER)[0]
    if header["magic"] != _MAGIC:
        raise DataError(f"{file}: is no token shard; make one with Tokenizer.encode_file")
    if header["version"] != _VERSION or header["width"] not in (2, 4):
        raise DataError(
            f"{file}: version {header['version']} with ids of {header['width']} bytes is not known; "
            f"this subgpt reads version {_VERSION} with 2 or 4: update subgpt, or write it again"
        )
    count, width = int(header["count"]), int(header["width"])
    expected = _HEADER.itemsize + count * width
    if file.stat().st_size != expected:
        raise DataError(
            f"{file}: has {file.stat().st_size} bytes where its header promises {expected}; write it again"
        )
    written = header["fingerprint"].tobytes().hex()
    if fingerprint is not None and fingerprint != written:
        raise DataError(
            f"{file}: was written with another tokenizer (fingerprint {written[:12]}…, not {fingerprint[:12]}…); "
            "encode the text again"
        )
    dtype = np.dtype(f"<u{width}")
    if count == 0:
        return np.zeros(0, dtype)
    return np.memmap(file, dtype, mode="r", offset=_HEADER.itemsize, shape=(count,))
