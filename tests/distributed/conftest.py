"""A small text and its tokenizer, for runs of several processes."""

import json

import pytest

from subgpt import Tokenizer

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "and",
    "dog",
    "ran",
    "to",
    "big",
    "red",
    "barn",
    "where",
    "hens",
]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Directories of a text and of its tokenizer."""
    place = tmp_path_factory.mktemp("corpus")
    text = "\n\n".join(" ".join(WORDS[(i * j + i) % len(WORDS)] for j in range(3, 40)) for i in range(120))
    (place / "text.txt").write_text(text)
    Tokenizer.train([text], vocab_size=280).save(place / "tok")
    rows = [
        {"question": f"what is {w} ?", "answer": f"{w} is {v}"}
        for w, v in zip(WORDS, WORDS[3:] + WORDS[:3], strict=True)
    ]
    (place / "qa.jsonl").write_text("\n".join(map(json.dumps, rows * 2)))
    pairs = [
        {"prompt": f"say {w} {i}", "chosen": f" {w} it is", "rejected": f" no {v} here"}
        for i in range(2)
        for w, v in zip(WORDS, WORDS[1:] + WORDS[:1], strict=True)
    ]
    (place / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    return place


@pytest.fixture
def job(corpus):
    """A run of six updates."""
    return {
        "tokenizer": str(corpus / "tok"),
        "data": str(corpus / "text.txt"),
        "train": {
            "max_steps": 6,
            "batch_size": 8,
            "gradient_accumulation_steps": 2,
            "learning_rate": 0.01,
            "warmup_steps": 1,
            "eval_steps": 3,
            "bucket_megabytes": 0.01,
        },
    }
