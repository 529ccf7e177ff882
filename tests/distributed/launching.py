"""Starts programs as several processes, with the MPI of this environment."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("program.py")


def need_mpi() -> str:
    """Give the launcher of the MPI that this Python's mpi4py uses; skip where there is none."""
    if find_spec("mpi4py") is None:
        pytest.skip("mpi4py is not installed")
    launcher = Path(sys.executable).with_name("mpirun")
    found = str(launcher) if launcher.exists() else shutil.which("mpirun")
    if found is None:
        pytest.skip("there is no mpirun")
    return found


def environment(**changes: str) -> dict[str, str]:
    """Give this environment with one thread a process: the cores are fewer than the processes."""
    return {**os.environ, "SUBGPT_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **changes}


def command(size: int, *words: str) -> list[str]:
    """Give the words that start `size` processes; 1 is this Python without any launcher."""
    program = [sys.executable, *words]
    if size == 1:
        return program
    launcher = need_mpi()
    more = ["--oversubscribe", "--allow-run-as-root"] if is_open_mpi(launcher) else []
    return [launcher, "-n", str(size), *more, *program]


def is_open_mpi(launcher: str) -> bool:
    """Tell which of the two it is, by what it says of itself."""
    said = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
    return "Open MPI" in said


def launch(
    size: int, job: dict, tmp_path: Path, *, timeout: float = 240
) -> "subprocess.CompletedProcess[str]":
    """Run `program.py` on a job to its end."""
    path = tmp_path / f"job-{size}-{len(list(tmp_path.glob('job-*')))}.json"
    path.write_text(json.dumps(job))
    return subprocess.run(
        command(size, str(PROGRAM), str(path)),
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment(),
        check=False,
    )


def results(size: int, job: dict, tmp_path: Path) -> list[dict]:
    """Run a job that must come to its end; give what each process says, in the order of ranks."""
    done = launch(size, job, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    said = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("result:")]
    assert len(said) == size, done.stdout + done.stderr
    return sorted(said, key=lambda result: result["rank"])
