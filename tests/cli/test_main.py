import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer import Context

from subgpt.cli import main, outcome, volume
from subgpt.cli.app import VERBS, command
from subgpt.errors import DataError

from .conftest import invoke


def test_help_lists_every_verb_and_each_has_its_own() -> None:
    overview = invoke("--help")
    assert overview.code == 0
    for verb in VERBS:
        assert verb in overview.out
        own = invoke(verb, "--help")
        assert own.code == 0
        assert "Usage: subgpt " + verb in own.out
        assert "xample" in own.out or verb == "tokenizer"


def commands(group: Any, above: Any, name: str) -> Iterator[Any]:
    """Every command that there is, with the context that stands for the words before it."""
    context = Context(group, info_name=name, parent=above)
    for verb in group.list_commands(context):
        _, found, _ = group.resolve_command(context, [verb])
        if hasattr(found, "list_commands"):
            yield from commands(found, context, verb)
        else:
            yield found


def test_examples_are_commands_as_they_are_typed() -> None:
    root, read = command(), 0
    for one in commands(root, None, "subgpt"):
        # Behind a variable, mpirun or a pipe; what is not ours, such as curl, is passed over.
        for typed in re.findall(r"\bsubgpt (.*?)(?: [|<>] |$)", one.epilog, re.MULTILINE):
            found, context, rest = root, None, shlex.split(typed)
            while hasattr(found, "list_commands"):
                context = Context(found, parent=context)
                _, found, rest = found.resolve_command(context, rest)
            found.make_context("example", rest, parent=context)  # which reads the words, and runs nothing
            read += 1
    volume.reset()
    assert read > len(VERBS)


@pytest.mark.parametrize("verb", ["train", "encode", "decode", "count", "show", "stats", "convert"])
def test_the_tokenizer_verbs_have_examples(verb: str) -> None:
    assert f"subgpt tokenizer {verb}" in invoke("tokenizer", verb, "--help").out


def test_nothing_shows_the_help() -> None:
    assert invoke().code == 0
    assert "quickstart" in invoke().out


def test_a_group_alone_shows_its_help_and_no_complaint() -> None:
    alone = invoke("tokenizer")
    assert (alone.code, alone.err) == (0, "")
    assert "subgpt tokenizer" in alone.out
    assert "encode" in alone.out


def test_version() -> None:
    assert invoke("--version").out.startswith("subgpt 0.")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pretran"], ["pretran", "pretrain"]),
        (["generate", "x", "--temprature", "1"], ["--temprature", "did you mean --temperature?"]),
        (["pretrain", "-o", "x", "--max_step", "1"], ["did you mean --max-steps?"]),
        (["pretrain", "-o", "x", "--lr", "1"], ["did you mean --learning-rate?"]),
        (["pretrain", "-o", "x", "--max_iters", "1"], ["did you mean --max-steps?"]),
        (["pretrain", "-o", "x", "--max-steps", "many"], ["--max-steps", "integer"]),
        (["pretrain"], ["output-dir"]),
        (["generate"], ["RUN", "subgpt generate --help"]),
        (["tokenizer", "encod"], ["encode"]),
        (["--verson"], ["--version"]),
    ],
)
def test_wrong_usage_ends_with_2_and_a_hint(arguments: list[str], words: list[str]) -> None:
    result = invoke(*arguments)
    assert result.code == 2
    assert all(word in result.line() for word in words), result.line()


def test_debug_shows_the_traceback_wherever_it_stands() -> None:
    for arguments in (["--debug", "info", "nowhere"], ["info", "nowhere", "--debug"]):
        result = invoke(*arguments)
        assert result.code == 1
        assert "Traceback" in result.err
        assert "subgpt: error: nowhere" in result.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (DataError("two\nlines"), 1, "two lines"),
        (PermissionError(13, "Permission denied", "f.txt"), 1, "f.txt: Permission denied"),
        (MemoryError(), 1, "out of memory"),
        (ZeroDivisionError("x"), 1, "internal error: ZeroDivisionError: x"),
    ],
)
def test_every_error_becomes_one_line(
    error: Exception, code: int, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert outcome.finish(fail) == code
    told = capsys.readouterr().err
    assert told.startswith("subgpt: error: ")
    assert text in told
    assert told.count("\n") == 1


def test_ctrl_c_ends_with_130() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert outcome.finish(interrupt) == 130


def test_output_is_plain_in_a_pipe(shop: Path) -> None:
    for arguments in (["--help"], ["info"], ["tokenizer", "show", "-t", shop / "subword", "The cat"]):
        assert "\x1b[" not in invoke(*arguments).out


def test_colour_in_a_terminal_and_none_with_no_color(shop: Path) -> None:
    pty = pytest.importorskip("pty")

    def screen(**environment: str) -> str:
        parent, child = pty.openpty()
        command = [
            sys.executable,
            "-m",
            "subgpt.cli",
            "tokenizer",
            "show",
            "-t",
            str(shop / "subword"),
            "The cat",
        ]
        clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
        env = clean | {"TERM": "xterm-256color"} | environment
        with subprocess.Popen(command, stdout=child, stderr=child, stdin=child, env=env) as process:
            process.wait(timeout=60)
        os.close(child)
        text = os.read(parent, 65536).decode()
        os.close(parent)
        return text

    assert "48;5;" in screen()
    assert "48;5;" not in screen(NO_COLOR="1")


def test_a_pipe_that_closes_early_is_no_error(shop: Path) -> None:
    command = f"{sys.executable} -m subgpt.cli info '{shop / 'run'}' | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr


def test_help_that_nobody_reads_ends_as_other_programs_do() -> None:
    command = f"({sys.executable} -m subgpt.cli --help; echo $? >&2) | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "141\n"


def test_help_loads_the_command_line_and_typer_alone() -> None:
    """What the help's time is made of; the time itself is a bench's, `benches/startup/start.py`."""
    code = """
import sys
before = set(sys.modules)
from subgpt.cli import main
main(["--help"])
new = set(sys.modules) - before
print(*sorted(name for name in new if name.split(".")[0] == "subgpt"))
print(*sorted({name.split(".")[0] for name in new
               if "site-packages" in (getattr(sys.modules[name], "__file__", None) or "")} - {"subgpt"}))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    ours, theirs = done.stdout.splitlines()[-2:]
    commands = {"app", "origins", "outcome", "overview", "streams", "terminal", "volume"}
    launcher = {
        "subgpt.distributed",
        "subgpt.distributed.launch",
    }  # is this a process of a job? without it, little
    rooms = {
        "subgpt",
        "subgpt._core",
        "subgpt.cli",
        "subgpt.errors",
        "subgpt.lazy",
        "subgpt.spelling",
        "subgpt.units",
    }
    assert set(ours.split()) <= rooms | launcher | {f"subgpt.cli.{name}" for name in commands}
    typers = {
        "typer",
        "annotated_doc",
        "click",
        "shellingham",
        "rich",
    }
    assert set(theirs.split()) <= typers


def test_main_reads_the_arguments_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["subgpt", "--version"])
    assert main() == 0
