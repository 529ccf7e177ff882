"""The loop: accumulation, validation, early stopping, what is written and who is told."""

from __future__ import annotations

import errno
import json
import math
import os

import numpy as np
import pytest

import subgpt
from subgpt import (
    GPT,
    SGD,
    AdamW,
    Callback,
    ConfigError,
    DataError,
    LossError,
    MissingExtraError,
    OutOfMemoryError,
    OutputError,
    TrainConfig,
    machine,
)
from subgpt.training import runner
from subgpt.training.callbacks import LogLines
from subgpt.training.data import text_data
from subgpt.training.loop import update
from subgpt.training.metrics import MetricsFile, read_metrics


class Everything(Callback):
    """Remembers all that it is told."""

    def __init__(self):
        self.heard = []

    def on_start(self, start):
        self.start = start

    def on_step(self, event):
        self.heard.append(("step", event.step))

    def on_eval(self, event):
        self.heard.append(("eval", event.step))

    def on_sample(self, event):
        self.heard.append(("sample", event.step))

    def on_checkpoint(self, event):
        self.heard.append(("checkpoint", event.step))

    def on_note(self, text):
        self.heard.append(("note", text))

    def on_end(self, run):
        self.run = run


@pytest.fixture
def config():
    return TrainConfig(max_steps=6, batch_size=4, eval_steps=2, learning_rate=1e-2)


def pretrain(model, tokenizer, poems, config, **options):
    return subgpt.pretrain(model, tokenizer, iter(poems), config, **{"callbacks": (), **options})


def test_accumulation_is_the_gradient_of_all_tokens_together(tiny):
    """Unevenly masked micro-batches: weighting by batches instead of tokens would be off by far."""
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 20, (4, 9))
    targets = ids[:, 1:].copy()
    targets[0, 1:] = -100
    targets[1, :] = -100
    together, apart = GPT(tiny(), seed=5), GPT(tiny(), seed=5)
    one = update(together, SGD(together, 0.1), [(ids[:, :-1], targets)], 0.1, 0.0, 1)
    batches = [(ids[i : i + 1, :-1], targets[i : i + 1]) for i in range(4)]
    many = update(apart, SGD(apart, 0.1), batches, 0.1, 0.0, 1)
    assert many.loss == pytest.approx(one.loss, rel=1e-6)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    assert many.tokens == one.tokens == 17
    for name, value in together.state_dict().items():
        assert np.allclose(value, apart.state_dict()[name], atol=1e-6), name


def test_the_public_loop_is_what_pretrain_does(tiny, tokenizer, poems):
    """The four calls that the README shows, on pretrain's own batches, give its losses and weights bit for bit."""
    config = TrainConfig(max_steps=5, batch_size=4, learning_rate=1e-2, eval_steps=0, val_fraction=0.0)
    theirs, ours = GPT(tiny(), seed=1), GPT(tiny(), seed=1)
    run = pretrain(theirs, tokenizer, poems, config)
    loader = text_data(iter(poems), tokenizer, config.resolved(16)).loader
    optimizer = AdamW(ours, config.learning_rate, betas=(0.9, 0.99), weight_decay=0.1)
    losses = []
    for step in range(5):
        x, y = loader.batch(step)
        losses.append(ours.backward(x, y))
        ours.clip_grad_norm(1.0)
        optimizer.step(config.learning_rate_at(step))
        ours.zero_grad()
    assert losses == run.losses
    for name, value in theirs.state_dict().items():
        assert np.array_equal(value, ours.state_dict()[name]), name


def test_a_step_with_every_target_masked_is_refused(model):
    batch = (np.array([[1, 2]]), np.array([[-100, -100]]))
    with pytest.raises(DataError, match="step 3: every target is masked"):
        update(model, SGD(model, 0.1), [batch], 0.1, 1.0, 3)


