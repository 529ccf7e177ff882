"""Checkpoints: whole or not there, the newest kept, broken ones set aside; one run at a time in a folder."""

from __future__ import annotations

import json

import pytest

from subgpt import AdamW, CheckpointError, OutputError, _core
from subgpt.checkpoint import staging
from subgpt.checkpoint.checkpoints import (
    TrainState,
    check_opened,
    checkpoint_path,
    draft_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    prune,
    read_state,
    restore,
    sweep,
)
from subgpt.checkpoint.lock import DirectoryLock


def save_checkpoint(directory, model, optimizer, state, keep):
    """Publish a checkpoint as a run does, and delete all but the newest `keep`; its path."""
    final = checkpoint_path(directory, state.step)
    if final.exists():
        return final
    draft = draft_checkpoint(directory, model, optimizer, state, in_memory=False)
    try:
        path = draft.write(directory)
    finally:
        draft.discard()
    prune(directory, keep)
    return path


@pytest.fixture
def save(model, tmp_path):
    optimizer = AdamW(model, 0.1)

    def write(step, keep=2):
        return save_checkpoint(tmp_path, model, optimizer, TrainState(step=step, best=1.5), keep)

    return write


def test_the_newest_are_kept(save, tmp_path):
    for step in (1, 2, 10, 1_000_000):
        save(step)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000010", "step-1000000"]
    path, state = newest_checkpoint(tmp_path, pytest.fail)
    assert path.name == "step-1000000"
    assert (state.step, state.best) == (1_000_000, 1.5)


@pytest.mark.parametrize("damage", ["state", "cut", "missing", "format", "entry"])
def test_a_broken_one_is_set_aside_and_the_one_before_taken(save, tmp_path, damage):
    good, bad = save(1), save(2)
    if damage == "state":
        (bad / "state.json").write_text("{")
    elif damage == "cut":
        (bad / "optimizer.safetensors").write_bytes((bad / "optimizer.safetensors").read_bytes()[:-1])
    elif damage == "missing":
        (bad / "model.safetensors").unlink()
    else:
        state = json.loads((bad / "state.json").read_text())
        state |= {"format": "2"} if damage == "format" else {"step": "many"}
        (bad / "state.json").write_text(json.dumps(state))
    warnings = []
    assert newest_checkpoint(tmp_path, warnings.append)[0] == good
    assert len(warnings) == 1
    assert "step-000002" in warnings[0]
    assert (tmp_path / "step-000002.broken").is_dir(), "nothing is deleted"
    save(3, keep=1)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000003"]


def test_one_of_a_newer_subgpt_stays_where_it_is(save, tmp_path):
    save(1)
    newer = save(2) / "state.json"
    newer.write_text(json.dumps(json.loads(newer.read_text()) | {"format": 99}))
    for opens in (lambda: newest_checkpoint(tmp_path, pytest.fail), lambda: check_opened(newer.parent)):
        with pytest.raises(
            CheckpointError, match=r"step-000002.state\.json: has format 99, .* install a newer one"
        ):
            opens()
    assert len(list_checkpoints(tmp_path)) == 2


def test_all_broken_is_an_error_and_none_is_none(save, tmp_path):
    assert newest_checkpoint(tmp_path, pytest.fail) is None
    (save(1) / "state.json").unlink()
    with pytest.raises(CheckpointError, match="none of its checkpoints can be read"):
        newest_checkpoint(tmp_path, lambda _: None)


def test_a_full_disk_leaves_the_earlier_ones_and_no_litter(save, tmp_path, monkeypatch):
    first = save(1)

    def full(path, data):
        raise OutputError(f"{path}: No space left on device")

    monkeypatch.setattr(_core, "write_atomic", full)
    with pytest.raises(OutputError, match="No space left"):
        save(2)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == [first]
    read_state(first)


def test_a_kill_while_publishing_leaves_no_half(save, tmp_path, monkeypatch):
    first = save(1)

    def die(temporary, final):
        raise KeyboardInterrupt

    monkeypatch.setattr(_core, "publish_directory", die)
    with pytest.raises(KeyboardInterrupt):
        save(2)
    assert list_checkpoints(tmp_path) == [first]
    (tmp_path / ".step-000003.tmp-1").mkdir()
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [first]


def test_restoring_brings_back_weights_moments_and_dropout(tiny, tmp_path):
    from subgpt import GPT

    model = GPT(tiny(dropout=0.5), seed=1)
    optimizer = AdamW(model, 0.1)
    for _ in range(3):
        model.backward([[1, 2]], [[2, 3]])
        optimizer.step()
    state = TrainState(step=3, dropout=model.native.dropout_state)
    path = save_checkpoint(tmp_path, model, optimizer, state, 1)
    other = GPT(tiny(dropout=0.5), seed=2)
    again = AdamW(other, 0.1)
    restore(path, read_state(path), other, again)
    assert other.native.dropout_state == model.native.dropout_state
    assert again.steps == 3
    model.zero_grad()
    losses = [m.backward([[1, 2]], [[2, 3]]) for m in (model, other)]
    assert losses[0] == losses[1]
    optimizer.step()
    again.step()
    assert (
        model.state_dict()["transformer.wte.weight"].tobytes()
        == other.state_dict()["transformer.wte.weight"].tobytes()
    )


def test_a_locked_folder_names_its_owner(tmp_path):
    (tmp_path / "training").mkdir()
    path = tmp_path / "training" / "lock"
    with DirectoryLock(path), pytest.raises(CheckpointError, match=r"process \d+ on \S+ is training here"):
        DirectoryLock(path).__enter__()
    with DirectoryLock(path):
        pass


@pytest.mark.skipif(not staging._MEMORY.is_dir(), reason="no file system in memory")
def test_a_copy_goes_to_memory_only_where_twice_its_size_is_left(monkeypatch):
    monkeypatch.setattr(staging, "memory_left", lambda: 100)
    assert staging.memory_folder(51) is None
    folder = staging.memory_folder(50)
    assert folder.parent == staging._MEMORY
    folder.rmdir()
