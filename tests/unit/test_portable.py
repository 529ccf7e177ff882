"""The package on a system that has none of what POSIX alone has: every module is imported, and a run made."""

import subprocess
import sys

CODE = """
import asyncio, builtins, importlib, os, pathlib, pkgutil, signal, sys, tempfile

ABSENT = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline", "curses", "syslog"}
real = builtins.__import__

def checked(name, globals=None, *rest, **more):
    if (globals or {}).get("__name__", "").startswith("subgpt") and name.split(".")[0] in ABSENT:
        raise ImportError(f"no module named {name!r} on this system")
    return real(name, globals, *rest, **more)

builtins.__import__ = checked
for name in ("sched_getaffinity", "sysconf", "getuid", "getpgid", "killpg", "setsid", "mkfifo", "getloadavg"):
    vars(os).pop(name, None)
for name in ("SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2"):
    vars(signal).pop(name, None)

import subgpt

for module in pkgutil.walk_packages(subgpt.__path__, "subgpt."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except subgpt.MissingExtraError as error:
            print(error)

from subgpt.checkpoint import staging
from subgpt.cli import main

staging._MEMORY = pathlib.Path("nowhere")  # /dev/shm
with tempfile.TemporaryDirectory() as folder:
    here = pathlib.Path(folder)
    text = here / "text.txt"
    text.write_bytes("The cat sat on the mat.\\r\\n".encode() * 40)
    tok, run = str(here / "tok"), str(here / "a run")
    assert main(["-q", "tokenizer", "train", str(text), "--level", "char", "-o", tok]) == 0
    shape = "--n-layer 1 --n-head 1 --n-embd 8 --block-size 8 --batch-size 2 --max-steps 2".split()
    assert main(["-q", "pretrain", "--data", str(text), "--tokenizer", tok, "-o", run, *shape]) == 0
    assert main(["-q", "pretrain", "-o", run, "--resume", "--max-steps", "3"]) == 0
    assert main(["-q", "generate", run, "The", "--max-new-tokens", "3"]) == 0
    assert main(["info"]) == 0
print("well")
"""


def test_nothing_needs_what_posix_alone_has():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CODE], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("well\n")
    assert "Traceback" not in done.stderr
