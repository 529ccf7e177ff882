"""Beam search: an exhaustive search where it is wide enough, and a plain version of itself where it is not."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import subgpt
from subgpt import GPT, ConfigError, GPTConfig, complete, generate
from subgpt.generation import beginning
from subgpt.generation.beams import beam_search
from subgpt.generation.config import GenerationConfig

END = 0
PROMPT = [3, 1]


@pytest.fixture(scope="module", params=[1, 2, 3])
def tiny_model(request):
    """Five tokens, the first of which ends a text, and weights that prefer some to others."""
    model = GPT(GPTConfig(5, block_size=16, n_layer=1, n_head=2, n_embd=8), seed=request.param)
    model.load_state_dict({name: 12 * value for name, value in model.state_dict().items()})
    return model


class Scores:
    """Log probabilities of the next token, each prefix computed once."""

    def __init__(self, model):
        self.model, self.known = model, {}

    def __call__(self, ids):
        if ids not in self.known:
            logits = self.model.forward([*PROMPT, *ids])[-1].astype(np.float64)
            self.known[ids] = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        return self.known[ids]


def search(model, ends=(END,), **options):
    settings = GenerationConfig(eos_token_id=ends, **options)
    session = model.native.session()
    session.append(PROMPT)
    found = beam_search(session, settings, settings.to_native(), ends, lambda _: False)
    return [(tuple(beam.ids), beam.score, beam.ended) for beam in found]


def exhaustive(scores, longest, penalty):
    """Every text there is: those that end, and those that are cut off."""
    found = []
    for length in range(longest):
        for ids in itertools.product(range(1, 5), repeat=length):
            found.append(((*ids, END), ids, True))
    found += [(ids, ids, False) for ids in itertools.product(range(1, 5), repeat=longest)]
    result = []
    for path, ids, ended in found:
        logprob = sum(scores(path[:at])[id] for at, id in enumerate(path))
        result.append((ids, logprob / len(path) ** penalty, ended))
    return sorted(result, key=lambda one: -one[1])


def plain(scores, width, longest, penalty, early, ends=(END,)):
    """Hugging Face's beam search, written for reading: lists of (log probability, ids)."""
    running, finished = [(0.0, ())], []
    for length in range(1, longest + 1):
        every = [(total + scores(ids)[id], (*ids, id)) for total, ids in running for id in range(5)]
        every = sorted(every, key=lambda one: -one[0])[: (1 + len(ends)) * width]
        for total, ids in every[:width]:
            if ids[-1] in ends or length == longest:
                ended = ids[-1] in ends
                finished.append((ids[:-1] if ended else ids, total / length**penalty, ended))
        finished = sorted(finished, key=lambda one: -one[1])[:width]
        running = [one for one in every if one[1][-1] not in ends][:width]
        if len(finished) == width:
            hoped = longest if early == "never" and penalty > 0 else length
            if early is True or running[0][0] / hoped**penalty <= finished[-1][1]:
                break
    return finished


def same(found, expected):
    assert [one[::2] for one in found] == [one[::2] for one in expected]
    assert [one[1] for one in found] == pytest.approx([one[1] for one in expected], abs=1e-4)


@pytest.mark.parametrize("penalty", [0.0, 1.0, -0.5, 2.0])
def test_wide_enough_it_is_an_exhaustive_search(tiny_model, penalty):
    found = search(tiny_model, num_beams=400, max_new_tokens=4, length_penalty=penalty)
    expected = exhaustive(Scores(tiny_model), 4, penalty)
    assert [one[1] for one in found] == pytest.approx([one[1] for one in expected], abs=1e-4)
    scores = {
        (ids, ended): score for ids, score, ended in expected
    }  # float32 may swap texts of nearly equal score
    assert {(ids, ended): score for ids, score, ended in found} == pytest.approx(scores, abs=1e-4)


@pytest.mark.parametrize("early", [False, True, "never"])
@pytest.mark.parametrize(("width", "penalty"), [(2, 1.0), (3, 1.0), (2, 0.5), (3, 0.0), (4, 2.5), (3, -1.0)])
def test_it_is_hugging_faces_search(tiny_model, width, penalty, early):
    options = {"num_beams": width, "max_new_tokens": 9, "length_penalty": penalty}
    found = search(tiny_model, early_stopping=early, **options)
    same(found, plain(Scores(tiny_model), width, 9, penalty, early))
    assert found == search(tiny_model, early_stopping=early, **options)


@pytest.mark.parametrize("width", [2, 4])
def test_several_ids_may_end_a_text(tiny_model, width):
    """As many beams go on as there were, even if the best continuations of each all end it."""
    ends = (0, 2, 4)
    options = {"num_beams": width, "max_new_tokens": 9, "length_penalty": 2.0, "early_stopping": "never"}
    found = search(tiny_model, ends, **options)
    same(found, plain(Scores(tiny_model), width, 9, 2.0, "never", ends))


