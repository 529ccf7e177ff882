"""What the examples share: the data beside the checkout, a small real model, tables before and after."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import subgpt
from subgpt.tokenizer import add_special_tokens

Rows: TypeAlias = list[dict[str, str]]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def run(main: Callable[[], None]) -> None:
    """Run an example; what is wrong with what it was given is a line, and no traceback."""
    try:
        main()
    except (subgpt.SubgptError, OSError, UnicodeError) as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")


def need(path: Path, option: str = "--data") -> Path:
    """Give the path back; MissingFileError that says how to name another one if nothing is there."""
    if not path.exists():
        raise subgpt.MissingFileError(
            f"{path}: no such file; the data is described in examples/README.md, and {option} says where it lies"
        )
    return path


def parser(doc: str | None, *, held_out: bool = True) -> argparse.ArgumentParser:
    """Make a parser with what every example takes, and --held-out where rows are held out."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--data",
        type=Path,
        default=DATA,
        help="folder with model/, corpora/, finetune/ and code/ (%(default)s)",
    )
    made.add_argument("--steps", type=int, help="updates; the recipe's if not given")
    if held_out:
        made.add_argument("--held-out", type=int, help="rows to measure on, at most")
    made.add_argument("--lora-r", type=int, help="train adapters of this rank, not the weights")
    return made


@dataclass(frozen=True)
class Stories:
    """What the base model knows: stories, a part to replay and a part to see what is forgotten."""

    replay: list[str]
    held_out: list[str]

    @classmethod
    def read(cls, data: Path) -> Stories:
        """Take the last fifth of the sample as held out."""
        text = need(data / "corpora" / "tinystories_sample.txt").read_text(encoding="utf-8")
        cut = 4 * len(text) // 5
        return cls([text[:cut]], [text[cut:]])


def load_base(data: Path) -> tuple[subgpt.GPT, subgpt.Tokenizer]:
    """Load stories260K, a model of 260,000 parameters that knows stories, and give it an end of text.

    Its tokenizer has none, and an answer has to end somewhere.
    """
    model, tokenizer = subgpt.load(need(data / "model" / "stories260K.bin"))
    assert tokenizer is not None
    larger = add_special_tokens(tokenizer, ["<|endoftext|>"])
    model.resize_embeddings(larger.vocab_size)
    return model, larger


def settings(recipe: str, given: argparse.Namespace, **changes: object) -> subgpt.TrainConfig:
    """Take a recipe, with fewer steps, or for adapters, if that was asked for."""
    asked = {"max_steps": given.steps, "lora_r": given.lora_r}
    return subgpt.TrainConfig(
        recipe=recipe, **changes | {name: value for name, value in asked.items() if value is not None}
    )


@dataclass(frozen=True)
class Test:
    """Held-out rows that decide nothing in a run: their loss, and whole answers to some of them."""

    loss: float
    answers: subgpt.ProbeResult

    @classmethod
    def of(cls, model: subgpt.GPT, tokenizer: subgpt.Tokenizer, rows: Rows, asked: Rows, match: str) -> Test:
        """Measure the loss on `rows`, and ask `asked`."""
        loss = subgpt.evaluate(model, tokenizer, rows).loss
        return cls(loss, subgpt.probe(model, tokenizer, asked, match=match))


def print_run(title: str, run: subgpt.Run, before: Test | None = None, after: Test | None = None) -> None:
    """Print what a run gained and cost, as a table."""
    print(f"\n{title}: {run.step} steps in {run.seconds:.0f} s\n")
    print("| measured | before | after |\n|---|---|---|")
    if before and after:
        print(f"| loss on test data, nats per token | {before.loss:.3f} | {after.loss:.3f} |")
        print(f"| whole answers to it | {before.answers} | {after.answers} |")
    for name, change in run.probes.items():
        print(f"| {name} | {change.before} | {change.after} |")
    for name, seen in run.after.items():
        print(
            f"| loss on {name} data, nats per token | {run.before[name].loss:.3f} | {seen.loss:.3f} |",
            flush=True,
        )


def print_answers(result: subgpt.ProbeResult, count: int = 3) -> None:
    """Print some answers that were not the expected ones."""
    for miss in result.misses[:count]:
        print(
            f"\nasked     {_line(miss.question)}\nexpected  {_line(miss.expected)}\nanswered  {_line(miss.answered)}"
        )


def print_sample(model: subgpt.GPT, tokenizer: subgpt.Tokenizer, prompt: str) -> None:
    """Print what a model writes after a prompt."""
    text = subgpt.generate(model, tokenizer, prompt, temperature=0.7, seed=1, max_new_tokens=80)
    print(f"\nsample    {_line(text)}", flush=True)


def _line(text: str) -> str:
    joined = " ".join(text.split())
    return joined if len(joined) < 160 else f"{joined[:160]} …"
