"""Looks into a tokenizer and a model, as the report shows them."""

from collections.abc import Sequence

from subgpt.evaluation.next_tokens import next_tokens
from subgpt.generation.chat import chat
from subgpt.generation.config import GenerationConfig
from subgpt.generation.generate import generate
from subgpt.model.gpt import GPT
from subgpt.report.facts import Candidate, Piece, Sample
from subgpt.tokenizer import Tokenizer


def pieces_of(tokenizer: Tokenizer, text: str) -> list[Piece]:
    """Cut `text` into tokens."""
    return [Piece(tokenizer.decode([token]), token) for token in tokenizer.encode_ordinary(text).tolist()]


def candidates_after(model: GPT, tokenizer: Tokenizer, prompt: str) -> list[Candidate]:
    """List the ten most probable tokens after `prompt`."""
    return [Candidate(t.text, t.id, t.probability) for t in next_tokens(model, tokenizer, prompt, 10)]


def write_samples(
    model: GPT, tokenizer: Tokenizer, prompts: Sequence[str], tokens: int, seed: int
) -> list[Sample]:
    """Let the model write `tokens` tokens after each prompt."""
    config = GenerationConfig(max_new_tokens=tokens, temperature=0.6, top_k=50, seed=seed)
    return [Sample(p, generate(model, tokenizer, p, config=config, return_prompt=False)) for p in prompts]


def answer_all(model: GPT, tokenizer: Tokenizer, questions: Sequence[str], tokens: int) -> list[str]:
    """Let the model answer each question with what it finds most probable, up to a line end."""
    config = GenerationConfig(max_new_tokens=tokens, temperature=0.0, stop=("\n",))
    asked = [[{"role": "user", "content": question}] for question in questions]
    return [chat(model, tokenizer, messages, config=config) for messages in asked]
