"""Guessing ahead: the same texts, token for token, in fewer passes; and draws that follow the distribution."""

from __future__ import annotations

import numpy as np
import pytest

import subgpt
from subgpt import (
    GPT,
    ConfigError,
    Engine,
    GenerationConfig,
    GPTConfig,
    chat,
    generate,
    sampling_probs,
    stream,
)
from subgpt.generation import speculation
from subgpt.generation.speculation import check_assistant, speculate


@pytest.fixture
def long(tiny):
    return GPT(tiny(block_size=128), seed=1)


@pytest.fixture
def helper(tiny):
    return GPT(tiny(block_size=64), seed=2)


@pytest.mark.parametrize("guess", [{"prompt_lookup_num_tokens": 4}, {"num_assistant_tokens": 3}])
@pytest.mark.parametrize(
    "rules",
    [
        {"temperature": 0},
        {"temperature": 1.2, "top_p": 0.9},
        {"repetition_penalty": 1.3, "no_repeat_ngram_size": 3},
    ],
)
def test_a_text_is_what_it_is_without(long, model, helper, tokenizer, guess, rules):
    assistant = helper if "num_assistant_tokens" in guess else None
    for one in (model, long):  # a block that the text outgrows, and one that it does not
        for seed in range(4):
            options = {"seed": seed, "max_new_tokens": 60, "ignore_eos": True, **rules}
            expected = generate(one, tokenizer, "so much so much", **options)
            given = {**options, **guess, "assistant_model": assistant}
            assert generate(one, tokenizer, "so much so much", **given) == expected
            pieces = stream(one, tokenizer, "so much so much", **given)
            assert "so much so much" + "".join(pieces) == expected


def test_ids_alone_are_guessed_ahead_as_well(long, tokenizer, monkeypatch):
    sessions = []
    plain = speculation.speculate
    monkeypatch.setattr(speculation, "speculate", lambda *given: sessions.append(given[0]) or plain(*given))
    ids = tokenizer.encode("so much so much")
    options = {"temperature": 0, "max_new_tokens": 20}
    expected = long.generate(ids, **options)
    assert np.array_equal(long.generate(ids, prompt_lookup_num_tokens=4, **options), expected)
    assert [session.guesses[0] > 0 for session in sessions] == [False, True]


def test_what_is_guessed_rightly_is_not_computed(long, tokenizer):
    session = long.native.session()
    session.speculate(4, draft=GPT(long.config, seed=1).native)  # which knows
    session.append(tokenizer.encode("so much"))
    greedy = subgpt.GenerationConfig(temperature=0, seed=1).to_native()
    session.run(60, greedy, [])
    made, right = session.guesses
    assert right >= 44
    assert made <= right + 8
    session.speculate(0)
    assert session.guesses == (0, 0)
    with pytest.raises(ValueError, match="a model cannot guess for itself"):
        session.speculate(4, draft=long.native)


def test_draws_follow_the_distribution(long, helper, tokenizer):
    """Chi-square over the third token after two that are given, each draw with guesses of another model."""
    prompt = tokenizer.encode("so")
    context = [*prompt.tolist()]
    counts = np.zeros(tokenizer.vocab_size)
    start = long.native.session()
    start.append(prompt)
    options = [subgpt.GenerationConfig(seed=seed, top_k=6).to_native() for seed in range(3000)]
    first = {}
    for one in options:
        session = start.fork()
        session.speculate(2, draft=helper.native)
        drawn = session.run(2, one, []).tolist()
        first.setdefault(drawn[0], np.zeros_like(counts))[drawn[1]] += 1
    token, seen = max(first.items(), key=lambda item: item[1].sum())
    logits = long.forward([*context, token])[-1]
    expected = sampling_probs(logits, top_k=6) * seen.sum()
    assert seen[expected == 0].sum() == 0
    live = expected > 0
    assert (
        (seen - expected)[live] ** 2 / expected[live]
    ).sum() < 20.5  # 5 degrees of freedom: one in a thousand


