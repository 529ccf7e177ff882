"""Where else a run is written down: what lands there, what a resumed run keeps, and what is said when it cannot be."""

from __future__ import annotations

import csv
import struct
import sys
import time

import pytest

import subgpt
from subgpt import ConfigError, MissingExtraError, TrainConfig
from subgpt.training.metrics import read_metrics
from subgpt.training.reporting import places


@pytest.fixture
def train(tiny, tokenizer, poems, tmp_path):
    def run(report_to, *, steps=6, resume=False, **changes):
        config = TrainConfig(
            max_steps=steps,
            batch_size=4,
            eval_steps=2,
            save_steps=3,
            warmup_steps=0,
            lr_scheduler_type="constant",
            report_to=report_to,
            **changes,
        )
        model = subgpt.GPT(tiny(), seed=1)
        return subgpt.pretrain(
            model, tokenizer, poems, config, output_dir=tmp_path / "run", resume=resume, callbacks=()
        )

    return run


def table(run):
    with (run.output_dir / "training" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_what_the_lines_have(train):
    run = train("csv", logging_steps=2)
    rows, lines = table(run), read_metrics(run.metrics_path)
    assert [int(row["step"]) for row in rows] == [line["step"] for line in lines]
    for row, line in zip(rows, lines, strict=True):
        for name in ("loss", "learning_rate", "grad_norm", "val_loss", "val_perplexity", "val_bits_per_byte"):
            value = line.get(name)
            assert row[name] == ("" if value is None else repr(value))


def test_a_resumed_table_has_no_step_twice(train, tmp_path):
    train("csv", steps=3)
    path = tmp_path / "run" / "training" / "metrics.csv"
    with path.open("a", encoding="utf-8", newline="") as file:
        file.write("4,1,9.9,1,1,1,,,\r\n5,1,9.")  # written after the checkpoint, and cut off by a crash
    run = train("csv", steps=6, resume=True)
    steps = [int(row["step"]) for row in table(run) if row["loss"]]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert "4,1,9.9," not in path.read_text(encoding="utf-8")


def test_a_run_that_is_discarded_leaves_no_rows(train):
    train("csv")
    assert len(table(train("csv", steps=3, overwrite_output_dir=True))) == 3 + 3


def test_reporting_may_change_when_a_run_goes_on(train, tmp_path):
    train("csv", steps=3)
    train("none", steps=6, resume=True)
    path = tmp_path / "run" / "training" / "metrics.csv"
    assert "\r\n4," not in path.read_text(encoding="utf-8")


def events(folder):
    """Read TensorBoard's files: records of a length, its checksum, an Event and its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (size,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + size])
            data = data[12 + size + 4 :]


def test_tensorboard_has_the_curves(train):
    pytest.importorskip("tensorboardX", reason="tensorboardX, of the extra `tensorboard`, is not installed")
    run = train("tensorboard", sample_steps=3, sample_tokens=4, sample_prompt="so")
    seen = {}
    for event in events(run.output_dir / "training" / "tensorboard"):
        for value in event.summary.value:
            seen.setdefault(value.tag, []).append((event.step, value.simple_value))
    assert [step for step, _ in seen["train/loss"]] == run.steps
    assert [value for _, value in seen["train/loss"]] == pytest.approx(run.losses)
    assert [step for step, _ in seen["eval/loss"]] == run.val_steps
    assert [value for _, value in seen["eval/loss"]] == pytest.approx(run.val_losses)
    assert {"train/learning_rate", "train/grad_norm", "eval/perplexity", "sample/text_summary"} <= set(seen)


def test_a_resumed_run_tells_tensorboard_from_where(train):
    pytest.importorskip("tensorboardX", reason="tensorboardX, of the extra `tensorboard`, is not installed")
    train("tensorboard", steps=3)
    run = train("tensorboard", steps=6, resume=True)
    seen = list(events(run.output_dir / "training" / "tensorboard"))
    assert [event.step for event in seen if event.session_log.status == 1] == [4]  # START, which purges


@pytest.mark.filterwarnings("ignore")  # of the library
def test_wandb_gets_the_run_offline(train, tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb, of the extra `wandb`, is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = train("wandb", steps=3)
    training = run.output_dir / "training"
    first = (training / "wandb-id").read_text(encoding="utf-8").strip()
    (file,) = training.glob("wandb/offline-run-*/run-*.wandb")
    assert first in file.name
    wanted = (b"train/loss", b"eval/loss", b"eval/bits_per_byte", b"best_val_loss", b"adam_beta2")
    until = time.monotonic() + 60  # its own process writes the file, not always before `finish` is back
    while any(name not in file.read_bytes() for name in wanted) and time.monotonic() < until:
        time.sleep(0.1)
    assert [name for name in wanted if name not in file.read_bytes()] == []
    train("wandb", steps=6, resume=True)
    assert (training / "wandb-id").read_text(encoding="utf-8").strip() == first


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("tensorboard", ["tensorboardX", "torch.utils.tensorboard"]),
        ("wandb", ["wandb"]),
    ],
)
def test_a_missing_library_is_named_before_anything_happens(train, tmp_path, monkeypatch, name, modules):
    for module in modules:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"pip install \"subgpt\[{name}\]\""):
        train(name)
    assert not (tmp_path / "run").exists()


def test_files_need_a_place(tiny, tokenizer, poems):
    config = TrainConfig(max_steps=1, report_to=["csv"])
    with pytest.raises(ConfigError, match="report_to = csv writes into the run directory; give output_dir"):
        subgpt.pretrain(subgpt.GPT(tiny(), seed=1), tokenizer, poems, config, callbacks=())


def test_names():
    assert TrainConfig(report_to="wandb, csv,jsonl").report_to == "jsonl,csv,wandb"
    assert TrainConfig(report_to=["none"]).report_to == ""
    assert places("none") == ()
    with pytest.raises(ConfigError, match="did you mean 'tensorboard'"):
        TrainConfig(report_to="tensorbord")
