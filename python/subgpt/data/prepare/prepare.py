"""`prepare_data`: text of any size to token shards that training maps into memory.

Three steps: *units* of the source become ids on the disk, by as many processes as there are (`stage`, `pool`); then
all documents are known, and it is *decided* which stay and on which side (`merge`, `similar`, `split`); then those
are *written* as shards, and `dataset.json` last. A preparation that was killed goes on with the units that are
missing, and comes out the same, byte for byte.

Memory: some hundred megabytes a process, and about 100 bytes a document for the decision (1.1 KB with near
duplicates). Disk: until the end, the ids twice.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from subgpt.checkpoint.lock import DirectoryLock
from subgpt.checkpoint.run_directory import naming
from subgpt.cluster import Cluster
from subgpt.data.decoding import Errors
from subgpt.data.documents import SEPARATOR, DocumentSource, open_source
from subgpt.data.formats import find_row_files
from subgpt.data.prepare import units as cutting
from subgpt.data.prepare.cluster_pool import stage_on_cluster
from subgpt.data.prepare.finish import finish
from subgpt.data.prepare.manifest import NAME
from subgpt.data.prepare.options import SHARD_TOKENS, PrepareOptions
from subgpt.data.prepare.plan import FOLDER, finished_before, keep_plan, make_plan
from subgpt.data.prepare.pool import stage_here, stage_in_processes
from subgpt.data.prepare.reading import Tally, read_texts
from subgpt.data.prepare.similar import need_minhash
from subgpt.data.prepare.stage import Staging, stage_unit
from subgpt.data.prepare.units import Unit, plan_units, size_of
from subgpt.data.sources import FoundFiles
from subgpt.errors import CheckpointError, ConfigError, OutputError
from subgpt.places import expanded
from subgpt.tokenizer.saving import check_target

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

_LOCK = "lock"
Progress: TypeAlias = Callable[[str, int, int], None]

_WRITTEN = re.compile(rf"{re.escape(NAME)}|(?:train|val)-\d{{5,}}\.(?:bin|idx)|\.subgpt-.*\.tmp")
"""Names of what a preparation writes into its output, beside the tokenizer and the directory of the work; the last
are left where it was killed in the middle of a shard."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared data set.

    Attributes:
        path: Its directory.
        manifest: What `dataset.json` says.

    """

    path: Path
    manifest: dict[str, Any]

    @property
    def train_tokens(self) -> int:
        """Ids to train on."""
        return int(self.manifest["train"]["tokens"])

    @property
    def val_tokens(self) -> int:
        """Ids to validate on."""
        return int(self.manifest["val"]["tokens"])

    def describe(self) -> list[str]:
        """Lines for the terminal."""
        counts = self.manifest["documents"]
        gone = [
            f"{counts[key]:,} {what}"
            for key, what in (
                ("exact_duplicates", "exact duplicates"),
                ("near_duplicates", "near duplicates"),
                ("empty", "empty"),
                ("bad_rows", "bad rows"),
            )
            if counts[key]
        ]
        lines = [
            f"{counts['kept']:,} documents of {counts['read']:,}"
            + (f"; left out: {', '.join(gone)}" if gone else ""),
            f"{self.train_tokens:,} tokens to train on, {self.val_tokens:,} to validate on ({self.manifest['split']})",
        ]
        if counts["damaged"]:
            lines.append(
                f"{counts['damaged']:,} documents had bytes that are no text; U+FFFD stands for them"
            )
        return lines


def prepare_data(
    source: DocumentSource,
    output: str | os.PathLike[str],
    tokenizer: Tokenizer,
    *,
    val_fraction: float = 0.01,
    seed: int = 0,
    shard_tokens: int = SHARD_TOKENS,
    exact_duplicates: bool = True,
    near_duplicates: float | None = None,
    text_field: str = "text",
    errors: Errors = "strict",
    bad_rows: Literal["refuse", "skip"] = "refuse",
    separator: str | None = SEPARATOR,
    processes: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    ray: str | None = None,
) -> Prepared:
    """Turn text into token shards in the directory ``output``, which `pretrain` takes as its source.

    Text files are documents, or several where the separator occurs; JSON Lines, CSV, TSV, JSON arrays, Parquet and
    directories that `datasets` saved have one in the text field of each row; any of the first may be ``.gz`` or
    ``.zst``. Each document is followed by the end-of-text id. Names of special tokens in the text are plain text.

    The same source and options give the same bytes, whatever the number of processes, and whether or not the work was
    broken off: called again after a crash, it goes on. Called again when all is done, it changes nothing.

    Args:
        source: A path, directory or glob, a list of these, or an iterable of texts.
        output: The directory; new, empty, or with an unfinished preparation of the same.
        tokenizer: Makes the ids. It is saved in the directory as well.
        val_fraction: Share of documents for validation, decided by their hash; where whole documents come out
            lopsided, the end of each.
        seed: Decides which.
        shard_tokens: Ids in a shard, at most; documents are not cut, a longer one has a shard to itself.
        exact_duplicates: Remove documents that were there before.
        near_duplicates: Remove those of at least this Jaccard similarity to one before, in runs of five words; 0.8
            is usual. None: do not look. Needs ``subgpt[dedup]``.
        text_field: The key, or column, of the text.
        errors: Bytes that are no text: ``"strict"`` refuses them, ``"replace"`` puts U+FFFD.
        bad_rows: Rows that are broken or have no text: ``"refuse"``, or ``"skip"`` and count.
        separator: Splits text files into documents; None for never.
        processes: How many read and encode; 1, or as many as a cluster has processors, if not given. More than one
            need a guarded main module (``if __name__ == "__main__":``), as everywhere in Python.
        overwrite: Discard what is in the directory of a preparation, finished or not.
        progress: Called with what is being done, how much of it is done, and of how much.
        ray: The address of a Ray cluster to read and encode on: ``"auto"``, ``"HOST:PORT"``,
            ``"ray://HOST:10001"``, or ``"local"`` for one of this machine; where this process has joined one, that is
            used. Its machines must see source and output at the same paths, and have the same subgpt. What a lost
            machine was at is done again on another.

    Raises:
        MissingFileError, DataError: As for `read_documents`; the sources changed since the preparation began; too
            little text to divide.
        ConfigError: An option cannot be, or is another than that of the preparation that is gone on with.
        OutputError: The directory has something else in it, or cannot be written, or the disk is full.
        TokenizerError: A tokenizer of another kind lies in the directory, which would be loaded in place of this one.
        CheckpointError: Another process is preparing there.
        MissingExtraError: A format, near duplicates or a cluster need an extra.

    """
    options = PrepareOptions(
        val_fraction,
        seed,
        shard_tokens,
        exact_duplicates,
        near_duplicates,
        text_field,
        errors,
        bad_rows,
        separator,
    )
    if processes is not None and (
        isinstance(processes, bool) or not isinstance(processes, int) or processes < 1
    ):
        raise ConfigError(f"processes must be a whole number of at least 1, not {processes!r}")
    cluster = None if ray is None else Cluster(ray)
    if near_duplicates is not None:
        need_minhash()
    opened = open_source(source, find=find_row_files)
    folder = expanded(output)
    tell = progress or _say_nothing
    files = list(opened.files) if isinstance(opened, FoundFiles) else None
    sources = None if files is None else [(str(path), size_of(path)) for path in files]
    if not overwrite and (made := finished_before(folder, tokenizer.fingerprint, options, sources)):
        _remove_work(folder / FOLDER)
        return Prepared(folder, made)
    check_target(tokenizer, folder, "tokenizer.json")  # which is saved when all is done
    staging = Staging(_open_staging(folder, overwrite=overwrite))
    with DirectoryLock(staging.folder / _LOCK, "preparing data"):
        if overwrite:
            _discard(folder)
        staging.clear()
        plan = make_plan(files, tokenizer.fingerprint, options, cutting.UNIT_BYTES)
        keep_plan(staging.folder, plan, begun=staging.begun())
        if files is None:
            assert not isinstance(opened, FoundFiles)
            count = _stage_texts(opened, staging, tokenizer, options, tell)
            units: list[Unit] = []
        else:
            units = plan_units(files, cutting.UNIT_BYTES)
            _stage_files(units, staging, tokenizer, options, tell, processes, cluster)
            count = len(units)
        made = finish(folder, staging, count, units, sources, tokenizer, options, tell)
    shutil.rmtree(staging.folder, ignore_errors=True)
    return Prepared(folder, made)


def _remove_work(staging: Path) -> None:
    """Take away what was left of the work by a process that was killed when all was done.

    Not where somebody begins anew there; and a disk that only reads may keep it.
    """
    if staging.is_dir():
        with suppress(CheckpointError, OutputError), DirectoryLock(staging / _LOCK, "preparing data"):
            shutil.rmtree(staging, ignore_errors=True)


def _say_nothing(what: str, done: int, total: int) -> None:
    del what, done, total


def _discard(folder: Path) -> None:
    """Take away what a preparation wrote, finished or not; `dataset.json` first, without which the rest is nothing.

    The lock stays: whoever discards holds it.
    """
    with naming(folder):
        (folder / NAME).unlink(missing_ok=True)
        for path in folder.iterdir():
            if _WRITTEN.fullmatch(path.name):
                path.unlink()
        for path in (folder / FOLDER).iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != _LOCK:
                path.unlink()


def _open_staging(folder: Path, *, overwrite: bool) -> Path:
    """Make the directory of the work, or find it; of what others wrote nothing may be there to be overwritten."""
    staging = folder / FOLDER
    try:
        goes_on = staging.is_dir() and not overwrite
        if not goes_on and folder.exists() and not _only_ours(folder, overwrite=overwrite):
            raise OutputError(f"{folder}: has something in it already; name a directory that is new or empty")
        staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise OutputError(
            f"{folder}: cannot be made ({error.strerror or error}); name another directory"
        ) from error
    return staging


def _only_ours(folder: Path, *, overwrite: bool) -> bool:
    """Tell whether there is nothing in a directory but the tokenizer of a preparation that was discarded.

    overwrite: or anything else that a preparation writes.
    """
    return folder.is_dir() and all(
        name.startswith("tokenizer")
        or (overwrite and (name == FOLDER or _WRITTEN.fullmatch(name) is not None))
        for name in (entry.name for entry in folder.iterdir())
    )


def _stage_texts(
    texts: Iterable[str], staging: Staging, tok: Tokenizer, options: PrepareOptions, tell: Progress
) -> int:
    """Stage texts in memory as one unit; give the number of units."""
    done = 0

    def told(amount: int) -> None:
        nonlocal done
        done += amount
        tell("reading", done, 0)

    if not staging.done(0).exists():
        tally = Tally()
        stage_unit(staging, 0, read_texts(texts, options, tally), tally, tok, options, told)
    return 1


def _stage_files(
    units: list[Unit],
    staging: Staging,
    tok: Tokenizer,
    options: PrepareOptions,
    tell: Progress,
    processes: int | None,
    cluster: Cluster | None,
) -> None:
    """Stage the units that are not finished."""
    total = sum(part.size for unit in units for part in unit)
    jobs = [(number, unit) for number, unit in enumerate(units) if not staging.done(number).exists()]
    done = total - sum(part.size for _, unit in jobs for part in unit)

    def told(amount: int) -> None:
        nonlocal done
        done += amount
        tell("reading", done, total)

    if cluster is not None and jobs:
        files = [Path(part.path) for _, unit in jobs for part in unit]
        with cluster:
            cluster.check(staging.folder, files)
            processes = min(processes or sum(cluster.cpus), len(jobs))
            stage_on_cluster(jobs, staging, tok, options, told, processes, cluster)
        return
    processes = min(processes or 1, len(jobs))
    if processes > 1:
        stage_in_processes(jobs, staging, tok, options, told, processes)
    else:
        stage_here(jobs, staging, tok, options, told)
