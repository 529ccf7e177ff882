"""A step of gradient descent as a worked example: plain ASCII but for the text itself, a line on each quantity."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from subgpt.inside.step import StepExplanation, WeightStep

_WIDTH = 100


def write(told: "StepExplanation") -> str:
    """Write the whole example, ending without a line end."""
    parts = [_sentence(told), _loss(told), _gradient(told), _step(told), _after(told), _rates(told)]
    if len(told.losses) > 2:
        parts.append(_course(told))
    return "\n\n".join("\n".join(part) for part in parts)


def _sentence(told: "StepExplanation") -> Iterator[str]:
    yield f"The sentence has {len(told.tokens)} tokens. From each and those before it the model foretells the next:"
    line = "  "
    for token in map(repr, told.tokens):
        if len(line) > 2 and len(line) + len(token) > _WIDTH:
            yield line.rstrip()
            line = "  "
        line += token + " "
    yield line.rstrip()


def _loss(told: "StepExplanation") -> Iterator[str]:
    even = math.log(told.vocab_size)
    yield "1. The loss: the mean of -ln p over the tokens that come, p the probability that the model gave them."
    yield f"   loss = {told.loss_before:.6f}"
    yield f"   (0 would be certainty; all {told.vocab_size} tokens alike would be ln {told.vocab_size} = {even:.6f})"


def _gradient(told: "StepExplanation") -> Iterator[str]:
    yield "2. The gradient: for each weight w its slope d, how much the loss grows per unit that w grows."
    count = f"{told.num_trained:,}"
    yield f"   {count} weights, so {count} slopes; their length sqrt(sum d^2) = {told.gradient_norm:.6f}"


def _step(told: "StepExplanation") -> Iterator[str]:
    alpha = f"{told.learning_rate:g}"
    yield f"3. The step: each weight goes against its slope, alpha = {alpha} (the learning rate) times as far."
    yield "   These have the largest slopes of their tensors:"
    yield ""
    digits = _digits(told.weights, told.learning_rate)
    numbers = [[f"{x:+.{digits}f}" for x in (step.new, step.old, step.gradient)] for step in told.weights]
    new, old, d = ([row[i] for row in numbers] for i in range(3))
    wide = [max(len(name), *map(len, cells)) for name, cells in (("new_w", new), ("old_w", old), ("d", d))]
    factor = max(len("alpha"), len(alpha))
    yield f"   {'new_w':>{wide[0]}} = {'old_w':>{wide[1]}} - {'alpha':>{factor}} * {'d':>{wide[2]}}"
    longest = max(len(step.name) for step in told.weights)
    for row, step in zip(numbers, told.weights, strict=True):
        line = f"   {row[0]:>{wide[0]}} = {row[1]:>{wide[1]}} - {alpha:>{factor}} * {row[2]:>{wide[2]}}"
        yield f"{line}   {step.name:<{longest}}   {step.meaning}"


def _digits(steps: "Sequence[WeightStep]", alpha: float) -> int:
    """How many decimals it takes to see the smallest of these steps: two digits of it, six decimals at least."""
    smallest = min((abs(alpha * step.gradient) for step in steps if step.gradient), default=1.0)
    return min(12, max(6, 2 - math.floor(math.log10(smallest))))


def _after(told: "StepExplanation") -> Iterator[str]:
    change = told.loss_after - told.loss_before
    yield "4. What it did: the loss on the same sentence, with all weights moved at once."
    yield f"   before {told.loss_before:.6f}"
    yield f"   after  {_number(told.loss_after)}   change {_number(change, '+')}"
    yield (
        f"   (a straight line would have changed by -alpha * length^2 = {told.foretold_change:+.6f}: "
        "the slope holds near the old weights only)"
    )


def _rates(told: "StepExplanation") -> Iterator[str]:
    yield "5. Other learning rates, each from the same start:"
    yield ""
    names = [f"{trial.learning_rate:g}" for trial in told.trials]
    losses = [_number(trial.loss) for trial in told.trials]
    changes = [_number(trial.loss - told.loss_before, "+") for trial in told.trials]
    wide = [
        max(map(len, column)) for column in (["alpha", *names], ["loss after", *losses], ["change", *changes])
    ]
    yield f"   {'alpha':>{wide[0]}}   {'loss after':>{wide[1]}}   {'change':>{wide[2]}}"
    for trial, *cells in zip(told.trials, names, losses, changes, strict=True):
        note = _verdict(trial.loss, told.loss_before)
        row = "   ".join(f"{cell:>{width}}" for cell, width in zip(cells, wide, strict=True))
        chosen = " (this step)" if trial.learning_rate == told.learning_rate else ""
        yield f"   {row}   {note}{chosen}"


def _verdict(loss: float, before: float) -> str:
    if not math.isfinite(loss):
        return "no number any more: far too long a step"
    return "falls" if loss < before else "rises: the step went too far" if loss > before else "stays"


def _course(told: "StepExplanation") -> Iterator[str]:
    yield f"6. {len(told.losses) - 1} such steps, one after the other, each with the slopes where it starts:"
    yield ""
    last = len(told.losses) - 1
    every = max(1, -(-last // 20))
    wide = max(len("step"), len(str(last)))
    yield f"   {'step':>{wide}}   loss"
    for step in sorted({*range(0, last, every), last}):
        yield f"   {step:>{wide}}   {_number(told.losses[step])}"


def _number(value: float, sign: str = "") -> str:
    """Write a loss with six decimals, a huge one with its power of ten."""
    return f"{value:{sign}.6f}" if abs(value) < 1e6 else f"{value:{sign}.3e}"
