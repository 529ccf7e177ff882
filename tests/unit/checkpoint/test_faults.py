"""Every write of a checkpoint fails in turn, or is the last thing its process does; flipped bytes are found."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

import subgpt
from subgpt import GPT, AdamW, CheckpointError, OutputError, TrainConfig, _core
from subgpt.checkpoint import checkpoints, checksums, draft
from subgpt.checkpoint.checkpoints import (
    TrainState,
    draft_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    prune,
    read_state,
    restore,
    sweep,
    verify,
)
from subgpt.checkpoint.run_directory import RunDirectory
from subgpt.checkpoint.staging import memory_folder, sweep_memory
from subgpt.checkpoint.writer import BackgroundWriter
from subgpt.training.keeper import Keeper
from subgpt.training.recorder import Recorder
from subgpt.training.run import Run

VALUES = {1: 0.5, 2: -0.5}


class KillError(BaseException):
    """The process is no more: what comes after must not touch the disk."""


class Faults:
    """Counts calls that write, and lets number `at` fail: with `error`, or for good where that is a KillError.

    early: before the call did its work, else right after.
    """

    def __init__(self, patch, at, error, *, early):
        self.at, self.error, self.early, self.count, self.dead = at, error, early, 0, False
        self.names = []
        places = [
            (os, "fsync"), (os, "replace"), (os, "rename"), (os, "mkdir"), (os, "rmdir"), (os, "unlink"),
            (_core, "write_atomic"), (_core, "publish_directory"), (Path, "rename"), (Path, "mkdir"), (Path, "open"),
            (shutil, "rmtree"), (draft, "save_weights"), (draft, "copy_with_sum"), (draft, "sum_of_file"),
            (draft, "write_config"), (draft, "write_json"),
        ]  # fmt: skip
        for owner, name in places:
            patch.setattr(owner, name, self.wrap(name, getattr(owner, name)))

    def wrap(self, name, call):
        def faulty(*args, **kwargs):
            if self.dead:
                raise KillError
            self.count += 1
            self.names.append(name)
            mine = self.count == self.at
            if mine and self.early:
                self.fail()
            result = call(*args, **kwargs)
            if mine:
                if hasattr(result, "close"):
                    result.close()
                self.fail()
            return result

        return faulty

    def fail(self):
        self.dead = isinstance(self.error, KillError)
        raise self.error


@pytest.fixture(autouse=True)
def _memory_is_left_as_it_was():
    yield
    for path in Path("/dev/shm").glob(
        f"subgpt-{os.getpid()}-*"
    ):  # of processes that were killed, so to speak
        shutil.rmtree(path)


@pytest.fixture
def model(tiny):
    return GPT(tiny(), seed=1)


def fill(model, value):
    model.load_state_dict({name: tensor * 0 + value for name, tensor in model.state_dict().items()})


def write(folder, model, optimizer, step, *, in_memory):
    made = draft_checkpoint(
        folder, model, optimizer, TrainState(step=step, best_step=step), in_memory=in_memory
    )
    try:
        made.write(folder)
    finally:
        made.discard()
    prune(folder, 1)


def check_whole(folder, model, optimizer, old_may_be_gone):
    """Open what is there as a resumed run does; it is all of the old or all of the new."""
    sweep(folder)
    path, state = newest_checkpoint(folder, pytest.fail)
    restore(path, state, model, optimizer)
    weights = model.state_dict().values()
    assert all((tensor == VALUES[state.step]).all() for tensor in weights)
    assert old_may_be_gone or (folder / "step-000001").is_dir()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("in_memory", [True, False], ids=["memory", "disk"])
@pytest.mark.parametrize("error", ["full", "broken", "kill"])
@pytest.mark.parametrize("early", [True, False], ids=["before", "after"])
def test_whatever_write_fails_the_reader_finds_the_old_or_the_new(model, tmp_path, in_memory, error, early):
    optimizer = AdamW(model, 0.1)
    fill(model, VALUES[1])
    base = tmp_path / "base"
    base.mkdir()
    write(base, model, optimizer, 1, in_memory=False)
    seen = set()
    for at in range(1, 500):
        folder = tmp_path / "run"
        shutil.copytree(base, folder)
        fill(model, VALUES[2])
        raised = {
            "full": OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "broken": OSError(errno.EIO, os.strerror(errno.EIO)),
            "kill": KillError(),
        }[error]
        with pytest.MonkeyPatch.context() as patch:
            faults = Faults(patch, at, raised, early=early)
            with contextlib.suppress(KillError if error == "kill" else OSError):
                write(folder, model, optimizer, 2, in_memory=in_memory)
        seen.update(faults.names)
        published = (folder / "step-000002").is_dir()
        check_whole(folder, model, optimizer, old_may_be_gone=published)
        shutil.rmtree(folder)
        if faults.count < at:
            break
    assert faults.count < at, "every call had its turn"
    assert at > 8
    assert {"publish_directory", "write_json", "rename"} <= seen


@pytest.fixture
def two(model, tmp_path):
    optimizer = AdamW(model, 0.1)
    for step in (1, 2):
        fill(model, VALUES[step])
        draft_checkpoint(tmp_path, model, optimizer, TrainState(step=step)).write(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "config.json", "state.json"])
def test_any_flipped_byte_is_found_and_named_and_the_older_one_taken(two, file):
    path = two / "step-000002" / file
    content = path.read_bytes()
    for place in {0, 9, len(content) // 3, len(content) // 2, len(content) - 1}:
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(CheckpointError, match=rf"step-000002.{file}"):
            read_state(two / "step-000002")
    notes = []
    assert newest_checkpoint(two, notes.append)[0].name == "step-000001"
    assert len(notes) == 1
    assert file in notes[0]


def test_opening_a_damaged_checkpoint_points_to_one_that_is_whole(two, model):
    assert subgpt.load(two / "step-000002")[0].config == model.config
    path = two / "step-000002" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 64  # a number like any other
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"model\.safetensors: is not what was written.*step-000001 is whole"
    ):
        subgpt.load(two / "step-000002")
    (two / "step-000001" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"SHA-256 is another\); it is damaged$"):
        subgpt.load(two / "step-000002")


def test_sums_are_those_of_sha256sum(two):
    import hashlib

    values = verify(two / "step-000002")
    assert set(values["sha256"]) == {"model.safetensors", "optimizer.safetensors", "config.json"}
    for name, expected in values["sha256"].items():
        assert hashlib.sha256((two / "step-000002" / name).read_bytes()).hexdigest() == expected


def test_a_copy_in_memory_is_of_its_moment_and_leaves_nothing(model, tmp_path):
    if memory_folder(1) is None:
        pytest.skip("there is no file system in memory here")
    sweep_memory()
    optimizer = AdamW(model, 0.1)
    fill(model, VALUES[1])
    mine = f"subgpt-{os.getpid()}-*"
    before = set(Path("/dev/shm").glob(mine))
    made = draft_checkpoint(tmp_path, model, optimizer, TrainState(step=1))
    assert set(Path("/dev/shm").glob(mine)) == before, "nothing there has a name"
    fill(model, VALUES[2])
    path = made.write(tmp_path)
    restore(path, read_state(path), model, optimizer)
    assert all((tensor == VALUES[1]).all() for tensor in model.state_dict().values())


def test_litter_of_dead_processes_is_swept_from_memory():
    if memory_folder(1) is None:
        pytest.skip("there is no file system in memory here")
    litter, alive = (Path(f"/dev/shm/subgpt-{pid}-test") for pid in (2**22 + 1, os.getpid()))
    litter.mkdir()
    alive.mkdir()
    sweep_memory()
    assert (litter.exists(), alive.exists()) == (False, True)
    alive.rmdir()


def test_without_room_in_memory_the_copy_goes_to_the_disk():
    assert memory_folder(1 << 60) is None


def test_a_failing_background_write_is_raised_and_ends_the_others():
    writer, told, made = BackgroundWriter(), [], []

    def fail(cancelled):
        raise OutputError("disk full")

    def late(cancelled):
        if cancelled():
            raise checksums.CancelledError
        made.append(1)
        return Path("late")

    writer.submit(lambda cancelled: Path("good"), told.append)
    writer.wait()
    assert told == [Path("good")]
    writer.submit(fail, told.append)
    with pytest.raises(OutputError, match="disk full"):
        writer.wait()
    writer.submit(late, told.append)
    writer.close()
    assert (told, made) == ([Path("good")], [])


def test_after_a_write_that_failed_no_copy_is_made(model, tmp_path, monkeypatch):
    """It would stay, as nobody writes it any more; here on the disk, where there is no room in memory."""
    monkeypatch.setattr(draft, "memory_folder", lambda needed: None)
    with contextlib.ExitStack() as stack:
        keeper = Keeper(RunDirectory(tmp_path), model, stack)
        keeper.open(resume=False, overwrite=False)
        config = TrainConfig(load_best_model_at_end=True)
        keeper.begin(AdamW(model, 0.1), TrainState(step=1), config, discard=False)
        keeper.recorder = Recorder(Run(), None, (), 1)

        def fail(cancelled):
            raise OutputError("disk full")

        for keep in (lambda: keeper.save(False), keeper.keep_best):
            keeper._writer.submit(fail, lambda path: None)
            keeper._writer._jobs.join()
            with pytest.raises(OutputError, match="disk full"):
                keep()
            assert not list((tmp_path / "training" / "checkpoints").iterdir())
        keeper.close()


def test_jobs_are_written_in_order_and_heard_of_in_the_callers_thread():
    writer, told = BackgroundWriter(), []
    for number in range(20):
        writer.submit(
            lambda cancelled, number=number: Path(str(number)),
            lambda path: told.append((path.name, threading.current_thread())),
        )
    writer.close()
    assert told == [(str(number), threading.main_thread()) for number in range(20)]


def test_best_weights_stay_while_a_checkpoint_names_them(model, tmp_path):
    optimizer = AdamW(model, 0.1)

    def best(step):
        draft.Draft(tmp_path, checkpoints.best_name(step), model, None, {"best_step": step}).write(tmp_path)
        checkpoints.prune_best(tmp_path, [step])

    def save(step, best_step):
        state = TrainState(step=step, best_step=best_step)
        draft_checkpoint(tmp_path, model, optimizer, state).write(tmp_path)
        prune(tmp_path, 2)

    best(1)
    save(2, 1)
    best(3)
    best(4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["best-000001", "best-000004", "step-000002"]
    save(4, 4)
    save(5, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-000004", "step-000004", "step-000005"]
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000004", "step-000005"]
    assert subgpt.load(tmp_path / "best-000004")[0].config == model.config


def test_where_rollbacks_may_go_the_ones_that_are_due_stay_beside_those_of_interruptions(model, tmp_path):
    optimizer = AdamW(model, 0.1)
    for step in (10, 20, 23, 27, 30, 34):
        draft_checkpoint(tmp_path, model, optimizer, TrainState(step=step)).write(tmp_path)
        prune(tmp_path, 2, every=10)
    assert [checkpoints.step_of(path) for path in list_checkpoints(tmp_path)] == [20, 30, 34]


def test_where_memory_fills_up_meanwhile_the_copy_goes_to_the_disk(model, tmp_path, monkeypatch):
    save = draft.save_weights

    def full(model, path):
        if path.is_relative_to("/dev/shm"):
            raise OutputError("No space left on device")
        return save(model, path)

    monkeypatch.setattr(draft, "save_weights", full)
    path = draft_checkpoint(tmp_path, model, AdamW(model, 0.1), TrainState(step=1)).write(tmp_path)
    assert verify(path)["step"] == 1


def test_frozen_weights_count_where_room_is_looked_for(tiny, tmp_path, monkeypatch):
    model, asked = GPT(tiny(n_embd=64, n_layer=2), seed=1), []
    model.freeze(["0-1"])
    monkeypatch.setattr(draft, "memory_folder", asked.append)
    path = draft_checkpoint(tmp_path, model, AdamW(model, 0.1), TrainState(step=1)).write(tmp_path)
    written = sum((path / name).stat().st_size for name in ("model.safetensors", "optimizer.safetensors"))
    assert written <= asked[0] < written + (2 << 20)
