"""The command line: one module per verb under `commands`, no logic of its own.

`main` is the entry point. It decides how a run ends: 0 after success, 1 after an error (one line on standard
error, a traceback only with `--debug`), 2 after wrong usage, 130 after Ctrl-C, 141 if nobody reads on.
"""

import sys
from collections.abc import Sequence

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run `subgpt` with `argv` (by default the process's own) and give the exit code back."""
    try:
        from subgpt.cli import origins, streams, volume
        from subgpt.cli.outcome import finish
    except KeyboardInterrupt:  # while Python still reads the modules
        return _INTERRUPTED
    streams.make_usable()

    def run() -> object:
        from subgpt.cli.app import command

        arguments = list(sys.argv[1:] if argv is None else argv)
        return command().main(args=arguments, prog_name="subgpt", standalone_mode=False)

    try:
        return finish(run)
    finally:  # another call in this process begins anew
        volume.reset()
        origins.reset()
