"""Answers like people do: a model that only tells stories learns to answer trivia questions, briefly, and to stop.

OpenTriviaQA's categories geography and science give some three thousand questions, a tenth of them held out. A model
of 260,000 parameters cannot know the answers to questions that it never saw; what it learns is how an answer looks:
the loss on held-out answers and the tokens it foretells tell so, and the exact matches, that it is no encyclopedia.

    python examples/qa.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from common import (
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

CATEGORIES = ("geography", "science-technology")
ASKED = 100
"""Held-out questions that are answered in full, which takes longer than foretelling tokens."""


def read_trivia(path: Path) -> Iterator[dict[str, str]]:
    """Read OpenTriviaQA: ``#Q`` and the question, maybe on several lines, ``^`` and the answer, then the choices."""
    for block in need(path).read_text(encoding="utf-8", errors="replace").split("\n\n"):
        asked, marked, rest = block.strip().partition("\n^ ")
        answer = rest.partition("\n")[0].strip()
        of_choices = answer.lower().startswith(("all of", "none of", "both "))  # which are not asked here
        if marked and answer and not of_choices and asked.startswith("#Q "):
            yield {"question": " ".join(asked.removeprefix("#Q ").split()), "answer": answer}


def main() -> None:
    """Fine-tune with the recipe, ask before and after, and print what changed."""
    given = parser(__doc__).parse_args()
    rows = [row for name in CATEGORIES for row in read_trivia(given.data / "finetune" / f"trivia_{name}.txt")]
    asked = {row["question"] for row in rows[::10]}
    held_out = [row for row in rows if row["question"] in asked][: given.held_out]
    trained = [row for row in rows if row["question"] not in asked]
    print(f"{len(trained)} questions to learn from, {len(held_out)} held out")
    stories = Stories.read(given.data)
    for title, replay in (("questions alone", None), ("questions and replayed stories", stories.replay)):
        model, tokenizer = load_base(given.data)
        before = Test.of(model, tokenizer, held_out, held_out[:ASKED], "exact")
        course = subgpt.finetune(
            model,
            tokenizer,
            trained,
            settings("qa", given),
            old_source=stories.held_out,
            replay_source=replay,
            probes={"tokens of answers to it": held_out},
            callbacks=(),
        )
        after = Test.of(model, tokenizer, held_out, held_out[:ASKED], "exact")
        print_run(title, course, before, after)
    print("\nbefore:")
    print_answers(before.answers)
    print("\nafter:")
    print_answers(after.answers)
    print_sample(model, tokenizer, "Once upon a time")


if __name__ == "__main__":
    run(main)
