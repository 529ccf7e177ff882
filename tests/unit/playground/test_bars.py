"""The distribution over the next token as bars, and how sure a model was."""

from __future__ import annotations

import math

import numpy as np
import pytest

import subgpt
from subgpt.playground.views.bars import SHOWN, Place, ids_of, percent, piece_of, text_of
from subgpt.playground.views.surety import sure_pieces


def test_bars_are_the_models_own_probabilities_and_the_rest(model, tokenizer):
    ids = ids_of(tokenizer, "so much")
    bars = Place(model, tokenizer, ids).bars({})
    probs = model.next_token_probs(ids)
    assert len(bars.bars) == SHOWN + 1
    assert [bar.before for bar in bars.bars[:-1]] == pytest.approx(
        sorted(probs, reverse=True)[:SHOWN], abs=1e-6
    )
    assert math.fsum(bar.before for bar in bars.bars) == pytest.approx(1)
    assert bars.bars[-1].id is None
    assert bars.entropy == pytest.approx(-float(probs @ np.log2(probs)), rel=1e-4)
    assert bars.left == len(probs)


def test_rules_reshape_what_is_drawn_from_alone(model, tokenizer):
    place = Place(model, tokenizer, ids_of(tokenizer, "so much"))
    free, bound = place.bars({}), place.bars({"top_k": 3, "temperature": 0.5})
    assert [bar.before for bar in free.bars] == [bar.before for bar in bound.bars]
    assert sum(bar.after > 0 for bar in bound.bars) == bound.left == 3
    assert "leave 3 tokens" in bound.summary
    assert bound.entropy_after < free.entropy_after
    best = free.bars[0].id
    assert {place.draw({"temperature": 0.0}, seed) for seed in range(5)} == {best}
    assert len({place.draw({}, seed) for seed in range(20)}) > 1


def test_a_vocabulary_smaller_than_the_bars(tmp_path):
    tokenizer = subgpt.Tokenizer.train(iter(["abab"]), level="char", special_tokens=())
    model = subgpt.GPT(subgpt.GPTConfig(tokenizer.vocab_size, 8, 1, 1, 8), seed=1)
    bars = Place(model, tokenizer, ids_of(tokenizer, "ab")).bars({})
    assert len(bars.bars) == tokenizer.vocab_size + 1
    assert bars.bars[-1].before == pytest.approx(0, abs=1e-6)


def test_a_piece_is_what_a_token_is_inside_of_a_text(shared):
    _, tokenizer = subgpt.load(shared / "data/model/stories260K.bin")
    ids = ids_of(tokenizer, "a little girl")
    pieces = [piece_of(tokenizer, id) for id in ids]
    assert pieces[0] == "<s>"
    assert " little" in pieces
    assert text_of(tokenizer, ids) == "a little girl"


def test_what_was_written_is_cut_where_no_character_is_split():
    tokenizer = subgpt.Tokenizer.train(iter(["x"]), vocab_size=257)
    ids = tokenizer.encode("né").tolist()
    found = [(math.log(0.5), [(id, math.log(0.25))]) for id in ids]
    pieces = sure_pieces(tokenizer, ids, found)
    assert [piece.text for piece in pieces] == ["n", "é"]
    assert [piece.probability for piece in pieces] == pytest.approx([0.5, 0.25])
    assert pieces[1].others == [("\\xc3", pytest.approx(0.25))]


@pytest.mark.parametrize(("share", "shown"), [(0.5, "50.0 %"), (0.9999, "100 %"), (1e-9, "<0.1 %"), (0, "0")])
def test_percentages(share, shown):
    assert percent(share) == shown
