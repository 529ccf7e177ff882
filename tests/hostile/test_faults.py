"""What happens to a machine while a run goes on: signals, closed terminals, renamed folders, clocks, full disks."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import subgpt
from subgpt import GPT, Callback, CheckpointError, OutputError, TrainConfig, _core
from subgpt.checkpoint import lock as locks
from subgpt.checkpoint.checkpoints import list_best, list_checkpoints, verify

TEXTS = [f"{'so much depends upon a red wheel barrow ' * 3}{n}\n" for n in range(12)]
SETTINGS = {"max_steps": 9, "batch_size": 2, "eval_steps": 4, "save_steps": 3, "learning_rate": 1e-2}

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals and holds open files")


@pytest.fixture(scope="module")
def tokenizer():
    return subgpt.Tokenizer.train(iter(TEXTS), level="char")


def make(tokenizer, seed=1):
    shape = {
        "vocab_size": tokenizer.vocab_size,
        "block_size": 8,
        "n_layer": 1,
        "n_head": 1,
        "n_embd": 8,
        "dropout": 0.1,
    }
    return GPT(subgpt.GPTConfig(**shape), seed=seed)


@pytest.fixture
def train(tokenizer):
    def run(folder=None, *, callbacks=(), resume=False, seed=1, **changes):
        model = make(tokenizer, seed)
        config = TrainConfig(**{**SETTINGS, **changes})
        made = subgpt.pretrain(
            model, tokenizer, iter(TEXTS), config, output_dir=folder, callbacks=callbacks, resume=resume
        )
        return model, made

    return run


class At(Callback):
    def __init__(self, step, act):
        self.step, self.act, self.notes = step, act, []

    def on_step(self, event):
        if event.step == self.step:
            self.act()

    def on_note(self, text):
        self.notes.append(text)


def names(folder):
    return sorted(path.name for path in (folder / "training" / "checkpoints").iterdir())


def bits(model):
    return {name: value.tobytes() for name, value in model.state_dict().items()}


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_signals_save_and_say_how_to_resume(train, tmp_path, name):
    whole, run = train()
    stop = At(5, lambda: os.kill(os.getpid(), getattr(signal, name)))
    _, cut = train(tmp_path, callbacks=[stop])
    assert (cut.interrupted, cut.step) == (True, 5)
    assert any("resume=True" in note and "--resume" in note for note in stop.notes)
    model, resumed = train(tmp_path, resume=True, seed=7)
    assert resumed.losses == run.losses
    assert bits(model) == bits(whole)


CLI = """
import fcntl, sys, termios, time
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from subgpt.training import callbacks
from subgpt.training.recorder import Recorder
step = Recorder.step
def slow(self, *given):
    step(self, *given)
    time.sleep(0.05)
