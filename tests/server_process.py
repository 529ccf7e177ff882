"""`subgpt serve` in a process of its own, for tests that ask it."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def started(
    *arguments: object, page: bool = False, **environment: str
) -> Iterator[tuple[str, str, subprocess.Popen[str]]]:
    """Start the command at a free port; gives its address and what it says, once it has said all of it."""
    command = [
        sys.executable,
        "-m",
        "subgpt.cli",
        "serve",
        *map(str, arguments),
        "--port",
        "0",
        *(() if page else ("--no-playground",)),
    ]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    try:
        said = ""
        while "Ctrl-C" not in said:
            line = process.stderr.readline()
            assert line, said
            said += line
        yield re.search(r"http://\S+:\d+(?=/v1)", said).group(), said, process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
