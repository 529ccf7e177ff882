"""A names generator: from a list of names to a model of characters that invents more of them.

Without a list it takes the places after which time zones are named, from Bamako to Ulaanbaatar. Some four hundred names
are few, so the model is small and drops out a third, and the weights that did best on names held out are kept.

    python examples/names.py                      # some seconds on two cores
    python examples/names.py --data names.txt     # a list of your own: a name a line
"""

from __future__ import annotations

import argparse
import random
import unicodedata
import zoneinfo
from pathlib import Path

from common import need, run

import subgpt

REGIONS = {"Africa", "America", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific"}


def places() -> list[str]:
    """Name the places of the time zone database; without it (Windows without the package tzdata) Unicode's pictures."""
    found = set()
    for zone in zoneinfo.available_timezones():
        region, place = zone.partition("/")[0], zone.rpartition("/")[2]
        name = place.replace("_", " ")
        if region in REGIONS and len(name) > 3 and name.replace(" ", "").isalpha() and name.istitle():
            found.add(name)
    return sorted(found) or pictures()


def pictures() -> list[str]:
    """Name the pictures in Unicode, which every Python knows: "Panda Face", "Bento Box", "Volcano"."""
    names = (unicodedata.name(chr(code), "") for code in range(0x1F300, 0x1F650))
    return sorted({name.title() for name in names if name and "-" not in name and len(name) <= 24})


def train(names: list[str], steps: int | None) -> tuple[subgpt.GPT, subgpt.Tokenizer, subgpt.Run]:
    """Make a tokenizer of the characters and a model, and train it; a tenth of the names is held out."""
    tokenizer = subgpt.Tokenizer.train(iter(names), level="char")
    longest = max(map(len, names))
    shape = subgpt.GPTConfig.preset(
        "nano-modern", vocab_size=tokenizer.vocab_size, block_size=longest + 2, n_embd=64, dropout=0.3
    )
    model = subgpt.GPT(shape, seed=1, dtype="auto")
    config = subgpt.TrainConfig(
        max_steps=steps or 400,
        batch_size=32,
        learning_rate=2e-3,
        packing=True,  # a name knows nothing of the one before it
        eval_steps=50,
        load_best_model_at_end=True,
    )
    return model, tokenizer, subgpt.pretrain(model, tokenizer, iter(names), config)


def invent(model: subgpt.GPT, tokenizer: subgpt.Tokenizer, count: int, temperature: float) -> list[str]:
    """Draw names: each text begins where the one before it ended, and ends by itself."""
    written = subgpt.complete(
        model,
        tokenizer,
        "",
        n=count,
        temperature=temperature,
        max_new_tokens=model.config.block_size - 1,
        seed=1,
    )
    return [text.text for text in written]


def print_spelling(model: subgpt.GPT, tokenizer: subgpt.Tokenizer, name: str) -> None:
    """Print how probable each character of a name was after those before it, and what else might have come."""
    end = tokenizer.eot_id
    ids = [end, *tokenizer.encode(name), end]
    probs = subgpt.ops.softmax(model.forward(ids[:-1]))  # (characters + 1, vocab_size)

    def sign(token: int) -> str:
        return "end" if token == end else repr(tokenizer.decode([token]))

    print(f"\nHow it spells {name!r}:")
    for at, row in enumerate(probs):
        best = ", ".join(f"{sign(i)} {row[i]:.0%}" for i in row.argsort()[::-1][:4].tolist())
        print(f"  {name[:at]:>{len(name)}} + {sign(ids[at + 1]):5} {row[ids[at + 1]]:4.0%}   of: {best}")


def main() -> None:
    """Train, invent names, and look at how one of them came about."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--data", type=Path, help="a list of names, one a line (places that Python knows)")
    parse.add_argument("--steps", type=int, help="updates (400); the best of them count")
    parse.add_argument("--count", type=int, default=100, help="names to invent (%(default)s)")
    parse.add_argument("--temperature", type=float, default=0.7, help="above: wilder (%(default)s)")
    given = parse.parse_args()
    lines = need(given.data).read_text(encoding="utf-8").splitlines() if given.data else places()
    names = list(dict.fromkeys(filter(None, map(str.strip, lines))))
    random.Random(1).shuffle(names)  # lists are in alphabetical order, and nothing is to be learnt from that
    print(f"{len(names)} names, such as {', '.join(names[:6])}")

    model, tokenizer, course = train(names, given.steps)
    print(f"{model.num_params():,} parameters; {course}")
    invented = invent(model, tokenizer, given.count, given.temperature)
    known = {name.casefold() for name in names}
    new = list(dict.fromkeys(name for name in invented if name.casefold() not in known))
    print(f"\n{len(invented)} names drawn, {len(new)} of them new and different:")
    for i in range(0, len(new), 6):
        print("  " + "".join(f"{name:20}" for name in new[i : i + 6]).rstrip())
    if new:
        print_spelling(model, tokenizer, new[0])


if __name__ == "__main__":
    run(main)
