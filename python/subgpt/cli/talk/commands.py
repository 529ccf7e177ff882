"""Lines of a talk that begin with a slash: they change the talk, or say something about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from subgpt.cli.terminal import note
from subgpt.errors import ConfigError, DataError
from subgpt.generation.config import TYPED, GenerationConfig
from subgpt.places import expanded
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.cli.talk.talk import Talk

_SETTINGS = (*TYPED, "max_new_tokens", "seed")


class _Command(NamedTuple):
    argument: str
    summary: str
    run: Callable[[Talk, str], None]


def run_command(talk: Talk, line: str) -> bool:
    """Do what a line such as "/temperature 0.7" says; False if it leaves the talk.

    Raises ConfigError or DataError for what cannot be done; the talk is as it was then.
    """
    name, _, argument = line[1:].strip().partition(" ")
    name, argument = name.replace("-", "_"), argument.strip()
    if name == "quit":
        return False
    if name in _SETTINGS:
        _change(talk, name, argument)
    elif name in _COMMANDS:
        _COMMANDS[name].run(talk, argument)
    else:
        known = ["quit", *_COMMANDS, *_SETTINGS]
        raise ConfigError(
            f"there is no command /{name}; {did_you_mean(name, known)} (/help lists all; a line that begins with // "
            "is said with one /)"
        )
    return True


def _change(talk: Talk, name: str, value: str) -> None:
    """Change a setting, or show it; who gives a rule of sampling wants to sample."""
    if value:
        sampled = {"do_sample": True} if name in TYPED else {}
        talk.settings = talk.settings.replace(**{name: value}, **sampled)
    note(f"{name} = {getattr(talk.settings, name)}")


def _system(talk: Talk, text: str) -> None:
    talk.system = text
    note("the model is told so before everything else" if text else "no system message any more")


def _reset(talk: Talk, _: str) -> None:
    talk.turns.clear()
    note("forgotten")


def _undo(talk: Talk, _: str) -> None:
    if not talk.turns:
        raise DataError("/undo: nothing was said yet")
    question = talk.turns[-2].content
    del talk.turns[-2:]
    note(f"taken back: {question}")


def _save(talk: Talk, name: str) -> None:
    """Add the talk as a row that fine-tuning reads."""
    from subgpt import _core

    path = _rows_file("/save", name)
    if not talk.turns:
        raise DataError("/save: nothing was said yet")
    before = path.read_bytes() if path.exists() else b""
    if before and not before.endswith(b"\n"):
        before += b"\n"
    row = {"messages": [message.as_dict() for message in talk.messages]}
    _core.write_atomic(str(path), before + (json.dumps(row, ensure_ascii=False) + "\n").encode())
    note(f"{path}: one more row, of {len(talk.messages)} messages")


def _load(talk: Talk, name: str) -> None:
    """Take up the talk in the last row of a file."""
    from subgpt.data.instruct import read_examples

    path = _rows_file("/load", name)
    messages = list(read_examples(path, free_turns=True)[-1].messages)
    system = messages.pop(0).content if messages[0].role == "system" else ""
    if [message.role for message in messages] != ["user", "assistant"] * (len(messages) // 2):
        raise DataError(f"{path}: in its last row user and assistant do not take turns; load another file")
    talk.system, talk.turns = system, messages
    note(f"{path}: went on from its last row, of {len(talk.messages)} messages")


def _rows_file(command: str, name: str) -> Path:
    if Path(name).suffix not in (".jsonl", ".ndjson"):
        raise ConfigError(f"{command} {name}: name a file that ends in .jsonl, as fine-tuning reads it")
    return expanded(name)


def _help(_: Talk, __: str) -> None:
    entries = {f"/{name} {command.argument}": command.summary for name, command in _COMMANDS.items()}
    entries["/quit"] = "leave"
    for name in _SETTINGS:
        entries[f"/{name} VALUE"] = GenerationConfig.model_fields[name].description or ""
    width = max(map(len, entries))
    for usage, summary in entries.items():
        note(f"{usage:{width}}  {summary}")
    note("Ctrl-C stops an answer, which is kept as far as it came; twice, it leaves.")


_COMMANDS = {
    "system": _Command("TEXT", "what the model is told before everything else; nothing: no more", _system),
    "reset": _Command("", "forget what was said", _reset),
    "undo": _Command("", "take the last question and answer back", _undo),
    "save": _Command("FILE", "add the talk to a .jsonl file, as a row for fine-tuning", _save),
    "load": _Command("FILE", "go on with the last row of a .jsonl file", _load),
    "help": _Command("", "this list", _help),
}
