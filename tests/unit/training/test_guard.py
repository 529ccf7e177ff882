"""A loss that leaves its course: seen, named, rolled back or stopped at; and going on from there bit for bit."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import signal

import numpy as np
import pytest

import subgpt
from subgpt import GPT, Callback, ConfigError, LossError, TrainConfig
from subgpt.training.data import text_data
from subgpt.training.guard import LEAST, WINDOW, BadStepError, remember, z_score
from subgpt.training.objective import Loss, NextToken

SETTINGS = {"max_steps": 100, "batch_size": 2, "eval_steps": 30, "save_steps": 20, "learning_rate": 1e-3}


class Scripted(NextToken):
    """The objective of pretraining, with losses of one's own at some calls: a spike, or what is no number."""

    def __init__(self, faults):
        self.faults, self.calls = faults, 0

    def backward(self, model, batches):
        loss = super().backward(model, batches)
        fault = self.faults(batches)
        return loss if fault is None else Loss(fault, loss.targets)


@pytest.fixture
def train(tokenizer, poems, tiny, monkeypatch):
    """Train with `fault(batch ids)` giving the loss instead of the true one, where it is not None."""
    from subgpt.training import pretrain as verb

    def run(folder, *, fault=None, resume=False, callbacks=(), seed=1, **changes):
        def data(source, words, config):
            import dataclasses

            made = text_data(iter(poems), words, config)
            objective = Scripted(lambda batches: None if fault is None else fault(batches[0][0]))
            return dataclasses.replace(made, objective=objective)

        monkeypatch.setattr(verb, "text_data", data)
        model = GPT(tiny(dropout=0.1), seed=seed)
        for callback in callbacks:
            callback.model = model
        config = TrainConfig(**{**SETTINGS, **changes})
        ended = subgpt.pretrain(
            model, tokenizer, [], config, output_dir=folder, resume=resume, callbacks=callbacks
        )
        return model, ended

    return run


@pytest.fixture
def batch_of(tokenizer, poems):
    """Tell the ids of a batch, as bytes, by its number."""
    loader = text_data(iter(poems), tokenizer, TrainConfig(**SETTINGS).resolved(16)).loader
    return lambda number: loader.batch(number)[0].tobytes()


def at(batches, value):
    """A fault in the data: whoever learns from one of `batches` sees `value`."""
    return lambda ids: value if ids.tobytes() in batches else None


class Listener(Callback):
    def __init__(self):
        self.rollbacks, self.steps = [], []

    def on_step(self, event):
        self.steps.append(event.step)

    def on_rollback(self, event):
        self.rollbacks.append(event)


class Stop(Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, event):
        if event.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def lines(folder):
    text = (folder / "training" / "metrics.jsonl").read_text()
    times = ("seconds", "tokens_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in times} for line in text.splitlines()]


def bits(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 50.0])
def test_a_rollback_goes_back_and_passes_over_the_batches(train, batch_of, tmp_path, value):
    listener = Listener()
    fault = at({batch_of(74)}, value)
    model, run = train(tmp_path, fault=fault, on_spike="rollback", callbacks=[listener])
    (event,) = listener.rollbacks
    assert (event.number, event.step, event.spike_step, event.skipped) == (1, 60, 75, 15)
    assert listener.steps == [*range(1, 75), *range(61, 101)]
    assert run.steps == list(range(1, 101))
    assert run.step == 100
    assert all(np.isfinite(tensor).all() for tensor in model.state_dict().values())
    (line,) = [line for line in lines(tmp_path) if "rollback" in line]
    assert (line["rollback"], line["step"], line["spike_step"], line["skipped"]) == (1, 60, 75, 15)
    assert line["reason"].startswith("step 75: loss")
    assert line["spike_loss"] == (50.0 if value == 50.0 else None)
    assert (line["z_score"] is not None) == (value == 50.0)
    assert subgpt.Run.load(tmp_path).losses == run.losses
    assert len(subgpt.Run.load(tmp_path).rollbacks) == 1

    plain, _ = train(tmp_path / "plain")
    assert bits(model) != bits(plain), "the data after the rollback are others"


