"""Sweeps on a cluster: the same results as here, also where processes and machines are lost, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

import subgpt
from subgpt import TrainConfig
from subgpt.search import cluster_pool
from subgpt.search.plan import SweepDirectory

from .conftest import kill_one_of, wait_for

LONG = TrainConfig(max_steps=1500, batch_size=4, eval_steps=250, save_steps=250, warmup_steps=0)
SHORT = TrainConfig(max_steps=6, batch_size=4, eval_steps=3, warmup_steps=0)


@pytest.fixture
def corpus(poems, tmp_path):
    path = tmp_path / "corpus"
    path.mkdir()
    for number, poem in enumerate(poems):
        (path / f"{number}.txt").write_text(poem, encoding="utf-8")
    return path


@pytest.fixture
def sweep(tiny, tokenizer, corpus, tmp_path):
    def run(name, space, config, **options):
        options.setdefault("note", lambda line: None)
        return subgpt.sweep(tiny(), tokenizer, corpus, space, config, output_dir=tmp_path / name, **options)

    return run


def results(result):
    """What a sweep wrote, apart from times."""
    seen = json.loads((result.output_dir / "results.json").read_text(encoding="utf-8"))
    for trial in seen["trials"]:
        del trial["seconds"]
    return seen


def steps_of(place, trial):
    metrics = SweepDirectory(place).run(trial) / "training" / "metrics.jsonl"
    return metrics.read_text(encoding="utf-8").count("\n") if metrics.is_file() else 0


def saved(place, trial):
    return list((SweepDirectory(place).run(trial) / "training" / "checkpoints").glob("step-*"))


def test_the_results_are_those_that_come_out_here(sweep, cluster, tmp_path):
    said = []
    space = {"learning_rate": [1e-3, 1e-2], "n_embd": [16, 15]}
    there = sweep("there", space, SHORT, ray="auto", note=said.append)
    assert results(there) == results(sweep("here", space, SHORT))
    assert "2 trials to run; 2 at a time, 1 thread each" in "\n".join(said)
    assert [seen.status for seen in there.outcomes] == ["finished", "finished", "failed", "failed"]
    log = SweepDirectory(tmp_path / "there").log(1).read_text(encoding="utf-8")
    assert "6 steps in" in log


def test_a_trial_whose_process_is_lost_goes_on_from_its_checkpoint(sweep, cluster, tmp_path):
    whole = sweep("here", {"seed": [3]}, LONG)
    killed = []

    def note(line):
        if line.startswith("trial 1 of 1 begins"):
            place = tmp_path / "there"
            wait_for(lambda: saved(place, 1))
            killed.append(kill_one_of((place / "trials" / "001.json").exists))

    there = sweep("there", {"seed": [3]}, LONG, ray="auto", note=note)
    assert killed
    assert results(there) == results(whole)
    assert "resumed from" in SweepDirectory(tmp_path / "there").log(1).read_text(encoding="utf-8")


def test_a_trial_whose_process_is_lost_before_a_checkpoint_begins_again(sweep, cluster, tmp_path):
    config = TrainConfig(**{**LONG.model_dump(exclude_unset=True), "save_steps": 0})
    begun = []

    def note(line):
        if line.startswith("trial 1 of 1 begins"):
            wait_for(lambda: steps_of(tmp_path / "there", 1))
            begun.append(kill_one_of((tmp_path / "there" / "trials" / "001.json").exists))

    there = sweep("there", {"seed": [3]}, config, ray="auto", note=note)
    assert begun
    assert results(there) == results(sweep("here", {"seed": [3]}, config))


def test_trials_of_a_lost_machine_go_on_on_another_one(sweep, machines, cluster, tmp_path):
    other = machines.add_node(num_cpus=1)
    machines.wait_for_nodes()
    lost = []

    def note(line):
        if line.startswith("trial 3 of 3 begins"):
            raylet = other.all_processes["raylet"][0].process.pid
            trials = tmp_path / "there" / "trials"
            lost.append(kill_one_of(lambda: len(list(trials.glob("*.json"))) == 3, raylet))
            machines.remove_node(other, allow_graceful=False)

    space = {"seed": [1, 2, 3]}
    there = sweep("there", space, LONG, ray="auto", note=note)
    assert lost
    assert results(there) == results(sweep("here", space, LONG))


def test_a_trial_that_is_lost_again_and_again_died(sweep, cluster, monkeypatch):
    def die(link, *_):
        os.abort()

    monkeypatch.setattr(cluster_pool, "_work", die)
    result = sweep("there", {"seed": [1]}, SHORT, ray="auto")
    assert result.outcomes[0].status == "died"
    assert "its process was lost 4 times" in result.outcomes[0].reason


PROGRAM = """
import subgpt
config = subgpt.TrainConfig(max_steps=100_000, batch_size=4, eval_steps=0, save_steps=0)
shape = subgpt.GPTConfig({vocab}, 16, 1, 2, 16)
subgpt.set_num_threads(2)
space = {{"seed": [1, 2, 3]}}
seen = subgpt.sweep(shape, {tok!r}, {corpus!r}, space, config, output_dir={place!r}, ray="local", jobs=2)
print(seen.interrupted, [one.status for one in seen.outcomes])
"""


@pytest.fixture
def endless(ray, tokenizer, corpus, tmp_path):
    """A sweep that would not end, on a cluster of its own, with two of three trials begun."""
    tokenizer.save(tmp_path / "tok")
    place = tmp_path / "sweep"
    program = PROGRAM.format(
        vocab=tokenizer.vocab_size, tok=str(tmp_path / "tok"), corpus=str(corpus), place=str(place)
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "RAY_ADDRESS": ""}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, **pipes, env=environment, start_new_session=True) as process:
        try:
            wait_for(lambda: steps_of(place, 1) and steps_of(place, 2))
            yield process, place
        finally:
            process.kill()


def test_ctrl_c_in_a_terminal_has_trials_save_what_they_have(endless):
    process, place = endless
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it: everybody in the foreground hears
    out, err = process.communicate(timeout=120)
    assert out.strip() == "True ['interrupted', 'interrupted', 'waiting']", err
    assert saved(place, 1)
    assert saved(place, 2)
    assert all(
        line.startswith(("trial", "3 trials", "stopping", "2 interrupted")) for line in err.splitlines()
    ), err


def test_trials_end_where_the_sweep_is_killed(endless):
    process, place = endless
    process.kill()
    directory = SweepDirectory(place)
    wait_for(lambda: all(_is_over(directory, trial) for trial in (1, 2)))


def _is_over(directory, trial):
    """Tell whether nobody trains in the directory of a trial any more."""
    from subgpt import CheckpointError
    from subgpt.checkpoint.lock import DirectoryLock
    from subgpt.checkpoint.run_directory import RunDirectory

    try:
        with DirectoryLock(RunDirectory(directory.run(trial)).lock):
            return True
    except CheckpointError:
        return False
