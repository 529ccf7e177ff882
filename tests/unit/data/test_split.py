import numpy as np
import pytest

from subgpt.data.split import check_fraction, in_validation, split_documents, text_hash
from subgpt.errors import ConfigError, DataError


def test_the_share_comes_out_and_depends_on_the_seed():
    texts = [f"document {i}" for i in range(20_000)]
    for seed in (0, 1, -5, 1 << 80):
        share = np.mean([in_validation(t, val_fraction=0.1, seed=seed) for t in texts])
        assert share == pytest.approx(0.1, abs=0.01)
    sides = [[in_validation(t, val_fraction=0.5, seed=s) for t in texts[:100]] for s in (0, 1)]
    assert sides[0] != sides[1]


def test_the_hash_never_changes():
    # Stored: a new value would move documents between the sides of runs that are resumed.
    assert text_hash("so much depends", 7) == pytest.approx(0.7713585668041921, abs=1e-15)


def test_whole_documents_where_the_sides_come_out_evenly():
    split = split_documents([True] + [False] * 9, np.full(10, 50), val_fraction=0.1)
    assert split.method == "document"
    assert split.val_tail.tolist() == [50] + [0] * 9
    assert split.describe() == "by document: 9 train, 1 validation"


@pytest.mark.parametrize("sides", [[False] * 3, [True] * 3, [False, False, True]])
def test_lopsided_sides_become_tails(sides):
    split = split_documents(sides, np.array([100, 100, 4]), val_fraction=0.1)
    assert split.method == "tail"
    assert split.val_tail.tolist() == [10, 10, 0]
    assert split.describe() == "3 documents, too few to divide whole: the last 10 % of each is validation"


def test_one_document_and_none():
    split = split_documents([True], np.array([1000]), val_fraction=0.25)
    assert split.val_tail.tolist() == [250]
    assert split.describe() == "one document: its last 25 % is validation"
    split = split_documents([True], np.array([1000]), val_fraction=0)
    assert (split.method, split.val_tail.tolist()) == ("none", [0])


def test_a_tiny_document_still_gives_two_tokens_to_validation():
    assert split_documents([False], np.array([6]), val_fraction=0.1).val_tail.tolist() == [2]
    with pytest.raises(
        DataError, match=r"3 tokens in 1 document are too few .*at least 2 tokens; .*val_fraction=0"
    ):
        split_documents([False], np.array([3]), val_fraction=0.1)


@pytest.mark.parametrize("bad", [-0.1, 1, 1.5, float("nan"), float("inf"), "a", None, True])
def test_shares_that_are_none(bad):
    with pytest.raises(ConfigError, match="val_fraction must be in"):
        check_fraction(bad)
