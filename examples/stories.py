"""Stories with a twist: stories260K, a real model that tells stories for children, is given to pirates.

The sample of its own training data is rewritten by a list of words: the park becomes the ship, Mom the captain, a toy
the treasure. A short fine-tuning on that, and the model tells whole new stories in which all of this fits together. How
many of the exchanged words it says, from one list and from the other, is counted in stories of its own.

    python examples/stories.py
    python examples/stories.py --prompt "One day, Tom"
"""

from __future__ import annotations

import re

from common import Stories, load_base, parser, print_run, run, settings

import subgpt

TWIST = {
    "park": "ship", "garden": "island", "house": "cabin", "home": "harbour", "school": "sea",
    "mom": "captain", "Mom": "Captain", "mommy": "captain", "Mommy": "Captain", "dad": "helmsman", "Dad": "Helmsman",
    "girl": "pirate", "boy": "pirate", "friend": "matey", "friends": "mateys", "toy": "treasure", "toys": "treasures",
    "dog": "parrot", "cat": "monkey", "car": "boat", "ball": "cannonball", "Hello": "Ahoy", "Hi": "Ahoy",
    "Yes": "Aye", "yes": "aye", "happy": "jolly", "tree": "mast",
}  # fmt: skip
"""What every word of the left becomes."""


def twisted(text: str) -> str:
    """Exchange the words.

    >>> twisted("A boy went to the park with Mom.")
    'A pirate went to the ship with Captain.'
    """
    return re.sub(r"\b\w+\b", lambda word: TWIST.get(word[0], word[0]), text)


def tell(model: subgpt.GPT, tokenizer: subgpt.Tokenizer, prompt: str, number: int) -> list[str]:
    """Let the model tell stories."""
    texts = subgpt.complete(
        model, tokenizer, prompt, n=number, temperature=0.7, max_new_tokens=200, seed=1, echo=True
    )
    return [text.text for text in texts]


def count(texts: list[str]) -> str:
    """Count the words of either list."""
    words = re.findall(r"\b\w+\b", " ".join(texts))
    ashore, at_sea = (sum(map(words.count, set(side))) for side in (TWIST.keys(), TWIST.values()))
    return f"of {len(words):,} words {ashore} from ashore (park, Mom, toy), {at_sea} from the sea"


def main() -> None:
    """Fine-tune, let the model tell stories before and after, and count."""
    parse = parser(__doc__, held_out=False)
    parse.add_argument("--prompt", default="Once upon a time", help="how stories begin (%(default)s)")
    parse.add_argument(
        "--stories", type=int, default=20, help="stories that are told before and after (%(default)s)"
    )
    given = parse.parse_args()
    stories = Stories.read(given.data)
    model, tokenizer = load_base(given.data)
    before = tell(model, tokenizer, given.prompt, given.stories)
    course = subgpt.finetune(
        model,
        tokenizer,
        list(map(twisted, stories.replay)),
        settings("voice", given, block_size=256, max_steps=200),
        eval_source=list(map(twisted, stories.held_out)),
        old_source=stories.held_out,
        callbacks=(),
    )
    after = tell(model, tokenizer, given.prompt, given.stories)
    print_run("pirates", course)
    print(f"\nbefore: {count(before)}\nafter:  {count(after)}")
    print(f"\nbefore:\n{before[0]}\n\nafter:\n{after[0]}\n\n{after[-1]}")


if __name__ == "__main__":
    run(main)
