"""Hostile calls of a tokenizer: what is no text, no list, no id; lists that change; threads, forks, signals."""

from __future__ import annotations

import concurrent.futures
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from subgpt.errors import DtypeError, InvalidValueError, ShapeError, SubgptError, TokenizerError
from subgpt.tokenizer import Tokenizer

TEXT = "the cat sat on the mat. THE CAT'S hat — naïve 中文 😀!\n"
LONE = "a\ud800b"


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.train([TEXT * 5], vocab_size=300)


@pytest.fixture(scope="module", params=["r50k", "cl100k", "o200k"])
def published(request, shared):
    return Tokenizer.load(shared / "data" / "vocab" / "tiktoken" / f"{request.param}_base.tiktoken")


# --- text ---


def test_lone_surrogates_in_every_call(tok):
    replaced = "a\ufffdb"
    ids = tok.encode(replaced).tolist()
    assert tok.encode_ordinary(LONE).tolist() == ids
    assert tok.encode_batch([LONE, "x", LONE])[0].tolist() == [*ids, *tok.encode("x"), *ids]
    assert tok.encode_with_offsets(LONE).ids.tolist() == ids
    assert tok.count(LONE) == len(ids)
    assert tok.tokens(LONE) == tok.tokens(replaced)
    assert tok.decode(tok.encode(tok.truncate(LONE, 2))) == tok.truncate(replaced, 2)
    with pytest.raises(TokenizerError, match=r"texts\[1\].*surrogate"):
        tok.encode_batch(["x", LONE], errors="strict")
    for call in (
        lambda: tok.encode("x", allowed_special=[LONE]),
        lambda: tok.encode("x", disallowed_special=[LONE]),
        lambda: Tokenizer.train(["x"], special_tokens=[LONE]),
        lambda: Tokenizer.from_json(LONE),
    ):
        with pytest.raises(SubgptError, match="surrogate"):
            call()


def test_nul_is_a_character_like_any_other(tok, published):
    text = "\0a\0\0<|endoftext|>\0"
    for one in (tok, published):
        ids = one.encode(text, allowed_special="all")
        assert one.decode(ids, "strict") == text
        assert one.eot_id in ids
        assert one.token_to_id("\0") == one.encode("\0")[0]
        assert one.token_to_id("\0a\0") is None


class Loud(str):
    """A str that lies about itself wherever Python asks."""

    __slots__ = ()

    def encode(self, *arguments, **more):
        raise RuntimeError("nobody has to ask")

    __str__ = __len__ = __iter__ = __getitem__ = __eq__ = encode
    __hash__ = str.__hash__


def test_a_str_subclass_is_its_text(tok):
    ids = tok.encode(TEXT).tolist()
    assert tok.encode(Loud(TEXT)).tolist() == ids
    assert tok.encode_batch([Loud(TEXT), TEXT])[0].tolist() == ids * 2
    assert tok.count(Loud(TEXT)) == len(ids)


@pytest.mark.parametrize(
    "bad", [b"bytes", bytearray(b"x"), memoryview(b"x"), None, 1, ["x"], {"x"}, Path("x")]
)
def test_what_is_no_text_is_named(tok, bad):
    for call in (tok.encode, tok.encode_ordinary, tok.count, tok.tokens, tok.encode_with_offsets):
        with pytest.raises(DtypeError, match=f"text must be str, not {type(bad).__name__}"):
            call(bad)
    with pytest.raises(DtypeError, match=f"text must be str, not {type(bad).__name__}"):
        tok.truncate(bad, 3)
    with pytest.raises(DtypeError, match=rf"texts\[2\] must be str, not {type(bad).__name__}"):
        tok.encode_batch(["a", "b", bad])


# --- many texts ---


def test_an_iterator_that_raises_ends_the_call(tok):
    def texts():
        yield TEXT
        raise ZeroDivisionError("mine")

    for call in (tok.encode_batch, Tokenizer.train):
        with pytest.raises(ZeroDivisionError, match="mine"):
            call(texts())
    # And leaves nothing behind.
    assert tok.decode(tok.encode(TEXT)) == TEXT


