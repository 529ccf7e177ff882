"""Faults that a training run must survive: each a clear error, and nothing already saved is lost."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import subgpt
from subgpt import (
    GPT,
    Callback,
    CheckpointError,
    ConfigError,
    DataError,
    LossError,
    MissingFileError,
    OutputError,
    SubgptError,
    TrainConfig,
    _core,
)
from subgpt.training.metrics import MetricsFile

TEXTS = [f"{'so much depends upon a red wheel barrow ' * 3}{n}\n" for n in range(12)]
SETTINGS = {"max_steps": 9, "batch_size": 2, "eval_steps": 4, "save_steps": 3, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def tokenizer():
    return subgpt.Tokenizer.train(iter(TEXTS), level="char")


@pytest.fixture
def model(tokenizer):
    return make(tokenizer)


def make(tokenizer, seed=1, **changes):
    shape = {
        "vocab_size": tokenizer.vocab_size,
        "block_size": 8,
        "n_layer": 1,
        "n_head": 1,
        "n_embd": 8,
        **changes,
    }
    return GPT(subgpt.GPTConfig(**shape), seed=seed)


def pretrain(model, tokenizer, output_dir=None, source=None, callbacks=(), resume=False, **changes):
    config = TrainConfig(**{**SETTINGS, **changes})
    texts = iter(TEXTS) if source is None else source
    return subgpt.pretrain(
        model, tokenizer, texts, config, output_dir=output_dir, callbacks=callbacks, resume=resume
    )


class At(Callback):
    """Does something after a step."""

    def __init__(self, step, act):
        self.step, self.act, self.ended = step, act, None

    def on_step(self, event):
        if event.step == self.step:
            self.act()

    def on_end(self, run):
        self.ended = run


def names(folder: Path):
    return sorted(path.name for path in (folder / "training" / "checkpoints").iterdir())


def poison(model, tensor="transformer.h.0.attn.c_proj.weight", value=np.nan):
    weights = model.state_dict()
    weights[tensor].flat[0] = value
    model.load_state_dict(weights)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_a_loss_that_is_no_number_names_step_and_tensor_and_keeps_the_last_checkpoint(
    model, tokenizer, tmp_path, value
):
    watcher = At(7, lambda: poison(model, value=value))
    with pytest.raises(LossError, match=r"step 8: .*transformer\..*lower learning_rate"):
        pretrain(model, tokenizer, tmp_path, callbacks=[watcher])
    assert names(tmp_path) == ["step-000003", "step-000006"]
    assert isinstance(watcher.ended.error, LossError)
    again = make(tokenizer, seed=2)
    assert pretrain(again, tokenizer, tmp_path, resume=True).step == 9
    assert all(np.isfinite(value).all() for value in again.state_dict().values())


def test_broken_weights_are_never_saved_over_good_ones(model, tokenizer, tmp_path):
    with pytest.raises(LossError, match=r"step 6: weight transformer\.wpe\.weight is not finite"):
        pretrain(
            model,
            tokenizer,
            tmp_path,
            callbacks=[At(6, lambda: poison(model, "transformer.wpe.weight"))],
            eval_steps=0,
        )
    assert names(tmp_path) == ["step-000003"]


def test_a_rate_that_diverges_ends_in_a_clear_error(model, tokenizer, tmp_path):
    settings = {
        "learning_rate": 100.0,
        "optimizer": "sgd",
        "max_grad_norm": 0,
        "lr_scheduler_type": "constant",
    }
    with pytest.raises(LossError, match=r"step \d+: .*lower learning_rate"):
        pretrain(model, tokenizer, tmp_path, warmup_steps=0, max_steps=300, **settings)


@pytest.mark.parametrize("call", ["write_atomic", "publish_directory"])
def test_a_full_disk_ends_the_run_and_keeps_what_was_saved(model, tokenizer, tmp_path, monkeypatch, call):
    write = getattr(_core, call)

    def full(path, *rest):
        if "step-000006" in path:
            raise OutputError(f"cannot write {path}: No space left on device (os error 28)")
        return write(path, *rest)

    monkeypatch.setattr(_core, call, full)
    with pytest.raises(OutputError, match="No space left"):
        pretrain(model, tokenizer, tmp_path)
    monkeypatch.undo()
    assert names(tmp_path) == ["step-000003"]
    whole = make(tokenizer)
    expected = pretrain(whole, tokenizer)
    run = pretrain(model, tokenizer, tmp_path, resume=True)
    assert run.losses == expected.losses


def test_metrics_that_cannot_be_written_say_so(model, tokenizer, tmp_path, monkeypatch):
    def full(self, record):
        self._file.close()
        self._file = FullFile()
        return write(self, record)

    class FullFile:
        def write(self, text):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    write = MetricsFile.write
    monkeypatch.setattr(MetricsFile, "write", full)
    with pytest.raises(
        OutputError, match=r"metrics\.jsonl: No space left on device; free some space and resume"
    ):
        pretrain(model, tokenizer, tmp_path)


@pytest.mark.parametrize("place", ["file", "file/below", "\0", "x" * 300])
def test_a_place_that_cannot_be_a_directory(model, tokenizer, tmp_path, place):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises((OutputError, ConfigError), match=r"cannot write there|null byte"):
        pretrain(model, tokenizer, f"{tmp_path}/{place}")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_read_only_directory(model, tokenizer, tmp_path):
    if sys.platform == "win32" or os.geteuid() == 0:
        pytest.skip("permissions do not hold this user back")
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="cannot write there"):
        pretrain(model, tokenizer, tmp_path / "run")
    tmp_path.chmod(0o700)


def test_odd_names_of_directories(model, tokenizer, tmp_path):
    for name in ("two words", "naïve-日本", "a.json", "-o", "[x]*"):
        run = pretrain(make(tokenizer), tokenizer, tmp_path / name)
        assert subgpt.load(tmp_path / name)[0].config == model.config
        assert run.step == 9


def test_two_runs_in_one_folder(model, tokenizer, tmp_path):
    refused = []

    def second():
        with pytest.raises(CheckpointError, match=f"process {os.getpid()} on .* is training here") as caught:
            pretrain(make(tokenizer), tokenizer, tmp_path, resume=True)
        refused.append(caught.value)

    run = pretrain(model, tokenizer, tmp_path, callbacks=[At(4, second)])
    assert len(refused) == 1
    assert run.step == 9


@pytest.mark.parametrize("damage", ["cut", "zeros", "pickle", "empty"])
@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_damaged_checkpoints_are_passed_over(tokenizer, tmp_path, damage, file):
    expected = pretrain(make(tokenizer), tokenizer, tmp_path)
    path = tmp_path / "training" / "checkpoints" / "step-000009" / file
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut": content[: len(content) // 2],
            "zeros": bytes(len(content)),
            "pickle": b"\x80\x04" + content[2:],
            "empty": b"",
        }[damage]
    )
    run = pretrain(make(tokenizer, seed=5), tokenizer, tmp_path, resume=True)
    assert run.losses == expected.losses
    assert (tmp_path / "training" / "checkpoints" / "step-000009.broken").exists()


def test_all_checkpoints_damaged_is_said_and_nothing_is_overwritten(tokenizer, tmp_path):
    pretrain(make(tokenizer), tokenizer, tmp_path)
    weights = (tmp_path / "model.safetensors").read_bytes()
    for state in (tmp_path / "training" / "checkpoints").glob("*/state.json"):
        state.write_text("{}")
    for _ in range(2):
        with pytest.raises(CheckpointError, match="none of its checkpoints can be read"):
            pretrain(make(tokenizer), tokenizer, tmp_path, resume=True)
    assert (tmp_path / "model.safetensors").read_bytes() == weights


@pytest.mark.parametrize(
    ("tail", "kept"),
    [(b'{"step": 9, "los', 9), (b"\xff\xfe\n", 9), (b"null\n[]\n{}\n", 9), (b'{"step": 99}\n', 9)],
)
def test_a_metrics_file_with_a_torn_end(tokenizer, tmp_path, tail, kept):
    expected = pretrain(make(tokenizer), tokenizer, tmp_path)
    metrics = tmp_path / "training" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes() + tail)
    run = pretrain(make(tokenizer), tokenizer, tmp_path, resume=True)
    assert run.losses == expected.losses
    assert len(run.steps) == kept
    assert subgpt.Run.load(tmp_path).steps == expected.steps


def test_a_lost_metrics_file_does_not_stop_a_run(tokenizer, tmp_path):
    pretrain(make(tokenizer), tokenizer, tmp_path)
    (tmp_path / "training" / "metrics.jsonl").unlink()
    run = pretrain(make(tokenizer), tokenizer, tmp_path, resume=True, max_steps=11)
    assert run.step == 11


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ([], DataError),
        ([""], DataError),
        (["   \n"], DataError),
        (["a"], DataError),
        (["so much"], DataError),
        ([b"bytes"], DataError),
        (3, DataError),
        ("no/such/file.txt", MissingFileError),
    ],
)
def test_a_corpus_that_is_none(model, tokenizer, tmp_path, source, error):
    with pytest.raises(error) as caught:
        pretrain(model, tokenizer, tmp_path, source=source)
    assert isinstance(caught.value, SubgptError)
    assert names(tmp_path) == []


def test_text_that_is_not_utf8_is_refused_by_its_place_or_replaced(model, tokenizer, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes("".join(TEXTS).encode()[:100] + b"\xff" + "".join(TEXTS).encode())
    with pytest.raises(DataError, match=r"corpus\.txt.*offset 100"):
        pretrain(model, tokenizer, source=corpus)
    assert pretrain(model, tokenizer, source=corpus, errors="replace").step == 9


def test_settings_that_are_no_settings(model, tokenizer):
    for config in ({"max_steps": 3}, "fast", 3):
        with pytest.raises(ConfigError, match="give a TrainConfig"):
            subgpt.pretrain(model, tokenizer, iter(TEXTS), config, callbacks=())


def test_a_callback_that_raises_in_every_place(model, tokenizer, tmp_path):
    class Broken(Callback):
        def __getattribute__(self, name):
            if name.startswith("on_"):
                raise OSError("the logger is down")
            return super().__getattribute__(name)

    with pytest.warns(RuntimeWarning, match="the logger is down"):
        assert pretrain(model, tokenizer, tmp_path, callbacks=[Broken()]).step == 9


def test_training_in_a_thread_needs_no_signals(model, tokenizer):
    runs = []
    thread = threading.Thread(target=lambda: runs.append(pretrain(model, tokenizer)))
    thread.start()
    thread.join()
    assert runs[0].losses == pretrain(make(tokenizer), tokenizer).losses


def test_several_threads_generate_while_one_trains(model, tokenizer):
    failures = []

    def write():
        try:
            for seed in range(20):
                subgpt.generate(model, tokenizer, "so much", max_new_tokens=20, seed=seed)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    pretrain(model, tokenizer)
    for thread in threads:
        thread.join()
    assert failures == []