def test_other_places_of_the_metrics_go_back_too(train, batch_of, tmp_path):
    places = "csv" if importlib.util.find_spec("tensorboardX") is None else "csv,tensorboard"
    fault = at({batch_of(74)}, float("nan"))
    train(tmp_path, fault=fault, on_spike="rollback", report_to=places)
    with (tmp_path / "training" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [line for line in lines(tmp_path) if "rollback" not in line]
    assert [(row["step"], row["loss"]) for row in rows] == [
        (str(line["step"]), repr(line["loss"]) if "loss" in line else "") for line in kept
    ]
    if "tensorboard" in places:
        assert len(list((tmp_path / "training" / "tensorboard").glob("events.*"))) == 2  # the second forgets


def test_a_run_that_goes_back_to_its_beginning_validates_there_again(train, batch_of, tmp_path):
    fault = at({batch_of(2), batch_of(5)}, float("nan"))
    _, run = train(tmp_path / "broken", fault=fault, on_spike="rollback", report_to="csv", max_steps=40)
    assert [entry["step"] for entry in run.rollbacks] == [0, 0]
    assert run.val_steps == [0, 30, 40]
    assert run.best == min(run.val_losses)
    seen = [line for line in lines(tmp_path / "broken") if "val_loss" in line]
    assert [line["step"] for line in seen] == run.val_steps
    assert subgpt.Run.load(tmp_path / "broken").val_losses == run.val_losses
    with (tmp_path / "broken" / "training" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        assert [row["step"] for row in csv.DictReader(file) if row["val_loss"]] == ["0", "30", "40"]
    _, resumed = train(tmp_path / "broken", on_spike="rollback", resume=True, max_steps=45)
    assert resumed.val_steps == [0, 30, 40, 45]


@pytest.mark.parametrize("start", [0, 1])
def test_what_was_best_before_the_first_update_stays_so(train, batch_of, tmp_path, start):
    fault = at({batch_of(2)} if start == 0 else set(), float("nan"))
    settings = {"learning_rate": 10.0, "load_best_model_at_end": True, "max_steps": 6}
    _, run = train(tmp_path, fault=fault, on_spike="rollback", spike_z_score=1e9, **settings)
    assert ("rolled back once" in str(run)) == (start == 0)
    assert run.best_step == 0
    assert run.best == run.val_losses[0] < run.val_losses[-1]


def test_no_fault_changes_no_bit(train, tmp_path):
    guarded, run = train(tmp_path / "a", on_spike="rollback")
    plain, other = train(tmp_path / "b")
    assert run.losses == other.losses
    assert bits(guarded) == bits(plain)
    assert lines(tmp_path / "a") == lines(tmp_path / "b")


@pytest.mark.parametrize("stops", [(30,), (70, 73), (61,), (79, 80, 81), (5, 65, 95)])
def test_resuming_around_a_rollback_is_exact(train, batch_of, tmp_path, stops):
    fault = at({batch_of(74), batch_of(90)}, 80.0)
    settings = {"on_spike": "rollback", "fault": fault}
    whole, run = train(tmp_path / "whole", **settings)
    assert len(run.rollbacks) == 2
    for number, step in enumerate(stops):
        _, cut = train(tmp_path / "cut", resume=number > 0, callbacks=[Stop(step)], **settings)
        assert cut.interrupted
    model, resumed = train(tmp_path / "cut", resume=True, seed=9, **settings)
    assert resumed.losses == run.losses
    assert bits(model) == bits(whole)
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_a_checkpoint_on_a_bad_way_is_passed_over_for_the_one_before(train, batch_of, tmp_path):
    listener = Listener()
    # From step 60 the run meets 74, and after it, going on with 75, another: 60 itself is to blame.
    fault = at({batch_of(74), batch_of(77)}, float("nan"))
    train(tmp_path, fault=fault, on_spike="rollback", callbacks=[listener], save_total_limit=3)
    assert [(event.step, event.spike_step) for event in listener.rollbacks] == [(60, 75), (40, 63)]
    kept = [line for line in lines(tmp_path) if "rollback" in line]
    assert [(line["rollback"], line["step"]) for line in kept] == [(1, 60), (2, 40)]
    assert len(subgpt.Run.load(tmp_path).rollbacks) == 2


def test_where_those_that_are_due_are_broken_that_of_an_interruption_is_taken(train, batch_of, tmp_path):
    class Damage(Listener):
        def on_checkpoint(self, event):
            if event.step == 60:
                for path in tmp_path.glob("training/checkpoints/step-*"):
                    if path.name != "step-000050":
                        (path / "optimizer.safetensors").write_bytes(b"")

    train(tmp_path, on_spike="rollback", callbacks=[Stop(50)])
    damage = Damage()
    fault = at({batch_of(74)}, float("nan"))
    _, run = train(tmp_path, fault=fault, on_spike="rollback", callbacks=[damage], resume=True)
    assert [event.step for event in damage.rollbacks] == [50]
    assert run.step == 100


def test_the_settings_of_the_resumption_stay(train, batch_of, tmp_path):
    train(tmp_path, on_spike="rollback", max_steps=80)
    fault = at({batch_of(84)}, float("nan"))
    _, run = train(tmp_path, fault=fault, on_spike="rollback", max_steps=90, resume=True)
    assert [entry["step"] for entry in run.rollbacks] == [80]
    newest = tmp_path / "training" / "checkpoints" / "step-000090" / "state.json"
    assert json.loads(newest.read_text())["settings"]["max_steps"] == 90


def test_rollbacks_come_to_an_end(train, tmp_path):
    def always(ids):
        return float("nan")

    listener = Listener()
    with pytest.raises(LossError, match=r"step 1: loss nan.*went back 2 times already \(max_rollbacks\)"):
        train(tmp_path, fault=always, on_spike="rollback", max_rollbacks=2, callbacks=[listener])
    assert [event.step for event in listener.rollbacks] == [0, 0]


@pytest.mark.parametrize("tensor", ["transformer.h.0.mlp.c_fc.weight", "transformer.wpe.weight"])
def test_broken_weights_are_rolled_back_and_named(train, tmp_path, tensor):
    class Poison(Listener):
        def on_step(self, event):
            super().on_step(event)
            if event.step == 45 and not self.rollbacks:
                weights = self.model.state_dict()
                weights[tensor].flat[0] = np.nan
                self.model.load_state_dict(weights)

    _, run = train(tmp_path, on_spike="rollback", callbacks=[Poison()])
    assert run.rollbacks[0]["tensor"] == tensor
    assert run.rollbacks[0]["step"] == 40
    where = f"weight {tensor}" + (" (layer 0)" if ".h.0." in tensor else "")
    assert where in run.rollbacks[0]["reason"]


def test_stop_names_step_and_tensor_and_ignore_goes_on(train, batch_of, tmp_path):
    fault = at({batch_of(74)}, 50.0)
    with pytest.raises(BadStepError, match=r"step 75: loss 50\.0000 is .* deviations above .* transformer\."):
        train(tmp_path / "stop", fault=fault, on_spike="stop")
    _, run = train(tmp_path / "stop", on_spike="stop", resume=True)
    assert run.step == 100
    _, run = train(tmp_path / "ignore", fault=fault)
    assert run.losses[74] == 50.0
    _, run = train(tmp_path / "high", fault=fault, on_spike="stop", spike_z_score=1e6)
    assert run.step == 100
    with pytest.raises(BadStepError, match="loss nan"):
        train(tmp_path / "nan", fault=at({batch_of(74)}, float("nan")), on_spike="ignore")


def test_rollback_needs_a_directory_and_settings_are_checked(train):
    with pytest.raises(ConfigError, match="give an output_dir"):
        train(None, on_spike="rollback")
    for values in ({"on_spike": "retry"}, {"spike_z_score": 0}, {"max_rollbacks": 0}):
        with pytest.raises(ConfigError, match=next(iter(values))):
            TrainConfig(**values)


def test_deviations_are_counted_over_a_window():
    recent = []
    for number in range(3 * WINDOW):
        remember(recent, float(number))
    assert recent == [float(number) for number in range(2 * WINDOW, 3 * WINDOW)]
    assert z_score(recent[: LEAST - 1], 1e9) is None
    values = np.array(recent)
    assert z_score(recent, 1e3) == pytest.approx((1e3 - values.mean()) / values.std())
    assert z_score([1.0] * WINDOW, 1.1) == pytest.approx(2.0), "a deviation is never below 0.05 nats"
