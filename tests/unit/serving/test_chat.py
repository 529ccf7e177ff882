"""`/v1/chat/completions` answers as `subgpt.chat` does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import subgpt
from subgpt.serving.models import Served

from .test_completions import events

ASK = [{"role": "user", "content": "who has eaten the plums?"}]


@pytest.fixture(scope="module")
def talker(served):
    """A model whose answers are not random: it was fine-tuned on one."""
    tokenizer = subgpt.Tokenizer.train(
        iter(['Question: who has eaten the plums? Answer: I have "{a}:1234567890.\n']), level="char"
    )
    model = subgpt.GPT(subgpt.GPTConfig(tokenizer.vocab_size, 64, 1, 2, 32), seed=1)
    rows = [{"question": ASK[0]["content"], "answer": "I have."}] * 4
    training = subgpt.TrainConfig(
        max_steps=120, batch_size=4, learning_rate=1e-2, val_fraction=0, recall_tokens=0
    )
    subgpt.finetune(model, tokenizer, rows, training, callbacks=())
    with subgpt.Engine(model, tokenizer) as engine:
        yield Served("talker", Path("talker"), model, tokenizer, engine)


@pytest.fixture(scope="module")
def client(make_client, talker):
    return make_client(talker)


def ask(client, **body):
    response = client.post(
        "/v1/chat/completions", json={"model": "talker", "messages": ASK, "temperature": 0, **body}
    )
    assert response.status_code == 200, response.text
    return response.json()


def refused(client, **body):
    response = client.post("/v1/chat/completions", json={"model": "talker", "messages": ASK, **body})
    assert response.status_code == 400, response.text
    return response.json()["error"]


def test_an_answer_is_that_of_chat(client, talker):
    answer = ask(client)
    assert answer["object"] == "chat.completion"
    (choice,) = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": "I have.", "refusal": None}
    assert choice["message"]["content"] == subgpt.chat(talker.model, talker.tokenizer, ASK, temperature=0)
    assert choice["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] > 24


def test_a_stream_joined_is_the_answer(client):
    body = {
        "model": "talker", "messages": ASK, "temperature": 0, "stream": True,
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    *chunks, last = events(client.post("/v1/chat/completions", json=body))
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "I have."
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks][-1] == "stop"
    assert last["usage"]["completion_tokens"] > 0


def test_several_answers_have_seeds_of_their_own(client, talker):
    answer = ask(client, n=3, seed=4, temperature=2.5, max_completion_tokens=12)
    expected = [
        subgpt.chat(talker.model, talker.tokenizer, ASK, seed=4 + number, temperature=2.5, max_new_tokens=12)
        for number in range(3)
    ]
    assert [choice["message"]["content"] for choice in answer["choices"]] == expected
    assert len(set(expected)) > 1


def test_parts_of_text_are_joined(client):
    parts = [{"type": "text", "text": "who has "}, {"type": "text", "text": "eaten the plums?"}]
    messages = [{"role": "user", "content": parts, "name": "me"}]
    assert ask(client, messages=messages)["choices"] == ask(client)["choices"]


def test_an_answer_can_be_given_back(client):
    first = ask(client)["choices"][0]["message"]
    back = {**first, "annotations": [], "tool_calls": None, "audio": None}
    messages = [{"role": "developer", "content": "Be short."}, *ASK, back, *ASK]
    assert ask(client, messages=messages)["usage"]["prompt_tokens"] > 60


def test_logprobs_have_tokens_bytes_and_others(client):
    (choice,) = ask(client, logprobs=True, top_logprobs=2)["choices"]
    content = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in content).strip() == "I have."
    for token in content:
        assert bytes(token["bytes"]).decode() == token["token"]
        assert token["logprob"] <= 0
        assert [set(other) for other in token["top_logprobs"]] == [{"token", "logprob", "bytes"}] * 2
        assert token["top_logprobs"][0]["logprob"] == pytest.approx(token["logprob"])  # greedy


def test_an_answer_can_be_json(client):
    pytest.importorskip("llguidance", reason="llguidance, of the extra `structured`, is not installed")
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["a"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": schema}}
    (choice,) = ask(client, response_format=form, max_tokens=200)["choices"]
    assert set(json.loads(choice["message"]["content"])) == {"a"}
    (choice,) = ask(client, response_format={"type": "json_object"}, max_tokens=4, seed=1)["choices"]
    assert choice["message"]["content"].startswith("{")
    assert ask(client, response_format={"type": "text"})["choices"][0]["message"]["content"] == "I have."


def test_an_answer_may_be_as_long_as_the_block(client):
    (choice,) = ask(client, seed=1, temperature=1, ignore_eos=True)["choices"]
    assert choice["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role", "assistant"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "required"),
        ({"messages": [{"role": "user", "content": " "}]}, None, "empty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, None, "text"),
        ({"messages": [*ASK, {"role": "assistant", "content": "a"}]}, None, "last message"),
        ({"messages": [{**ASK[0], "tool_calls": [1]}]}, "messages.0.tool_calls", "no option 'tool_calls'"),
        ({"tools": [{"type": "function"}]}, "tools", "no tools"),
        ({"reasoning_effort": "low"}, "reasoning_effort", "no reasoning"),
        ({"top_logprobs": 2}, "top_logprobs", "logprobs to true"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "json_object"),
        ({"response_format": {"type": "json_schema"}}, "response_format", "missing"),
        ({"max_completion_tokens": 5000}, "max_completion_tokens", "4096"),
        ({"max_tokens": 5000}, "max_tokens", "4096"),
        ({"stream_options": {"usage": True}}, "stream_options.usage", "include_usage"),
    ],
)
def test_what_cannot_be_is_refused_with_the_field(client, body, param, words):
    error = refused(client, **body)
    assert words in error["message"]
    if param is not None:
        assert error["param"] == param


def test_a_conversation_may_be_too_long(make_client, talker):
    jobs = talker.engine.stats.jobs
    error = refused(make_client(talker, max_prompt_tokens=10))
    assert talker.engine.stats.jobs == jobs, "nothing was asked for"
    assert error["code"] == "context_length_exceeded"
