"""A run that is followed while it grows."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import socket

import pytest

from subgpt.checkpoint.lock import DirectoryLock
from subgpt.errors import MissingFileError
from subgpt.playground.views import courses, texts
from subgpt.playground.views.courses import Course, find_runs, newest_model
from subgpt.playground.views.curves import DARK, LIGHT, colours, loss_options, map_options, rate_options
from subgpt.training.run import Run


@pytest.fixture
def course(run_folder, tmp_path):
    """A course of a copy that a test may write to."""
    shutil.copytree(run_folder / "plums", tmp_path / "copy")
    return Course(tmp_path / "copy")


def test_runs_are_found_in_the_folder_and_beside_the_models(served, run_folder):
    elsewhere = dataclasses.replace(served, run=run_folder / "plums")
    assert find_runs([served], run_folder) == {"plums": run_folder / "plums"}
    assert list(find_runs([elsewhere], None)) == ["plums"]
    assert list(find_runs([elsewhere], run_folder)) == ["plums"]
    assert find_runs([served], None) == {}


def test_a_course_is_what_run_load_reads(course):
    assert course.read()
    whole = Run.load(course.path)
    assert (course.run.steps, course.run.losses) == (whole.steps, whole.losses)
    assert course.run.val_losses == whole.val_losses
    assert [sample["step"] for sample in course.samples] == [2, 4, 6]
    assert course.max_steps == 6
    assert course.state == "finished"
    facts = dict(course.facts())
    assert facts["updates"] == "6 of 6"
    assert facts["model"] == "1 layers, 16 wide"
    assert "left, about" not in facts


def test_only_new_lines_are_read_and_half_a_line_waits(course):
    course.read()
    assert not course.read()
    metrics = course.path / "training" / "metrics.jsonl"
    line = json.dumps({"step": 7, "loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0})
    with metrics.open("a") as file:
        file.write(line[:10])
    course.read()
    assert course.run.step == 6
    with metrics.open("a") as file:
        file.write(line[10:] + "\n")
    assert course.read()
    assert (course.run.step, course.run.losses[-1]) == (7, 1.0)


def test_a_run_that_began_anew_is_read_from_its_beginning(course):
    course.read()
    line = json.dumps({"step": 1, "loss": 9.0, "learning_rate": 0.1, "grad_norm": 1.0})
    (course.path / "training" / "metrics.jsonl").write_text(line + "\n")
    assert course.read()
    assert course.run.losses == [9.0]
    (course.path / "training" / "metrics.jsonl").unlink()
    assert course.read()
    assert course.run.losses == []


def test_samples_stay_where_a_run_went_back_and_kept_them_all(course):
    course.read()
    metrics = course.path / "training" / "metrics.jsonl"
    written = metrics.with_name("new")
    written.write_bytes(metrics.read_bytes())
    written.replace(metrics)
    assert course.read()
    assert [sample["step"] for sample in course.samples] == [2, 4, 6]


def test_of_too_many_runs_the_newest_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(courses, "MAX_RUNS", 2)
    monkeypatch.setattr(texts, "MAX_RUNS", 2)
    for age, name in enumerate("dcba"):
        metrics = tmp_path / name / "training" / "metrics.jsonl"
        metrics.parent.mkdir(parents=True)
        metrics.touch()
        os.utime(metrics, (1000 - age, 1000 - age))
    assert list(find_runs([], tmp_path)) == ["d", "c"]


def test_lines_of_somebody_else_do_no_harm(course):
    (course.path / "training" / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n[]\nnonsense\n')
    course.read()
    assert (course.run.steps, course.run.losses) == ([], [])


def test_a_run_whose_lock_is_held_is_being_trained(course):
    with DirectoryLock(course.path / "training" / "lock"):
        course.read()
        assert course.state == "training"
    assert course.state == "finished"
    assert course.read()


@pytest.mark.skipif(os.name != "posix", reason="asks the system for a process")
def test_a_run_whose_process_is_gone_or_elsewhere_is_not(course):
    lock = course.path / "training" / "lock"
    course.read()
    lock.write_text(f"process {1 << 30} on {socket.gethostname()}")
    assert course.state == "finished"
    lock.write_text(f"process {os.getpid()} on a-machine-of-somebody-else")
    assert course.state == "finished"


def test_the_newest_model_of_a_run(course, tmp_path):
    assert newest_model(course.path)[1] in ("the saved model", "step-000006")
    (course.path / "model.safetensors").unlink()
    assert newest_model(course.path)[0].name == "step-000006"
    with pytest.raises(MissingFileError, match="has saved no model yet"):
        newest_model(tmp_path / "nothing")


def test_a_sample_is_written_only_while_somebody_waits_for_it(course, monkeypatch):
    training = pytest.importorskip("subgpt.playground.tabs.training", reason="the playground needs nicegui")
    monkeypatch.setattr(training, "stream", lambda *_, **__: iter("abc"))
    assert training._sample(course.path, "so", lambda: True)["text"] == "abc"
    answers = iter([True, True, False])
    assert training._sample(course.path, "so", lambda: next(answers)) is None
    monkeypatch.setattr(training, "load_with_tokenizer", None)  # which is not called for nobody
    assert training._sample(course.path, "so", lambda: False) is None


def test_curves_have_as_many_points_as_can_be_seen():
    run = Run()
    for step in range(1, 5001):
        loss = math.nan if step == 7 else 1 / step
        run.add({"step": step, "loss": loss, "learning_rate": 0.1, "grad_norm": 1.0})
    run.add({"step": 5000, "val_loss": 0.5})
    options = loss_options(run, LIGHT)
    faint, mean, held_out = options["series"]
    assert len(faint["data"]) == len(mean["data"]) < 500
    assert all(math.isfinite(loss) for _, loss in faint["data"])
    assert faint["data"][-1] == [5000, 1 / 5000]
    assert held_out["data"] == [[5000, 0.5]]
    assert rate_options(run, DARK)["series"][0]["data"][0] == [1, 0.1]
    assert loss_options(Run(), LIGHT)["series"][0]["data"] == []
    assert colours(True) is DARK


def test_a_map_shows_who_looks_where(served):
    from subgpt.playground.views.insides import insides_of

    found = insides_of(served, "so much depends upon")
    block = served.model.config.block_size
    assert found.maps.shape == (1, 2, block, block)
    assert found.about == f"the last {block} of 20 tokens"
    assert "".join(found.pieces) == "so much depends upon"[-block:]
    options = map_options(found.maps[0, 0], found.pieces, LIGHT)
    cells = options["series"][0]["data"]
    assert len(cells) == block * (block + 1) // 2
    assert sum(weight for _, row, weight in cells if row == 5) == pytest.approx(1, abs=1e-3)
    first = 20 - block
    assert options["yAxis"]["data"][0] == f"0 {found.pieces[0]}"
    assert map_options(found.maps[0, 0], found.pieces, LIGHT, first)["yAxis"]["data"][0].startswith(
        f"{first} "
    )
    glances = found.strongest(0, 1)
    assert all(first < glance.seen < glance.at < 20 for glance in glances)
    assert [glance.weight for glance in glances] == sorted((g.weight for g in glances), reverse=True)


def test_a_run_that_went_back_and_on_is_read_anew(tmp_path):
    """Its file is longer than what was read before, but another one."""
    from subgpt import _core

    path = tmp_path / "training" / "metrics.jsonl"
    path.parent.mkdir()

    def lines(*losses):
        entry = {"learning_rate": 1.0, "grad_norm": 1.0}
        return [json.dumps({"step": i + 1, "loss": loss, **entry}) + "\n" for i, loss in enumerate(losses)]

    path.write_text("".join(lines(3.0, 2.0, 9.0)))
    course = Course(tmp_path)
    course.read()
    assert course.run.losses == [3.0, 2.0, 9.0]
    _core.write_atomic(str(path), "".join(lines(3.0, 2.0, 1.5, 1.0)).encode())
    assert course.read()
    assert course.run.losses == [3.0, 2.0, 1.5, 1.0]
