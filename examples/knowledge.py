"""Facts injected: a model that only knows stories learns the capitals and languages of forty-eight countries by heart.

Every fact is trained in several wordings and asked for in two that were never trained; what counts is the exact
answer. The second run trains on stories between the facts, so that it does not forget how to tell them.

    python examples/knowledge.py                  # some two minutes on two cores
    python examples/knowledge.py --wordings 1     # how little one wording teaches
"""

from __future__ import annotations

from collections.abc import Sequence

from common import Rows, Stories, load_base, parser, print_answers, print_run, print_sample, run, settings

import subgpt

COUNTRIES = {
    "Afghanistan": ("Kabul", "Pashto"), "Argentina": ("Buenos Aires", "Spanish"),
    "Australia": ("Canberra", "English"), "Austria": ("Vienna", "German"), "Belgium": ("Brussels", "Dutch"),
    "Brazil": ("Brasilia", "Portuguese"), "Bulgaria": ("Sofia", "Bulgarian"), "Canada": ("Ottawa", "English"),
    "Chile": ("Santiago", "Spanish"), "China": ("Beijing", "Chinese"), "Colombia": ("Bogota", "Spanish"),
    "Croatia": ("Zagreb", "Croatian"), "Cuba": ("Havana", "Spanish"), "Denmark": ("Copenhagen", "Danish"),
    "Ecuador": ("Quito", "Spanish"), "Egypt": ("Cairo", "Arabic"), "Ethiopia": ("Addis Ababa", "Amharic"),
    "Finland": ("Helsinki", "Finnish"), "France": ("Paris", "French"), "Germany": ("Berlin", "German"),
    "Ghana": ("Accra", "English"), "Greece": ("Athens", "Greek"), "Hungary": ("Budapest", "Hungarian"),
    "Iceland": ("Reykjavik", "Icelandic"), "India": ("New Delhi", "Hindi"),
    "Indonesia": ("Jakarta", "Indonesian"), "Iran": ("Tehran", "Persian"), "Iraq": ("Baghdad", "Arabic"),
    "Ireland": ("Dublin", "English"), "Italy": ("Rome", "Italian"), "Japan": ("Tokyo", "Japanese"),
    "Kenya": ("Nairobi", "Swahili"), "Mongolia": ("Ulaanbaatar", "Mongolian"), "Morocco": ("Rabat", "Arabic"),
    "Nepal": ("Kathmandu", "Nepali"), "Norway": ("Oslo", "Norwegian"), "Pakistan": ("Islamabad", "Urdu"),
    "Peru": ("Lima", "Spanish"), "Poland": ("Warsaw", "Polish"), "Portugal": ("Lisbon", "Portuguese"),
    "Romania": ("Bucharest", "Romanian"), "Russia": ("Moscow", "Russian"), "Senegal": ("Dakar", "French"),
    "Spain": ("Madrid", "Spanish"), "Sweden": ("Stockholm", "Swedish"), "Thailand": ("Bangkok", "Thai"),
    "Turkey": ("Ankara", "Turkish"), "Vietnam": ("Hanoi", "Vietnamese"),
}  # fmt: skip
"""Countries with their capital and a language that is official there."""

TRAINED = (
    ("What is the capital of {}?", "What language do people speak in {}?"),
    ("Which city is the capital of {}?", "Which language is spoken in {}?"),
    ("Name the capital of {}.", "Name the language of {}."),
    ("{} has which capital?", "{} has which language?"),
    ("What is {}'s capital city?", "What is {}'s own language?"),
    ("From which city is {} governed?", "In which words do people talk in {}?"),
)
HELD_OUT = (
    ("The capital city of {} is called what?", "The language of {} is called what?"),
    ("Which city governs {}?", "Which language do people talk in {}?"),
)


def ask(wordings: Sequence[tuple[str, str]]) -> Rows:
    """Ask for the capital and the language of every country in every wording."""
    return [
        {"question": question.format(country), "answer": answer}
        for country, facts in COUNTRIES.items()
        for wording in wordings
        for question, answer in zip(wording, facts, strict=True)
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
        course = subgpt.finetune(
            model,
            tokenizer,
            facts,
            settings("knowledge", given),
            old_source=stories.held_out,
            replay_source=replay,
            probes={"seen": facts[: given.held_out], "paraphrased": ask(HELD_OUT)[: given.held_out]},
            callbacks=(),
        )
        print_run(title, course)
    after = course.probes["paraphrased"].after
    if after is not None:
        print_answers(after)
    print_sample(model, tokenizer, "Once upon a time")


if __name__ == "__main__":
    run(main)