def test_many_texts_guess_each_its_own(long, helper, tokenizer):
    options = [
        {"seed": seed, "max_new_tokens": 40, "prompt_lookup_num_tokens": seed % 3} for seed in range(9)
    ]
    expected = [generate(long, tokenizer, "so much", return_prompt=False, **one) for one in options]
    with Engine(long, tokenizer) as engine:
        jobs = [engine.submit("so much", **one) for one in options]
        assert [job.text() for job in jobs] == expected
    with Engine(long, tokenizer, assistant_model=helper) as engine:
        jobs = [engine.submit("so much", **{**one, "prompt_lookup_num_tokens": 0}) for one in options]
        assert [job.text() for job in jobs] == expected
        with pytest.raises(ConfigError, match="give one of them"):
            engine.submit("so much", prompt_lookup_num_tokens=2)


def test_what_is_kept_of_a_text_guesses_no_longer(long, helper, tokenizer):
    options = {"seed": 1, "max_new_tokens": 12}
    expected = generate(long, tokenizer, "so much depends", return_prompt=False, **options)
    with Engine(long, tokenizer, assistant_model=helper) as engine:
        for _ in range(2):
            job = engine.submit("so much depends", **options)
            assert job.text() == expected
            assert job.writing.session.guesses == (0, 0)
        assert job.cached_tokens > 0


def test_answers_are_what_they_are_without(long, tokenizer):
    talk = [{"role": "user", "content": "who has eaten the plums?"}]
    expected = chat(long, tokenizer, talk, seed=3, max_new_tokens=30)
    assert chat(long, tokenizer, talk, seed=3, max_new_tokens=30, prompt_lookup_num_tokens=5) == expected


def test_an_assistant_of_another_tokenizer_is_refused(long, tiny, tokenizer):
    other = GPT(tiny(vocab_size=tokenizer.vocab_size + 1), seed=1)
    for call in (generate, stream):
        with pytest.raises(ConfigError, match="same tokenizer"):
            call(long, tokenizer, "so", assistant_model=other)
    with pytest.raises(ConfigError, match="same tokenizer"):
        Engine(long, tokenizer, assistant_model=other)


def test_an_assistant_beside_beams_is_refused(long, helper, tokenizer):
    with pytest.raises(ConfigError, match=r"num_beams = 4 goes on with several; leave one of them out"):
        generate(long, tokenizer, "so", num_beams=4, assistant_model=helper)


class Told:
    """A session that writes down how it is told to guess."""

    def speculate(self, *args, **options):
        self.told = args, options


def test_a_session_is_told_who_guesses_and_how_many(helper):
    settings = GenerationConfig(num_assistant_tokens=3, prompt_lookup_num_tokens=4, max_matching_ngram_size=6)
    session = Told()
    speculate(session, settings, helper)
    assert session.told == ((3,), {"draft": helper.native})
    speculate(session, settings, None)
    assert session.told == ((4, 6), {})


def test_what_does_not_go_together_is_named(long, tokenizer, helper):
    for options, said in [
        (
            {"num_beams": 2},
            "generate: assistant_model guesses what follows one text, and num_beams = 2 goes on with several; "
            "leave one of them out",
        ),
        (
            {"prompt_lookup_num_tokens": 4},
            "generate: assistant_model and prompt_lookup_num_tokens = 4 both guess what follows; give one of them",
        ),
    ]:
        with pytest.raises(ConfigError) as caught:
            check_assistant(long, helper, GenerationConfig(**options), "generate")
        assert str(caught.value) == said
    other = GPT(GPTConfig(7, block_size=8, n_layer=1, n_head=1, n_embd=8), seed=1)
    with pytest.raises(ConfigError) as caught:
        check_assistant(long, other, GenerationConfig(), "Engine")
    assert str(caught.value) == (
        f"Engine: assistant_model has a vocabulary of 7 tokens, the model one of {long.config.vocab_size}; an "
        "assistant needs the same tokenizer"
    )
