"""What token healing is worth: prompts cut at random characters, continued with it and without.

    python benches/quality/healing.py                       # stories260K on texts of its kind
    python benches/quality/healing.py RUN --data text.txt   # a model of your own

Two kinds of prompts. *Own texts*: the model writes on after a first sentence, greedily; its text is cut at a random
character, and the model goes on from there, again greedily: it agrees with itself if the next 20 characters are those
that it wrote before. *Real texts*: cut at a random character and continued by sampling; the word at the cut is looked
for among the words of the data, and the whole text, from that word on, is scored by the model in nats a character.
"""

from __future__ import annotations

import argparse
import random
import re
from pathlib import Path

import numpy as np

import subgpt
from subgpt.generation.prompt import prompt_ids

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
AHEAD = 20
"""Characters that must agree."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default=DATA / "model" / "stories260K.bin")
    parser.add_argument("--data", type=Path, default=DATA / "corpora" / "tinystories_sample.txt")
    parser.add_argument("--cuts", type=int, default=1000)
    given = parser.parse_args()
    model, tokenizer = subgpt.load(given.run)
    texts = [
        " ".join(part.split()) for part in re.split(r"<\|endoftext\|>|\n\n+", given.data.read_text("utf-8"))
    ]
    texts = [text for text in texts if len(text) > 200]
    words = set(re.findall(r"\w+", " ".join(texts).lower()))
    rows = {}
    for healing in (False, True):
        rng = random.Random(1)
        own = [agrees(model, tokenizer, rng.choice(texts), rng, healing) for _ in range(given.cuts)]
        rng = random.Random(2)
        real = [
            continued(model, tokenizer, rng.choice(texts), rng, seed, healing, words)
            for seed in range(given.cuts)
        ]
        rows[healing] = (own, real)
    print(f"| {given.cuts} prompts each | without | with healing |\n|---|---|---|")
    for inside, name in ((True, "inside of a word"), (False, "elsewhere")):
        without, healed = (
            np.mean([ok for within, ok in own if within == inside]) for own, _ in (rows[False], rows[True])
        )
        print(f"| own texts cut {name}: goes on as before | {without:.1%} | {healed:.1%} |")
    for at, name, form in (
        (1, "the word at the cut is one of the data", "{:.1%}"),
        (2, "nats a character", "{:.3f}"),
    ):
        without, healed = (
            np.mean([case[at] for case in real if case[0]]) for _, real in (rows[False], rows[True])
        )
        print(f"| real texts cut inside of a word: {name} | {form.format(without)} | {form.format(healed)} |")


def inside_word(text: str, cut: int) -> bool:
    """Tell whether letters are on both sides of a cut."""
    return text[cut - 1].isalpha() and text[cut].isalpha()


def agrees(
    model: subgpt.GPT, tokenizer: subgpt.Tokenizer, text: str, rng: random.Random, healing: bool
) -> tuple[bool, bool]:
    """Cut what the model writes itself: whether inside of a word, and whether it goes on as before."""
    opening = text[: text.index(".") + 1]
    greedy = {"temperature": 0, "max_new_tokens": 100}
    whole = subgpt.generate(model, tokenizer, opening, token_healing=False, **greedy)
    cut = rng.randrange(len(opening) + 1, max(len(whole) - AHEAD, len(opening) + 2))
    again = subgpt.generate(model, tokenizer, whole[:cut], token_healing=healing, **greedy)
    return inside_word(whole, cut), again[: cut + AHEAD] == whole[: cut + AHEAD]


def continued(
    model: subgpt.GPT,
    tokenizer: subgpt.Tokenizer,
    text: str,
    rng: random.Random,
    seed: int,
    healing: bool,
    words: set[str],
) -> tuple[bool, bool, float]:
    """Cut a real text and sample: whether inside of a word, whether that became a word, nats a character."""
    cut = rng.randrange(30, 180)
    made = subgpt.generate(model, tokenizer, text[:cut], seed=seed, max_new_tokens=32, token_healing=healing)
    begin = text.rfind(" ", 0, cut) + 1
    word = re.match(r"\w*", made[begin:])[0].lower()
    return inside_word(text, cut), word in words, nats(model, tokenizer, made, begin)


def nats(model: subgpt.GPT, tokenizer: subgpt.Tokenizer, text: str, begin: int) -> float:
    """Give the mean loss of a text's characters from `begin` on, as the model scores the text."""
    whole, before = (prompt_ids(tokenizer, part) for part in (text, text[:begin].rstrip()))
    losses = model.token_losses(whole[:-1], whole[1:].astype(np.int64))
    return float(losses[len(before) - 1 :].sum()) / (len(text) - begin)


if __name__ == "__main__":
    main()
