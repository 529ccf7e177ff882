"""The command line in several processes: one voice, one directory."""

import subprocess
import sys
from pathlib import Path

from .launching import command, environment

SUBGPT = str(Path(sys.executable).with_name("subgpt"))


def subgpt(size, *words):
    return subprocess.run(
        command(size, SUBGPT, *map(str, words)),
        capture_output=True,
        text=True,
        timeout=240,
        env=environment(),
        check=False,
    )


def pretrain(size, corpus, output, *more):
    shape = ["--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--block-size", "16"]
    return subgpt(
        size,
        "pretrain",
        *["--data", corpus / "text.txt", "--tokenizer", corpus / "tok", "-o", output],
        *[*shape, "--max-steps", "4", "--batch-size", "4", "--eval-steps", "2"],
        *more,
    )


def test_a_run_is_told_of_once_and_goes_on_with_other_processes(corpus, tmp_path):
    run = tmp_path / "run"
    done = pretrain(2, corpus, run, "--zero-stage", "1", "--gradient-compression", "bf16")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert said.count("2 processes on 1 host;") == 1
    assert said.count("documents") == 1
    assert (run / "model.safetensors").exists()
    for size, steps in ((4, 6), (1, 8)):
        more = subgpt(size, "pretrain", "-o", run, "--resume", "--max-steps", steps)
        assert more.returncode == 0, more.stderr
        assert (more.stdout + more.stderr).count("resumed from step-") == 1
    assert "nothing to divide" in said + more.stdout + more.stderr  # zero_stage, with one process


def test_a_mistake_is_said_once(corpus, tmp_path):
    done = pretrain(4, corpus, tmp_path / "run", "--batch-size", "3")
    assert done.returncode == 1
    assert (done.stdout + done.stderr).count("4 processes cannot share an update") == 1
    missing = subgpt(2, "pretrain", "-o", tmp_path / "nowhere", "--resume")
    assert missing.returncode == 1
    assert (missing.stdout + missing.stderr).count("no run to resume there") == 1


def test_what_a_run_takes_is_foretold_by_each_process_alone():
    shape = ["--n-layer", "1", "--n-head", "2", "--n-embd", "16", "--block-size", "16", "--vocab-size", "64"]
    done = subgpt(2, "estimate", *shape, "--batch-size", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"parameters"') >= 2
