"""Several Python threads at everything at once, and processes that begin meanwhile: the same results, and no hang."""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import subgpt
from subgpt import ops

TEXTS = [f"so much depends upon a red wheel barrow {n}" for n in range(12)]
SHAPE = {"block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 32, "position": "rotary", "norm": "rms_norm"}
LIMIT = 240
"""Seconds after which everything has ended, or hangs."""


@pytest.fixture(scope="module")
def tokenizer():
    return subgpt.Tokenizer.train(iter(TEXTS), level="char")


@pytest.fixture(scope="module")
def model(tokenizer):
    return fresh(tokenizer, 1)


def fresh(tokenizer, seed: int) -> subgpt.GPT:
    return subgpt.GPT(subgpt.GPTConfig(vocab_size=tokenizer.vocab_size, **SHAPE), seed=seed)


@pytest.fixture
def deadline() -> Iterator[float]:
    """Says where every thread stands when the time is over."""
    faulthandler.dump_traceback_later(LIMIT)
    yield time.monotonic() + LIMIT
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def threads_before() -> Iterator[None]:
    before = subgpt.get_num_threads()
    yield
    subgpt.set_num_threads(before)


def kinds(tokenizer, model) -> dict[str, Callable[[int], Any]]:
    """What threads do; each gives the same for the same number, whoever does it and whatever else goes on."""

    def train(seed: int) -> bytes:
        own, x = (
            fresh(tokenizer, seed),
            np.random.default_rng(seed).integers(0, tokenizer.vocab_size, (4, 16)),
        )
        optimizer = subgpt.AdamW(own, 1e-2)
        for _ in range(4):
            own.backward(x[:, :-1], x[:, 1:])
            optimizer.step()
        return b"".join(value.tobytes() for value in own.state_dict().values())

    def run(seed: int) -> list[float]:
        config = subgpt.TrainConfig(max_steps=4, batch_size=2, save_steps=2, eval_steps=2, seed=seed)
        with tempfile.TemporaryDirectory() as folder:
            own = fresh(tokenizer, seed)
            made = subgpt.pretrain(own, tokenizer, iter(TEXTS), config, output_dir=folder, callbacks=[])
            loaded, _ = subgpt.load(folder)
            assert loaded.loss([[1, 2, 3]], [[2, 3, 4]]) == own.loss([[1, 2, 3]], [[2, 3, 4]])
        return made.losses

    def words(seed: int) -> tuple[list[int], int]:
        text = " ".join(random.Random(seed).choices(TEXTS, k=200))
        trained = subgpt.Tokenizer.train(iter([text]), vocab_size=300)
        assert trained.decode(trained.encode(text)) == text
        return tokenizer.encode(text).tolist(), len(trained.encode(text))

    def product(seed: int) -> bytes:
        a = np.random.default_rng(seed).standard_normal((120, 90)).astype(np.float32)
        return ops.matmul(a, np.ascontiguousarray(a.T)).tobytes()

    return {
        "train": train,
        "run": run,
        "words": words,
        "product": product,
        "generate": lambda seed: subgpt.generate(model, tokenizer, "so", max_new_tokens=20, seed=seed),
        "complete": lambda seed: [
            c.text for c in subgpt.complete(model, tokenizer, "red", n=2, max_tokens=8, seed=seed)
        ],
        "evaluate": lambda seed: subgpt.evaluate(model, tokenizer, iter(TEXTS[seed % 3 :])).loss,
    }


@pytest.mark.timeout(LIMIT + 60)
def test_threads_do_everything_at_once(tokenizer, model, deadline, threads_before):
    """Also ask an engine, and change the number of threads that products have."""
    does = kinds(tokenizer, model)
    tasks = [(kind, seed) for kind in does for seed in range(3)]
    expected = {task: does[task[0]](task[1]) for task in tasks}
    failures: list[object] = []

    def work(number: int, engine: subgpt.Engine) -> None:
        draw = random.Random(number)
        try:
            for kind, seed in draw.sample(tasks, len(tasks)):
                subgpt.set_num_threads(draw.randint(1, 4))
                job = engine.submit("so", max_new_tokens=20, seed=seed)
                if does[kind](seed) != expected[kind, seed]:
                    failures.append((kind, seed))
                if "so" + job.text() != expected["generate", seed]:
                    failures.append(("engine", seed))
        except BaseException as error:
            failures.append(error)

    with subgpt.Engine(model, tokenizer) as engine:
        threads = [threading.Thread(target=work, args=(number, engine), daemon=True) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a thread hangs"
    assert failures == []


def in_child(check: Callable[[], bool], deadline: float) -> bool:
    """Tell what a forked child finds to be true; one that hangs is a failure."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer Pythons warn of forking a process with threads
        child = os.fork()
    if child == 0:
        fine = False
        try:
            fine = check()
        finally:
            os._exit(0 if fine else 1)
    while (status := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("a child hangs")
        time.sleep(0.01)
    return status[1] == 0


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@needs_fork
@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize("kind", ["train", "words", "product", "generate", "evaluate"])
def test_children_work_while_threads_do(tokenizer, model, deadline, kind):
    """Children that begin in the middle of others' work make models of their own, and read one that is not changed."""
    does = kinds(tokenizer, model)
    expected, stop = does[kind](1), threading.Event()

    def work(number: int) -> None:
        while not stop.is_set():
            does[("train", "generate", "words")[number]](number)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        own = fresh(tokenizer, 7)
        for _ in range(5):
            assert in_child(
                lambda: does[kind](1) == expected if kind != "evaluate" else own.loss([[1]], [[2]]) > 0,
                deadline,
            )
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


@needs_fork
@pytest.mark.timeout(LIMIT + 60)
def test_a_child_is_told_of_a_model_that_was_being_changed(tokenizer, deadline):
    """A child can neither wait for the thread that changed it, nor use weights that are half new."""
    own, stop = fresh(tokenizer, 1), threading.Event()
    x = np.ones((8, 16), np.int64)

    def train() -> None:
        while not stop.is_set():
            own.backward(x, x)

    def told() -> bool:
        try:
            return bool(own.loss(x, x) > 0)
        except subgpt.InvalidValueError as error:
            return "was forked" in str(error)

    thread = threading.Thread(target=train, daemon=True)
    thread.start()
    try:
        assert all(in_child(told, deadline) for _ in range(20))
    finally:
        stop.set()
        thread.join(60)


@needs_fork
def test_an_engine_belongs_to_its_process(tokenizer, model, deadline):
    async def pieces() -> list[object]:
        return [piece async for piece in job]

    def refused() -> bool:
        found = 0
        for ask in (
            lambda: engine.submit("so"),
            lambda: engine.stats,
            job.text,
            lambda: asyncio.run(pieces()),
        ):
            try:
                ask()
            except subgpt.InvalidValueError as error:
                found += "forked" in str(error)
        engine.close()
        return found == 4

    with subgpt.Engine(model, tokenizer) as engine:
        job = engine.submit("so", max_new_tokens=2000)
        assert in_child(refused, deadline)
        job.cancel()


PROGRAM = """
import multiprocessing, sys, threading
import subgpt

TEXTS = ["so much depends upon a red wheel barrow"] * 4


def work(seed):
    tokenizer = subgpt.Tokenizer.train(iter(TEXTS), level="char")
    shape = dict(block_size=16, n_layer=1, n_head=2, n_embd=16)
    model = subgpt.GPT(subgpt.GPTConfig(vocab_size=tokenizer.vocab_size, **shape), seed=seed)
    config = subgpt.TrainConfig(max_steps=3, batch_size=2, seed=seed)
    run = subgpt.pretrain(model, tokenizer, iter(TEXTS), config, callbacks=[])
    return run.losses, subgpt.generate(model, tokenizer, "so", max_new_tokens=9, seed=seed)


if __name__ == "__main__":
    expected = [work(seed) for seed in range(4)]  # the parent's threads are running now
    ended = threading.Event()

    def busy():
        while not ended.is_set():
            work(9)

    thread = threading.Thread(target=busy)
    if sys.argv[2] == "during":
        thread.start()
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        seen = pool.map(work, range(4))
    ended.set()
    if thread.ident:
        thread.join()
    print("same" if seen == expected else "other")
"""


@pytest.mark.timeout(LIMIT + 60)
@pytest.mark.parametrize("moment", ["after", "during"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(tmp_path: Path, method, moment):
    """Pools of every kind, after work of the parent and during it."""
    import multiprocessing

    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not start processes by {method}")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    found = subprocess.run(
        [sys.executable, "-W", "ignore", str(program), method, moment],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert found.stdout == "same\n", found.stderr
