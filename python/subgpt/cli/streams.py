"""The streams of the process: whatever the shell made of them, a command can read and write them."""

import os
import select
import sys


def make_usable() -> None:
    r"""Put an empty stream where there is none, and let every console show what its encoding has not.

    A stream is None where the shell closed it (`>&-`) or there is no console (`pythonw`). What cannot be encoded is
    written as \u escapes: a model may write anything.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - for all its life
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
            if os.name == "nt" and not stream.isatty():  # a file gets the text as it is there, too
                reconfigure(encoding="utf-8", newline="\n")


def reader_is_gone() -> bool:
    """Tell whether nobody takes what is written to standard output any more, as behind `| head -1`.

    Standard output leads nowhere from then on, so that Python does not fail at its end.
    """
    try:
        sys.stdout.flush()
        gone = _has_no_reader(sys.stdout.fileno())
    except BrokenPipeError:
        gone = True
    except (OSError, ValueError):  # a stream without a file, in tests and notebooks
        return False
    if gone:
        give_up("stdout")
    return gone


def _has_no_reader(descriptor: int) -> bool:
    """Ask the system about a pipe; False where it cannot be asked."""
    if not hasattr(select, "poll"):
        return False
    asked = select.poll()
    asked.register(descriptor, select.POLLOUT)
    return any(event & select.POLLERR for _, event in asked.poll(0))


def give_up(name: str) -> None:
    """Let a stream lead nowhere."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, getattr(sys, name).fileno())
        os.close(nowhere)
    except (OSError, ValueError):  # a stream without a file, in tests and notebooks
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
