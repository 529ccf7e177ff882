"""Token shards: ids in files that are mapped into memory as they are, and the index of their documents.

A file is a header of 64 bytes and then records, little-endian:

====== ===== =================================================================================
offset bytes what
====== ===== =================================================================================
0      8     ``subgptok`` for ids, ``subgptdx`` for an index of documents
8      4     version, u32: 1 as `Tokenizer.encode_file` writes, 2 with a checksum
12     4     bytes of a record, u32: 2 or 4 for ids, 24 for documents
16     8     number of records, u64
24     32    fingerprint of the tokenizer
56     8     checksum of all records: BLAKE2b of 8 bytes; zeros in version 1
64     ...   the records
====== ===== =================================================================================

Ids are u16 where the vocabulary has no more than 65,536 entries, else u32. A record of an index is `DOCUMENT`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from subgpt.data.atomic import atomic_file
from subgpt.errors import DataError, MissingFileError

MAGIC = b"subgptok"
INDEX_MAGIC = b"subgptdx"
VERSION = 2
HEADER = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u4"),
        ("width", "<u4"),
        ("count", "<u8"),
        ("fingerprint", "V32"),
        ("checksum", "V8"),
    ]
)
DOCUMENT = np.dtype([("end", "<u8"), ("bytes", "<u8"), ("file", "<u4"), ("line", "<u4")])
"""A document of a shard: where it ends in the shard in ids, its end-of-text id included; its UTF-8 bytes; the
number of its file in ``dataset.json``; the line, or row, that it begins on."""

_CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Header:
    """What a shard or an index says of itself.

    Attributes:
        width: Bytes of a record.
        count: Records.
        fingerprint: Of the tokenizer, 64 hexadecimal digits.
        checksum: Of the records, 16 hexadecimal digits; None where the version has none.

    """

    width: int
    count: int
    fingerprint: str
    checksum: str | None


def id_dtype(vocab_size: int) -> np.dtype[Any]:
    """Give the narrowest type that holds the ids of a vocabulary.

    >>> id_dtype(65_536).name, id_dtype(65_537).name
    ('uint16', 'uint32')
    """
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def read_header(path: str | os.PathLike[str], magic: bytes = MAGIC) -> Header:
    """Read and check what a shard says of itself, its length included; its records are not read.

    Raises:
        DataError: The file is no such file, of a newer version, or has another length than it says.
        MissingFileError: There is no such file.

    """
    file = Path(path)
    try:
        with file.open("rb") as opened:
            raw = np.frombuffer(opened.read(HEADER.itemsize).ljust(HEADER.itemsize, b"\0"), HEADER)[0]
            size = os.fstat(opened.fileno()).st_size
    except FileNotFoundError:
        raise MissingFileError(f"{file}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    if raw["magic"] != magic:
        what = "token shard; make one with Tokenizer.encode_file" if magic == MAGIC else "index of documents"
        raise DataError(f"{file}: is no {what}")
    version, width, count = int(raw["version"]), int(raw["width"]), int(raw["count"])
    widths = (2, 4) if magic == MAGIC else (DOCUMENT.itemsize,)
    if version not in (1, VERSION) or width not in widths:
        raise DataError(
            f"{file}: version {version} with records of {width} bytes is not known; this subgpt reads versions 1 and "
            f"{VERSION} with {' or '.join(map(str, widths))}: update subgpt, or write it again"
        )
    expected = HEADER.itemsize + count * width
    if size != expected:
        raise DataError(f"{file}: has {size} bytes where its header promises {expected}; write it again")
    checksum = None if version == 1 else raw["checksum"].tobytes().hex()
    return Header(width, count, raw["fingerprint"].tobytes().hex(), checksum)


def read_shard(
    path: str | os.PathLike[str], *, fingerprint: str | None = None
) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Map a shard that `Tokenizer.encode_file` or `prepare_data` wrote.

    Args:
        path: The file.
        fingerprint: The fingerprint of the tokenizer that it has to come from; None: any.

    Returns:
        The ids, shape (n,), uint16 or uint32, read-only, in the file until they are used.

    Raises:
        DataError: The file is no shard, damaged, or of another tokenizer.
        MissingFileError: There is no such file.

    """
    header = read_header(path)
    if fingerprint is not None and fingerprint != header.fingerprint:
        raise DataError(
            f"{path}: was written with another tokenizer (fingerprint {header.fingerprint[:12]}…, not "
            f"{fingerprint[:12]}…); encode the text again"
        )
    return map_records(Path(path), np.dtype(f"<u{header.width}"), HEADER.itemsize, header.count)


def read_index(path: str | os.PathLike[str]) -> npt.NDArray[np.void]:
    """Map the index of the documents of a shard, a record `DOCUMENT` for each.

    Raises:
        DataError, MissingFileError: As for `read_header`.

    """
    return map_records(Path(path), DOCUMENT, HEADER.itemsize, read_header(path, INDEX_MAGIC).count)


def map_records(path: Path, dtype: np.dtype[Any], offset: int, count: int) -> npt.NDArray[Any]:
    """Map ``count`` records of a file, read-only."""
    if count == 0:  # which no system maps
        return np.zeros(0, dtype)
    return np.memmap(path, dtype, mode="r", offset=offset, shape=(count,))


def check_shard(path: str | os.PathLike[str], magic: bytes = MAGIC) -> None:
    """Read all of a shard, and compare it with the checksum in its header; version 1 has none, and passes.

    Raises:
        DataError: The file was changed or damaged since it was written.

    """
    header = read_header(path, magic)
    if header.checksum is None:
        return
    digest = _digest()
    with Path(path).open("rb") as file:
        file.seek(HEADER.itemsize)
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != header.checksum:
        raise DataError(
            f"{path}: its checksum is {digest.hexdigest()}, its header says {header.checksum}: the file was "
            "damaged or changed since it was written; prepare the data again"
        )


class ShardWriter:
    """Takes the records of a file that is being written; see `writing`."""

    def __init__(self, file: IO[bytes], dtype: np.dtype[Any]) -> None:
        self.count = 0
        self.dtype = dtype
        self._file = file
        self._sum = _digest()

    def append(self, records: npt.NDArray[Any]) -> None:
        """Write records, of any integer dtype that holds them, after those before."""
        data = np.ascontiguousarray(records, self.dtype).view(np.uint8).data
        self._file.write(data)
        self._sum.update(data)
        self.count += len(records)

    @property
    def checksum(self) -> str:
        """The checksum of what was written so far, 16 hexadecimal digits."""
        return self._sum.hexdigest()


@contextmanager
def writing(
    path: Path, dtype: np.dtype[Any], fingerprint: str, magic: bytes = MAGIC
) -> Iterator[ShardWriter]:
    """Write a shard or an index record by record; it is there whole at the end, or not at all.

    Raises:
        OutputError: It cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a.bin"), id_dtype(300), "00" * 32) as shard:
    ...         shard.append(np.array([1, 2, 299]))
    ...     read_shard(Path(folder, "a.bin")).tolist()
    [1, 2, 299]

    """
    header = np.zeros((), HEADER)
    with atomic_file(path) as file:
        file.write(header.tobytes())
        writer = ShardWriter(file, dtype)
        yield writer
        header["magic"], header["version"], header["width"] = magic, VERSION, dtype.itemsize
        header["count"] = writer.count
        header["fingerprint"] = np.void(bytes.fromhex(fingerprint))
        header["checksum"] = np.void(bytes.fromhex(writer.checksum))
        file.seek(0)
        file.write(header.tobytes())


def _digest() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=8)
