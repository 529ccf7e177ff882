"""What goes wrong among several processes ends all of them, soon and with one clear word."""

import copy
import json
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .launching import PROGRAM, command, environment, launch, results


def failed(done, *words):
    """Say that a run failed with these words, each of which stands there once."""
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "result:" not in done.stdout, said
    for word in words:
        assert word in said, said
    return said


def killed(done):
    """Give the process that the launcher says was killed."""
    found = re.search(r"PID (\d+)|pid:? (\d+)", done.stdout + done.stderr)
    return found[1] or found[2] if found else "no process"


def with_train(job, **settings):
    made = copy.deepcopy(job)
    made["train"].update(settings)
    return made


def test_rows_that_cannot_be_divided_are_refused_with_what_can(job, tmp_path):
    said = failed(launch(3, job, tmp_path), "3 processes cannot share", "batch_size = 9")
    assert "Traceback" in said  # it is an exception of the program's own, in each process
    assert "BAD TERMINATION" not in said  # and nobody was killed


def test_other_data_in_one_process_is_noticed(job, corpus, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("a cat and a dog\n\n" * 200)
    said = failed(
        launch(2, {**job, "spoil": {"rank": 1, "data": str(other)}}, tmp_path), "rank 1 (process", "all need"
    )
    assert "BAD TERMINATION" not in said


def test_data_that_one_process_cannot_read_ends_all(job, tmp_path):
    missing = {"rank": 1, "data": str(tmp_path / "nowhere.txt")}
    failed(launch(2, {**job, "spoil": missing}, tmp_path), "nowhere.txt", "while reading the data")


def test_another_model_in_one_process_is_noticed(job, tmp_path):
    failed(
        launch(2, {**job, "spoil": {"rank": 1, "seed": 8}}, tmp_path),
        "the model: rank 1 (process",
        "all need",
    )


def test_a_directory_in_use_is_said_once(job, tmp_path):
    place = str(tmp_path / "run")
    results(2, {**job, "output_dir": place}, tmp_path)
    failed(
        launch(2, {**job, "output_dir": place}, tmp_path),
        "holds a model or run already",
        "while opening the run",
    )


def test_a_loss_that_is_no_number_ends_all_alike(job, tmp_path):
    job = with_train(job, learning_rate=100.0, max_grad_norm=0, max_steps=60)
    said = failed(launch(2, job, tmp_path), "not finite")
    assert said.count("BadStepError: step") == 2
    assert "the job ends" not in said


@pytest.mark.parametrize("how", ["raise", "kill", "stop"])
def test_one_that_is_gone_ends_the_others_within_half_a_minute(job, tmp_path, how):
    job = with_train(job, peer_timeout=4.0, max_steps=400, save_steps=2, eval_steps=0)
    job |= {
        "output_dir": str(tmp_path / "run"),
        "watch": True,
        "die": {"rank": 1, "how": how, "exchange": 400},
    }
    begin = time.monotonic()
    done = launch(2, job, tmp_path, timeout=90)
    took = time.monotonic() - begin
    words = {
        "raise": ["rank 1 (process", "RuntimeError: a fault in the middle", "--resume"],
        # The launcher's own word, which names a process that the run's first lines have as a rank.
        "kill": ["signal 9", "should one be lost, the job ends: go on with --resume", "1 (" + killed(done)],
        "stop": ["rank 1 (process", "no sign of life for 4 s", "--resume"],
    }[how]
    failed(done, *words)
    assert took < 60  # with its beginning, on a busy machine
    # And it goes on from where it was.
    del job["die"], job["watch"]
    resumed = results(2, {**with_train(job, max_steps=120), "resume": True}, tmp_path)
    assert len(resumed[1]["losses"]) < 120 == len(resumed[0]["losses"])


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_launcher_saves_and_ends_all(job, tmp_path, how):
    job = with_train(job, max_steps=100_000, eval_steps=0) | {"output_dir": str(tmp_path / "run")}
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job))
    metrics = tmp_path / "run" / "training" / "metrics.jsonl"
    with subprocess.Popen(
        command(2, str(PROGRAM), str(path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        try:
            wait_for_lines(metrics, 3)
            process.send_signal(how)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    lines = [json.loads(line[7:]) for line in said.splitlines() if line.startswith("result:")]
    assert [line["interrupted"] for line in lines] == [True, True]
    assert len(list((tmp_path / "run" / "training" / "checkpoints").glob("step-*"))) == 1


def wait_for_lines(path: Path, count: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if path.is_file() and len(path.read_text().splitlines()) >= count:
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} never had {count} lines")
