"""Real runs on hosts that only a network joins: the same bits, and a word about the host that is gone."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .hosts import Hosts, why_not
from .launching import PROGRAM, results

pytest.importorskip("mpi4py", reason='needs mpi4py and an MPI: pip install "subgpt[distributed]"')


@pytest.fixture
def two() -> Iterator[Hosts]:
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Hosts(2) as hosts:
        yield hosts


def program(job: dict, tmp_path: Path) -> list[str]:
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    return [sys.executable, str(PROGRAM), str(path)]


@pytest.mark.parametrize("settings", [{}, {"zero_stage": 1}, {"gradient_compression": "bf16"}], ids=str)
def test_two_hosts_have_the_bits_of_two_processes(job, tmp_path, two, settings):
    job = copy.deepcopy(job)
    job["train"].update(settings)
    alone = results(2, job, tmp_path)
    done = two.run(program(job, tmp_path), timeout=240, env={"SUBGPT_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    said = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("result:")]
    assert {each["weights"] for each in said} == {alone[0]["weights"]}
    assert [each["losses"] for each in said] == [alone[0]["losses"]] * 2
    assert min(two.sent()) > 10_000


@pytest.mark.parametrize("how", ["silence", "kill"])
def test_a_host_that_is_gone_ends_the_job(job, tmp_path, two, how):
    job = copy.deepcopy(job) | {"output_dir": str(tmp_path / "run"), "watch": True}
    job["train"].update(peer_timeout=4.0, max_steps=100_000, save_steps=5, eval_steps=0)
    with started(two, program(job, tmp_path)) as process:
        wait_for_lines(tmp_path / "run" / "training" / "metrics.jsonl", 10)
        getattr(two, how)(1)
        said = last_words(process)
        # MPICH's mpirun would go on waiting for a host that does not answer. Its exit code then is one or another.
        process.wait(30)
    assert two.addresses[1] in said or "host-2" in said
    assert "--resume" in said
    del job["watch"]
    job["train"].update(max_steps=int(last_step(tmp_path)) + 2)
    resumed = results(1, {**job, "resume": True}, tmp_path)
    assert len(resumed[0]["losses"]) == job["train"]["max_steps"]


@contextmanager
def started(hosts: Hosts, command: list[str]) -> Iterator[subprocess.Popen[str]]:
    environment = hosts.environment({"SUBGPT_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"})
    with subprocess.Popen(
        hosts.argv(command), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def last_words(process: subprocess.Popen[str]) -> str:
    """The line that says why the job ends; its output must not end before."""
    assert process.stderr is not None
    for line in process.stderr:
        if "the job ends; " in line:
            return line
    raise AssertionError("the run ended without a word")


def last_step(folder: Path) -> int:
    lines = (folder / "run" / "training" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])["step"]


def wait_for_lines(path: Path, count: int) -> None:
    end = time.monotonic() + 120
    while not path.exists() or path.read_text(encoding="utf-8").count("\n") < count:
        assert time.monotonic() < end, f"{path} did not grow"
        time.sleep(0.1)
