"""Probes of a run: asked before and after, told, kept over an interruption, shown on the page."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from subgpt import GPT, Callback, CheckpointError, DataError, TrainConfig, finetune

ROWS = [{"question": f"{w} is what?", "answer": f"a red {w}"} for w in ("cat", "plum", "bough", "fog")]
PROBES = {"seen": ROWS, "others": [{"question": "cat is what?", "answer": "a wet bird & <b>"}]}


class Listener(Callback):
    def __init__(self, stop_at=0):
        self.notes, self.stop_at = [], stop_at

    def on_start(self, start):
        self.notes += start.notes

    def on_note(self, text):
        self.notes.append(text)

    def on_step(self, event):
        if event.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def model(tiny):
    return GPT(tiny(block_size=48), seed=1)


def run(model, tokenizer, steps=150, probes=PROBES, **options):
    config = TrainConfig(
        max_steps=steps, batch_size=4, learning_rate=2e-2, val_fraction=0, recall_tokens=0, save_steps=2
    )
    return finetune(model, tokenizer, ROWS, config, probes=probes, **{"callbacks": (), **options})


def scores(done):
    return {n: tuple(s and (s.correct, s.total) for s in (c.before, c.after)) for n, c in done.probes.items()}


def test_asked_before_and_after(model, tokenizer, tmp_path):
    listener = Listener()
    done = run(model, tokenizer, output_dir=tmp_path / "run", callbacks=[listener])
    assert scores(done) == {"seen": ((0, 4), (4, 4)), "others": ((0, 1), (0, 1))}
    assert "probe seen: 4 examples" in listener.notes
    assert "probe seen before: exact match 0 of 4 (0.0 %)" in listener.notes
    assert "probe seen after: exact match 4 of 4 (100.0 %)" in listener.notes
    page = (tmp_path / "run" / "training" / "report.html").read_text()
    assert "exact match 4 of 4 (100.0 %)" in page
    assert "a wet bird &amp; &lt;b&gt;" in page
    assert "<b>" not in page


def test_the_training_is_the_same_with_and_without(tiny, tokenizer):
    one, two = (GPT(tiny(block_size=48), seed=1) for _ in range(2))
    assert run(one, tokenizer, 5).losses == run(two, tokenizer, 5, probes=None).losses
    assert all(
        value.tobytes() == two.state_dict()[name].tobytes() for name, value in one.state_dict().items()
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals are delivered differently on Windows")
def test_interrupted_and_resumed_the_answers_before_are_those_of_the_beginning(tiny, tokenizer, tmp_path):
    whole, cut = (GPT(tiny(block_size=48), seed=1) for _ in range(2))
    one = run(whole, tokenizer)
    first = run(cut, tokenizer, output_dir=tmp_path / "cut", callbacks=[Listener(100)])
    assert first.interrupted
    assert scores(first)["seen"] == ((0, 4), None), "an interrupted run does not keep one waiting"
    two = run(cut, tokenizer, output_dir=tmp_path / "cut", resume=True)
    assert scores(two) == scores(one)
    assert two.probes["seen"].before.misses == one.probes["seen"].before.misses


def test_another_probe_on_resuming_has_nothing_before(model, tokenizer, tmp_path):
    run(model, tokenizer, 2, output_dir=tmp_path / "run")
    listener = Listener()
    probes = {"seen": ROWS[:2], "others": PROBES["others"], "new": ROWS}
    done = run(model, tokenizer, 4, probes, output_dir=tmp_path / "run", resume=True, callbacks=[listener])
    assert {name for name, change in done.probes.items() if change.before is None} == {"seen", "new"}
    assert all(change.after is not None for change in done.probes.values())
    assert any("probe new: it was not asked before the first step" in note for note in listener.notes)
    assert (tmp_path / "run" / "training" / "report.html").is_file()


def test_what_was_kept_is_discarded_with_its_run(model, tokenizer, tmp_path):
    run(model, tokenizer, 2, output_dir=tmp_path / "run")
    config = TrainConfig(max_steps=2, recall_tokens=0, overwrite_output_dir=True)
    finetune(model, tokenizer, ROWS, config, output_dir=tmp_path / "run", callbacks=())
    assert not (tmp_path / "run" / "training" / "probes.json").exists()


@pytest.mark.parametrize(
    "content",
    ["", "1", "[1]", '{"seen": 1}', '[{"name": "a"}]', '[{"name": 1, "fingerprint": 2, "result": {}}]'],
)
def test_kept_answers_that_are_none_are_named(model, tokenizer, tmp_path, content):
    run(model, tokenizer, 2, output_dir=tmp_path / "run")
    (tmp_path / "run" / "training" / "probes.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"probes\.json"):
        run(model, tokenizer, 4, output_dir=tmp_path / "run", resume=True)


def test_a_probe_that_cannot_be_read_stops_nothing_that_was_there(model, tokenizer, tmp_path):
    run(model, tokenizer, 2, output_dir=tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != "lock"}
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    config = TrainConfig(max_steps=2, overwrite_output_dir=True)
    with pytest.raises(DataError, match=r"empty\.jsonl"):
        finetune(
            model, tokenizer, ROWS, config, probes={"a": empty}, output_dir=tmp_path / "run", callbacks=()
        )
    assert all(path.read_bytes() == data for path, data in before.items())


def test_kept_answers_are_readable_json(model, tokenizer, tmp_path):
    run(model, tokenizer, 2, output_dir=tmp_path / "run")
    seen = json.loads((tmp_path / "run" / "training" / "probes.json").read_text())
    assert [(entry["name"], entry["result"]["total"]) for entry in seen] == [("seen", 4), ("others", 1)]
