"""Where models keep their chat templates: ``chat_template.jinja``, else inside ``tokenizer_config.json``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subgpt import _core
from subgpt.data.chat.template import ChatTemplate
from subgpt.data.jsonl import parse_json
from subgpt.data.rows import json_type
from subgpt.errors import ConfigError, MissingFileError, OutputError
from subgpt.places import expanded

TEMPLATE = "chat_template.jinja"
CONFIG = "tokenizer_config.json"
_SPECIAL_MAP = "special_tokens_map.json"
_VARIABLES = (
    *("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"),
    "additional_special_tokens",
)
_LARGEST = 16 << 20


def load_template(path: str | os.PathLike[str]) -> ChatTemplate:
    """Read a template; see `ChatTemplate.load`."""
    path = expanded(path)
    if path.is_dir():
        found = find_template(path)
        if found is None:
            raise MissingFileError(
                f"{path}: no chat template: neither {TEMPLATE} nor 'chat_template' in {CONFIG}; "
                "use 'chatml', or name a file with a template"
            )
        return found
    if not path.is_file():
        raise MissingFileError(
            f"{path}: no such file; a chat template is a Jinja file, a model directory, 'chatml' or 'plain'"
        )
    if path.suffix.lower() == ".json":
        config = _read_config(path)
        source = _from_config(config, path)
        if source is None:
            raise MissingFileError(f"{path}: no field 'chat_template'; name a file that has it")
        return ChatTemplate(source, str(path), _variables(config))
    return ChatTemplate(_read(path), str(path), _variables(_read_config(path.parent / CONFIG)))


def find_template(directory: str | os.PathLike[str]) -> ChatTemplate | None:
    """Find the template of a model directory; see `ChatTemplate.find`."""
    directory = expanded(directory)
    config = _read_config(directory / CONFIG)
    file = directory / TEMPLATE
    source = _read(file) if file.is_file() else _from_config(config, directory / CONFIG)
    if source is None:
        return None
    name = file if file.is_file() else directory / CONFIG
    return ChatTemplate(
        source, str(name), _variables(_read_config(directory / _SPECIAL_MAP)) | _variables(config)
    )


def save_template(template: ChatTemplate, directory: str | os.PathLike[str]) -> None:
    """Write a template; see `ChatTemplate.save`."""
    directory = expanded(directory)
    config = _read_config(directory / CONFIG)
    # What the template was rendered with is what it must be rendered with again.
    used = {name: value for name, value in template.variables.items() if name in template.source}
    config = {**config, **used}
    config.pop("chat_template", None)
    try:
        _core.write_atomic(str(directory / TEMPLATE), template.source.encode())
        if used:
            _write_config(directory, config)
    except OSError as error:
        raise OutputError(
            f"{directory}: the chat template cannot be written ({error.strerror or error})"
        ) from error


def keep_config(source: Path, target: Path) -> None:
    """Copy what a directory's tokenizer says of itself into another, without the template that is in it."""
    config = _read_config(source / CONFIG)
    if config:
        config.pop("chat_template", None)
        _write_config(target, config)


def _write_config(directory: Path, config: Mapping[str, Any]) -> None:
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    _core.write_atomic(str(directory / CONFIG), text.encode())


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path}: larger than {_LARGEST >> 20} MiB; that is no chat template")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror or error}); check its permissions"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None


def _read_config(path: Path) -> dict[str, Any]:
    """Read a file of settings; one that is not there has none."""
    if not path.is_file():
        return {}
    try:
        config = parse_json(_read(path), str(path), "fetch the file again")
    except ValueError as error:  # a DataError is one: this file is no data
        raise ConfigError(str(error)) from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path}: an object is expected, not {json_type(config)}; fetch the file again")
    return config


def _from_config(config: Mapping[str, Any], path: Path) -> str | None:
    """Give the template in a configuration; of several the one that is named default."""
    value = config.get("chat_template")
    if value is None or isinstance(value, str):
        return value
    named = {
        entry["name"]: entry["template"]
        for entry in (value if isinstance(value, list) else [])
        if isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and isinstance(entry.get("template"), str)
    }
    if "default" not in named:
        there = ", ".join(map(repr, named)) or "none"
        raise ConfigError(
            f"{path}: 'chat_template' has no template 'default' (there are: {there}); save the one you mean "
            f"as {TEMPLATE}"
        )
    default: str = named["default"]
    return default


def _variables(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the special tokens that a configuration names, as templates know them."""
    found: dict[str, Any] = {}
    for name in _VARIABLES:
        value = config.get(name)
        if isinstance(value, list):
            found[name] = [text for entry in value if (text := _token(entry)) is not None]
        elif (text := _token(value)) is not None:
            found[name] = text
    return found


def _token(value: object) -> str | None:
    """Give the text of a special token, which is written as a text or as an object with a content."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else None