def test_a_list_that_changes_while_it_is_read(tok):
    texts = [f"{TEXT}{i}" for i in range(100)]
    expected = tok.encode_batch(list(texts))[0].tolist()

    def emptied():
        while texts:
            # Nobody else holds this str any more once the next is asked for.
            yield texts.pop(0)

    assert tok.encode_batch(emptied())[0].tolist() == expected

    growing = ["x"]

    def grown():
        for text in growing:
            if len(growing) < 50:
                growing.append(text + "y")
            yield text

    ids, offsets = tok.encode_batch(grown())
    assert len(offsets) == 51
    assert tok.decode(ids) == "".join(growing)


def test_an_iterator_that_encodes_and_trains(tok):
    def texts():
        for i in range(20):
            tok.encode_batch([TEXT] * 10)
            yield str(tok.encode(f"{i}").tolist())

    assert len(tok.encode_batch(texts())[1]) == 21
    assert Tokenizer.train(texts(), vocab_size=260).vocab_size >= 257


def test_huge_lists_of_short_texts(tok):
    ids, offsets = tok.encode_batch(["ab"] * 1_000_000)
    assert (ids.reshape(1_000_000, -1) == tok.encode("ab")).all()
    assert len(offsets) == 1_000_001
    assert tok.encode_batch([""] * 1_000_000)[0].size == 0


# --- ids ---


def test_what_is_no_list_of_ids(tok):
    ids = tok.encode(TEXT)
    for bad in (
        ids > 3,
        [True, False],
        ids.astype(float),
        ids.astype(complex),
        ids.astype(str),
        object(),
        "12",
        [2**70],
    ):
        for call in (tok.decode, tok.decode_bytes):
            with pytest.raises(DtypeError, match="ids"):
                call(bad)
    for bad in (ids[None], ids.reshape(-1, 1), [[1, 2], [3, 4]], np.zeros((2, 3, 4), int)):
        for call in (tok.decode, tok.decode_bytes):
            with pytest.raises(ShapeError, match="one dimension"):
                call(bad)
    for bad in ([[1], [2, 3]], [1, "a"], [1, None], {1, 2}):
        with pytest.raises(SubgptError):
            tok.decode(bad)


def test_ids_that_are_none(tok):
    size = tok.vocab_size
    for bad in (-1, size, 2**31, 2**32 - 1, 2**32, 2**32 + 1, -(2**32), 2**63 - 1, -(2**63)):
        for ids in ([1, bad], np.array([1, bad])):
            for call in (tok.decode, tok.decode_bytes):
                with pytest.raises(InvalidValueError, match=str(bad)):
                    call(ids)
    with pytest.raises(InvalidValueError, match=str(2**64 - 1)):
        tok.decode(np.array([2**64 - 1], np.uint64))
    # Refused as a whole: a stream is as it was.
    stream = tok.decode_stream()
    stream.push(int(tok.encode("é")[0]))
    for bad in (-1, size, 2**40):
        with pytest.raises(InvalidValueError):
            stream.push(bad)
    assert stream.flush() == "\ufffd"


@pytest.mark.parametrize(
    "make",
    [
        lambda ids: np.repeat(ids, 3)[::3],
        lambda ids: ids[::-1][::-1],
        lambda ids: np.stack([ids, ids], 1)[:, 0],
        lambda ids: ids.astype(">u4"),
        lambda ids: ids.astype(">i8"),
        lambda ids: ids.astype(np.uint16),
        lambda ids: np.frombuffer(b"\0" + ids.tobytes(), np.uint8)[1:].view(np.uint32),
        np.asfortranarray,
        list,
        lambda ids: range(int(ids[0]), int(ids[0]) + 1),
    ],
)
def test_ids_in_any_layout(tok, make):
    ids = tok.encode(TEXT)
    given = make(ids)
    assert tok.decode_bytes(given) == b"".join(tok.decode_bytes([int(i)]) for i in given)
    assert tok.decode_bytes(ids) == TEXT.encode()


def test_a_million_ids_in_a_list(tok):
    assert tok.decode([97] * 1_000_000) == "a" * 1_000_000


# --- one piece without an end ---