def test_equal_scores_keep_the_order_of_beams_and_ids():
    model = GPT(GPTConfig(5, block_size=16, n_layer=1, n_head=2, n_embd=8), seed=1)
    model.load_state_dict({name: 0 * value for name, value in model.state_dict().items()})
    found = search(model, (), num_beams=4, max_new_tokens=2)
    assert [ids for ids, _, _ in found] == [(0, 0), (0, 1), (0, 2), (0, 3)]


def test_no_new_tokens_are_one_text_without_any(tiny_model):
    assert search(tiny_model, num_beams=3, max_new_tokens=0) == [((), 0.0, False)]
    assert len(search(tiny_model, num_beams=3, max_new_tokens=1)) == 3


def test_rules_for_single_tokens_hold_in_every_beam(tiny_model):
    found = search(tiny_model, num_beams=4, max_new_tokens=8, no_repeat_ngram_size=2, bad_words_ids=[[2]])
    for ids, _, _ in found:
        text = [*PROMPT, *ids]
        runs = list(itertools.pairwise(text))
        assert len(runs) == len(set(runs))
        assert 2 not in ids
    held = search(tiny_model, num_beams=3, max_new_tokens=8, min_new_tokens=5)
    assert all(len(ids) >= 5 for ids, _, _ in held)


def test_texts_ids_and_completions_agree(model, tokenizer):
    options = {"num_beams": 3, "max_new_tokens": 12}
    best, second = complete(model, tokenizer, "so", num_return_sequences=2, logprobs=1, **options)
    assert "so" + best.text == generate(model, tokenizer, "so", **options)
    ids = model.generate(tokenizer.encode("so"), eos_token_id=tokenizer.eot_id, **options)
    assert ids.tolist() == [*tokenizer.encode("so"), *best.ids]
    assert best.text != second.text

    def score(one):
        length = len(one.ids) + (one.finish_reason == "stop")
        return sum(token.logprob for token in one.tokens) / length

    assert best.finish_reason == "stop" or score(best) >= score(second) - 1e-6


def test_a_stop_text_ends_a_beam(model, tokenizer):
    whole = generate(model, tokenizer, "so", num_beams=2, max_new_tokens=30, return_prompt=False)
    stop = whole[3:5]
    for one in complete(model, tokenizer, "so", num_beams=2, n=2, max_new_tokens=30, stop=stop):
        assert stop not in one.text


def test_the_prompt_is_not_encoded_again_for_each_candidate(model, tokenizer, monkeypatch):
    encoded, encode = [], beginning.prompt_ids
    monkeypatch.setattr(
        beginning, "prompt_ids", lambda *args, **more: encoded.append(args) or encode(*args, **more)
    )
    found = complete(model, tokenizer, "so", num_beams=2, n=2, max_new_tokens=30, stop=["zz", "qq"])
    assert len(found) == 2
    assert len(encoded) == 1


def test_what_makes_no_sense_beside_beams_is_refused(model, tokenizer):
    for options, said in [
        ({"temperature": 0.7}, "temperature"),
        ({"top_k": 5}, "top_k"),
        ({"typical_p": 0.5}, "typical_p"),
        ({"do_sample": True}, "do_sample"),
        ({"regex": "a"}, "regex"),
        ({"num_return_sequences": 3}, "num_return_sequences = 3 is more than num_beams = 2"),
        ({"early_stopping": "soon"}, "early_stopping"),
    ]:
        with pytest.raises(ConfigError, match=said) as caught:
            complete(model, tokenizer, "a", num_beams=2, **options)
        if said not in ("num_return_sequences = 3 is more than num_beams = 2", "early_stopping"):
            assert str(caught.value) == (
                f"GenerationConfig: num_beams = 2 and {said} do not go together: beam search draws nothing and knows "
                "no grammar; give one of the two"
            )
    with pytest.raises(ConfigError, match=r"call subgpt\.generate"):
        subgpt.stream(model, tokenizer, "a", num_beams=2)


def test_what_a_models_files_say_of_drawing_does_not_hinder_beams(model, tokenizer):
    model.generation_config = {"temperature": 0.6, "do_sample": True, "repetition_penalty": 1.5}
    said = generate(model, tokenizer, "so", num_beams=2, max_new_tokens=9)
    model.generation_config = {}
    assert said == generate(
        model, tokenizer, "so", num_beams=2, max_new_tokens=9, repetition_penalty=1.5, do_sample=False
    )


def test_rules_that_leave_no_text_are_an_error(tiny):
    model = GPT(tiny(vocab_size=3), seed=1)
    with pytest.raises(
        subgpt.InvalidValueError, match=r"^num_beams: the rules .* leave no text; loosen them$"
    ):
        model.generate([0], num_beams=2, bad_words_ids=[[0], [1], [2]])
