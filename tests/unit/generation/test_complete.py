"""`complete`: several texts of one prompt, log probabilities, what ended each, and what a stop text cuts off."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

import subgpt
from subgpt import GPT, ConfigError, complete, generate, stream
from subgpt.generation import beginning
from subgpt.generation.complete import _found_after


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max()
    return shifted - np.log(np.exp(shifted).sum())


def test_each_text_is_that_of_its_own_seed(model, tokenizer):
    texts = complete(model, tokenizer, "so much", n=3, seed=11, max_new_tokens=25, top_k=9)
    assert len({one.text for one in texts}) == 3
    for number, one in enumerate(texts):
        alone = generate(model, tokenizer, "so much", seed=11 + number, max_new_tokens=25, top_k=9)
        assert "so much" + one.text == alone
        assert one.tokens is None
    last = complete(model, tokenizer, "a", n=2, seed=2**64 - 1, max_new_tokens=9)[1]
    assert last == complete(model, tokenizer, "a", seed=0, max_new_tokens=9)[0]
    unseeded = complete(model, tokenizer, "a", num_return_sequences=2, max_new_tokens=60)
    assert unseeded[0].text != unseeded[1].text


def test_the_prompt_is_encoded_once(model, tokenizer, monkeypatch):
    calls = []
    plain = beginning.prompt_ids
    monkeypatch.setattr(
        beginning, "prompt_ids", lambda *given, **more: calls.append(given) or plain(*given, **more)
    )
    complete(model, tokenizer, "so much", n=3, seed=11, max_new_tokens=2, echo=True)
    complete(model, tokenizer, "so much", num_beams=3, max_new_tokens=2, echo=True)
    assert len(calls) == 2


def test_log_probabilities_are_the_models_own_before_all_rules(model, tokenizer):
    options = {"seed": 3, "max_new_tokens": 8, "temperature": 0.3, "frequency_penalty": 1.0}
    (one,) = complete(model, tokenizer, "so", logprobs=4, **options)
    before = tokenizer.encode("so").tolist()
    assert [token.id for token in one.tokens] == list(one.ids)
    for at, token in enumerate(one.tokens):
        expected = log_softmax(model.forward([*before, *one.ids[:at]])[-1])
        assert token.logprob == pytest.approx(expected[token.id], abs=1e-5)
        assert token.text == tokenizer.id_to_token(token.id)
        assert [other.id for other in token.top] == np.argsort(-expected, kind="stable")[:4].tolist()
        assert [other.logprob for other in token.top] == pytest.approx(np.sort(expected)[::-1][:4], abs=1e-5)
        assert all(other.top == () for other in token.top)


@pytest.mark.parametrize("prompt", ["", "s", "so much depends", "so much depends upon a red wheel barrow"])
def test_an_echo_has_the_prompt_and_its_log_probabilities(model, tokenizer, prompt):
    plain = complete(model, tokenizer, prompt, seed=5, max_new_tokens=6, logprobs=2)[0]
    (one,) = complete(model, tokenizer, prompt, seed=5, max_new_tokens=6, logprobs=2, echo=True)
    assert one.text == prompt + plain.text
    assert one.ids[len(one.ids) - 6 :] == plain.ids
    assert one.tokens[len(one.ids) - 6 :] == plain.tokens
    assert (one.tokens[0].logprob, one.tokens[0].top) == (None, ())
    for at in range(1, len(one.ids) - 6):
        expected = log_softmax(model.forward(list(one.ids[max(0, at - 16) : at]))[-1])
        assert one.tokens[at].logprob == pytest.approx(expected[one.ids[at]], abs=1e-5)
        assert len(one.tokens[at].top) == 2
    assert complete(model, tokenizer, prompt, seed=5, max_new_tokens=6, echo=True)[0].tokens is None


def test_why_a_text_ended(model, tokenizer):
    whole = complete(model, tokenizer, "so", seed=9, max_new_tokens=60, ignore_eos=True)[0]
    assert (whole.finish_reason, len(whole.ids)) == ("length", 60)
    ended = complete(model, tokenizer, "so", seed=9, logit_bias={tokenizer.eot_id: 1e4})[0]
    assert (ended.text, ended.ids, ended.finish_reason) == ("", (), "stop")
    assert complete(model, tokenizer, "so", max_new_tokens=0)[0].finish_reason == "length"


def test_a_stop_text_cuts_text_ids_and_tokens(model, tokenizer):
    options = {"seed": 9, "max_new_tokens": 60, "ignore_eos": True}
    whole = complete(model, tokenizer, "so", **options)[0]
    stop = whole.text[20:24]
    (cut,) = complete(model, tokenizer, "so", stop=[stop, "no such"], logprobs=0, **options)
    at = whole.text.index(stop)
    assert (cut.text, cut.finish_reason) == (whole.text[:at], "stop")
    assert cut.text == "".join(stream(model, tokenizer, "so", stop=stop, **options))
    assert cut.ids == whole.ids[:at]  # a token of this tokenizer is a character
    assert [token.id for token in cut.tokens] == list(cut.ids)


def test_a_token_that_reaches_into_the_stop_text_stays(tiny):
    words = subgpt.Tokenizer.train(iter(["ab ab ab ab"]), vocab_size=259)
    model = GPT(tiny(vocab_size=words.vocab_size), seed=1)
    both = words.token_to_id("ab")
    options = {"logit_bias": {both: 1e4}, "max_new_tokens": 5, "logprobs": 0}
    (one,) = complete(model, words, "x", stop="ba", **options)
    assert (one.text, one.ids, one.finish_reason) == ("a", (both,), "stop")
    (none,) = complete(model, words, "x", stop="ab", **options)
    assert (none.text, none.ids, none.tokens) == ("", (), ())


def test_half_a_character_at_the_end_is_a_token_all_the_same(tiny):
    words = subgpt.Tokenizer.train(iter(["é日本"]), vocab_size=257)
    model = GPT(tiny(vocab_size=words.vocab_size + 3), seed=1)
    (one,) = complete(model, words, "x", logit_bias={0xE6: 1e4}, max_new_tokens=2, logprobs=1)
    assert one.text == "\ufffd\ufffd"
    assert [token.text for token in one.tokens] == ["<0xE6>"] * 2
    beyond = complete(model, words, "x", logit_bias={words.vocab_size: 1e4}, max_new_tokens=1, logprobs=1)[0]
    assert (beyond.text, beyond.tokens[0].text) == ("", "")


def test_no_token_is_read_after_which_nothing_is_looked_up():
    class Counts:
        read: ClassVar[list[int]] = []

        def fork(self):
            return self

        def append(self, ids):
            self.read += ids

        def logprobs(self, id, top):
            return (float(len(self.read)), [(id, 0.0)] * top)

    found = _found_after(Counts(), [7, 8, 9], 1)
    assert [logprob for logprob, _ in found] == [0.0, 1.0, 2.0]
    assert Counts.read == [7, 8]


def test_what_complete_refuses(model, tokenizer):
    for options, said in [
        ({"logprobs": -1}, "logprobs = -1"),
        ({"logprobs": True}, "logprobs = True"),
        ({"logprobs": "3"}, "logprobs = '3'"),
        ({"n": 2, "temperature": 0}, "num_return_sequences = 2"),
        ({"n": 0}, "num_return_sequences = 0"),
        ({"n": 2, "num_return_sequences": 2}, "the same setting"),
    ]:
        with pytest.raises(ConfigError, match=said):
            complete(model, tokenizer, "a", **options)
    for call in (generate, stream):
        with pytest.raises(ConfigError, match=r"call subgpt\.complete"):
            call(model, tokenizer, "a", n=2)
