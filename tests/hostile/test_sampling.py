"""Options of generation at the ends of what they can be, and grammars that are none: a text or an error."""

from __future__ import annotations

import json

import numpy as np
import pytest

import subgpt

TEXTS = [f"so much depends upon a red wheel barrow {n}" for n in range(12)]


@pytest.fixture(scope="module")
def pair():
    tokenizer = subgpt.Tokenizer.train(iter(TEXTS), level="char")
    shape = subgpt.GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=2, n_embd=8)
    return subgpt.GPT(shape, seed=1), tokenizer


def write(pair, prompt: str = "so", **options) -> str:
    return subgpt.generate(*pair, prompt, seed=1, **{"max_new_tokens": 5, "return_prompt": False, **options})


def test_prompts_of_any_length_and_no_new_tokens(pair):
    assert len(write(pair, "")) > 0
    assert len(write(pair, "so much depends " * 9)) > 0
    assert write(pair, max_new_tokens=0) == ""


def test_a_huge_number_of_tokens_ends_where_the_text_does(pair):
    assert "e" not in write(pair, max_new_tokens=2**31 - 1, stop="e")


@pytest.mark.parametrize(
    "options", [{"temperature": 1e-38}, {"temperature": 5e-324}, {"top_p": 1e-9}, {"top_k": 1}]
)
def test_the_narrowest_choice_is_the_most_probable_token(pair, options):
    assert write(pair, **options) == write(pair, temperature=0)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1e38}, {"top_k": 2**32 - 1}, {"repetition_penalty": 1e308}, {"frequency_penalty": 1e308},
        {"presence_penalty": -1e308}, {"logit_bias": {3: 1e308}}, {"logit_bias": dict.fromkeys(range(20), -1e30)},
        {"min_p": 1.0}, {"typical_p": 1e-9}, {"no_repeat_ngram_size": 2**32 - 1},
    ],
)  # fmt: skip
def test_the_widest_and_strongest_rules_still_give_a_text(pair, options):
    assert write(pair, **options) == write(pair, **options)


def test_all_tokens_banned_is_said(pair):
    with pytest.raises(subgpt.InvalidValueError, match="loosen bad_words"):
        write(pair, bad_words_ids=[[id] for id in range(pair[1].vocab_size)])


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        ([-np.inf] * 3, "-inf everywhere"),
        ([np.nan, 1, 2], "weights are damaged"),
        ([np.inf, 1, 2], "weights are damaged"),
    ],
)
def test_logits_that_are_none(logits, words):
    with pytest.raises(subgpt.InvalidValueError, match=words):
        subgpt.sampling_probs(logits)


def test_a_stop_text_may_be_split_across_tokens_and_characters():
    """Its bytes are tokens of their own: half of a character is never written, and the text ends before it."""
    tokenizer = subgpt.Tokenizer.train(iter(["é" * 50]), vocab_size=257)
    shape = subgpt.GPTConfig(vocab_size=tokenizer.vocab_size, block_size=16, n_layer=1, n_head=1, n_embd=8)
    model = subgpt.GPT(shape, seed=1)
    text = write((model, tokenizer), "é", regex="(aé){6}b", max_new_tokens=40)
    assert text == "aéaéaéaéaéaéb"
    assert write((model, tokenizer), "é", regex="(aé){6}b", max_new_tokens=40, stop="éa") == "a"
    assert write((model, tokenizer), "é", regex="(aé){6}b", max_new_tokens=40, stop="éb") == "aéaéaéaéaéa"


DEEP = 60_000


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "options",
    [
        {"regex": "(" * DEEP}, {"regex": "a{1000000}"}, {"regex": "[^\\s\\S]"}, {"grammar": "start: " + "(" * DEEP},
        {"grammar": "root ::= root"}, {"grammar": "start: nowhere"}, {"json_schema": {"$ref": "#"}},
        {"json_schema": '{"items":' * DEEP + "{}" + "}" * DEEP}, {"json_schema": {"enum": []}},
        {"json_schema": {"allOf": [{"type": "string"}, {"type": "integer"}]}},
    ],
)  # fmt: skip
def test_grammars_that_nothing_can_keep_to_are_errors(pair, options):
    pytest.importorskip("llguidance")
    with pytest.raises((subgpt.ConfigError, subgpt.InvalidValueError)) as caught:
        write(pair, **options)
    assert len(str(caught.value)) < 1000


def test_left_recursion_ends(pair):
    pytest.importorskip("llguidance")
    assert set(write(pair, grammar='start: start "a" | "a"')) == {"a"}
    assert set(write(pair, regex="(a*)*b", max_new_tokens=50)) <= {"a", "b"}
    deep = json.dumps({"type": "object", "properties": {"a": {"$ref": "#"}}})
    assert write(pair, json_schema=deep, max_new_tokens=0) == ""
