"""Properties of the data layer that must hold for every size, seed and text."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from subgpt.data import (
    ExampleLoader,
    WindowLoader,
    evaluation_batches,
    evaluation_example_batches,
    load_corpus,
    read_documents,
    read_examples,
    split_examples,
    tokenize_examples,
)
from subgpt.data.decoding import decode
from subgpt.data.permutation import permute
from subgpt.data.reading import read_lines
from subgpt.data.split import in_validation
from subgpt.errors import DataError, InvalidValueError

seeds = st.integers(-(2**70), 2**70)
# A machine that is shared or busy makes one example slow now and then, which says nothing about the code.
relaxed = settings(deadline=None)

words = st.text(st.characters(max_codepoint=900, exclude_categories=["Cs"]), max_size=12)


class CharTokenizer:
    """Code points as ids; id 999 ends a text."""

    vocab_size = 1000
    template = ((), ())

    def __init__(self, eot_id=999):
        self.eot_id = eot_id

    def encode_batch(self, texts, **rules):
        offsets = np.cumsum([0, *map(len, texts)]).astype(np.uint64)
        return np.array([ord(c) for text in texts for c in text], dtype=np.uint32), offsets

    def decode_bytes(self, ids):
        return "".join(map(chr, ids.tolist())).encode()


# --- the permutation ---


@relaxed
@given(n=st.integers(1, 3000), seed=seeds, epoch=st.integers(0, 2**64 - 1))
@example(n=1, seed=0, epoch=0)
@example(n=2, seed=0, epoch=0)
@example(n=1024, seed=-1, epoch=2**64 - 1)
@example(n=1025, seed=2**64, epoch=0)
def test_a_permutation_is_a_bijection(n, seed, epoch):
    image = permute(np.arange(n, dtype=np.uint64), n, seed=seed, epoch=epoch)
    assert sorted(image.tolist()) == list(range(n))


@relaxed
@given(n=st.integers(1, 2**62), seed=seeds, data=st.data())
def test_any_position_of_a_huge_permutation_is_a_formula(n, seed, data):
    where = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=50, unique=True))
    index = np.array(where, dtype=np.uint64)
    together = permute(index, n, seed=seed, epoch=3)
    assert len(set(together.tolist())) == len(where)
    assert 0 <= together.min() <= together.max() < n
    alone = [int(permute(index[i : i + 1], n, seed=seed, epoch=3)[0]) for i in range(len(where))]
    assert alone == together.tolist()


def test_positions_and_sizes_out_of_range_are_refused():
    with pytest.raises(InvalidValueError, match="position 5 is beyond the 5 items"):
        permute(np.array([5], dtype=np.uint64), 5, seed=0, epoch=0)
    for n in (0, -1, 2**62 + 1):
        with pytest.raises(InvalidValueError, match="number of items"):
            permute(np.array([0], dtype=np.uint64), n, seed=0, epoch=0)


def test_every_place_is_as_likely_as_any_other():
    # Chi-squared of the items at one position, n - 1 degrees of freedom; the bound is about 5 sigma above.
    epochs = np.arange(20_000, dtype=np.uint64)
    for n in (2, 3, 5, 13, 16, 100):
        for position in (0, n - 1):
            index = np.full(len(epochs), position, dtype=np.uint64)
            counts = np.bincount(permute(index, n, seed=5, epoch=epochs), minlength=n)
            mean = len(epochs) / n
            assert ((counts - mean) ** 2 / mean).sum() < n - 1 + 5 * (2 * n) ** 0.5 + 8


# --- windows ---

sizes = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(0, 120), seeds)


@relaxed
@given(sizes)
def test_an_epoch_is_a_grid_of_windows_each_once(drawn):
    block, batch, extra, seed = drawn
    n = block + 1 + extra
    loader = WindowLoader(np.arange(n, dtype=np.uint32), block_size=block, batch_size=batch, seed=seed)
    per_epoch = loader.windows_per_epoch
    starts = np.concatenate([loader.starts(step) for step in range(3 * per_epoch // batch + 1)])
    for epoch in range(3):
        mine = np.sort(starts[epoch * per_epoch : (epoch + 1) * per_epoch])
        phase = int(mine[0])
        assert 0 <= phase < max(block, n - block)
        # The targets are every position from phase + 1 on, without a gap and without one twice.
        assert mine.tolist() == [phase + k * block for k in range(per_epoch)]
        assert mine[-1] + block + 1 <= n
        assert n - 1 - per_epoch * block <= 2 * block - 1


@relaxed
@given(sizes, st.integers(0, 10**12))
def test_a_batch_is_a_pure_function_of_the_step(drawn, step):
    block, batch, extra, seed = drawn
    tokens = np.random.default_rng(0).integers(0, 2**32, block + 1 + extra, dtype=np.uint32)
    loader = WindowLoader(tokens, block_size=block, batch_size=batch, seed=seed)
    x, y = loader.batch(step)
    loader.batch(step + 1)
    again = WindowLoader(tokens, block_size=block, batch_size=batch, seed=seed).batch(step)
    assert (x == again[0]).all()
    assert (y == again[1]).all()
    assert (x.shape, y.shape, x.dtype, y.dtype) == ((batch, block), (batch, block), np.uint32, np.int64)
    for row, start in enumerate(loader.starts(step)):
        assert (x[row] == tokens[start : start + block]).all()
        assert (y[row] == tokens[start + 1 : start + block + 1]).all()


@relaxed
@given(sizes, st.integers(1, 5))
def test_the_size_of_a_batch_does_not_change_the_order(drawn, factor):
    block, batch, extra, seed = drawn
    tokens = np.arange(block + 1 + extra, dtype=np.uint32)
    small = WindowLoader(tokens, block_size=block, batch_size=batch, seed=seed)
    large = WindowLoader(tokens, block_size=block, batch_size=batch * factor, seed=seed)
    assert np.concatenate([small.starts(s) for s in range(3 * factor)]).tolist() == (
        np.concatenate([large.starts(s) for s in range(3)]).tolist()
    )


@relaxed
@given(st.integers(2, 300), st.integers(1, 20), st.integers(1, 7))
def test_evaluation_has_every_target_exactly_once_in_order(n, block, batch):
    tokens = np.arange(n, dtype=np.uint32)
    batches = list(evaluation_batches(tokens, block_size=block, batch_size=batch))
    assert np.concatenate([y.ravel() for _, y in batches]).tolist() == list(range(1, n))
    assert all((x + 1 == y).all() and x.shape[1] <= block and x.shape[0] <= batch for x, y in batches)


# --- division ---


@relaxed
@given(st.lists(words, min_size=1, max_size=60), st.floats(0.05, 0.9), seeds)
def test_no_text_is_on_both_sides_and_none_is_lost(texts, fraction, seed):
    tok = CharTokenizer()
    total = sorted(ord(c) for t in texts if t.strip() for c in t)
    try:
        train, val, summary = load_corpus(iter(texts), tok, val_fraction=fraction, seed=seed)
    except DataError:
        documents = sum(1 for t in texts if t.strip())
        tokens = len(total) + documents  # each ends with an end-of-text token
        assert (
            tokens * min(fraction, 1 - fraction) < 2 + documents
        )  # less than two for a side, but for rounding
        return
    joined = np.concatenate([train.tokens, val.tokens])
    assert sorted(joined[joined != 999].tolist()) == total
    assert (
        train.text_bytes + val.text_bytes
        == summary.text_bytes
        == sum(len(t.encode()) for t in texts if t.strip())
    )
    assert min(len(train), len(val)) >= 2
    if summary.split.startswith("by document"):
        sides = [set("".join(map(chr, c.tokens.tolist())).split(chr(999))) - {""} for c in (train, val)]
        assert not sides[0] & sides[1]
        again = load_corpus(iter(texts[::-1]), tok, val_fraction=fraction, seed=seed)[1]
        assert sorted(again.tokens.tolist()) == sorted(val.tokens.tolist())


@relaxed
@given(words, seeds, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_takes_no_text_back(text, seed, a, b):
    low, high = sorted((a, b))
    if in_validation(text, val_fraction=low, seed=seed):
        assert in_validation(text, val_fraction=high, seed=seed)


# --- examples ---

turns = st.lists(st.tuples(words, words), min_size=1, max_size=4)
rows = turns.filter(lambda ts: all(q.strip() and a.strip() for q, a in ts)).map(
    lambda ts: {
        "messages": [
            {"role": role, "content": text}
            for pair in ts
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
    }
)


@relaxed
@given(st.lists(rows, min_size=1, max_size=8), st.sampled_from([999, None]))
def test_exactly_the_answers_are_trained(data, eot_id):
    end = "\n" if eot_id is None else chr(999)
    for row, made in zip(data, tokenize_examples(read_examples(data), CharTokenizer(eot_id)), strict=True):
        answers = [m["content"] for m in row["messages"] if m["role"] == "assistant"]
        questions = [m["content"] for m in row["messages"] if m["role"] == "user"]
        shown = "".join(map(chr, made.ids[~made.trained].tolist()))
        trained = "".join(map(chr, made.ids[made.trained].tolist()))
        assert trained == "".join(f" {a}{end}" for a in answers)
        assert shown == "".join(f"Question: {q}\nAnswer:" for q in questions)


@relaxed
@given(st.lists(rows, min_size=1, max_size=8), st.integers(1, 60), st.integers(1, 5), seeds)
def test_batches_of_examples_have_answers_as_targets_and_nothing_else(data, block, batch, seed):
    examples = tokenize_examples(read_examples(data), CharTokenizer())
    loader = ExampleLoader(examples, block_size=block, batch_size=batch, seed=seed, pad=998)
    once = [y for _, y in evaluation_example_batches(examples, block_size=block, batch_size=batch, pad=998)]
    assert sum(len(y) for y in once) == len(examples)
    for step in range(4):
        x, y = loader.batch(step)
        assert x.shape == y.shape
        assert x.shape[1] <= block
        assert (y != -100).any(axis=1).all()
        for row, index in enumerate(loader.indices(step)):
            made = examples[index]
            whole = len(made) <= block + 1
            targets = y[row][y[row] != -100]
            answer = made.ids[made.trained]
            assert (targets == answer[: len(targets)]).all()
            assert not whole or len(targets) == len(answer)
            # Where there is a target, it is the token after its input.
            for column in np.flatnonzero(y[row, :-1] != -100):
                assert x[row, column + 1] in (y[row, column], 998)


@relaxed
@given(st.lists(st.tuples(words, words), min_size=1, max_size=40), st.floats(0.01, 0.99), seeds)
def test_no_prompt_is_on_both_sides(pairs, fraction, seed):
    data = [{"prompt": p, "completion": a + "."} for p, a in pairs]
    examples = read_examples(data)
    train, val, _ = split_examples(examples, val_fraction=fraction, seed=seed)
    assert not {e.prompt for e in train} & {e.prompt for e in val}
    assert sorted(map(str, train + val)) == sorted(map(str, examples))
    assert train
    assert val or len({p for p, _ in pairs}) == 1


# --- reading ---


@relaxed
@given(st.binary(max_size=200))
def test_replacing_never_fails_and_strict_agrees_where_it_passes(data):
    try:
        loose = decode(data, "x")
        strict = decode(data, "x", "strict")
    except DataError:
        return
    assert strict == loose
    assert not loose.damaged


@relaxed
@given(st.lists(st.binary(max_size=30).filter(lambda b: b"\n" not in b), max_size=20), st.booleans())
def test_lines_are_those_of_a_split_at_newlines(tmp_path_factory, lines, closed):
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    data = b"#" + b"\n".join(lines) + b"\n" * closed
    path.write_bytes(data)
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    got = [d.text for _, d in read_lines(path)]
    assert got == [line.decode("utf-8", "replace").removesuffix("\r") for line in expected]


@relaxed
@given(st.lists(words.map(lambda w: w.replace("\0", "")), max_size=10))
def test_documents_of_a_file_are_its_pieces(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("docs") / "a.txt"
    path.write_bytes(("x" + "y<|endoftext|>".join(pieces)).encode())
    expected = [p for p in path.read_bytes().decode().split("<|endoftext|>") if p.strip()]
    assert [d.text for d in read_documents(path)] == expected