@pytest.mark.parametrize("text", ["a", " ", "😀"])
def test_a_piece_without_an_end_takes_memory_in_proportion(text, shared):
    """In a process of its own: what it takes at most is asked of the system."""
    path = shared / "data" / "vocab" / "tiktoken" / "cl100k_base.tiktoken"
    done = run(
        "import resource, subgpt, sys\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024\n"
        "tok = subgpt.Tokenizer.load(sys.argv[1])\n"
        "text = sys.argv[2] * 2_000_000\n"
        "before = most()\n"
        "ids = tok.encode_ordinary(text)\n"
        "print((most() - before) / len(text.encode()))\n"
        "assert tok.decode(ids) == text\n",
        str(path),
        text,
    )
    assert float(done.stdout) < 100, done.stderr


# --- threads, forks and signals ---


def test_threads_encode_while_others_fork(tok):
    """Children are made while threads encode: they must not wait for a lock whose owner they did not inherit."""
    if not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    text = TEXT * 20_000
    want = tok.encode(text)
    stop = threading.Event()

    def work() -> int:
        count = 0
        while not stop.is_set():
            # New pieces, so that what is remembered is written to as well.
            assert tok.decode(tok.encode(f"{threading.get_ident()} {count} {TEXT}")).endswith(TEXT)
            assert (tok.encode(text) == want).all()
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        running = [pool.submit(work) for _ in range(3)]
        try:
            for i in range(8):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # newer Pythons warn of forking a process with threads
                    child = os.fork()
                if child == 0:
                    fine = (tok.encode(text) == want).all() and tok.decode(
                        tok.encode(f"child {i}")
                    ) == f"child {i}"
                    os._exit(0 if fine else 1)
                deadline = time.monotonic() + 60
                while (status := os.waitpid(child, os.WNOHANG))[0] == 0:
                    if time.monotonic() > deadline:
                        os.kill(child, signal.SIGKILL)
                        os.waitpid(child, 0)
                        pytest.fail("a child hangs: it waits for a thread that it did not inherit")
                    time.sleep(0.01)
                assert status[1] == 0
        finally:
            stop.set()
        assert all(future.result() > 0 for future in running)


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_pickles_are_the_same_in_another_process(level, tmp_path: Path):
    tok = Tokenizer.train([TEXT * 5], level=level, vocab_size=300)
    (tmp_path / "tok.pickle").write_bytes(pickle.dumps(tok))
    (tmp_path / "text").write_text(TEXT, encoding="utf-8")
    done = run(
        "import pickle, sys, pathlib\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "tok = pickle.loads((folder / 'tok.pickle').read_bytes())\n"
        "text = (folder / 'text').read_text(encoding='utf-8')\n"
        "print(tok.fingerprint, tok.encode(text).tolist(), hash(tok) == hash(pickle.loads(pickle.dumps(tok))))\n",
        str(tmp_path),
    )
    assert done.stdout.strip() == f"{tok.fingerprint} {tok.encode(TEXT).tolist()} True", done.stderr


@pytest.mark.parametrize(
    "call", ["encode(text)", "encode_batch(['a', text])", "count(text)", "encode_file(path, out)"]
)
def test_ctrl_c_ends_a_long_encode(call, tmp_path: Path):
    """Text of new pieces without end; the signal is heeded long before the time that all of it would take."""
    code = (
        "import base64, os, pathlib, signal, subgpt, sys, threading, time\n"
        "subgpt.set_num_threads(1)\n"
        "tok = subgpt.Tokenizer.train(['some text to learn from'], vocab_size=270)\n"
        "text = base64.b64encode(os.urandom(90_000_000)).decode()\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "path, out = folder / 'text.txt', folder / 'out'\n"
        "path.write_text(text) if 'path' in sys.argv[2] else None\n"
        "begin = time.monotonic()\n"
        "tok.encode(text[:3_000_000])\n"
        "all_of_it = 40 * (time.monotonic() - begin)\n"
        "threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()\n"
        "begin = time.monotonic()\n"
        "try:\n"
        "    eval('tok.' + sys.argv[2])\n"
        "except KeyboardInterrupt:\n"
        "    print(time.monotonic() - begin < all_of_it / 2, tok.decode(tok.encode('some text')))\n"
    )
    done = run(code, str(tmp_path), call)
    assert done.stdout.strip() == "True some text", done.stderr
