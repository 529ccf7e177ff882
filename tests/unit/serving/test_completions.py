"""`/v1/completions` writes what `subgpt.complete` does, and lays it out as OpenAI does."""

from __future__ import annotations

import json

import pytest

import subgpt

GREEDY = {"temperature": 0, "max_tokens": 12}


def ask(client, **body):
    response = client.post("/v1/completions", json={"ignore_eos": True, **body})
    assert response.status_code == 200, response.text
    return response.json()


def refused(client, **body):
    response = client.post("/v1/completions", json=body)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    return error


def events(response):
    lines = [line for line in response.text.split("\n\n") if line]
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def reference(served, prompt, **options):
    return subgpt.complete(served.model, served.tokenizer, prompt, **{"ignore_eos": True, **options})


def test_a_text_is_that_of_complete(client, served):
    answer = ask(client, model="poems", prompt="the fog", temperature=0.8, seed=3, max_tokens=20)
    (expected,) = reference(served, "the fog", temperature=0.8, seed=3, max_tokens=20)
    assert answer["object"] == "text_completion"
    assert answer["model"] == "poems"
    (choice,) = answer["choices"]
    assert choice == {"text": expected.text, "index": 0, "logprobs": None, "finish_reason": "length"}
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (7, 20, 27)


def test_a_name_of_a_special_token_is_text_where_the_request_says_so(client, served):
    prompt = "the<|endoftext|>fog"
    for more in ({}, {"parse_special": False}):
        answer = ask(client, prompt=prompt, **GREEDY, **more)
        (expected,) = reference(served, prompt, temperature=0, max_new_tokens=12, **more)
        assert answer["choices"][0]["text"] == expected.text
        tokens = len(
            served.tokenizer.encode(prompt, allowed_special=() if more else "all", disallowed_special=())
        )
        assert answer["usage"]["prompt_tokens"] == tokens
        scored = ask(client, prompt=prompt, echo=True, logprobs=0, max_tokens=0, **more)
        assert len(scored["choices"][0]["logprobs"]["tokens"]) == tokens


def test_texts_for_several_prompts_have_seeds_of_their_own(client, served):
    answer = ask(client, prompt=["the fog", "a red"], n=2, seed=5, max_tokens=8)
    expected = [
        one.text
        for prompt in ("the fog", "a red")
        for one in reference(served, prompt, n=2, seed=5, max_tokens=8)
    ]
    assert [choice["text"] for choice in answer["choices"]] == expected
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2, 3]
    assert answer["usage"]["prompt_tokens"] == 12


def test_a_negative_seed_is_a_seed(client):
    first, again, other = (
        ask(client, prompt="a", seed=seed, max_tokens=20)["choices"][0]["text"] for seed in (-1, -1, -2)
    )
    assert first == again != other


def test_ids_are_read_as_they_are(client, served):
    ids = served.tokenizer.encode("the fog").tolist()
    by_ids = ask(client, prompt=ids, **GREEDY)
    assert by_ids["choices"][0]["text"] == ask(client, prompt="the fog", **GREEDY)["choices"][0]["text"]
    both = ask(client, prompt=[ids, ids[:3]], **GREEDY)
    assert both["choices"][0]["text"] == by_ids["choices"][0]["text"]
    assert both["usage"]["prompt_tokens"] == len(ids) + 3


def test_logprobs_are_those_of_the_model(client, served):
    (choice,) = ask(client, prompt="the", logprobs=3, seed=1, max_tokens=6)["choices"]
    (expected,) = reference(served, "the", logprobs=3, seed=1, max_tokens=6)
    found = choice["logprobs"]
    assert found["tokens"] == [token.text for token in expected.tokens]
    assert "".join(found["tokens"]) == choice["text"]
    assert found["token_logprobs"] == pytest.approx([token.logprob for token in expected.tokens], abs=1e-5)
    assert found["text_offset"] == list(range(6))
    for top, token in zip(found["top_logprobs"], expected.tokens, strict=True):
        assert top[token.text] == pytest.approx(token.logprob, abs=1e-5)
        for other in token.top:
            assert top[other.text] == pytest.approx(other.logprob, abs=1e-5)
        assert len(top) in (3, 4)


def test_no_logprobs_beside_the_own_one(client):
    (choice,) = ask(client, prompt="the", logprobs=0, seed=1, max_tokens=3)["choices"]
    assert [list(top) for top in choice["logprobs"]["top_logprobs"]] == [
        [token] for token in choice["logprobs"]["tokens"]
    ]


def test_echo_without_new_tokens_scores_the_prompt(client, served):
    answer = ask(client, prompt="the fog", echo=True, logprobs=2, max_tokens=0)
    (expected,) = reference(served, "the fog", echo=True, logprobs=2, max_tokens=0)
    (choice,) = answer["choices"]
    assert choice["text"] == "the fog"
    assert choice["finish_reason"] == "length"
    found = choice["logprobs"]
    assert found["token_logprobs"][0] is None
    assert found["top_logprobs"][0] is None
    assert found["token_logprobs"][1:] == pytest.approx(
        [one.logprob for one in expected.tokens[1:]], abs=1e-5
    )
    assert found["text_offset"] == list(range(7))
    assert answer["usage"]["completion_tokens"] == 0


