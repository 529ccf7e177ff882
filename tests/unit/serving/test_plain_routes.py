"""The routes that write no text."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from pathlib import Path

import numpy as np
import pytest

import subgpt
from subgpt.errors import ConfigError
from subgpt.serving.app import create_app
from subgpt.serving.models import Served, find_served, load_served, served_names
from subgpt.serving.settings import ServerSettings
from subgpt.serving.tokens import Spelling


def test_models_are_listed(client):
    (card,) = client.get("/v1/models").json()["data"]
    assert card["id"] == "poems"
    assert card["owned_by"] == "subgpt"
    assert client.get("/v1/models/poems").json() == card
    assert client.get("/v1/models/none").status_code == 404


def test_text_becomes_ids_and_text_again(client, served):
    text = "the fog comes"
    found = client.post("/tokenize", json={"prompt": text}).json()
    assert found["tokens"] == served.tokenizer.encode(text).tolist()
    assert found["count"] == len(text)
    assert "".join(found["token_strs"]) == text
    assert client.post("/detokenize", json={"tokens": found["tokens"]}).json() == {"prompt": text}
    assert client.post("/detokenize", json={"tokens": [9999]}).status_code == 400


def test_a_text_to_be_cut_is_no_longer_than_a_prompt(make_client):
    client = make_client(max_prompt_tokens=10)
    assert client.post("/tokenize", json={"prompt": "a" * 10}).json()["count"] == 10
    response = client.post("/tokenize", json={"prompt": "a" * 11})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


def test_a_text_is_cut_and_laid_out_beside_the_loop(client, monkeypatch):
    loops = []

    def asked(self, id):
        with contextlib.suppress(RuntimeError):
            loops.append(asyncio.get_running_loop())
        return text_of(self, id)

    text_of = Spelling.text_of
    monkeypatch.setattr(Spelling, "text_of", asked)
    assert client.post("/tokenize", json={"prompt": "the fog"}).json()["count"] == 7
    assert not loops


def test_special_tokens_have_their_ids_and_a_place_to_be_looked_up(client, served):
    body = {"prompt": "<|endoftext|>", "add_special_tokens": False}
    assert client.post("/tokenize", json=body).json()["tokens"] == [served.tokenizer.eot_id]
    plain = served.tokenizer.encode_ordinary("<|endoftext|>").tolist()
    for more in ({}, {"add_special_tokens": False}):
        answer = client.post("/tokenize", json={"prompt": "<|endoftext|>", "parse_special": False, **more})
        assert answer.json()["tokens"] == plain
    info = client.get("/tokenizer_info?model=poems").json()
    assert (info["eos_token"], info["bos_token"], info["chat_template"]) == ("<|endoftext|>", None, None)
    assert client.get("/tokenizer_info?model=none").status_code == 404


def test_what_stands_before_every_text_is_left_out_if_not_wanted(make_client, small, shared):
    model, tokenizer = subgpt.load(shared / "data/model/stories260K.bin")
    with subgpt.Engine(model, tokenizer) as engine:
        stories = Served("stories", Path("stories"), model, tokenizer, engine)
        client = make_client(stories)
        body = {"prompt": "Once upon", "model": "stories"}
        whole = client.post("/tokenize", json=body).json()["tokens"]
        assert (
            client.post("/tokenize", json={**body, "add_special_tokens": False}).json()["tokens"] == whole[1:]
        )
        assert client.get("/tokenizer_info?model=stories").json()["bos_token"] == "<s>"
        echo = {**body, "echo": True, "max_tokens": 0, "logprobs": 0}
        (choice,) = client.post("/v1/completions", json=echo).json()["choices"]
        assert choice["text"] == "Once upon"
        assert choice["logprobs"]["tokens"] == ["<s>", " Once", " upon"]
        assert choice["logprobs"]["text_offset"] == [0, 0, 4], "<s> is no part of the text"
        for tokens, more in ((2, {}), (4, {"parse_special": False})):
            spelt = {**echo, "prompt": "<s> Once", **more}
            (choice,) = client.post("/v1/completions", json=spelt).json()["choices"]
            assert (choice["text"], choice["logprobs"]["text_offset"][:2]) == (
                "<s> Once",
                [0, 0 if more else 3],
            )
            assert len(choice["logprobs"]["tokens"]) >= tokens, more


def test_embeddings_are_means_of_the_last_states(client, served):
    texts = ["the fog", "a red wheel barrow"]
    answer = client.post("/v1/embeddings", json={"input": texts}).json()
    for text, item in zip(texts, answer["data"], strict=True):
        mean = served.model.hidden_states(served.tokenizer.encode(text))[-1].mean(0)
        assert item["embedding"] == pytest.approx((mean / np.linalg.norm(mean)).tolist(), abs=1e-5)
    assert answer["usage"] == {"prompt_tokens": 25, "total_tokens": 25}
    packed = client.post("/v1/embeddings", json={"input": texts[0], "encoding_format": "base64"}).json()
    vector = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), dtype="<f4")
    assert vector.tolist() == pytest.approx(answer["data"][0]["embedding"])


def test_an_embedding_needs_a_text_that_fits(client):
    response = client.post("/v1/embeddings", json={"input": "a" * 129})
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"
    error = client.post("/v1/embeddings", json={"input": "a", "dimensions": 3}).json()["error"]
    assert error["param"] == "dimensions"


def test_metrics_count_what_was_asked_and_written(make_client):
    client = make_client()
    body = {"prompt": "the fog", "max_tokens": 9, "ignore_eos": True}
    assert client.post("/v1/completions", json=body).status_code == 200
    assert client.get("/v1/none/../completions").status_code in (404, 405)
    lines = client.get("/metrics").text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert values['subgpt_requests_total{method="POST",route="/v1/completions",status="200"}'] == "1.0"
    assert values['subgpt_time_to_first_token_seconds_count{model="poems"}'] == "1.0"
    assert values['subgpt_inter_token_seconds_count{model="poems"}'] == "8.0"
    assert float(values['subgpt_generated_tokens_total{model="poems"}']) >= 9
    assert values['subgpt_running{model="poems"}'] == "0.0"
    assert "the fog" not in "".join(lines)


@pytest.mark.parametrize(
    "path", ["/v1/completions", "/v1/chat/completions", "/tokenize", "/v1/models", "/health"]
)
def test_other_methods_are_refused(client, path):
    response = client.delete(path)
    assert response.status_code == 405
    assert response.headers["allow"] in ("GET", "POST")
    assert response.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/v1", "/v1/engines", "/nothing", "/"])
def test_unknown_paths_are_404_in_openais_shape(client, path):
    response = client.get(path)
    assert response.status_code == 404
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_with_several_models_a_request_names_one(make_client, served):
    other = Served("other", served.run, served.model, served.tokenizer, served.engine)
    client = make_client(other)
    assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 404
    assert client.post("/v1/completions", json={"prompt": "a", "model": "other"}).json()["model"] == "other"
    assert find_served([served, other], "other") is other


def test_models_have_names_of_their_own(served):
    with pytest.raises(ConfigError, match="each with its own name"):
        create_app([served, served], ServerSettings(playground=False))
    with pytest.raises(ConfigError, match="one at least"):
        create_app([], ServerSettings(playground=False))


def test_names_come_from_directories():
    assert served_names([Path("runs/a"), Path("x/b.gguf")], None) == ["a", "b"]
    assert served_names([Path("runs/a")], "mine") == ["mine"]
    with pytest.raises(ConfigError, match="two models would be called 'a'"):
        served_names([Path("x/a"), Path("y/a")], None)
    with pytest.raises(ConfigError, match="--name is for one model"):
        served_names([Path("x/a"), Path("y/b")], "mine")
    with pytest.raises(ConfigError, match="one run directory at least"):
        served_names([], None)


def test_models_are_loaded_with_their_engines(small, tokenizer, tmp_path):
    small.save(tmp_path / "run", tokenizer=tokenizer)
    with load_served([tmp_path / "run"], quantize="int8", max_batch=2) as (one,):
        assert one.name == "run"
        assert one.model.quantization == "int8"
        assert one.engine.max_batch == 2
        job = one.engine.submit("the", max_new_tokens=3, seed=1)
        assert job.text() == subgpt.generate(
            one.model, one.tokenizer, "the", max_new_tokens=3, seed=1, return_prompt=False
        )
    with pytest.raises(subgpt.InvalidValueError, match="closed"):
        one.engine.submit("the")
    small.save(tmp_path / "bare")
    with pytest.raises(subgpt.MissingFileError, match="tokenizer"), load_served([tmp_path / "bare"]):
        pass
