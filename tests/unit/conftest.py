"""A small text, a tokenizer that knows it, and models that train on it in a second."""

from __future__ import annotations

import pytest

import subgpt

LINES = [
    "so much depends upon a red wheel barrow glazed with rain water beside the white chickens",
    "the apparition of these faces in the crowd: petals on a wet, black bough",
    "i have eaten the plums that were in the icebox and which you were probably saving",
    "the fog comes on little cat feet; it sits looking over harbor and city and then moves on",
    "Question: who has eaten the plums?\nAnswer: 0123456789",
]


@pytest.fixture(scope="session")
def poems() -> list[str]:
    """Twenty short documents."""
    return [f"{line}, {number}.\n" for number in range(4) for line in LINES]


@pytest.fixture(scope="session")
def tokenizer(poems):
    return subgpt.Tokenizer.train(iter(poems), level="char", special_tokens=("<|endoftext|>",))


@pytest.fixture(scope="session")
def tiny(tokenizer):
    """The shape of a model of some thousand parameters; `tiny(dropout=0.1)` changes it."""

    def make(**changes):
        shape = {
            "vocab_size": tokenizer.vocab_size,
            "block_size": 16,
            "n_layer": 1,
            "n_head": 2,
            "n_embd": 16,
        }
        return subgpt.GPTConfig(**{**shape, **changes})

    return make


@pytest.fixture
def model(tiny):
    return subgpt.GPT(tiny(), seed=1)