def test_echo_with_new_tokens_has_both(client, served):
    (choice,) = ask(client, prompt="the fog", echo=True, logprobs=1, **GREEDY)["choices"]
    (expected,) = reference(served, "the fog", echo=True, logprobs=1, **GREEDY)
    assert choice["text"] == expected.text
    found = choice["logprobs"]
    assert found["tokens"] == [token.text for token in expected.tokens]
    assert found["token_logprobs"][1:] == pytest.approx(
        [one.logprob for one in expected.tokens[1:]], abs=1e-5
    )
    lengths = [len(token) for token in found["tokens"]]
    assert found["text_offset"] == [sum(lengths[:at]) for at in range(7 + 12)]


def test_an_empty_prompt_has_a_token_and_no_text(client):
    (choice,) = ask(client, prompt="", echo=True, logprobs=0, seed=1, max_tokens=3)["choices"]
    found = choice["logprobs"]
    assert found["tokens"][0] == "<|endoftext|>"
    assert found["text_offset"][:2] == [0, 0]
    assert choice["text"] == "".join(found["tokens"][1:])


def test_a_stream_joined_is_the_text(client):
    body = {
        "prompt": ["the fog", "a red"],
        "n": 2,
        "seed": 5,
        "max_tokens": 9,
        "logprobs": 1,
        "ignore_eos": True,
    }
    whole = ask(client, **body)["choices"]
    response = client.post("/v1/completions", json={**body, "stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    texts, tokens, reasons = [""] * 4, [[] for _ in range(4)], [None] * 4
    for event in events(response):
        (choice,) = event["choices"]
        assert reasons[choice["index"]] is None
        texts[choice["index"]] += choice["text"]
        tokens[choice["index"]] += choice["logprobs"]["tokens"] if choice["logprobs"] else []
        reasons[choice["index"]] = choice["finish_reason"]
        assert "usage" not in event
    assert texts == [choice["text"] for choice in whole]
    assert tokens == [choice["logprobs"]["tokens"] for choice in whole]
    assert reasons == [choice["finish_reason"] for choice in whole]


def test_a_stream_ends_with_the_usage_if_asked_for(client):
    body = {
        "prompt": "the",
        "max_tokens": 4,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    *pieces, last = events(client.post("/v1/completions", json=body))
    assert all(piece["usage"] is None for piece in pieces)
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 4


def test_a_stream_may_echo(client):
    body = {"prompt": "the", "max_tokens": 0, "echo": True, "logprobs": 0, "stream": True}
    first, last = events(client.post("/v1/completions", json=body))
    assert first["choices"][0]["text"] == "the"
    assert first["choices"][0]["logprobs"]["tokens"] == ["t", "h", "e"]
    assert last["choices"][0]["finish_reason"] == "length"


def test_a_stop_text_ends_a_text(client, served):
    (free,) = ask(client, prompt="the", seed=2, max_tokens=30)["choices"]
    stop = free["text"][10:12]
    (choice,) = ask(client, prompt="the", seed=2, max_tokens=30, stop=[stop])["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["text"] == free["text"][: free["text"].index(stop)]


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 3},
        {"top_p": 0.4},
        {"min_p": 0.8},
        {"typical_p": 0.3},
        {"repetition_penalty": 1.5},
        {"presence_penalty": 1.0},
        {"frequency_penalty": 0.5},
        {"no_repeat_ngram_size": 2},
        {"logit_bias": {"3": 5}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_rules_of_sampling_are_those_of_complete(client, served, options):
    (choice,) = ask(client, prompt="the fog", seed=7, max_tokens=24, **options)["choices"]
    ours = {**options, "logit_bias": {3: 5}} if "logit_bias" in options else options
    (expected,) = reference(served, "the fog", seed=7, max_tokens=24, **ours)
    (free,) = reference(served, "the fog", seed=7, max_tokens=24)
    assert choice["text"] == expected.text != free.text


def test_texts_keep_to_a_form(client):
    pytest.importorskip("llguidance", reason="llguidance, of the extra `structured`, is not installed")
    assert ask(client, prompt="When? ", regex="[0-9]{4}", ignore_eos=False)["choices"][0]["text"].isdigit()
    assert ask(client, prompt="Well? ", grammar='start: "yes" | "no"', ignore_eos=False)["choices"][0][
        "text"
    ] in ("yes", "no")
    assert "regex" in refused(client, prompt="a", regex="(")["message"]


def test_the_end_of_text_ends_a_text(client, served):
    (choice,) = ask(client, prompt="the", seed=1, max_tokens=2000, ignore_eos=False)["choices"]
    assert choice["finish_reason"] == "stop"
    (expected,) = reference(served, "the", seed=1, max_tokens=2000, ignore_eos=False)
    assert choice["text"] == expected.text


@pytest.mark.parametrize("stream", [False, True])
def test_the_token_that_ends_a_text_is_among_the_tokens(client, served, stream):
    options = {"prompt": "the", "seed": 1, "max_tokens": 2000, "logprobs": 1}
    (expected,) = reference(served, "the", seed=1, max_tokens=2000, logprobs=1, ignore_eos=False)
    if stream:
        found = [
            event["choices"][0]
            for event in events(client.post("/v1/completions", json={**options, "stream": True}))
        ]
        logprobs = {
            name: [value for one in found for value in one["logprobs"][name]] for name in found[0]["logprobs"]
        }
    else:
        logprobs = ask(client, **options, ignore_eos=False)["choices"][0]["logprobs"]
    assert logprobs["tokens"] == [*(token.text for token in expected.tokens), "<|endoftext|>"]
    assert len(logprobs["token_logprobs"]) == len(logprobs["top_logprobs"]) == len(expected.tokens) + 1
    assert logprobs["text_offset"][-1] == len(expected.text)


def test_ends_of_the_models_own_files_can_be_ignored_too(client, served, monkeypatch):
    every = list(range(served.tokenizer.vocab_size))
    monkeypatch.setattr(served.model, "generation_config", {"eos_token_id": every})
    assert ask(client, prompt="the", ignore_eos=False)["usage"]["completion_tokens"] == 0
    assert ask(client, prompt="the", max_tokens=7)["usage"]["completion_tokens"] == 7


def test_sixteen_tokens_are_the_default(client):
    assert ask(client, prompt="the", seed=1)["usage"]["completion_tokens"] == 16


def test_the_same_prompt_is_read_once(client):
    prompt = "i have eaten the plums that were in the icebox and which you were probably saving"
    ask(client, prompt=prompt, **GREEDY)
    details = ask(client, prompt=prompt, **GREEDY)["usage"]["prompt_tokens_details"]
    assert details["cached_tokens"] > 40


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"best_of": 3}, "best_of", "leave it out"),
        ({"suffix": "the end"}, "suffix", "given way"),
        ({"temprature": 1}, "temprature", "did you mean 'temperature'"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"top_p": 7}, "top_p", "less than or equal to 1"),
        ({"max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
        ({"max_tokens": True}, "max_tokens", "valid integer"),
        ({"max_tokens": 5000}, "max_tokens", "4096"),
        ({"n": 17}, "n", "16"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"prompt": ["a"] * 129}, "prompt", "128"),
        ({"prompt": [1, "a"]}, "prompt", "token ids"),
        ({"prompt": [[]]}, "prompt", "one at least"),
        ({"prompt": [99999]}, "prompt", "no token of this model"),
        ({"logprobs": 21}, "logprobs", "20"),
        ({"logit_bias": {"3": 500}}, "logit_bias.3", "less than or equal to 100"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "valid integer"),
        ({"stop": [""]}, "stop.0", "at least 1 character"),
        ({"token_healing": True, "logprobs": 1}, "token_healing", "leave echo"),
        ({"regex": "a", "grammar": "b"}, "regex", "give one of them"),
        ({"num_beams": 4}, "num_beams", "beam search"),
        ({"tools": [{}]}, "tools", "no tools"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(client, body, param, words):
    error = refused(client, **{"prompt": "a", **body})
    assert error["param"] == param
    assert words in error["message"]


def test_what_changes_nothing_is_let_be(client):
    body = {
        "user": "me",
        "store": False,
        "metadata": {"a": "b"},
        "suffix": None,
        "best_of": 1,
        "logit_bias": {},
    }
    assert (
        ask(client, prompt="the", **GREEDY, **body)["choices"]
        == ask(client, prompt="the", **GREEDY)["choices"]
    )


def test_a_prompt_may_be_too_long(make_client):
    error = refused(make_client(max_prompt_tokens=10), prompt="a" * 11)
    assert error["code"] == "context_length_exceeded"


def test_a_prompt_that_is_scored_may_be_longer_than_the_block_but_not_much(client):
    body = {"echo": True, "logprobs": 0, "max_tokens": 0}
    (choice,) = ask(client, prompt="fog " * 40, **body)["choices"]
    assert len(choice["logprobs"]["token_logprobs"]) == 160
    assert refused(client, prompt="a" * (128 + 2049), **body)["code"] == "context_length_exceeded"
    assert ask(client, prompt="a" * (128 + 2049), max_tokens=1)["usage"]["prompt_tokens"] == 2177


def test_an_unknown_model_is_404(client):
    response = client.post("/v1/completions", json={"model": "poem", "prompt": "a"})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "did you mean 'poems'?" in response.json()["error"]["message"]


def test_a_healed_prompt_goes_on_inside_of_a_word(client):
    assert ask(client, prompt="the", token_healing=True, **GREEDY)["choices"][0]["text"]
