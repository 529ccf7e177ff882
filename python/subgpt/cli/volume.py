"""How much a command says: `-q` leaves its results, warnings and errors, `-v` adds what is usually left out.

Every command has these flags, and they may stand before its name as well: `subgpt -q info` is `subgpt info -q`.
`with_volume` puts them into a command's signature; `subgpt.cli.terminal` asks what was chosen.
"""

import functools
import inspect
import os
import time
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from subgpt.cli.streams import reader_is_gone

F = TypeVar("F", bound=Callable[..., Any])

_PANEL = "Everywhere"
_chosen: set[str] = set()


def reset() -> None:
    """Forget what an earlier command of this process was given."""
    _chosen.clear()


def is_quiet() -> bool:
    """Whether progress and remarks are left out."""
    return "quiet" in _chosen


def is_verbose() -> bool:
    """Whether details are said, too."""
    return "verbose" in _chosen and not is_quiet()


def wants_traceback() -> bool:
    """Whether an error is shown with where it came from."""
    return "debug" in _chosen


def _choose(param: typer.CallbackParam, value: bool) -> bool:
    if value:  # a flag that is absent behind the command does not undo the one before it
        _chosen.add(str(param.name))
    return value


def _flag(*names: str, help: str) -> Any:
    return typer.Option(
        *names, help=help, callback=_choose, show_default=False, rich_help_panel=_PANEL, is_eager=True
    )


class ReaderGone(Exception):  # noqa: N818 - no error: who read had enough
    """Nobody takes the results any more. Typer would make another exit code of Python's own exception."""


Quiet = Annotated[bool, _flag("--quiet", "-q", help="Say no more than results, warnings and errors.")]
Verbose = Annotated[bool, _flag("--verbose", "-v", help="Say more: each step, times, memory.")]
Debug = Annotated[bool, _flag("--debug", help="Show the traceback of an error.")]

_FLAGS = {"quiet": Quiet, "verbose": Verbose, "debug": Debug}


def with_volume(command: F) -> F:
    """Give a command the flags, which are no concern of its own."""
    signature = inspect.signature(command)
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)
        for name, annotation in _FLAGS.items()
    ]

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        _warn_of_variables()
        begin = time.monotonic()
        try:
            return command(**{name: value for name, value in values.items() if name not in _FLAGS})
        except BrokenPipeError:
            if reader_is_gone():
                raise ReaderGone from None
            raise
        finally:
            if is_verbose():
                _tell_cost(time.monotonic() - begin)

    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *flags])  # type: ignore[attr-defined]
    return run  # type: ignore[return-value]


def _tell_cost(seconds: float) -> None:
    """Say what a command took."""
    from subgpt.cli.terminal import note
    from subgpt.machine import peak_resident
    from subgpt.units import duration, in_memory

    most = peak_resident()
    note(f"took {duration(seconds)}" + ("" if most is None else f" and at most {in_memory(most)} of memory"))


def _warn_of_variables() -> None:
    """Say which variables mean nothing to the native module, which passes over them."""
    if "SUBGPT_NUM_THREADS" in os.environ or "SUBGPT_ISA" in os.environ:
        from subgpt.cli.facts import complaints
        from subgpt.cli.terminal import warn

        for complaint in complaints():
            warn(complaint)
