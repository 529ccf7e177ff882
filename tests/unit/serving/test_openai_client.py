"""OpenAI's own client against a real server: what it asks for and how it reads answers and errors."""

from __future__ import annotations

import contextlib

import pytest

import subgpt

from .conftest import ENDLESS, serving

openai = pytest.importorskip("openai", reason="the client `openai` is not installed")

KEY = "correct-horse-battery"
ASK = [{"role": "user", "content": "who has eaten the plums?"}]


@pytest.fixture(scope="module")
def where(served):
    with serving(served, api_key=KEY, grace_seconds=0.2) as (address, _):
        yield address


@pytest.fixture(scope="module")
def ai(where):
    with openai.OpenAI(base_url=f"{where}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def test_models(ai):
    assert [model.id for model in ai.models.list()] == ["poems"]
    assert ai.models.retrieve("poems").owned_by == "subgpt"


def test_completions(ai, served):
    answer = ai.completions.create(
        model="poems",
        prompt="the fog",
        max_tokens=8,
        seed=1,
        logprobs=2,
        extra_body={"top_k": 5, "ignore_eos": True},
    )
    (expected,) = subgpt.complete(
        served.model,
        served.tokenizer,
        "the fog",
        max_new_tokens=8,
        seed=1,
        top_k=5,
        ignore_eos=True,
        logprobs=2,
    )
    (choice,) = answer.choices
    assert choice.text == expected.text
    assert choice.logprobs.tokens == [token.text for token in expected.tokens]
    assert answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_streamed_completions(ai):
    options = {"model": "poems", "prompt": "the fog", "max_tokens": 8, "seed": 1}
    whole = ai.completions.create(**options)
    chunks = list(ai.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_chat(ai, served):
    options = {"temperature": 0.7, "seed": 3}
    answer = ai.chat.completions.create(
        model="poems", messages=ASK, max_tokens=10, logprobs=True, top_logprobs=2, n=2, **options
    )
    assert [choice.message.content for choice in answer.choices] == [
        subgpt.chat(served.model, served.tokenizer, ASK, max_new_tokens=10, temperature=0.7, seed=seed)
        for seed in (3, 4)
    ]
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


def test_streamed_chat(ai):
    options = {"model": "poems", "messages": ASK, "max_completion_tokens": 12, "seed": 3}
    whole = ai.chat.completions.create(**options).choices[0]
    with ai.chat.completions.stream(**options) as stream:
        final = stream.get_final_completion().choices[0]
    assert (final.message.content, final.finish_reason) == (whole.message.content, whole.finish_reason)


def test_embeddings(ai):
    found = ai.embeddings.create(model="poems", input=["the fog", "rain"])  # asks for base64
    assert len(found.data) == 2
    assert sum(x * x for x in found.data[0].embedding) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("error", "change"),
    [
        (openai.BadRequestError, {"temperature": -1}),
        (openai.BadRequestError, {"extra_body": {"best": 1}}),
        (openai.NotFoundError, {"model": "none"}),
        (openai.AuthenticationError, {"extra_headers": {"Authorization": "Bearer wrong-wrong-wrong"}}),
        (openai.PermissionDeniedError, {"extra_headers": {"Origin": "http://evil.example"}}),
        (openai.BadRequestError, {"stream": True, "top_p": 9}),
    ],
)
def test_errors_are_those_of_the_client(ai, error, change):
    with pytest.raises(error) as raised:
        ai.completions.create(**{"model": "poems", "prompt": "a", "max_tokens": 2, **change})
    assert raised.value.body["message"]
    assert raised.value.code


def test_a_full_queue_is_a_rate_limit(slow):
    with contextlib.ExitStack() as stack:
        address, _ = stack.enter_context(serving(slow, grace_seconds=0))
        ai = stack.enter_context(openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0))
        options = {
            "model": "slow",
            "prompt": "the",
            "max_tokens": ENDLESS,
            "extra_body": {"ignore_eos": True},
        }
        streams = [ai.completions.create(**options, stream=True) for _ in range(2)]
        with pytest.raises(openai.RateLimitError) as raised:
            ai.completions.create(**options)
        assert raised.value.code == "queue_full"
        assert raised.value.response.headers["retry-after"] == "1"
        for stream in streams:
            stream.close()


def test_a_server_that_is_away_is_a_connection_error():
    away = openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="-", max_retries=0)
    with away as ai, pytest.raises(openai.APIConnectionError):
        ai.models.list()
