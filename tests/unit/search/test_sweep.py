"""Sweeps: trials in processes of their own, what failed beside what went well, going on, and what is left behind."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

import subgpt
from subgpt import CheckpointError, ConfigError, TrainConfig
from subgpt.search import worker
from subgpt.search.base import Base
from subgpt.search.places import read_by_trials
from subgpt.search.plan import Plan, SweepDirectory
from subgpt.search.pool import Pool


@pytest.fixture
def corpus(poems, tmp_path):
    path = tmp_path / "corpus"
    path.mkdir()
    for i, poem in enumerate(poems):
        (path / f"{i}.txt").write_text(poem, encoding="utf-8")
    return path


@pytest.fixture
def run(tiny, tokenizer, corpus, tmp_path):
    """A small sweep; what it says is in `run.said`."""

    def sweep(space, *, model=None, config=None, **options):
        sweep.said = []
        return subgpt.sweep(
            tiny() if model is None else model,
            tokenizer if model is None else None,
            corpus,
            space,
            config or TrainConfig(max_steps=6, batch_size=4, eval_steps=3, warmup_steps=0),
            output_dir=tmp_path / "sweep",
            note=sweep.said.append,
            **options,
        )

    return sweep


def test_a_grid_is_ranked_and_everything_is_written(run, tmp_path):
    result = run({"learning_rate": [1e-5, 1e-2], "n_layer": [1]}, jobs=2)
    assert [seen.status for seen in result.outcomes] == ["finished", "finished"]
    best = result.best
    assert best is result.outcomes[0]
    assert best.values == {"learning_rate": 1e-2, "n_layer": 1}
    assert best.val_loss < result.outcomes[1].val_loss
    assert best.parameters > 0
    assert not result.interrupted

    model, tokenizer = subgpt.load(best.run)
    assert tokenizer is not None
    assert model.config.n_layer == 1
    values = json.loads((tmp_path / "sweep" / "results.json").read_text(encoding="utf-8"))
    assert values["best"] == best.trial
    assert [row["val_loss"] for row in values["trials"]] == [seen.val_loss for seen in result.outcomes]
    with (tmp_path / "sweep" / "results.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["learning_rate"]) for row in rows] == [1e-2, 1e-5]
    assert (tmp_path / "sweep" / rows[0]["run"] / "model.safetensors").is_file()
    page = result.report.read_text(encoding="utf-8")
    assert f"{best.val_loss:.4f}" in page
    assert page.count("<svg") == 2  # the curves, and the axis that has two values
    for outside in ("<script", "http://", "https://", "src="):
        assert outside not in page


def test_a_trial_is_the_run_that_pretrain_makes(run, tiny, tokenizer, corpus):
    result = run({"learning_rate": [1e-2]})
    config = TrainConfig(max_steps=6, batch_size=4, eval_steps=3, warmup_steps=0, learning_rate=1e-2)
    model = subgpt.GPT(tiny(), seed=0, dtype="auto")
    alone = subgpt.pretrain(model, tokenizer, corpus, config, callbacks=())
    assert result.best.val_loss == alone.best


def test_what_fails_is_shown_with_its_reason_and_ends_nothing(run):
    result = run({"learning_rate": ["1e-3", 80], "n_embd": [16, 15]}, config=TrainConfig(
        max_steps=30, batch_size=4, optimizer="sgd", max_grad_norm=0, warmup_steps=0, momentum=0.99,
    ))  # fmt: skip
    by_values = {(float(s.values["learning_rate"]), s.values["n_embd"]): s for s in result.outcomes}
    assert by_values[1e-3, 16].status == "finished"
    assert by_values[80, 16].status == "diverged"
    assert "not finite" in by_values[80, 16].reason
    assert "n_embd = 15" in by_values[1e-3, 15].reason
    assert by_values[80, 15].status == "failed"
    assert result.best is by_values[1e-3, 16]
    assert "n_embd = 15" in result.report.read_text(encoding="utf-8")


def test_what_is_finished_is_not_run_again_and_what_died_is(run, tmp_path):
    first = run({"learning_rate": [1e-3, 1e-2]})
    directory = SweepDirectory(tmp_path / "sweep")
    kept = (directory.run(1) / "training" / "metrics.jsonl").stat().st_mtime_ns
    directory.outcome(2).unlink()  # as if its process had been killed at the end
    shutil.rmtree(directory.run(2))
    again = run({"learning_rate": [1e-3, 1e-2, 3e-2]}, resume=True)
    assert (directory.run(1) / "training" / "metrics.jsonl").stat().st_mtime_ns == kept
    assert "2 trials to run, 1 done before" in run.said[0]
    losses = {seen.trial: seen.val_loss for seen in again.outcomes}
    assert len(losses) == 3
    assert all(losses[seen.trial] == seen.val_loss for seen in first.outcomes)


def test_a_directory_is_not_taken_twice_and_a_plan_does_not_change(run):
    run({"learning_rate": [1e-3]})
    with pytest.raises(CheckpointError, match="holds a sweep already"):
        run({"learning_rate": [1e-3]})
    with pytest.raises(ConfigError, match="max_steps was 6, is 7"):
        run({}, config=TrainConfig(max_steps=7, batch_size=4, eval_steps=3, warmup_steps=0), resume=True)


def test_nothing_to_resume(run):
    with pytest.raises(CheckpointError, match="no sweep to resume"):
        run({"learning_rate": [1e-3]}, resume=True)


def test_a_process_that_dies_is_shown_with_its_end(run, monkeypatch):
    monkeypatch.setattr(
        "subgpt.search.pool._CODE", "import os, sys; print('so it ends', flush=True); os.abort()"
    )
    result = run({"learning_rate": [1e-3]})
    assert result.outcomes[0].status == "died"
    assert "so it ends" in result.outcomes[0].reason
    assert result.best is None


def test_fine_tuning_is_swept_as_well(run, tiny, tokenizer, poems, tmp_path, monkeypatch):
    model = subgpt.GPT(tiny(), seed=1)
    model.save(tmp_path / "base", tokenizer=tokenizer)
    config = TrainConfig(max_steps=3, batch_size=4, eval_steps=0, recall_tokens=0)
    monkeypatch.chdir(tmp_path)
    result = run({"lora_r": [1, 2]}, model="base", config=config)
    assert json.loads((tmp_path / "sweep" / "sweep.json").read_text())["base"]["start"] == str(
        tmp_path / "base"
    )
    assert [seen.status for seen in result.outcomes] == ["finished", "finished"]
    assert all((seen.run / "adapter_config.json").is_file() for seen in result.outcomes)
    with pytest.raises(ConfigError, match="n_layer is fixed by the model"):
        run({"n_layer": [1, 2]}, model=tmp_path / "base", config=config, resume=True)


@pytest.mark.parametrize(
    ("space", "options", "words"),
    [
        ({}, {}, "nothing is varied"),
        ({"learnig_rate": [1]}, {}, "did you mean 'learning_rate'"),
        ({"tokenizer": ["a", "b"]}, {}, "cannot be compared"),
        ({"vocab_size": [1, 2]}, {}, "it is the tokenizer's"),
        ({"learning_rate": [1e-3], "lr": [1e-2]}, {}, "the same setting"),
        ({"learning_rate": [-1, -2]}, {}, "no trial can begin"),
        ({"preset": ["nano", "micro"]}, {}, "preset cannot be swept beside a whole GPTConfig"),
        (
            {"learning_rate": [1e-3]},
            {"config": TrainConfig(block_size=8)},
            "block_size is 8 in the TrainConfig",
        ),
        ({"learning_rate": [1e-3]}, {"jobs": 0}, "jobs = 0"),
        ({"learning_rate": "1e-4..1e-2"}, {"random": 0}, "random = 0"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(run, tmp_path, space, options, words):
    with pytest.raises(ConfigError, match=words):
        run(space, **options)
    assert not (tmp_path / "sweep" / "sweep.json").exists()


def test_texts_have_no_place_for_other_processes(tiny, tokenizer, poems, tmp_path):
    for source in (iter(poems), 3, [], {tmp_path / "set": 0.7}):
        with pytest.raises(ConfigError, match="source must be files"):
            subgpt.sweep(tiny(), tokenizer, source, {"seed": [1, 2]}, output_dir=tmp_path / "sweep")


def test_sets_of_ids_are_drawn_by_their_weights(tiny, tokenizer, poems, tmp_path):
    for number, name in enumerate(("a", "b")):
        subgpt.prepare_data(poems[10 * number :][:10], tmp_path / name, tokenizer, val_fraction=0.3)
    sets = [tmp_path / "a:0.7", tmp_path / "b:0.3"]
    config = TrainConfig(max_steps=3, batch_size=4, eval_steps=0, warmup_steps=0)
    seen = subgpt.sweep(
        tiny(), tokenizer, sets, {"seed": [3]}, config, output_dir=tmp_path / "sweep", note=lambda line: None
    )
    model = subgpt.GPT(tiny(), seed=3, dtype="auto")
    alone = subgpt.pretrain(model, tokenizer, sets, config.replace(seed=3), callbacks=())
    assert seen.best.val_loss == alone.best
    read = read_by_trials(Plan.read(SweepDirectory(seen.output_dir)).base)
    assert read == [tmp_path / "a", tmp_path / "b", tmp_path / "sweep" / "tokenizer"]


def test_what_runs_when_all_is_killed_is_not_shown_as_it_ended_before(run, tmp_path, monkeypatch):
    monkeypatch.setattr("subgpt.search.pool._CODE", "import os; os.abort()")
    assert run({"learning_rate": [1e-3]}).outcomes[0].status == "died"

    def killed(pool, trial):
        raise KeyboardInterrupt

    monkeypatch.setattr(Pool, "start", killed)
    with pytest.raises(KeyboardInterrupt):
        run({}, resume=True)
    values = json.loads((tmp_path / "sweep" / "results.json").read_text(encoding="utf-8"))
    assert (values["trials"][0]["status"], values["trials"][0]["reason"]) == ("waiting", "")


PROGRAM = """
import sys, subgpt
config = subgpt.TrainConfig(max_steps=100_000, batch_size=4, eval_steps=0, save_steps=0)
shape = subgpt.GPTConfig({vocab}, 16, 1, 2, 16)
seen = subgpt.sweep(shape, {tokenizer!r}, {corpus!r}, {{"seed": [1, 2, 3]}}, config, output_dir={place!r})
print(seen.interrupted, [one.status for one in seen.outcomes])
"""


@pytest.fixture
def endless(tokenizer, corpus, tmp_path):
    """A sweep that would not end, in a process of its own, which is in its first trial."""
    tokenizer.save(tmp_path / "tok")
    place = tmp_path / "sweep"
    program = PROGRAM.format(
        vocab=tokenizer.vocab_size, tokenizer=str(tmp_path / "tok"), corpus=str(corpus), place=str(place)
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as process:
        metrics = place / "runs" / "001" / "training" / "metrics.jsonl"
        try:
            wait_for(lambda: metrics.is_file() and metrics.stat().st_size > 1000)
            yield process, place
        finally:
            process.kill()


def wait_for(there, seconds=60):
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_keeps_what_is_done_and_it_goes_on(endless):
    process, place = endless
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out.strip() == "True ['interrupted', 'waiting', 'waiting']", err
    assert json.loads((place / "results.json").read_text(encoding="utf-8"))["interrupted"] is True
    assert "can be resumed" in (place / "report.html").read_text(encoding="utf-8")
    assert list((place / "runs" / "001" / "training" / "checkpoints").iterdir())


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_trials_end_where_the_sweep_is_killed(endless):
    process, place = endless
    process.kill()
    wait_for((place / "trials" / "001.json").exists)
    seen = json.loads((place / "trials" / "001.json").read_text(encoding="utf-8"))
    assert seen["status"] == "interrupted"
    assert list((place / "runs" / "001" / "training" / "checkpoints").iterdir())


def test_a_trial_that_is_stopped_while_its_process_begins_is_interrupted(tmp_path, monkeypatch):
    directory = SweepDirectory(tmp_path / "sweep")
    directory.create()
    Plan(Base((str(tmp_path),)), ("learning_rate",), ({"learning_rate": 1e-3},)).write(directory)

    class AtOnce(threading.Thread):
        """Interrupts as it begins, as where the input has ended already."""

        def start(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(threading, "Thread", AtOnce)
    worker.main(str(directory.path), 1)
    seen = directory.read_outcome(1, {})
    assert (seen.status, seen.values) == ("interrupted", {"learning_rate": 1e-3})


def test_an_interrupted_trial_goes_on_and_ends_as_if_it_had_not_been(run, tmp_path):
    config = TrainConfig(max_steps=1500, batch_size=4, eval_steps=500, save_steps=0)
    run({"learning_rate": [1e-3]}, config=config)
    directory = SweepDirectory(tmp_path / "sweep")
    whole = directory.read_outcome(1, {})
    shutil.rmtree(directory.run(1))
    directory.outcome(1).unlink()
    metrics = directory.run(1) / "training" / "metrics.jsonl"
    with Pool(directory, threads=1) as pool:
        pool.start(1)
        wait_for(lambda: metrics.is_file() and metrics.stat().st_size > 1000)
        pool.stop()
        wait_for(pool.ended)
    cut = directory.read_outcome(1, {})
    assert cut.status == "interrupted"
    assert 0 < cut.steps < 1500
    result = run({}, config=config, resume=True)
    assert result.best.val_loss == whole.val_loss
    assert result.best.steps == 1500
    assert "resumed from" in directory.log(1).read_text(encoding="utf-8")
