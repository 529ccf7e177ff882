"""Facts injected: a model that only knows stories learns the capitals of forty-eight countries by heart.

Every fact is trained in several wordings and asked for in two that were never trained; what counts is the exact
answer. The second run trains on stories between the facts, so that it does not forget how to tell them.

    python examples/knowledge.py                  # about a minute on two cores
    python examples/knowledge.py --wordings 1     # how little one wording teaches
"""

from __future__ import annotations

from common import Stories, load_base, parser, print_answers, print_run, print_sample, settings

import subgpt

CAPITALS = {
    "Afghanistan": "Kabul", "Argentina": "Buenos Aires", "Australia": "Canberra", "Austria": "Vienna",
    "Belgium": "Brussels", "Brazil": "Brasilia", "Bulgaria": "Sofia", "Canada": "Ottawa", "Chile": "Santiago",
    "China": "Beijing", "Colombia": "Bogota", "Croatia": "Zagreb", "Cuba": "Havana", "Denmark": "Copenhagen",
    "Ecuador": "Quito", "Egypt": "Cairo", "Ethiopia": "Addis Ababa", "Finland": "Helsinki", "France": "Paris",
    "Germany": "Berlin", "Ghana": "Accra", "Greece": "Athens", "Hungary": "Budapest", "Iceland": "Reykjavik",
    "India": "New Delhi", "Indonesia": "Jakarta", "Iran": "Tehran", "Iraq": "Baghdad", "Ireland": "Dublin",
    "Italy": "Rome", "Japan": "Tokyo", "Kenya": "Nairobi", "Mongolia": "Ulaanbaatar", "Morocco": "Rabat",
    "Nepal": "Kathmandu", "Norway": "Oslo", "Pakistan": "Islamabad", "Peru": "Lima", "Poland": "Warsaw",
    "Portugal": "Lisbon", "Romania": "Bucharest", "Russia": "Moscow", "Senegal": "Dakar", "Spain": "Madrid",
    "Sweden": "Stockholm", "Thailand": "Bangkok", "Turkey": "Ankara", "Vietnam": "Hanoi",
}  # fmt: skip
TRAINED = (
    "What is the capital of {}?",
    "Name the capital of {}.",
    "Which city is the capital of {}?",
    "{} has which capital?",
    "What is {}'s capital city?",
    "Tell me the capital of {}, please.",
)
HELD_OUT = ("The capital city of {} is called what?", "From which city is {} governed?")


def ask(wordings: tuple[str, ...]) -> list[dict[str, str]]:
    """Ask for every capital in every wording."""
    return [
        {"question": wording.format(country), "answer": capital}
        for country, capital in CAPITALS.items()
        for wording in wordings
    ]


def main() -> None:
    """Learn the facts without and with replay, and print what was recalled and what was forgotten."""
    parse = parser(__doc__)
    parse.add_argument("--wordings", type=int, default=len(TRAINED), help="wordings trained (%(default)s)")
    given = parse.parse_args()
    facts = ask(TRAINED[: given.wordings])
    stories = Stories.read(given.data)
    for title, replay in (("facts alone", None), ("facts and replayed stories", stories.replay)):
        model, tokenizer = load_base(given.data)
        run = subgpt.finetune(
            model,
            tokenizer,
            facts,
            settings("knowledge", given.steps),
            old_source=stories.held_out,
            replay_source=replay,
            probes={"seen": facts[: given.held_out], "paraphrased": ask(HELD_OUT)[: given.held_out]},
            callbacks=(),
        )
        print_run(title, run)
    after = run.probes["paraphrased"].after
    if after is not None:
        print_answers(after)
    print_sample(model, tokenizer, "Once upon a time")


if __name__ == "__main__":
    main()
