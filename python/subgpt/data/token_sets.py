"""Sets of ids on the disk that a run trains on: prepared directories, and files that other programs wrote.

They are recognised by what is in them, mapped into memory, and checked before anything is trained: the tokenizer's
fingerprint and the checksums where there are any, and that no id is beyond the vocabulary where there are none.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from subgpt.data.foreign import RAW_NAMES, is_shard, is_token_file, is_validation_name, read_ids
from subgpt.data.prepare.manifest import dataset_fingerprint, is_prepared, read_manifest
from subgpt.data.prepare.plan import FOLDER
from subgpt.data.shards import INDEX_MAGIC, check_shard, read_header, read_shard
from subgpt.data.sources import find_files
from subgpt.data.tokens import ShardedTokens
from subgpt.errors import ConfigError, DataError, MissingFileError
from subgpt.places import absent, expanded

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

_WEIGHTED = re.compile(r"(.+):(\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)$", re.DOTALL)
_CHUNK = 1 << 22
_READERS = 4


class Named(NamedTuple):
    """A set of ids as it was named: its directory or files, and its weight, None if none was given."""

    path: Path
    weight: float | None


@dataclass(frozen=True, slots=True, eq=False)
class TokenSet:
    """A set of ids, open and checked.

    Attributes:
        name: For messages.
        train: What is trained on; may be empty.
        val: What is held out; may be empty.
        train_bytes, val_bytes: UTF-8 bytes of their text; 0 where nobody knows.
        fingerprint: Depends on all ids.
        notes: What there is to say about it.

    """

    name: str
    train: ShardedTokens
    val: ShardedTokens
    train_bytes: int
    val_bytes: int
    fingerprint: str
    notes: tuple[str, ...]


def token_sources(source: object) -> list[Named] | None:
    """Find the sets of ids that a source names; None if it names text.

    Args:
        source: What `pretrain` takes: a path or a list of paths, each with ``:WEIGHT`` behind it or not; or a mapping
            of paths to weights, which names sets of ids in any case.

    Raises:
        DataError: Sets of ids beside text, a preparation that did not come to its end, or in a mapping a path that
            is no set of ids.
        ConfigError: A weight for some and none for others.

    """
    if isinstance(source, Mapping) and not hasattr(source, "column_names"):  # a DatasetDict has rows
        named = [_weighed(path, weight) for path, weight in source.items()]
        missing = next((one for one in named if not _is_token_source(one.path)), None)
        if missing is not None:
            raise _no_set(missing.path)
        return named
    names = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(names, list | tuple) or not all(isinstance(name, str | os.PathLike) for name in names):
        return None
    found = [_named(name) for name in names]
    if not any(found):
        return None
    for name, one in zip(names, found, strict=True):
        if one is None:
            raise DataError(
                f"{os.fspath(name)!r} is text, but other sources are sets of ids; prepare it as well: "
                "subgpt data prepare"
            )
    sets = [one for one in found if one is not None]
    if len({one.weight is None for one in sets}) > 1:
        raise ConfigError(
            "some data sets have a weight and some have none; give one to each, as DIR:0.5, or to none"
        )
    return sets


def _weighed(path: Any, weight: Any) -> Named:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
        raise ConfigError(f"the weight of {os.fspath(path)!r} must be a number above 0, not {weight!r}")
    return Named(expanded(path), float(weight))


def _named(name: str | os.PathLike[str]) -> Named | None:
    """Take a name apart, if it names ids; a file that has a colon in its name is that file."""
    path = expanded(name)
    if _is_token_source(path):
        return Named(path, None)
    weighted = _WEIGHTED.fullmatch(os.fspath(name))
    if weighted is None or os.path.lexists(path):
        return None
    path = expanded(weighted[1])
    if _is_token_source(path):
        return _weighed(path, float(weighted[2]))
    if os.path.lexists(path):
        raise DataError(
            f"{str(path)!r} is text and cannot have a weight; prepare it first: subgpt data prepare"
        )
    return None


def _is_token_source(path: Path) -> bool:
    if is_prepared(path):
        return True
    if _is_directory(path / FOLDER):
        raise DataError(
            f"{path}: its preparation did not come to its end; run subgpt data prepare again to go on"
        )
    return bool(_token_files(path))


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _token_files(path: Path) -> list[Path]:
    """List the files of ids that are named: of a directory those in it, of a glob none if anything else matches."""
    if _is_directory(path):
        return sorted(entry for entry in path.glob("*.bin") if is_token_file(entry))
    if is_token_file(path):
        return [path]
    if not path.name.lower().endswith(".bin") or os.path.lexists(path):
        return []
    try:
        files = find_files(path, binary=(".bin",)).files
    except (MissingFileError, DataError):
        return []
    return list(files) if all(map(is_token_file, files)) else []


def _no_set(path: Path) -> DataError | MissingFileError:
    if not os.path.lexists(path):
        return MissingFileError(absent(path, "give a directory made by subgpt data prepare"))
    return DataError(
        f"{path}: is no set of ids, and only those have weights; make one with subgpt data prepare"
    )


def open_token_set(path: Path, tok: Tokenizer, *, val_fraction: float) -> TokenSet:
    """Open a set of ids and check it.

    Args:
        path: A prepared directory, or files of ids: one, a directory or a glob of them.
        tok: The tokenizer that it has to be made with, as far as it says so.
        val_fraction: What is held out of files that bring nothing to validate on: the end of them. With 0 nothing is
            held out of a prepared set, either.

    Raises:
        DataError: It was made with another tokenizer, or damaged since.

    """
    if is_prepared(path):
        return _open_prepared(path, tok, keep_val=val_fraction > 0)
    return _open_foreign(path, tok, val_fraction)


def _open_prepared(path: Path, tok: Tokenizer, *, keep_val: bool) -> TokenSet:
    made = read_manifest(path)
    if made["tokenizer"]["fingerprint"] != tok.fingerprint:
        raise DataError(
            f"{path}: was prepared with another tokenizer (fingerprint {made['tokenizer']['fingerprint'][:12]}…, not "
            f"{tok.fingerprint[:12]}…); give the one it has with it (--tokenizer {path}), or prepare the text again"
        )
    shards = [shard for side in ("train", "val") for shard in made[side]["shards"]]
    with ThreadPoolExecutor(_READERS) as pool:
        list(pool.map(lambda shard: _check(path, shard), shards))
    if dataset_fingerprint(tok.fingerprint, made) != made["fingerprint"]:
        raise DataError(f"{path / 'dataset.json'}: does not fit its own fingerprint; prepare the data again")
    train, val = (
        ShardedTokens([read_shard(path / shard["file"]) for shard in made[side]["shards"]])
        for side in ("train", "val")
    )
    notes = (
        f"{path}: {made['train']['documents'] + made['val']['documents']:,} documents, prepared; "
        f"{len(train):,} tokens to train on, {len(val):,} to validate on ({made['split']})",
    )
    if not keep_val:
        val = ShardedTokens([])
    train_bytes, val_bytes = (made[side]["text_bytes"] for side in ("train", "val"))
    return TokenSet(str(path), train, val, train_bytes, val_bytes, made["fingerprint"], notes)


def _check(folder: Path, said: Mapping[str, Any]) -> None:
    """Compare a shard and its index with what `dataset.json` says of them, and with their own checksums."""
    path = folder / said["file"]
    header = read_header(path)
    if (header.count, header.checksum) != (said["tokens"], said["checksum"]):
        raise DataError(f"{path}: is not the shard that dataset.json speaks of; prepare the data again")
    check_shard(path)
    index = path.with_suffix(".idx")
    if read_header(index, INDEX_MAGIC).checksum != said["index_checksum"]:
        raise DataError(f"{index}: is not the index that dataset.json speaks of; prepare the data again")


def _open_foreign(path: Path, tok: Tokenizer, val_fraction: float) -> TokenSet:
    files = _token_files(path)
    sibling = path.with_name("val.bin")
    if [file.name for file in files] == [RAW_NAMES[0]] and not _is_directory(path) and sibling.is_file():
        files.append(sibling)
    rows = {file: read_ids(file, tok.fingerprint) for file in files}
    shards = [file for file in files if is_shard(file)]
    with ThreadPoolExecutor(_READERS) as pool:
        list(pool.map(check_shard, shards))
        digests = list(pool.map(lambda file: _scan(file, rows[file], tok.vocab_size), files))
    train = ShardedTokens([rows[file] for file in files if not is_validation_name(file)])
    val = ShardedTokens([rows[file] for file in files if is_validation_name(file)])
    how = "by the names of the files"
    if val_fraction == 0:
        val, how = ShardedTokens([]), "none was asked for"
    elif not len(val):
        train, val = _cut(train, round(len(train) * (1 - val_fraction)))
        how = f"the last {100 * val_fraction:.3g} %"
    note = (
        f"{path}: {len(files)} file{'s' * (len(files) != 1)} of ids; {len(train):,} tokens to train on, {len(val):,} "
        f"to validate on ({how})"
    )
    if unknown := len(files) - len(shards):
        which = f"{unknown} of them" if shards else "them"
        note += f"; nothing in {which} says with which tokenizer they were made"
    fingerprint = hashlib.blake2b(b"".join(digests), digest_size=16).hexdigest()
    return TokenSet(str(path), train, val, 0, 0, fingerprint, (note,))


def _scan(path: Path, ids: npt.NDArray[Any], vocab_size: int) -> bytes:
    """Read all ids: none may be beyond the vocabulary; give their hash."""
    digest = hashlib.blake2b(path.name.encode(), digest_size=16)
    for begin in range(0, len(ids), _CHUNK):
        chunk = np.ascontiguousarray(ids[begin : begin + _CHUNK])
        largest = int(chunk.max())
        if largest >= vocab_size:
            at = begin + int(chunk.argmax())
            raise DataError(
                f"{path}: has the id {largest} at place {at}, beyond the vocabulary of {vocab_size}; give the "
                "tokenizer that it was made with"
            )
        digest.update(chunk.view(np.uint8).data)
    return digest.digest()


def _cut(tokens: ShardedTokens, at: int) -> tuple[ShardedTokens, ShardedTokens]:
    """Cut a row in two."""
    head: list[npt.NDArray[Any]] = []
    tail: list[npt.NDArray[Any]] = []
    begin = 0
    for part in tokens.parts:
        cut = min(max(at - begin, 0), len(part))
        head.append(part[:cut])
        tail.append(part[cut:])
        begin += len(part)
    return ShardedTokens(head), ShardedTokens(tail)


def default_weights(sets: Sequence[TokenSet], named: Sequence[Named]) -> list[float]:
    """Give the weights of those sets that have anything to train on; by their tokens if none was given."""
    return [
        float(len(one.train)) if name.weight is None else name.weight
        for one, name in zip(sets, named, strict=True)
        if len(one.train)
    ]
