"""OpenAI's own client and `subgpt serve` in a process of its own: answers, streams, and errors by its exceptions."""

from __future__ import annotations

import contextlib
from typing import Literal

import pydantic
import pytest

import subgpt

from ..server_process import started

openai = pytest.importorskip("openai", reason="openai is not installed: pip install openai")
for needed in ("fastapi", "uvicorn", "prometheus_client", "itsdangerous"):
    pytest.importorskip(needed, reason=f"{needed}, of the extra `serve`, is not installed")

KEY = "correct-horse-battery"
LINES = (
    "so much depends upon a red wheel barrow; the fog comes on little cat feet\n",
    '{"}:, ',
    "Question: who has eaten the plums?\nAnswer: 0123456789\n",
)
ASK = [{"role": "user", "content": "who has eaten the plums?"}]
ENDLESS = {"max_tokens": 10_000_000, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A model of random weights with room for a talk, and where it is saved."""
    tok = subgpt.Tokenizer.train(iter(LINES), level="char", special_tokens=("<|endoftext|>",))
    model = subgpt.GPT(subgpt.GPTConfig(len(tok), block_size=128, n_layer=1, n_head=2, n_embd=16), seed=1)
    folder = tmp_path_factory.mktemp("runs") / "poems"
    model.save(folder, tokenizer=tok)
    return model, tok, folder


@pytest.fixture(scope="module")
def ai(served):
    environment = {"SUBGPT_API_KEY": KEY}
    with (
        started(served[2], "--grace-seconds", "0.2", **environment) as (address, _, _),
        openai.OpenAI(base_url=f"{address}/v1", api_key=KEY, max_retries=0) as client,
    ):
        yield client


def test_models(ai):
    assert [model.id for model in ai.models.list()] == ["poems"]
    assert ai.models.retrieve("poems").owned_by == "subgpt"
    with pytest.raises(openai.NotFoundError):
        ai.models.retrieve("prose")


def test_completions(ai, served):
    model, tok, _ = served
    options = {"seed": 1, "top_k": 5, "ignore_eos": True}
    answer = ai.completions.create(
        model="poems",
        prompt="the fog",
        max_tokens=8,
        seed=1,
        logprobs=2,
        extra_body={"top_k": 5, "ignore_eos": True},
    )
    (expected,) = subgpt.complete(model, tok, "the fog", max_new_tokens=8, logprobs=2, **options)
    (choice,) = answer.choices
    assert choice.text == expected.text
    assert choice.logprobs.tokens == [token.text for token in expected.tokens]
    assert choice.logprobs.token_logprobs == [token.logprob for token in expected.tokens]
    # Two, and the token itself where it is neither of them.
    for token, top in zip(expected.tokens, choice.logprobs.top_logprobs, strict=True):
        assert top == {token.text: token.logprob, **{other.text: other.logprob for other in token.top}}
    assert answer.usage.completion_tokens == 8
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0


def test_a_prompt_is_scored_with_echo(ai, served):
    model, tok, _ = served
    answer = ai.completions.create(model="poems", prompt="the fog comes", max_tokens=0, echo=True, logprobs=1)
    (expected,) = subgpt.complete(model, tok, "the fog comes", max_new_tokens=0, echo=True, logprobs=1)
    (choice,) = answer.choices
    assert choice.text == "the fog comes"
    assert choice.logprobs.token_logprobs == [token.logprob for token in expected.tokens]
    assert choice.logprobs.token_logprobs[0] is None
    assert choice.logprobs.text_offset == list(range(13))


def test_several_texts_up_to_a_stop_and_again_by_their_seed(ai, served):
    model, tok, _ = served
    options = {
        "model": "poems",
        "prompt": ["the", "so"],
        "max_tokens": 20,
        "n": 2,
        "seed": 5,
        "stop": ["e", " "],
    }
    answer = ai.completions.create(**options)
    rules = {"max_new_tokens": 20, "stop": ["e", " "], "token_healing": False, "return_prompt": False}
    expected = [
        subgpt.generate(model, tok, prompt, seed=seed, **rules) for prompt in ("the", "so") for seed in (5, 6)
    ]
    assert [choice.text for choice in answer.choices] == expected
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert {choice.finish_reason for choice in answer.choices} <= {"stop", "length"}
    again = ai.completions.create(**options)
    assert [choice.text for choice in again.choices] == expected


def test_streamed_completions(ai):
    options = {"model": "poems", "prompt": "the fog", "max_tokens": 8, "seed": 1}
    whole = ai.completions.create(**options)
    chunks = list(ai.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens


def test_chat(ai, served):
    model, tok, _ = served
    options = {"temperature": 0.7, "seed": 3}
    answer = ai.chat.completions.create(
        model="poems", messages=ASK, max_tokens=10, logprobs=True, top_logprobs=2, n=2, **options
    )
    assert [choice.message.content for choice in answer.choices] == [
        subgpt.chat(model, tok, ASK, max_new_tokens=10, temperature=0.7, seed=seed) for seed in (3, 4)
    ]
    assert {choice.message.role for choice in answer.choices} == {"assistant"}
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


def test_streamed_chat(ai):
    options = {"model": "poems", "messages": ASK, "max_completion_tokens": 12, "seed": 3}
    whole = ai.chat.completions.create(**options).choices[0]
    with ai.chat.completions.stream(**options) as stream:
        final = stream.get_final_completion().choices[0]
    assert (final.message.content, final.finish_reason) == (whole.message.content, whole.finish_reason)


def test_answers_by_a_schema_are_parsed(ai):
    pytest.importorskip("llguidance", reason="llguidance, of the extra `structured`, is not installed")

    class Answer(pydantic.BaseModel):
        who: Literal["fog", "cat"]
        plums: Literal[0, 1, 12]

    found = ai.chat.completions.parse(
        model="poems", messages=ASK, max_tokens=90, seed=1, response_format=Answer
    )
    assert isinstance(found.choices[0].message.parsed, Answer)


def test_embeddings(ai):
    found = ai.embeddings.create(model="poems", input=["the fog", "rain"])  # asks for base64
    assert len(found.data) == 2
    assert sum(x * x for x in found.data[0].embedding) == pytest.approx(1, abs=1e-4)


WRONG = {"extra_headers": {"Authorization": "Bearer wrong-wrong-wrong"}}


@pytest.mark.parametrize(
    ("error", "change", "param"),
    [
        (openai.BadRequestError, {"temperature": -1}, "temperature"),
        (openai.BadRequestError, {"n": 99}, "n"),
        (openai.BadRequestError, {"extra_body": {"best": 1}}, "best"),
        (openai.BadRequestError, {"stream": True, "top_p": 9}, "top_p"),
        (openai.BadRequestError, {"prompt": [0, 10_000]}, "prompt"),
        (openai.NotFoundError, {"model": "none"}, "model"),
        (openai.AuthenticationError, WRONG, None),
        (openai.PermissionDeniedError, {"extra_headers": {"Origin": "http://evil.example"}}, None),
    ],
)
def test_errors_are_those_of_the_client(ai, error, change, param):
    with pytest.raises(error) as raised:
        ai.completions.create(**{"model": "poems", "prompt": "a", "max_tokens": 2, **change})
    assert raised.value.body["message"]
    assert raised.value.code
    assert raised.value.param == param


def test_another_key_lists_nothing(ai):
    other = openai.OpenAI(base_url=ai.base_url, api_key="another-key-that-is-none", max_retries=0)
    with other as stranger, pytest.raises(openai.AuthenticationError):
        stranger.models.list()


def test_a_full_queue_is_a_rate_limit(tmp_path, served):
    _, tok, _ = served
    slow = subgpt.GPTConfig(len(tok), block_size=512, n_layer=6, n_head=2, n_embd=128)
    subgpt.GPT(slow, seed=1).save(tmp_path / "slow", tokenizer=tok)
    flags = (
        "--max-batch",
        1,
        "--max-waiting",
        1,
        "--max-tokens",
        ENDLESS["max_tokens"],
        "--grace-seconds",
        0,
    )
    with contextlib.ExitStack() as stack:
        address, _, _ = stack.enter_context(started(tmp_path / "slow", *flags))
        ai = stack.enter_context(openai.OpenAI(base_url=f"{address}/v1", api_key="-", max_retries=0))
        options = {"model": "slow", "prompt": "the", **ENDLESS}
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