Recorder.step = slow
from subgpt.cli import main
sys.argv = ["subgpt", *sys.argv[1:]]
sys.exit(main())
"""


@posix
def test_a_closed_terminal_saves_the_run(tmp_path):
    """The terminal goes, and with it standard error; the checkpoint is there all the same."""
    import pty

    corpus = tmp_path / "corpus.txt"
    corpus.write_text("".join(TEXTS))
    subgpt.Tokenizer.train(iter(TEXTS), level="char").save(tmp_path / "tok")
    run = tmp_path / "run"
    shape = ["--n-layer", "1", "--n-head", "1", "--n-embd", "8", "--block-size", "8", "--dtype", "float32"]
    given = ["pretrain", "--data", str(corpus), "--tokenizer", str(tmp_path / "tok"), "-o", str(run), *shape]
    leader, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CLI, *given, "--max-steps", "10000", "--save-steps", "100000"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    seen = b""
    metrics = run / "training" / "metrics.jsonl"
    while not (metrics.is_file() and metrics.stat().st_size) and process.poll() is None:
        os.set_blocking(leader, False)
        try:
            seen += os.read(leader, 1 << 16)
        except BlockingIOError:
            time.sleep(0.05)
    os.close(leader)
    assert process.wait(60) != 0, seen
    (saved,) = list_checkpoints(run / "training" / "checkpoints")
    verify(saved)


@posix
def test_a_renamed_folder_is_followed(train, tmp_path):
    whole, run = train()
    before, after = tmp_path / "before", tmp_path / "elsewhere" / "after"
    after.parent.mkdir()
    watcher = At(4, lambda: before.rename(after))
    model, moved = train(before, callbacks=[watcher], load_best_model_at_end=False)
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("only Linux tells where an open file is by now")
    assert moved.output_dir == after
    assert not before.exists()
    assert names(after) == ["step-000006", "step-000009"]
    assert any("was renamed; going on in" in note for note in watcher.notes)
    assert moved.losses == run.losses
    assert bits(subgpt.load(after)[0]) == bits(model) == bits(whole)
    assert len(subgpt.Run.load(after).steps) == 9
    assert train(after, resume=True, max_steps=11)[1].step == 11


@posix
def test_a_deleted_folder_is_said(train, tmp_path):
    import shutil

    with pytest.raises(OutputError, match="was moved or deleted while the run went on"):
        train(tmp_path / "run", callbacks=[At(4, lambda: shutil.rmtree(tmp_path / "run"))], save_steps=6)
    assert not (tmp_path / "run").exists()


def test_a_clock_that_jumps_changes_nothing(train, tmp_path, monkeypatch):
    whole, run = train()

    def jump():
        monkeypatch.setattr(time, "time", lambda: -1e9)
        monkeypatch.setattr(time, "time_ns", lambda: -(10**18))

    model, jumped = train(tmp_path, callbacks=[At(4, jump)])
    assert jumped.losses == run.losses
    assert bits(model) == bits(whole)
    assert names(tmp_path) == ["step-000006", "step-000009"]
    seconds = [record["seconds"] for record in read(tmp_path)]
    assert seconds == sorted(seconds)
    assert seconds[0] >= 0


def read(folder):
    from subgpt.training.metrics import read_metrics

    return read_metrics(folder / "training" / "metrics.jsonl")


def test_a_failing_background_write_ends_the_run_at_the_next_step(train, tmp_path, monkeypatch):
    failed = threading.Event()
    write = _core.publish_directory

    def full(temporary, final):
        if final.endswith("step-000006"):
            failed.set()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(temporary, final)

    monkeypatch.setattr(_core, "publish_directory", full)
    seen = []

    class Wait(Callback):
        def on_step(self, event):
            seen.append(event.step)
            if event.step == 7:
                failed.wait(30)
                time.sleep(0.2)

    with pytest.raises(OutputError, match=r"step-000006: cannot write there \(No space left on device"):
        train(tmp_path, callbacks=[Wait()], max_steps=50, save_steps=6)
    assert seen == list(range(1, 8))
    assert names(tmp_path) == []
    monkeypatch.undo()
    assert train(tmp_path, resume=True, max_steps=50)[1].step == 50


def test_steps_go_on_while_a_checkpoint_is_written(train, tmp_path, monkeypatch):
    """Nothing is written before the fifth step; the copy is that of its own step all the same."""
    release, steps, write = threading.Event(), [], _core.publish_directory

    def slow(temporary, final):
        assert release.wait(30)
        return write(temporary, final)

    class Watch(Callback):
        def on_step(self, event):
            steps.append(event.step)
            if event.step == 5:
                assert not list_checkpoints(tmp_path / "training" / "checkpoints")
                release.set()

    monkeypatch.setattr(_core, "publish_directory", slow)
    whole, _ = train(tmp_path, callbacks=[Watch()], save_total_limit=10)
    assert steps == list(range(1, 10))
    for path in (tmp_path / "training" / "checkpoints" / "step-000009", tmp_path):
        assert bits(subgpt.load(path)[0]) == bits(whole)
    early, _ = train(max_steps=3, warmup_steps=0, min_learning_rate=1e-3, lr_decay_steps=9)
    at_three = subgpt.load(tmp_path / "training" / "checkpoints" / "step-000003")[0]
    assert bits(at_three) == bits(early)


@posix
def test_ctrl_c_while_a_slow_disk_is_waited_for_gives_up_the_write(train, tmp_path, monkeypatch):
    write, begun = _core.write_atomic, threading.Event()

    def slow(path, data):
        if "step-000009" in path:
            begun.set()
            time.sleep(0.5)
        return write(path, data)

    def twice():
        begun.wait(30)
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)

    monkeypatch.setattr(_core, "write_atomic", slow)
    presser = threading.Thread(target=twice)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    presser.join()
    monkeypatch.undo()
    found = list_checkpoints(tmp_path / "training" / "checkpoints")
    assert [verify(path)["step"] for path in found][-1] in (6, 9)
    assert train(tmp_path, resume=True)[1].step == 9


@posix
def test_a_full_disk_in_every_call_of_a_run(train, tmp_path):
    """Files may not grow past a limit, which is what a full disk looks like to those who write."""
    import resource

    whole, _ = train()
    train(tmp_path / "run", max_steps=9, save_steps=3, callbacks=[At(7, lambda: os.kill(os.getpid(), 2))])
    kept = names(tmp_path / "run")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for limit in (0, 100, 1000, 4000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
            with pytest.raises(OutputError):
                train(tmp_path / "run", resume=True)
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            assert [name for name in names(tmp_path / "run") if not name.startswith(".")] == kept
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    model, run = train(tmp_path / "run", resume=True)
    assert run.step == 9
    assert bits(model) == bits(whole)


def test_best_weights_that_changed_on_the_disk_are_named(train, tmp_path):
    def damage():
        (best,) = list_best(tmp_path / "training" / "checkpoints")[-1:]
        path = best / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x7f")

    settings = {"load_best_model_at_end": True, "eval_steps": 5, "max_steps": 9}
    model, run = train(tmp_path, **settings)
    best = list_best(tmp_path / "training" / "checkpoints")
    assert [path.name for path in best][-1] == f"best-{run.best_step:06d}"
    assert bits(subgpt.load(best[-1])[0]) == bits(model)
    damage()
    with pytest.raises(CheckpointError, match=r"best-\d+.model\.safetensors.*load_best_model_at_end=False"):
        train(tmp_path, resume=True, **settings)
    _, last = train(tmp_path, resume=True, **{**settings, "load_best_model_at_end": False})
    assert last.step == 9


def test_best_weights_that_were_never_kept_are_said(train, tmp_path):
    train(tmp_path)
    note = At(0, None)
    train(tmp_path, resume=True, load_best_model_at_end=True, callbacks=[note])
    assert any("were not kept; the run ends with its last" in text for text in note.notes)


@posix
def test_a_file_system_without_locks_goes_by_the_name_in_the_file(tmp_path, monkeypatch):
    (tmp_path / "training").mkdir()
    path = tmp_path / "training" / "lock"

    def none(file):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks, "_acquire", none)
    with locks.DirectoryLock(path):
        assert path.read_text().startswith(f"process {os.getpid()} on ")
    host = locks.socket.gethostname()
    path.write_text(f"process {os.getppid()} on {host}")
    with pytest.raises(CheckpointError, match=f"process {os.getppid()} on {host} is training here"):
        locks.DirectoryLock(path).__enter__()
    path.write_text(f"process {2**22 + 1} on {host}")
    with locks.DirectoryLock(path):
        pass
