"""The routes that write no text: models, tokens, embeddings, health, metrics."""

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
from anyio.to_thread import run_sync
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from subgpt.generation.prompt import prompt_ids
from subgpt.serving.context import context_of
from subgpt.serving.leaving import while_connected
from subgpt.serving.models import Served
from subgpt.serving.schemas import DetokenizeRequest, EmbeddingRequest, TokenizeRequest, as_prompts
from subgpt.serving.scoring import check_ids, check_length, prompt_tokens
from subgpt.serving.streaming import Json


async def models(request: Request) -> Response:
    """Answer `/v1/models`: what there is."""
    return Json({"object": "list", "data": [_card(one) for one in context_of(request).served]})


async def model(request: Request) -> Response:
    """Answer `/v1/models/NAME`."""
    return Json(_card(context_of(request).find(request.path_params["model"])))


def _card(served: Served) -> dict[str, Any]:
    return {
        "id": served.name,
        "object": "model",
        "created": served.created,
        "owned_by": "subgpt",
        "max_model_len": served.model.config.block_size,
    }


async def tokenize(request: Request) -> Response:
    """Answer `/tokenize`: the ids of a text, behind those that stand before every text unless these are not wanted.

    Names of special tokens in it are these tokens, as in a prompt, but without `parse_special`.
    """
    context = context_of(request)
    asked = await context.read(request, TokenizeRequest)
    served = context.find(asked.model)

    def answer() -> Response:  # in a thread down to the JSON: streams of others go on meanwhile
        if asked.add_special_tokens:
            found = prompt_ids(served.tokenizer, asked.prompt, parse_special=asked.parse_special)
        elif asked.parse_special:
            found = served.tokenizer.encode(asked.prompt, allowed_special="all")
        else:
            found = served.tokenizer.encode_ordinary(asked.prompt)
        check_length(len(found), context.settings.max_prompt_tokens, "prompt")
        ids, spelling = found.tolist(), context.spelling(served)
        return Json(
            {
                "count": len(ids),
                "max_model_len": served.model.config.block_size,
                "tokens": ids,
                "token_strs": [spelling.text_of(id) for id in ids],
            }
        )

    return await run_sync(answer)


async def detokenize(request: Request) -> Response:
    """Answer `/detokenize`: the text of ids."""
    context = context_of(request)
    asked = await context.read(request, DetokenizeRequest)
    served = context.find(asked.model)
    check_ids(served, asked.tokens, "tokens")
    return Json({"prompt": await run_sync(served.tokenizer.decode, asked.tokens)})


async def tokenizer_info(request: Request) -> Response:
    """Answer `/tokenizer_info?model=NAME`: the special tokens and the chat template, as vLLM has them."""
    served = context_of(request).find(request.query_params.get("model"))
    names = {id: name for name, id in served.tokenizer.special_tokens.items()}
    before, _ = served.tokenizer.template
    template = served.model.chat_template
    return Json(
        {
            "tokenizer_class": "subgpt",
            "eos_token": names.get(-1 if served.tokenizer.eot_id is None else served.tokenizer.eot_id),
            "bos_token": names.get(before[0]) if before else None,
            "chat_template": None if template is None else template.source,
        }
    )


async def embeddings(request: Request) -> Response:
    """Answer `/v1/embeddings`: the mean of what the last block gives for each token of a text, of length 1.

    These models are trained to write and not to compare; take it for a measure of likeness, not for a search engine.
    """
    context = context_of(request)
    asked = await context.read(request, EmbeddingRequest)
    served = context.find(asked.model)
    texts = as_prompts(asked.input)
    context.check_counts(1, len(texts), "input")
    most = min(context.settings.max_prompt_tokens, served.model.config.block_size)

    def read() -> list[list[int]]:
        return [prompt_tokens(served, text, most, "input") for text in texts]

    async def embed() -> list[tuple[int, npt.NDArray[np.float32]]]:
        ids = await run_sync(read)  # what cannot be is said before anything is computed
        return [(len(one), await run_sync(_embed, served, one)) for one in ids]

    found = await while_connected(request.receive, embed)  # which can end between two texts
    tokens = sum(count for count, _ in found)
    as_base64 = asked.encoding_format == "base64"
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
            if as_base64
            else vector.tolist(),
        }
        for index, (_, vector) in enumerate(found)
    ]
    return Json(
        {
            "object": "list",
            "data": data,
            "model": served.name,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
    )


def _embed(served: Served, ids: list[int]) -> npt.NDArray[np.float32]:
    mean = served.model.hidden_states(ids)[-1].mean(0, dtype=np.float64)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), dtype=np.float32)


async def health(request: Request) -> Response:
    """Answer `/health`: 200 while the server takes requests, 503 once it ends."""
    ending = context_of(request).work.ending
    return Json({"status": "ending" if ending else "ok"}, 503 if ending else 200)


async def metrics(request: Request) -> Response:
    """Answer `/metrics`, for Prometheus."""
    text = await run_sync(generate_latest, context_of(request).metrics.registry)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