def test_a_run_that_needs_more_memory_than_there_is_is_refused_before_it_begins(
    model, tokenizer, poems, config, tmp_path, monkeypatch
):
    monkeypatch.setattr(machine, "memory_limit", lambda: 1 << 16)
    settings = config.replace(output_dir=tmp_path / "run")
    with pytest.raises(
        OutOfMemoryError, match=r"this machine gives 64\.0 KiB: take a smaller model, a smaller batch"
    ):
        pretrain(model, tokenizer, poems, settings)
    left = [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [name for name in left if not name.startswith(".") and "lock" not in name]
    monkeypatch.undo()
    assert len(pretrain(model, tokenizer, poems, settings).losses) == 6


def test_the_course_of_a_run(model, tokenizer, poems, config):
    watcher = Everything()
    changed = config.replace(sample_steps=3, gradient_accumulation_steps=2)
    run = pretrain(model, tokenizer, poems, changed, callbacks=[watcher])
    assert run.steps == [1, 2, 3, 4, 5, 6]
    assert run.val_steps == [0, 2, 4, 6]
    assert run.losses[-1] < run.losses[0]
    assert run.best == min(run.val_losses)
    assert run.learning_rates == [changed.learning_rate_at(step) for step in range(6)]
    assert run.tokens == 6 * 2 * 4 * 16
    assert (run.output_dir, run.checkpoint, run.interrupted, run.stopped_early) == (None, None, False, False)
    assert watcher.start.tokens_per_step == 2 * 4 * 16
    assert watcher.run is run
    steps = [("eval", 0), *(("step", n) for n in (1, 2))]
    assert watcher.heard[:3] == steps
    assert [n for kind, n in watcher.heard if kind == "sample"] == [3, 6]
    assert "6 steps" in str(run)


def test_samples_are_kept_beside_the_metrics(model, tokenizer, poems, config, tmp_path):
    options = config.replace(sample_steps=3, sample_prompt="so", sample_tokens=4)
    pretrain(model, tokenizer, poems, options, output_dir=tmp_path, callbacks=())
    kept = read_metrics(tmp_path / "training" / "samples.jsonl")
    assert [(record["step"], record["prompt"]) for record in kept] == [(3, "so"), (6, "so")]
    assert all(len(record["text"]) == 4 for record in kept)


def test_without_a_directory_nothing_is_written(model, tokenizer, poems, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pretrain(model, tokenizer, poems, config)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="resume=True needs the output_dir"):
        pretrain(model, tokenizer, poems, config, resume=True)


def test_what_is_written(model, tokenizer, poems, config, tmp_path):
    run = pretrain(model, tokenizer, poems, config.replace(save_steps=2), output_dir=tmp_path / "a b é")
    there = tmp_path / "a b é"
    assert {p.name for p in there.iterdir()} >= {
        "config.json", "model.safetensors", "tokenizer.json", "generation_config.json", "training",
    }  # fmt: skip
    checkpoints = sorted(p.name for p in (there / "training" / "checkpoints").iterdir())
    assert checkpoints == ["step-000004", "step-000006"]
    assert run.checkpoint == there / "training" / "checkpoints" / "step-000006"
    lines = [json.loads(line) for line in (there / "training" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == run.steps
    assert [line["loss"] for line in lines if "loss" in line] == run.losses
    assert {"learning_rate", "grad_norm", "tokens_per_second", "seconds"} <= lines[1].keys()
    assert {"val_loss", "val_perplexity", "val_bits_per_byte"} <= lines[0].keys()
    assert run.metrics_path == there / "training" / "metrics.jsonl"
    assert run.plot_path.read_bytes().startswith(b"\x89PNG")
    assert subgpt.Run.load(there).losses == run.losses
    loaded, words = subgpt.load(there)
    assert np.array_equal(loaded.forward([[1, 2]]), model.forward([[1, 2]]))
    assert words.vocab_size == tokenizer.vocab_size


def test_the_settings_written_are_the_resolved_ones(model, tokenizer, poems, config, tmp_path):
    import yaml

    pretrain(model, tokenizer, poems, config, output_dir=tmp_path / "a")
    values = yaml.safe_load((tmp_path / "a" / "training" / "config.yaml").read_text())
    assert values["train"]["warmup_steps"] == 0
    assert values["train"]["min_learning_rate"] == 1e-3
    assert values["train"]["block_size"] == 16
    assert values["model"]["n_embd"] == 16
    assert values["verb"] == "pretrain"


def test_a_directory_with_a_run_in_it_is_kept_unless_told_otherwise(
    model, tokenizer, poems, config, tmp_path
):
    first = pretrain(model, tokenizer, poems, config, output_dir=tmp_path)
    with pytest.raises(subgpt.CheckpointError, match="holds a model or run already"):
        pretrain(model, tokenizer, poems, config, output_dir=tmp_path)
    again = config.replace(overwrite_output_dir=True, max_steps=2)
    with pytest.raises(DataError):
        pretrain(model, tokenizer, [" "], again, output_dir=tmp_path)
    assert subgpt.Run.load(tmp_path).losses == first.losses, (
        "nothing is discarded for a run that cannot start"
    )
    run = pretrain(model, tokenizer, poems, again, output_dir=tmp_path)
    assert len(first.losses) == 6
    assert subgpt.Run.load(tmp_path).steps == run.steps == [1, 2]


def test_a_model_in_shards_is_kept_as_well(model, tokenizer, poems, config, tmp_path):
    for name in ("config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"):
        (tmp_path / name).write_text("{}", encoding="utf-8")
    with pytest.raises(subgpt.CheckpointError, match="holds a model or run already"):
        pretrain(model, tokenizer, poems, config, output_dir=tmp_path)


def test_early_stopping_ends_with_the_best_weights(tiny, tokenizer, poems, tmp_path):
    """A rate far too high after the first steps: validation gets worse, and the run goes back."""
    for place in (None, tmp_path):
        model = GPT(tiny(), seed=1)
        config = TrainConfig(
            max_steps=50, batch_size=2, eval_steps=1, learning_rate=3.0, optimizer="sgd", weight_decay=0.0,
            lr_scheduler_type="constant", warmup_steps=0, early_stopping_patience=3, eval_batches=0,
        )  # fmt: skip
        run = pretrain(model, tokenizer, poems, config, output_dir=place)
        assert run.stopped_early
        assert run.step < 50
        assert run.step == run.best_step + 3
        held_out = text_data(iter(poems), tokenizer, config.resolved(16)).held_out
        from subgpt.evaluation.measure import measure

        assert measure(model, held_out).loss == run.best


def test_without_validation_a_run_still_runs(model, tokenizer, poems, config):
    run = pretrain(model, tokenizer, poems, config.replace(val_fraction=0.0))
    assert run.val_losses == []
    assert math.isinf(run.best)


def test_a_callback_that_raises_is_dropped_and_training_goes_on(model, tokenizer, poems, config):
    class Broken(Callback):
        def on_step(self, event):
            raise RuntimeError("the logger is down")

    watcher = Everything()
    with pytest.warns(
        RuntimeWarning, match="Broken raised RuntimeError: the logger is down; training goes on"
    ):
        run = pretrain(model, tokenizer, poems, config, callbacks=[Broken(), watcher])
    assert run.step == 6
    assert ("step", 6) in watcher.heard


def test_plain_lines_for_a_pipe(model, tokenizer, poems, config, capsys):
    pretrain(model, tokenizer, poems, config, callbacks=[LogLines(every=0.0)])
    said = capsys.readouterr().err
    assert "training" in said
    assert "step 6/6  loss" in said
    assert "validation loss" in said
    assert "\r" not in said


def test_without_matplotlib_one_line_and_no_picture(model, tokenizer, poems, config, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    watcher = Everything()
    run = pretrain(model, tokenizer, poems, config, output_dir=tmp_path, callbacks=[watcher])
    notes = [text for kind, text in watcher.heard if kind == "note"]
    assert notes == ['the picture of the losses needs matplotlib: pip install "subgpt[plot]"']
    with pytest.raises(MissingExtraError):
        run.plot()


def test_a_tokenizer_larger_than_the_model_is_refused(tiny, tokenizer, poems, config):
    small = GPT(tiny(vocab_size=5), seed=1)
    with pytest.raises(ConfigError, match=r"a vocabulary of 5; .*make the model with vocab_size="):
        pretrain(small, tokenizer, poems, config)


def test_a_loss_that_is_no_number_stops_before_the_weights_are_touched(model):
    weights = model.state_dict()
    weights["transformer.h.0.mlp.c_fc.weight"][0, 0] = np.inf
    model.load_state_dict(weights)
    batch = (np.array([[1, 2]]), np.array([[2, 3]]))
    with pytest.raises(LossError, match=r"step 9: .*weight transformer\.h\.0\.mlp\.c_fc\.weight") as caught:
        update(model, SGD(model, 0.1), [batch], 0.1, 1.0, 9)
    assert "lower learning_rate" in str(caught.value)
    assert model.grad_norm() == 0
    assert all(np.array_equal(weights[name], value) for name, value in model.state_dict().items())


def test_a_disk_that_is_found_to_be_full_late_is_named(tmp_path, monkeypatch):
    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    file = MetricsFile(tmp_path / "metrics.jsonl", keep_to_step=0)
    file.write({"step": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"metrics\.jsonl: No space left on device; free some space"):
        file.sync()
    file.close()


def test_the_page_of_a_discarded_run_does_not_outlive_it(
    model, tokenizer, poems, config, tmp_path, monkeypatch
):
    settings = config.replace(output_dir=tmp_path / "run", overwrite_output_dir=True)
    pretrain(model, tokenizer, poems, settings)
    page = tmp_path / "run" / "training" / "report.html"
    assert page.exists()
    monkeypatch.setattr(runner, "train", lambda _job: pytest.fail("it died"))
    with pytest.raises(pytest.fail.Exception, match="it died"):
        pretrain(model, tokenizer, poems, settings)
    assert not page.exists()
