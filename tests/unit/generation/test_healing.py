"""Token healing: what is chosen is the most probable way to end the prompt, and the text begins with the prompt."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import subgpt
from subgpt import generate, stream
from subgpt.generation.healing import Healing, _draw, _log_softmax, _weigh, covered_tails
from subgpt.tokenizer.prefixes import entry_prefixes

TEXT = (
    "the fog comes on little cat feet; it sits looking over harbor and city on silent haunches and then moves on. "
    "so much depends upon a red wheel barrow glazed with rain water beside the white chickens. "
)


@pytest.fixture(scope="module")
def subwords():
    return subgpt.Tokenizer.train([TEXT], vocab_size=330)


@pytest.fixture(scope="module")
def poet(subwords):
    """A model that knows the text by heart, by its words rather than their places."""
    config = subgpt.GPTConfig(
        vocab_size=subwords.vocab_size, block_size=96, n_layer=2, n_head=4, n_embd=32, position="rotary"
    )
    model = subgpt.GPT(config, seed=1)
    ids = subwords.encode(TEXT)
    optimizer = subgpt.AdamW(model, learning_rate=1e-2, weight_decay=0.0)
    for _ in range(150):
        for row in (np.append(subwords.eot_id, ids), ids):  # prompts have no end of text in front
            model.backward(row[:-1], row[1:])
        optimizer.step()
        model.zero_grad()
    return model


def options(**changes) -> subgpt.GenerationConfig:
    return subgpt.GenerationConfig(**{"temperature": 0, "seed": 0, **changes})


def greedy(model, tokenizer, prompt, **changes):
    given = {"temperature": 0, "max_new_tokens": 8, **changes}
    return generate(model, tokenizer, prompt, **given)


def test_a_text_cut_anywhere_goes_on_as_it_was_learnt(poet, subwords):
    cuts = range(1, len(TEXT) - 60)
    healed = [TEXT.startswith(greedy(poet, subwords, TEXT[:cut])) for cut in cuts]
    plain = [TEXT.startswith(greedy(poet, subwords, TEXT[:cut], token_healing=False)) for cut in cuts]
    assert np.mean(healed) > 0.95
    assert np.mean(plain) < 0.7


def heal(model, tokenizer, ids, settings):
    healing, session = Healing(tokenizer, ids), model.native.session()
    session.append(healing.before)
    return healing.finish(model, session, settings)


def test_a_cut_word_gives_the_text_of_the_whole_word(poet, subwords):
    whole = greedy(poet, subwords, "the fog comes on little cat", max_new_tokens=6)
    for cut in ("the fog comes on little ca", "the fog comes on litt", "the fog comes on l", "the fog com"):
        text = greedy(poet, subwords, cut, max_new_tokens=20)
        assert text.startswith(whole), cut


def ways(model, prefixes, ids):
    """All ways to write a prompt that differ in its last token, with their probabilities, the slow way."""
    for kept in range(len(ids)):
        tail = b"".join(prefixes.entries[id] for id in ids[kept:])
        if not all(prefixes.entries[id] for id in ids[kept:]):
            continue
        context = [0 if kept == 0 else None, *ids[:kept].tolist()]
        before = 1.0
        for place in range(kept):
            before *= float(model.next_token_probs(ids[:place])[ids[place]]) if place else 1.0
        probs = model.next_token_probs([id for id in context if id is not None])
        for id, entry in enumerate(prefixes.entries):
            if entry.startswith(tail):
                yield (*ids[:kept].tolist(), id), before * float(probs[id])


@pytest.mark.parametrize(
    "prompt", ["so much dep", "the fog comes on li", "on silent h", "a red wh", "xyz fo", "on a "]
)
def test_the_most_probable_way_to_end_the_prompt_is_taken(poet, subwords, prompt):
    prefixes = entry_prefixes(subwords)
    ids = subwords.encode(prompt)
    session, healed = heal(poet, subwords, ids, options())
    assert session.ids.tolist() == healed.tolist()
    assert np.allclose(session.logits(), poet.forward(healed)[-1], atol=1e-4)
    # A first token that is taken back has the probability that it has behind an end of text; here none is.
    best = max(((p, way) for way, p in ways(poet, prefixes, ids) if len(way) > 1), default=None)
    assert best is not None
    assert tuple(healed.tolist()) == best[1]


def test_every_way_to_write_the_last_tokens_is_weighed(poet, subwords):
    """Up to four tokens are taken back: a prompt that was cut in the worst places."""
    prefixes = entry_prefixes(subwords)
    longest = max(prefixes.entries, key=len)
    ids = np.array([ord("o"), ord("n"), *longest[:-1]], dtype=np.uint32)  # a byte is its own id
    tails = covered_tails(prefixes, ids[1:])
    assert len(tails) > 2
    last = ids[len(ids) - len(tails) :]
    session = poet.native.session()
    session.append(ids[: len(ids) - len(tails)])
    found = _weigh(session, prefixes, last, tails)
    assert session.ids.tolist() == ids[:-1].tolist()
    weighed = {(*ids[: len(ids) - back].tolist(), id): np.exp(weight) for back, id, weight in found}
    slow = {way: p for way, p in ways(poet, prefixes, ids) if len(way) > len(ids) - len(tails)}
    first = float(poet.next_token_probs(ids[:1])[ids[1]])  # what comes before all ways is left out
    for place in range(2, len(ids) - len(tails)):
        first *= float(poet.next_token_probs(ids[:place])[ids[place]])
    assert weighed == pytest.approx({way: p / first for way, p in slow.items()}, rel=1e-3)


def test_without_an_end_of_text_the_first_token_stays(subwords):
    bare = subgpt.Tokenizer.train([TEXT], vocab_size=330, special_tokens=())
    for tokenizer, prompt, before in [
        (bare, "t", bare.encode("t").tolist()),
        (subwords, "t", [subwords.eot_id]),
    ]:
        healing = Healing(tokenizer, tokenizer.encode(prompt))
        assert healing.before.tolist() == before
        assert healing.before.dtype == np.uint32
    two = np.array([ord("x"), ord("t")], dtype=np.uint32)
    assert Healing(bare, two).before.tolist() == [ord("x")]
    words = subgpt.Tokenizer.train(["the them"], level="word")
    assert Healing(words, words.encode("them the")).before.tolist() == words.encode("them the").tolist()


def test_what_is_drawn_keeps_to_the_rules_of_drawing():
    weights = np.log([0.2, 0.5, 0.3])
    drawn = [_draw(weights, options(temperature=1, seed=seed)) for seed in range(400)]
    assert [drawn.count(at) / 400 for at in range(3)] == pytest.approx([0.2, 0.5, 0.3], abs=0.08)
    for rules in ({"top_k": 1}, {"top_p": 0.4}, {"do_sample": False}, {"temperature": 0}):
        assert {
            _draw(weights, options(**{"temperature": 1, **rules, "seed": seed})) for seed in range(50)
        } == {1}
    assert {_draw(weights, options(temperature=1, min_p=0.5, seed=seed)) for seed in range(50)} == {1, 2}


def test_logits_of_any_size_have_log_probabilities():
    found = _log_softmax(np.array([1000.0, 999.0, -1000.0], dtype=np.float32))
    assert found.dtype == np.float64
    assert found == pytest.approx([-np.log1p(np.exp(-1)), -1 - np.log1p(np.exp(-1)), -2000.3132616], abs=1e-6)


def test_what_is_drawn_follows_the_probabilities(poet, subwords):
    ids = subwords.encode("the fog comes on l")
    found = {way: p for way, p in ways(poet, entry_prefixes(subwords), ids) if len(way) > 1}
    total = sum(found.values())
    drawn = [tuple(heal(poet, subwords, ids, options(temperature=1, seed=s))[1].tolist()) for s in range(300)]
    for way in set(drawn):
        assert drawn.count(way) / 300 == pytest.approx(found[way] / total, abs=0.08)


def test_the_first_token_of_a_text_is_healed_behind_the_end_of_text(poet, subwords):
    assert greedy(poet, subwords, "t").startswith("the fog")
    assert len(subwords.encode("t")) == 1


@given(
    prompt=st.one_of(st.text(max_size=12), st.integers(0, 100).map(lambda cut: TEXT[cut : cut + 9])),
    data=st.data(),
)
def test_every_text_begins_with_its_prompt(poet, subwords, prompt, data):
    given = {"max_new_tokens": data.draw(st.integers(0, 5)), "seed": data.draw(st.integers(0, 5))}
    text = generate(poet, subwords, prompt, **given)
    assert text.startswith(prompt)
    assert prompt + "".join(stream(poet, subwords, prompt, **given)) == text
    assert generate(poet, subwords, prompt, **given) == text


@pytest.mark.parametrize("name", ["vocab/gpt2", "vocab/smollm", "model/tok512.model"])
def test_real_vocabularies_give_the_prompt_back(shared, name):
    tokenizer = subgpt.Tokenizer.load(shared / "data" / name)
    config = subgpt.GPTConfig(vocab_size=tokenizer.vocab_size, block_size=32, n_layer=1, n_head=1, n_embd=8)
    model = subgpt.GPT(config, seed=1)
    for prompt in ("Hel", " Hel", "a  ", "日", "né", "it'", "x\n", "🙂"):
        for seed in range(4):
            text = generate(model, tokenizer, prompt, max_new_tokens=3, seed=seed)
            assert text.startswith(prompt), (prompt, seed)


def test_special_tokens_stay(poet, subwords):
    ids = subwords.encode("the fog<|endoftext|>", allowed_special="all")
    assert heal(poet, subwords, ids, options())[1].tolist() == ids.tolist()
    ids = subwords.encode("the<|endoftext|>so m", allowed_special="all")
    healed = heal(poet, subwords, ids, options())[1]
    assert healed[: ids.tolist().index(subwords.eot_id) + 1].tolist() == ids[: len(healed)].tolist()[:2]


def test_tails_end_where_no_longer_entry_begins_so(subwords):
    prefixes = entry_prefixes(subwords)
    for prompt in ("the fog com", "moves on.", "zzzz", "on ", "<|endoftext|>"):
        ids = subwords.encode(prompt, allowed_special="all")
        pieces = [prefixes.entries[id] for id in ids]
        tails = [b"".join(pieces[-back:]) for back in range(1, len(pieces) + 1) if all(pieces[-back:])]
        going_on = [
            any(len(entry) > len(tail) and entry.startswith(tail) for entry in prefixes.entries)
            for tail in tails
        ]
        far = max((back for back, goes_on in enumerate(going_on, start=1) if goes_on), default=0)
        assert covered_tails(prefixes, ids) == tails[:far]


def test_characters_have_nothing_to_heal(model, tokenizer):
    for prompt in ("so muc", "so "):
        healed = generate(model, tokenizer, prompt, max_new_tokens=20, seed=1)
        assert healed == generate(model, tokenizer, prompt, max_new_tokens=20, seed=1, token_healing=False)


def test_a_stop_text_may_end_inside_of_the_healed_token(poet, subwords):
    assert greedy(poet, subwords, "the fog comes on litt", stop="l") == "the fog comes on litt"
    assert greedy(poet, subwords, "the fog comes on litt", max_new_tokens=0) == "the fog comes on litt"


def test_the_healed_token_counts(poet, subwords):
    text = greedy(poet, subwords, "the fog comes on litt", max_new_tokens=1)
    assert text == "the fog comes on little"
    assert greedy(poet, subwords, "the fog comes on litt", max_new_tokens=2) == "the fog comes on little cat"
