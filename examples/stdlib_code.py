"""A model of code: it reads Python's standard library, and then completes functions that it has never seen.

The text is what is installed with Python. Every twentieth file is held out; its functions are asked for by their first
line. Whether what comes is Python, Python itself is asked: `ast.parse`, before and after training. The tokenizer is
made of the same code, so that it has tokens for an indentation, for " return" and for "(self".

    python examples/stdlib_code.py
    python examples/stdlib_code.py --data ~/src       # code of your own: a folder
"""

from __future__ import annotations

import argparse
import ast
import re
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from common import need, run

import subgpt

LEFT_OUT = {
    "test",
    "tests",
    "idlelib",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "encodings",
    "pydoc_data",
}
HEADER = re.compile(r"^def \w+\([^()]*\):\n(?=    )", re.MULTILINE)
PROMPTS = (
    "class Stack:\n    def __init__(self):\n",
    'def is_empty(self):\n    """Return True if',
    "def parse(text):\n",
)


def read_code(folder: Path) -> list[str]:
    """Read the Python files under a folder that are code, in the order of their paths."""
    texts = []
    for path in sorted(need(folder).rglob("*.py")):
        if LEFT_OUT.isdisjoint(path.relative_to(folder).parts[:-1]):
            text = path.read_text(encoding="utf-8", errors="ignore")
            digits = sum(map(text.count, "0123456789"))
            if text.strip() and digits < len(text) / 20:  # the others are tables
                texts.append(text)
    return texts


def headers(texts: Sequence[str], count: int) -> list[str]:
    """Pick first lines of functions, evenly from all of them."""
    found = list(dict.fromkeys(line for text in texts for line in HEADER.findall(text)))
    return found[:: max(1, len(found) // count)][:count]


def complete(model: subgpt.GPT, tokenizer: subgpt.Tokenizer, header: str, seed: int = 0) -> str:
    """Write a function after its first line, up to where something else begins: a line further left, or a `def`."""
    written = subgpt.generate(
        model,
        tokenizer,
        header,
        temperature=0.8,
        min_p=0.1,
        max_new_tokens=200,
        stop=["\n    def", "\n\n    def", "\n    @", "\n\n    @", "\n\n\n"],
        seed=seed,
    )
    lines = written.removeprefix(header).split("\n")
    body = next((lines[:i] for i, line in enumerate(lines) if i and line and not line.startswith(" ")), lines)
    return header + "\n".join(body).rstrip()


def is_python(text: str) -> bool:
    """Ask the parser."""
    try:
        ast.parse(text)
    except (SyntaxError, ValueError):
        return False
    return True


def main() -> None:
    """Make the tokenizer, train, and count what parses before and after."""
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument(
        "--data", type=Path, default=Path(sysconfig.get_path("stdlib")), help="folder with code (%(default)s)"
    )
    parse.add_argument("--steps", type=int, default=2500, help="updates (%(default)s)")
    parse.add_argument("--asked", type=int, default=60, help="functions to complete (%(default)s)")
    parse.add_argument("-o", "--output", type=Path, help="run directory, to keep the model")
    given = parse.parse_args()

    files = read_code(given.data)
    trained, held_out = [text for i, text in enumerate(files) if i % 20], files[::20]
    asked = headers(held_out, given.asked)
    tokenizer = subgpt.Tokenizer.train(iter(trained), vocab_size=1024)
    size = sum(len(text.encode()) for text in trained)
    print(
        f"{len(trained)} files of code, {size / 1e6:.1f} MB; {len(asked)} functions of {len(held_out)} others"
    )
    print("tokens:", " ".join(map(repr, tokenizer.tokens("    def close(self):\n        return self.name"))))

    shape = subgpt.GPTConfig.preset("nano-modern", vocab_size=tokenizer.vocab_size, block_size=128)
    model = subgpt.GPT(shape, seed=1, dtype="auto")

    def share() -> str:
        good = sum(is_python(complete(model, tokenizer, header, seed=i)) for i, header in enumerate(asked))
        return f"{good} of {len(asked)} completed functions are Python"

    before = share()
    config = subgpt.TrainConfig(
        max_steps=given.steps,
        batch_size=8,
        optimizer="muon",
        learning_rate=3e-3,
        muon_learning_rate=0.02,
        eval_steps=max(1, given.steps // 5),
        eval_batches=20,
        val_fraction=0.03,
    )
    course = subgpt.pretrain(model, tokenizer, iter(trained), config, output_dir=given.output)
    print(f"\n{model.num_params():,} parameters; {course}")
    print(f"before: {before}\nafter:  {share()}")
    for header in PROMPTS:
        print("\n" + complete(model, tokenizer, header))


if __name__ == "__main__":
    run(main)
