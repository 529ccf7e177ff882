"""A good guest in the interpreter: forks, Python threads, signals and odd settings of the environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest

import subgpt
from subgpt import ops


def small_model(seed: int = 1) -> subgpt.GPT:
    config = subgpt.GPTConfig(vocab_size=50, block_size=32, n_layer=2, n_head=2, n_embd=32)
    return subgpt.GPT(config, seed=seed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_has_threads_of_its_own():
    rng = np.random.default_rng(1)
    a = rng.standard_normal((300, 300)).astype(np.float32)
    want = ops.matmul(a, a)  # the parent's pool is running now
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forking a process with threads
        child = os.fork()
    if child == 0:
        os.write(write, b"y" if np.array_equal(ops.matmul(a, a), want) else b"n")
        os._exit(0)
    os.close(write)
    deadline = time.monotonic() + 60
    while os.waitpid(child, os.WNOHANG)[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            pytest.fail("the child hangs: it waits for threads that it did not inherit")
        time.sleep(0.01)
    assert os.read(read, 1) == b"y"
    os.close(read)


def test_python_threads_may_share_a_model():
    """Eight threads train, measure and generate at once; a hang or a torn state is a failure."""
    model = small_model()
    rng = np.random.default_rng(2)
    x = rng.integers(0, 50, (4, 32))
    failures: list[BaseException] = []

    def work(kind: int) -> None:
        try:
            optimizer = subgpt.AdamW(model, 1e-3)
            for _ in range(5):
                if kind % 2:
                    model.backward(x, x)
                    optimizer.step()
                else:
                    assert np.isfinite(model.loss(x, x))
                    assert len(model.generate([1, 2], max_new_tokens=8, seed=kind)) >= 2
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(kind,), daemon=True) for kind in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a thread hangs"
    assert failures == []


def test_the_interpreter_runs_while_a_kernel_does():
    a = np.ones((1500, 1500), np.float32)
    turns = 0
    done = threading.Event()

    def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    before = turns
    for _ in range(3):
        ops.matmul(a, a)
    seen = turns - before
    done.set()
    thread.join()
    assert seen > 10


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(("value", "threads"), [("3", "3"), (" 2 ", "2")])
def test_the_environment_sets_the_threads(value, threads):
    done = run("import subgpt; print(subgpt.get_num_threads())", SUBGPT_NUM_THREADS=value)
    assert done.stdout.strip() == threads


@pytest.mark.parametrize("value", ["0", "-1", "many", "", "99999999999999999999"])
def test_a_senseless_number_of_threads_is_passed_over(value):
    done = run("import subgpt; print(subgpt.get_num_threads() >= 1)", SUBGPT_NUM_THREADS=value)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("value", ["portable", "nonsense", ""])
def test_the_environment_sets_the_instruction_set(value):
    done = run("import subgpt; print(subgpt.isa())", SUBGPT_ISA=value)
    assert done.stdout.strip() == ("portable" if value == "portable" else subgpt.available_isas()[-1])


def test_ctrl_c_ends_a_long_native_call():
    code = (
        "import subgpt, threading, os, signal, time\n"
        "c = subgpt.GPTConfig(vocab_size=64, block_size=256, n_layer=4, n_head=4, n_embd=128)\n"
        "m = subgpt.GPT(c, seed=1)\n"
        "threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        "    m.generate([1], max_new_tokens=10**7)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')\n"
    )
    begin = time.monotonic()
    done = run(code)
    assert done.stdout.strip() == "stopped", done.stderr
    assert time.monotonic() - begin < 60


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system does not bind processes to processors"
)
def test_no_more_threads_than_processors_that_may_be_used():
    one = "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    code = f"import os; {one}; import subgpt; print(subgpt.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name != "SUBGPT_NUM_THREADS"}
    seen = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    assert seen.stdout.strip() == "1"


def test_numbers_near_zero_are_numbers():
    """Nobody's processor is told to take them for zeros, on no thread."""
    small = np.full((64, 64), 1e-42, np.float32)  # below the smallest normal number
    assert np.allclose(ops.matmul(small, np.full((64, 64), 1e30, np.float32)), 64 * 1e-12, rtol=1e-3)
    assert small[0, 0] * np.float32(2) > 0
    assert np.isfinite(ops.softmax(small)).all()
    model = small_model()
    model.load_state_dict({name: value * np.float32(1e-40) for name, value in model.state_dict().items()})
    assert np.isfinite(model.loss([[1, 2, 3]], [[2, 3, 4]]))
