"""The command line: one module per verb under `commands`, no logic of its own.

`main` is the entry point. It decides how a run ends: 0 after success, 1 after an error (one line on standard
error, a traceback only with `--debug`), 2 after wrong usage, 130 after Ctrl-C.
"""

import sys
from collections.abc import Sequence

from subgpt.cli import volume
from subgpt.cli.outcome import finish


def main(argv: Sequence[str] | None = None) -> int:
    """Run `subgpt` with `argv` (by default the process's own) and give the exit code back."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _never_fail_to_print()
    volume.reset()

    def run() -> object:
        from subgpt.cli.app import command

        return command().main(args=arguments, prog_name="subgpt", standalone_mode=False)

    return finish(run)


def _never_fail_to_print() -> None:
    r"""Write what a stream's encoding cannot hold as \u escapes: a model may write anything, into any console."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
