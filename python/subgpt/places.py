"""Names of files as people give them, and what is there: said to somebody who took it for something else."""

import os
from pathlib import Path

from subgpt.spelling import nearest

TOKENIZERS = ("tokenizer.json", "vocab.json", "encoder.json", "tokenizer.model", "tokenizer.bin")
"""The files that a tokenizer is loaded from, in the order in which they are looked for."""
_OF_TOKENIZERS = {*TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json", "merges.txt"}
_LOOKED_AT = 200
"""Entries of a directory that are looked at: a folder of a million files must not make an error wait."""
_SHOWN = 3


def expanded(path: str | os.PathLike[str]) -> Path:
    """Make a path of a name, with the home directory in place of ``~``; where nobody has that name, ``~`` stays.

    >>> expanded("~notes.txt").name
    '~notes.txt'
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises where nobody has that name


def absent(path: Path, remedy: str) -> str:
    """Say that nothing is there, what is there under a name like it, and what to do.

    >>> absent(Path("/no/such/folder"), "look again")
    '/no/such/folder: no such file or directory, nor /no/such; look again'
    """
    if not path.parent.is_dir():
        return f"{path}: no such file or directory, nor {path.parent}; {remedy}"
    near = beside(path)
    meant = "" if near is None else f"did you mean {near!r}? "
    return f"{path}: no such file or directory; {meant}{remedy}"


def beside(path: Path, *, directories: bool = False) -> str | None:
    """Find what is there under a name like that of a path which is not; only `directories`, or files as well."""
    near = nearest(
        path.name, [entry.name for entry in _some(path.parent) if entry.is_dir() or not directories]
    )
    return None if near is None else str(path.with_name(near))


def no_text(directory: Path) -> str | None:
    """Say what a directory is that was named as text and is none, and what it belongs to; None if it may be text."""
    names = {entry.name for entry in _some(directory)}
    if _is_model(directory) and any(name.endswith(".safetensors") for name in names):
        return f"{directory}: is a model and no text; name files or directories of text"
    if "tokenizer.json" in names and names <= _OF_TOKENIZERS:
        return f"{directory}: is a tokenizer, which belongs to --tokenizer; name files or directories of text"
    return None


def no_model(directory: Path) -> str:
    """Say what a directory holds that is not a model, and what to name in its place."""
    entries = _some(directory)
    names = {entry.name for entry in entries}
    models = sorted(str(entry) for entry in (*entries, *_some(directory / "runs")) if _is_model(entry))
    remedy = "give a directory with config.json and weights, such as a run of subgpt pretrain"
    if not names:
        return f"{directory}: is empty; {remedy}"
    if any(name.endswith(".safetensors") for name in names):
        return (
            f"{directory}: has weights but no config.json, which says how they belong together; fetch it too"
        )
    if models:
        more = " …" if len(models) > _SHOWN else ""
        return f"{directory}: is no model itself, but holds some: name {' or '.join(models[:_SHOWN])}{more}"
    if "dataset.json" in names:
        return f"{directory}: is prepared data, which belongs to --data; {remedy}"
    if names & set(TOKENIZERS):
        return f"{directory}: is a tokenizer, which belongs to --tokenizer; {remedy}"
    return f"{directory}: is no model: it has no config.json; {remedy}"


def _is_model(path: Path) -> bool:
    return any((path / name).is_file() for name in ("config.json", "adapter_config.json"))


def _some(directory: Path) -> list[Path]:
    """List some entries of a directory; none of one that cannot be read."""
    try:
        return [entry for entry, _ in zip(directory.iterdir(), range(_LOOKED_AT), strict=False)]
    except OSError:
        return []
