"""Going on bit for bit: any number of threads, killed at any step, interrupted by a signal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import subgpt
from subgpt import GPT, Callback, CheckpointError, ConfigError, TrainConfig

SETTINGS = {"max_steps": 12, "batch_size": 4, "eval_steps": 5, "save_steps": 3, "learning_rate": 1e-2}


def pretrain(model, tokenizer, poems, output_dir=None, resume=False, callbacks=(), **changes):
    config = TrainConfig(**{**SETTINGS, **changes})
    return subgpt.pretrain(
        model, tokenizer, iter(poems), config, output_dir=output_dir, resume=resume, callbacks=callbacks
    )


class At(Callback):
    """Does something after a step."""

    def __init__(self, step, act):
        self.step, self.act, self.notes = step, act, []

    def on_start(self, start):
        self.notes += start.notes

    def on_step(self, event):
        if event.step == self.step:
            self.act()

    def on_note(self, text):
        self.notes.append(text)


def course(folder):
    """Everything of metrics.jsonl that is not a time."""
    lines = map(json.loads, (folder / "training" / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in ("seconds", "tokens_per_second")} for line in lines]


def bits(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


@pytest.fixture
def whole(tiny, tokenizer, poems, tmp_path):
    """A run that was never stopped, with dropout, so that its generator has a state."""
    model = GPT(tiny(dropout=0.1), seed=1)
    run = pretrain(model, tokenizer, poems, tmp_path / "whole")
    return model, run, tmp_path / "whole"


def test_the_curve_is_the_same_for_any_number_of_threads(tiny, tokenizer, poems, whole, threads):
    for count in (1, 2, 5):
        subgpt.set_num_threads(count)
        model = GPT(tiny(dropout=0.1), seed=1)
        run = pretrain(model, tokenizer, poems)
        assert run.losses == whole[1].losses, f"{count} threads"
        assert run.grad_norms == whole[1].grad_norms
        assert bits(model) == bits(whole[0])


@pytest.mark.parametrize(("name", "number"), [("SIGINT", 2), ("SIGTERM", 15)])
def test_a_signal_saves_and_the_run_goes_on_as_if_never_stopped(
    tiny, tokenizer, poems, whole, tmp_path, name, number
):
    if sys.platform == "win32":
        pytest.skip("signals are delivered differently on Windows")
    stop = At(7, lambda: os.kill(os.getpid(), getattr(signal, name)))
    first = pretrain(GPT(tiny(dropout=0.1), seed=1), tokenizer, poems, tmp_path / "cut", callbacks=[stop])
    assert first.interrupted
    assert first.step == 7
    assert first.checkpoint.name == "step-000007"
    assert any("resume=True" in note and str(tmp_path / "cut") in note for note in stop.notes)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "handlers are put back"

    model = GPT(tiny(dropout=0.1), seed=99)  # its weights are replaced by the checkpoint's
    run = pretrain(model, tokenizer, poems, tmp_path / "cut", resume=True)
    assert run.losses == whole[1].losses
    assert (run.best, run.best_step) == (whole[1].best, whole[1].best_step)
    assert run.tokens == whole[1].tokens
    assert bits(model) == bits(whole[0])
    assert course(tmp_path / "cut") == course(whole[2])


def test_a_second_ctrl_c_ends_at_once(tiny, tokenizer, poems, tmp_path):
    if sys.platform == "win32":
        pytest.skip("signals are delivered differently on Windows")

    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(GPT(tiny(), seed=1), tokenizer, poems, tmp_path, callbacks=[At(7, twice)])
    names = sorted(p.name for p in (tmp_path / "training" / "checkpoints").iterdir())
    assert names == ["step-000003", "step-000006"]


PROGRAM = textwrap.dedent(
    """
    import os, signal, sys, subgpt
    folder, when = sys.argv[1], sys.argv[2]
    poems = sys.stdin.read().split("\\0")
    tokenizer = subgpt.Tokenizer.train(iter(poems), level="char", special_tokens=("<|endoftext|>",))
    shape = dict(block_size=16, n_layer=1, n_head=2, n_embd=16, dropout=0.1)
    model = subgpt.GPT(subgpt.GPTConfig(vocab_size=tokenizer.vocab_size, **shape), seed=1)
    class Die(subgpt.Callback):
        def on_step(self, event):
            if when == str(event.step):
                os.kill(os.getpid(), signal.SIGKILL) if hasattr(signal, "SIGKILL") else os._exit(9)
        def on_checkpoint(self, event):
            if when == event.path.name:
                os._exit(9)
    config = subgpt.TrainConfig(max_steps=12, batch_size=4, eval_steps=5, save_steps=3, learning_rate=1e-2)
    subgpt.pretrain(model, tokenizer, iter(poems), config, output_dir=folder, resume=os.path.exists(folder),
                    callbacks=[Die()])
    """
)


@pytest.mark.parametrize("steps", [(1,), (4, 5, 11), (8,)])
def test_killed_at_some_step_and_resumed(poems, whole, tmp_path, steps):
    folder = tmp_path / "killed"
    for step in (*steps, -1):
        command = [sys.executable, "-c", PROGRAM, str(folder), str(step)]
        done = subprocess.run(
            command, input="\0".join(poems), text=True, capture_output=True, timeout=120, check=False
        )
        assert (done.returncode == 0) == (step == -1), done.stderr
    assert not list((folder / "training" / "checkpoints").glob(".*"))
    model, _ = subgpt.load(folder)
    assert bits(model) == bits(whole[0])
    assert course(folder) == course(whole[2])


def test_a_killed_run_says_where_its_checkpoints_are_and_they_open(poems, tokenizer, tmp_path):
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", PROGRAM, str(folder), "step-000003"]
    subprocess.run(command, input="\0".join(poems), text=True, capture_output=True, timeout=120, check=False)
    # Checkpoints are written beside the steps: there may be later ones when it hears of the third step's.
    newest = max((folder / "training" / "checkpoints").glob("step-*"))
    with pytest.raises(CheckpointError, match=rf"has not come to its end; .*{newest.name}$"):
        subgpt.load(folder)
    model, words = subgpt.load(newest)
    assert words == tokenizer
    assert model.config.n_embd == 16


@pytest.mark.parametrize("optimizer", ["sgd", "lion", "muon"])
def test_the_state_of_every_optimizer_is_kept(tiny, tokenizer, poems, tmp_path, optimizer):
    settings = {"optimizer": optimizer, "momentum": 0.9, "learning_rate": 1e-3}
    model, cut = GPT(tiny(), seed=1), GPT(tiny(), seed=1)
    pretrain(model, tokenizer, poems, **settings)
    stop = At(7, lambda: os.kill(os.getpid(), signal.SIGINT))
    pretrain(cut, tokenizer, poems, tmp_path, callbacks=[stop], **settings)
    cut = GPT(tiny(), seed=9)
    pretrain(cut, tokenizer, poems, tmp_path, resume=True, **settings)
    assert bits(cut) == bits(model)


def test_a_run_resumed_at_its_end_changes_nothing(tiny, tokenizer, poems, whole):
    model = GPT(tiny(dropout=0.1), seed=1)
    before = course(whole[2])
    run = pretrain(model, tokenizer, poems, whole[2], resume=True)
    assert run.losses == whole[1].losses
    assert bits(model) == bits(whole[0])
    assert course(whole[2]) == before


def test_more_steps_may_be_asked_for_and_unset_fields_are_the_runs(tiny, tokenizer, poems, tmp_path):
    model = GPT(tiny(), seed=1)
    pretrain(model, tokenizer, poems, tmp_path, lr_scheduler_type="constant")
    longer = TrainConfig(max_steps=15)
    run = subgpt.pretrain(
        GPT(tiny(), seed=1), tokenizer, iter(poems), longer, output_dir=tmp_path, resume=True, callbacks=()
    )
    assert run.steps == list(range(1, 16))
    assert run.learning_rates[-1] == 1e-2
    unset = subgpt.pretrain(
        model, tokenizer, iter(poems), TrainConfig(), output_dir=tmp_path, resume=True, callbacks=()
    )
    assert (unset.max_steps, unset.step) == (15, 15)
    with pytest.raises(ConfigError, match="max_steps = 4, but the run is at step 15"):
        pretrain(model, tokenizer, poems, tmp_path, resume=True, lr_scheduler_type="constant", max_steps=4)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"learning_rate": 0.5}, "learning_rate was 0.01, is 0.5"),
        ({"batch_size": 8}, "batch_size was 4, is 8"),
        ({"seed": 3}, "seed was 0, is 3"),
        ({"optimizer": "sgd"}, "optimizer was 'adamw', is 'sgd'"),
        ({"dtype": "bfloat16"}, "dtype was 'float32', is 'bfloat16'"),
        ({"muon_momentum": 0.5}, "muon_momentum was 0.95, is 0.5"),
    ],
)
def test_a_changed_setting_is_named(tiny, tokenizer, poems, whole, change, said):
    with pytest.raises(ConfigError) as caught:
        pretrain(GPT(tiny(dropout=0.1), seed=1), tokenizer, poems, whole[2], resume=True, **change)
    assert said in str(caught.value)


@pytest.mark.parametrize("given", [{}, {"dtype": "auto"}, {"dtype": "bfloat16"}])
def test_a_run_goes_on_in_the_format_it_began_with(tiny, tokenizer, poems, tmp_path, given):
    course = {"dtype": "bfloat16", "lr_scheduler_type": "constant", "warmup_steps": 1}
    whole, cut, fresh = (GPT(tiny(), seed=seed) for seed in (1, 1, 2))
    pretrain(whole, tokenizer, poems, **course)
    pretrain(cut, tokenizer, poems, tmp_path, max_steps=6, **course)
    run = pretrain(fresh, tokenizer, poems, tmp_path, resume=True, max_steps=12, **given)
    assert (run.step, fresh.dtype) == (12, "bfloat16")
    assert bits(fresh) == bits(whole)


def test_recomputing_may_begin_and_end_with_a_resumption(tiny, tokenizer, poems, whole):
    model = GPT(tiny(dropout=0.1), seed=1)
    pretrain(model, tokenizer, poems, whole[2], resume=True, gradient_checkpointing=True)
    assert model.gradient_checkpointing
    assert bits(model) == bits(whole[0])


def test_a_checkpoint_from_before_there_were_formats_is_float32(tiny, tokenizer, poems, whole):
    """It has neither `dtype` nor the fields of later blocks."""
    newest = whole[2] / "training" / "checkpoints" / "step-000012" / "state.json"
    state = json.loads(newest.read_text())
    del state["settings"]["dtype"], state["settings"]["gradient_checkpointing"]
    for name in ("checksum", "sha256", "recent", "rollbacks", "skipped"):
        del state[name]
    state["format"] = 1
    for name in ("mlp", "norm_gain", "qk_norm", "rope_theta"):
        del state["model"][name]
    newest.write_text(json.dumps(state))
    model = GPT(tiny(dropout=0.1), seed=1, dtype="bfloat16")
    run = pretrain(model, tokenizer, poems, whole[2], resume=True, dtype="auto")
    assert (run.step, model.dtype) == (12, "float32")
    assert bits(model) == bits(whole[0])


def test_a_changed_model_tokenizer_or_text_is_named(tiny, tokenizer, poems, whole):
    def resume(model, words, texts):
        pretrain(model, words, texts, whole[2], resume=True)

    with pytest.raises(CheckpointError, match=r"dropout was 0\.1, is 0\.0"):
        resume(GPT(tiny(), seed=1), tokenizer, poems)
    with pytest.raises(CheckpointError, match="the data has changed"):
        resume(GPT(tiny(dropout=0.1), seed=1), tokenizer, [*poems[:-1], "another poem\n"])
    other = subgpt.Tokenizer.train(iter(sorted(set("".join(poems)) - {"z"})), level="char")
    with pytest.raises(CheckpointError, match="the tokenizer is not the one"):
        resume(GPT(tiny(dropout=0.1), seed=1), other, poems)


def test_a_broken_newest_checkpoint_is_passed_over_aloud(tiny, tokenizer, poems, whole):
    newest = whole[2] / "training" / "checkpoints" / "step-000012" / "optimizer.safetensors"
    content = bytearray(newest.read_bytes())
    content[8] = 0  # the same length, no JSON any more
    newest.write_bytes(content)
    listener = At(0, None)
    model = GPT(tiny(dropout=0.1), seed=1)
    run = pretrain(model, tokenizer, poems, whole[2], resume=True, callbacks=[listener])
    assert any("step-000012 cannot be used" in note for note in listener.notes)
    assert any("resumed from step-000009" in note for note in listener.notes)
    assert run.losses == whole[1].losses
    assert bits(model) == bits(whole[0])


def test_early_stopping_state_survives(tiny, tokenizer, poems, tmp_path):
    settings = {
        "max_steps": 40, "eval_steps": 2, "learning_rate": 3.0, "optimizer": "sgd", "weight_decay": 0.0,
        "lr_scheduler_type": "constant", "early_stopping_patience": 4, "save_steps": 3,
    }  # fmt: skip
    whole, cut = GPT(tiny(), seed=1), GPT(tiny(), seed=1)
    one = pretrain(whole, tokenizer, poems, tmp_path / "whole", **settings)
    assert one.stopped_early
    stop = At(one.step - 3, lambda: os.kill(os.getpid(), signal.SIGINT))
    pretrain(cut, tokenizer, poems, tmp_path / "cut", callbacks=[stop], **settings)
    two = pretrain(cut, tokenizer, poems, tmp_path / "cut", resume=True, **settings)
    assert two.stopped_early
    assert (two.step, two.best, two.best_step) == (one.step, one.best, one.best_step)
    assert bits(cut) == bits(whole)
    three = pretrain(cut, tokenizer, poems, tmp_path / "cut", resume=True, **settings)
    assert three.stopped_early, "a run that ran out of patience has not more of it later"
    assert three.step == one.step
    assert bits(cut) == bits(whole)


def test_patience_that_is_given_later_keeps_the_best_as_well(tiny, tokenizer, poems, tmp_path):
    pretrain(GPT(tiny(), seed=1), tokenizer, poems, tmp_path, max_steps=4, eval_steps=2)
    settings = {"max_steps": 8, "eval_steps": 2, "early_stopping_patience": 9}
    pretrain(GPT(tiny(), seed=1), tokenizer, poems, tmp_path, resume=True, **settings)
    assert list((tmp_path / "training" / "checkpoints").glob("best-*"))


def test_resuming_where_nothing_is(model, tokenizer, poems, tmp_path):
    with pytest.raises(CheckpointError, match="no run to resume there"):
        pretrain(model, tokenizer, poems, tmp_path / "typo", resume=True)
    assert not (tmp_path / "typo").exists()
    (tmp_path / "killed" / "training").mkdir(parents=True)
    listener = At(0, None)
    run = pretrain(model, tokenizer, poems, tmp_path / "killed", resume=True, callbacks=[listener])
    assert run.step == 12
    assert any("has no checkpoint yet; starting at step 0" in note for note in listener.notes)


def test_the_order_of_the_data_is_a_function_of_seed_and_step(tokenizer, poems):
    """Replaying any step, in any order and from a loader of its own, gives the batch that was."""
    from subgpt.training.data import text_data

    def loader(seed):
        return text_data(iter(poems), tokenizer, TrainConfig(**SETTINGS, seed=seed).resolved(16)).loader

    one, two, other = loader(0), loader(0), loader(1)
    first = {step: one.batch(step) for step in (0, 5, 1000)}
    for step in (1000, 0, 5):
        for a, b in zip(first[step], two.batch(step), strict=True):
            assert np.array_equal(a, b)
    assert not np.array_equal(first[0][0], first[5][0])
    assert not np.array_equal(first[0][0], other.batch(0)[0])


def test_what_others_wrote_into_the_settings_stays(tiny, tokenizer, poems, whole):
    import yaml

    path = whole[2] / "training" / "config.yaml"
    path.write_text(path.read_text() + "inputs:\n  data: poems/\n")
    pretrain(GPT(tiny(dropout=0.1), seed=1), tokenizer, poems, whole[2], resume=True, save_steps=4)
    values = yaml.safe_load(path.read_text())
    assert values["inputs"] == {"data": "poems/"}
    assert values["train"]["save_steps"] == 4
