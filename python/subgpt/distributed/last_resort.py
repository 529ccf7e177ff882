"""Ends a launcher that goes on waiting for a host which does not answer.

`MPI_Abort` tells the launcher to end everything, and MPICH's then waits for a word from every host. As its own help
says, Ctrl-C again forces it. The process that aborts cannot do that any more; so it leaves this program behind, which
needs nothing of the package: `python last_resort.py SECONDS PID:START ...`.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LAUNCHERS = ("mpiexec", "mpirun", "mpiexec.hydra", "orterun", "prterun", "prte")
GRACE = 5.0
"""Seconds that the launcher has to end by itself."""


def leave_behind(seconds: float = GRACE) -> None:
    """Have the launcher, if it is an ancestor of this process, and this process itself end after `seconds`."""
    targets = [*_launchers(), (os.getpid(), _stat(os.getpid())[1])]
    subprocess.Popen(
        [sys.executable, "-I", __file__, str(seconds), *(f"{pid}:{start}" for pid, start in targets)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _launchers() -> list[tuple[int, str]]:
    """Find launchers among the ancestors, each with when it was started: a number may be another process's later."""
    found, pid = [], os.getpid()
    while pid > 1:
        parent, start, name = _stat(pid)
        if name in LAUNCHERS:
            found.append((pid, start))
        pid = parent
    return found


def _stat(pid: int) -> tuple[int, str, str]:
    """Give the parent of a process, when it was started, and its name; nothing where the system does not say."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")
    except OSError:
        return 0, "", ""
    fields = rest.split()
    return int(fields[1]), fields[19], name.partition("(")[2]


def _main(seconds: str, *targets: str) -> None:
    time.sleep(float(seconds))
    for kind in (signal.SIGINT, signal.SIGINT, signal.SIGINT, signal.SIGKILL):
        for pid, _, start in (target.partition(":") for target in targets):
            if start and _stat(int(pid))[1] == start:
                os.kill(int(pid), kind)
        time.sleep(1)


if __name__ == "__main__":
    _main(*sys.argv[1:])
