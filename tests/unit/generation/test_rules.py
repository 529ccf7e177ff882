"""The rules of sampling as a caller meets them: what they do to a text, what they refuse, in which order they run."""

from __future__ import annotations

import numpy as np
import pytest

import subgpt
from subgpt import GPT, ConfigError, InvalidValueError, generate, sampling_probs, stream


def repeated(ids, n):
    runs = [tuple(ids[i : i + n]) for i in range(len(ids) - n + 1)]
    return len(runs) - len(set(runs))


def test_no_run_of_tokens_comes_twice(model):
    start = [1, 2]
    free = model.generate(start, max_new_tokens=80, temperature=0)
    assert repeated(free.tolist(), 3) > 0
    held = model.generate(start, max_new_tokens=80, temperature=0, no_repeat_ngram_size=3)
    assert repeated(held.tolist(), 3) == 0


def test_bad_words_are_not_written(model, tokenizer):
    names = dict.fromkeys(tokenizer.special_tokens.values(), -10000.0)  # words of their own, as text
    options = {"max_new_tokens": 300, "seed": 1, "logit_bias": names}
    free = generate(model, tokenizer, "so", return_prompt=False, **options)
    words = [free[10:12], free[40:43]]
    held = generate(model, tokenizer, "so", bad_words=words, return_prompt=False, **options)
    assert not any(word in held for word in words)
    assert "".join(stream(model, tokenizer, "so", bad_words=words, **options)) == held
    # A word with characters that the tokenizer has not cannot be written anyway, and forbids no <unk>.
    assert generate(model, tokenizer, "so", bad_words=["日"], return_prompt=False, **options) == free


def test_bad_words_are_forbidden_as_they_begin_a_text_and_after_a_space(tiny):
    text = "a cat, the cat. cat the cat a cat "
    words = subgpt.Tokenizer.train(iter([text] * 9), vocab_size=275)
    from subgpt.generation.prompt import bad_words_ids

    assert bad_words_ids(words, ["cat"]) == [
        words.encode_ordinary("cat").tolist(),
        words.encode_ordinary(" cat").tolist(),
    ]
    assert bad_words_ids(words, []) == []


def test_a_bias_makes_and_bans_a_token(model):
    made = model.generate([1], max_new_tokens=20, seed=1, logit_bias={7: 1e4})
    assert made.tolist() == [1] + [7] * 20
    banned = model.generate([1], max_new_tokens=200, seed=1, logit_bias={7: -1e4})
    assert 7 in model.generate([1], max_new_tokens=200, seed=1)
    assert 7 not in banned
    with pytest.raises(InvalidValueError, match="logit_bias is for id 9999"):
        model.generate([1], max_new_tokens=2, logit_bias={9999: 1.0})


def test_a_text_does_not_end_before_min_new_tokens(model, tokenizer):
    loud = {"logit_bias": {tokenizer.eot_id: 1e4}, "max_new_tokens": 30}
    assert generate(model, tokenizer, "so", return_prompt=False, **loud) == ""
    ids = subgpt.complete(model, tokenizer, "so", min_new_tokens=12, seed=1, **loud)[0].ids
    assert len(ids) == 12
    assert tokenizer.eot_id not in ids
    assert len(model.generate([1], eos_token_id=3, logit_bias={3: 1e4}, min_new_tokens=4)) == 5


def test_rules_that_leave_nothing_are_named(tiny):
    model = GPT(tiny(vocab_size=4), seed=1)
    with pytest.raises(InvalidValueError, match="loosen no_repeat_ngram_size or bad_words"):
        model.generate([0, 1], max_new_tokens=9, no_repeat_ngram_size=1, bad_words_ids=[[3]])


def test_sampling_probs_knows_every_rule():
    logits = np.log([0.5, 0.25, 0.125, 0.125])
    assert sampling_probs(logits, logit_bias={0: np.log(0.5)}) == pytest.approx([1 / 3, 1 / 3, 1 / 6, 1 / 6])
    probs = sampling_probs(logits, context=[0, 0, 1], frequency_penalty=np.log(2), presence_penalty=np.log(2))
    assert probs == pytest.approx(np.array([1 / 16, 1 / 16, 1 / 8, 1 / 8]) / (3 / 8))
    assert sampling_probs(logits, context=[1, 0, 1], no_repeat_ngram_size=2)[0] == 0
    assert sampling_probs(logits, context=[1], bad_words_ids=[[1, 2], [3]]).tolist()[2:] == [0, 0]
    ends = {"eos_token_id": 0, "min_new_tokens": 2, "context": [1, 1, 1]}
    assert sampling_probs(logits, new_tokens=1, **ends)[0] == 0
    assert sampling_probs(logits, new_tokens=2, **ends)[0] == pytest.approx(0.5)
    # Entropy 1.21 nats: of -ln p those of 0.25 (1.39) and 0.5 (0.69) are nearest.
    assert sampling_probs(logits, typical_p=0.3).tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])


def test_a_bias_comes_before_the_penalties_as_in_hugging_face_and_vllm():
    probs = sampling_probs([1.0, 1.0], context=[0], repetition_penalty=2.0, logit_bias={0: 3.0})
    assert probs[0] == pytest.approx(np.exp(2) / (np.exp(2) + np.exp(1)))


def test_texts_need_a_tokenizer(model):
    for options in ({"stop": "a"}, {"bad_words": "a"}, {"regex": "a"}, {"json_schema": {}}, {"grammar": "a"}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))} strings need a tokenizer"):
            model.generate([1], **options)
    with pytest.raises(ConfigError, match="no option 'bad_words'"):
        sampling_probs([1.0], bad_words="a")


def test_draws_follow_the_distribution_after_all_rules(model):
    ids = [1, 2, 3, 2]
    rules = {"temperature": 1.4, "top_p": 0.9, "frequency_penalty": 0.7, "typical_p": 0.95}
    probs = sampling_probs(model.forward(ids)[-1], context=ids, **rules)
    draws = 3000
    drawn = [int(model.generate(ids, max_new_tokens=1, seed=seed, **rules)[-1]) for seed in range(draws)]
    seen = np.bincount(drawn, minlength=len(probs))
    assert not seen[probs == 0].any()
    expected = draws * probs[probs > 0]
    chi_square, freedom = ((seen[probs > 0] - expected) ** 2 / expected).sum(), len(expected) - 1
    assert chi_square < freedom + 5 * np.sqrt(2 * freedom)
