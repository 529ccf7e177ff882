import numpy as np
import pytest

from subgpt.data.documents import Origin
from subgpt.data.examples import ExampleLoader, evaluation_example_batches
from subgpt.data.masking import TokenExample
from subgpt.errors import DataError, InvalidValueError


def example(prompt, answer):
    ids = np.array([*prompt, *answer], dtype=np.uint32)
    return TokenExample(ids, np.arange(len(ids)) >= len(prompt), Origin("x", 1))


def loader(*examples, block_size=8, batch_size=1, seed=0, pad=0):
    return ExampleLoader(examples, block_size=block_size, batch_size=batch_size, seed=seed, pad=pad)


def test_rows_are_padded_on_the_right_and_only_answers_are_targets():
    batches = list(
        evaluation_example_batches(
            [example([1, 2], [3, 4]), example([5], [6])], block_size=8, batch_size=2, pad=77
        )
    )
    [(x, y)] = batches
    assert x.tolist() == [[1, 2, 3], [5, 77, 77]]
    assert y.tolist() == [[-100, 3, 4], [6, -100, -100]]
    assert (x.dtype, y.dtype) == (np.uint32, np.int64)


def test_a_long_prompt_loses_its_beginning():
    made = loader(example([1, 2, 3, 4, 5], [6, 7]), block_size=3)
    x, y = made.batch(0)
    assert (x.tolist(), y.tolist()) == ([[4, 5, 6]], [[-100, 6, 7]])
    assert (made.cut_prompts, made.cut_answers) == (1, 0)
    assert made.describe() == "1 examples; 1 prompts lost their beginning to fit block_size=3"


def test_a_long_answer_loses_its_end_but_never_its_context():
    made = loader(example([1, 2, 3], [6, 7, 8, 9]), block_size=3)
    x, y = made.batch(0)
    assert (x.tolist(), y.tolist()) == ([[3, 6, 7]], [[6, 7, 8]])
    assert (made.cut_prompts, made.cut_answers) == (1, 1)


def test_an_exact_fit_is_not_cut():
    made = loader(example([1, 2], [3, 4]), block_size=3)
    assert (made.cut_prompts, made.cut_answers) == (0, 0)


def test_every_example_once_an_epoch_and_batches_run_on():
    made = loader(*(example([i], [i]) for i in range(7)), batch_size=3)
    seen = np.concatenate([made.batch(step)[0][:, 0] for step in range(7)])
    for epoch in range(3):
        assert sorted(seen[epoch * 7 : epoch * 7 + 7]) == list(range(7))
    assert seen[:7].tolist() != seen[7:14].tolist()
    assert len(made) == 7


def test_bad_arguments():
    with pytest.raises(DataError, match="no examples"):
        loader()
    with pytest.raises(InvalidValueError, match="pad"):
        loader(example([1], [2]), pad=-1)
    with pytest.raises(InvalidValueError, match="step"):
        loader(example([1], [2])).batch(-1)
    with pytest.raises(DataError, match="no examples"):
        evaluation_example_batches([], block_size=4, batch_size=1)
