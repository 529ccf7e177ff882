"""Rows that `datasets` holds and writes are read here; weights, curves and tables of ours by their own readers."""

from __future__ import annotations

import csv

import numpy as np
import pytest

import subgpt
from subgpt import DataError, Tokenizer, TrainConfig
from subgpt.data import prepare_data, read_examples, read_index, read_shard
from subgpt.data.sniff import sniff_kind

ROWS = [{"question": f'Who, "{i}"?', "answer": f"Nobody.\nNumber {i} – déjà vu."} for i in range(7)]


@pytest.fixture(scope="module")
def datasets():
    return pytest.importorskip("datasets", reason='datasets is not installed: pip install "subgpt[data]"')


@pytest.fixture
def run(tmp_path):
    """A short run with its curves for TensorBoard and as a table."""
    pytest.importorskip("tensorboardX", reason="tensorboardX, of the extra `tensorboard`, is not installed")
    texts = [f"so much depends upon a red wheel barrow, {i}.\n" for i in range(20)]
    tok = Tokenizer.train(iter(texts), level="char")
    model = subgpt.GPT(subgpt.GPTConfig(len(tok), block_size=16, n_layer=1, n_head=2, n_embd=16), seed=1)
    config = TrainConfig(
        max_steps=6, batch_size=4, eval_steps=2, report_to=("csv", "tensorboard"), sample_steps=0
    )
    return subgpt.pretrain(model, tok, texts, config, output_dir=tmp_path / "run", callbacks=())


def test_rows_of_a_dataset(datasets, tmp_path):
    made = datasets.Dataset.from_list(ROWS)
    assert sniff_kind(made).kind == "instruct"
    expected = [example.messages for example in read_examples(ROWS)]
    assert [example.messages for example in read_examples(made)] == expected
    made.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict(train=made, test=made).save_to_disk(str(tmp_path / "two"))
    datasets.DatasetDict(test=made).save_to_disk(str(tmp_path / "three"))
    for source in (tmp_path / "one", [tmp_path / "two"], str(tmp_path / "two" / "test")):
        assert [example.messages for example in read_examples(source)] == expected
    assert sniff_kind(tmp_path / "one").why.startswith("Hugging Face dataset rows with question + answer in")
    with pytest.raises(DataError, match="no split 'train' in it; name one of test"):
        read_examples(tmp_path / "three")
    with pytest.raises(DataError, match="give the rows of one"):
        read_examples(datasets.DatasetDict(train=made))


@pytest.mark.parametrize("kind", ["parquet", "csv", "json"])
def test_files_that_a_dataset_writes(datasets, tmp_path, kind):
    path = tmp_path / f"rows.{'jsonl' if kind == 'json' else kind}"
    getattr(datasets.Dataset.from_list(ROWS), f"to_{kind}")(str(path))
    assert [e.messages for e in read_examples(path)] == [e.messages for e in read_examples(ROWS)]


def test_a_saved_dataset_becomes_shards(datasets, tmp_path):
    texts = [f"Text number {i} is not like the others: {'again ' * i}." for i in range(9)]
    tok = Tokenizer.train(iter(texts), vocab_size=280)
    datasets.Dataset.from_dict({"text": texts}).save_to_disk(str(tmp_path / "saved"))
    prepare_data(tmp_path / "saved", tmp_path / "out", tok, val_fraction=0)
    ids = read_shard(tmp_path / "out" / "train-00000.bin")
    found = tok.decode(np.asarray(ids)).split("<|endoftext|>")
    assert [text for text in found if text] == texts
    assert len(read_index(tmp_path / "out" / "train-00000.idx")) == len(texts)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_safetensors_reads_the_weights(tmp_path, family):
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed")
    from safetensors.numpy import load_file, save_file

    from ..parity.families import FAMILIES

    model = subgpt.GPT(FAMILIES[family], seed=1)
    model.save(tmp_path)
    state, found = model.state_dict(), load_file(tmp_path / "model.safetensors")
    assert {name: value.shape for name, value in found.items()} == {n: v.shape for n, v in state.items()}
    assert all(np.array_equal(found[name], value) for name, value in state.items())
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    save_file({name: value * 2 for name, value in found.items()}, tmp_path / "model.safetensors")
    again, _ = subgpt.load(tmp_path)
    assert all(np.array_equal(again.state_dict()[name], value * 2) for name, value in state.items())


def test_tensorboard_shows_the_curves(run):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.output_dir / "training" / "tensorboard"))
    events.Reload()
    with (run.output_dir / "training" / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for tag, column in (("eval/loss", "val_loss"), ("train/loss", "loss")):
        expected = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _ in expected]
        np.testing.assert_allclose([value for _, value in found], [value for _, value in expected], rtol=1e-6)
