"""A speciality: a model that only tells stories is made to do maths (GSM8K) or to write Python (HumanEval).

Both are far beyond 260,000 parameters, and the figures say so: the loss falls and far more tokens are foretold, since
the model learns how solutions look; solutions that come to the right number stay near none. What fits a real model
fits here, too: the same recipe, the same probes.

    python examples/speciality.py maths    # some three minutes on two cores
    python examples/speciality.py code     # some three
"""

from __future__ import annotations

import json
from pathlib import Path

from common import (
    Rows,
    Stories,
    Test,
    load_base,
    need,
    parser,
    print_answers,
    print_run,
    print_sample,
    run,
    settings,
)

import subgpt

ASKED = 100
"""Held-out problems that are solved in full, which takes longer than foretelling tokens."""


def read_jsonl(path: Path) -> Rows:
    """Read an object a line."""
    return [json.loads(line) for line in need(path).read_text(encoding="utf-8").splitlines()]


def maths(data: Path) -> tuple[Rows, Rows]:
    """Give GSM8K's problems: 3,000 of its training and 400 of its test set."""
    folder = data / "finetune"
    return read_jsonl(folder / "gsm8k_train_3000.jsonl"), read_jsonl(folder / "gsm8k_test_400.jsonl")


def code(data: Path) -> tuple[Rows, Rows]:
    """Give HumanEval's prompts with their canonical solutions, every fifth task held out."""
    tasks = read_jsonl(data / "code" / "humaneval_python.jsonl")
    rows = [{"prompt": task["prompt"], "completion": task["canonical_solution"]} for task in tasks]
    return [row for i, row in enumerate(rows) if i % 5], rows[::5]


def fitting(rows: Rows, tokenizer: subgpt.Tokenizer, room: int) -> Rows:
    """Leave out problems that a model would not see whole."""
    texts = [row.get("prompt") or f"Question: {row['question']}\nAnswer:" for row in rows]
    return [row for row, text in zip(rows, texts, strict=True) if len(tokenizer.encode(text)) < room]


def main() -> None:
    """Fine-tune with the recipe, ask before and after, and print what changed."""
    parse = parser(__doc__)
    parse.add_argument("kind", choices=["maths", "code"], help="what to be good at")
    given = parse.parse_args()
    stories = Stories.read(given.data)
    model, tokenizer = load_base(given.data)
    trained, held_out = (maths if given.kind == "maths" else code)(given.data)
    held_out = held_out[: given.held_out]
    asked = fitting(held_out, tokenizer, model.config.block_size)[:ASKED]
    print(f"{len(trained)} problems to learn from, {len(held_out)} held out, {len(asked)} of them asked")
    whole = {"maths": "number", "code": "exact"}[given.kind]
    before = Test.of(model, tokenizer, held_out, asked, whole)
    course = subgpt.finetune(
        model,
        tokenizer,
        trained,
        settings("speciality", given, probe_match="tokens"),
        old_source=stories.held_out,
        replay_source=stories.replay,
        probes={"tokens of its solutions": asked},
        callbacks=(),
    )
    after = Test.of(model, tokenizer, held_out, asked, whole)
    print_run(given.kind, course, before, after)
    print_answers(after.answers)
    print_sample(model, tokenizer, "Once upon a time")


if __name__ == "__main__":
    run(main)
