"""GenerationConfig: what it refuses."""

from __future__ import annotations

import json

import pytest

from subgpt import ConfigError, GenerationConfig, Tokenizer


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": -0.1}, "temperature = -0.1"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"temperature": float("inf")}, "temperature = inf"),
        ({"top_p": 0}, "top_p = 0"),
        ({"top_p": 1.01}, "top_p = 1.01"),
        ({"top_k": -1}, "top_k = -1"),
        ({"top_k": 1.5}, "top_k = 1.5"),
        ({"min_p": 2}, "min_p = 2"),
        ({"repetition_penalty": 0}, "repetition_penalty = 0"),
        ({"max_new_tokens": -1}, "max_new_tokens = -1"),
        ({"max_new_tokens": True}, "max_new_tokens = True is a truth value"),
        ({"max_new_tokens": 2**31}, "max_new_tokens = 2147483648"),
        ({"seed": -1}, "seed = -1"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": 5}, "stop"),
        ({"stop": 5.5}, "stop = 5.5"),
        ({"do_sample": "perhaps"}, "do_sample = 'perhaps'"),
        ({"eos_token_id": -5}, "eos_token_id"),
        ({"errors": "ignore"}, "errors = 'ignore'"),
        ({"temprature": 1}, "did you mean 'temperature'?"),
        ({"num_beam_groups": 2}, "no setting 'num_beam_groups'"),
        ({"typical_p": 0}, "typical_p = 0"),
        ({"frequency_penalty": float("inf")}, "frequency_penalty = inf"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size = -1"),
        ({"logit_bias": {-1: 2}}, "logit_bias"),
        ({"logit_bias": {1: float("nan")}}, "logit_bias"),
        ({"bad_words": ["a", ""]}, "bad_words"),
        ({"bad_words_ids": [[]]}, "bad_words_ids"),
        ({"bad_words_ids": [3]}, "bad_words_ids"),
        ({"min_new_tokens": -1}, "min_new_tokens = -1"),
        ({"num_beams": 0}, "num_beams = 0"),
        ({"length_penalty": 140}, "length_penalty = 140"),
        ({"length_penalty": -400}, "length_penalty = -400"),
        ({"early_stopping": "soon"}, "early_stopping = 'soon'"),
        ({"regex": "a", "json_schema": {}}, "regex and json_schema both say what the output is"),
    ],
)
def test_what_cannot_be_is_named(options, said):
    with pytest.raises(ConfigError) as caught:
        GenerationConfig(**options)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_stop_text_or_several():
    assert GenerationConfig(stop="END").stop == ("END",)
    assert GenerationConfig(stop_strings=["a", "b"]).stop == ("a", "b")
    assert GenerationConfig(stop=None).stop == ()
    assert GenerationConfig(eos_token_id=7).eos_ids == [7]


def test_what_is_never_written_is_named_as_text_and_as_ids():
    tokenizer = Tokenizer.train(["abc"], level="char", special_tokens=())
    config = GenerationConfig(bad_words="b", bad_words_ids=[[0, 2]])
    native = json.loads(config.to_native(tokenizer))
    assert native["bad_words_ids"] == [[0, 2], [tokenizer.token_to_id("b")]]
    assert json.loads(config.to_native())["bad_words_ids"] == [[0, 2]]


def test_greedy_is_a_temperature_of_zero_and_seeds_differ():
    def native(**options):
        return json.loads(GenerationConfig(**options).to_native())

    assert native(do_sample=False)["temperature"] == 0
    assert native(seed=5)["seed"] == 5
    assert native()["seed"] != native()["seed"]
