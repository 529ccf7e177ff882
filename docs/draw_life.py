"""Draws the picture at the head of the README from what `subgpt quickstart` left: `make picture`.

    python docs/draw_life.py subgpt-quickstart docs/images/life.png

A sentence as its tokens with their ids, the losses of both runs on data that they did not learn from, the ten most
probable next tokens, and a question before and after. Nothing is drawn that was not computed.
"""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path

import matplotlib as mpl

import subgpt

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

SENTENCE = "The function returns a dictionary of all keywords."
PROMPT = "The function returns"
CHIPS = ["#cfe3f7", "#fbe3c4", "#d6efcf", "#f4d3df", "#e2daf3", "#cdeceb"]
INK, QUIET, BASE, TUNED = "#1f2933", "#6b7785", "#2f6db3", "#c8591f"


def main() -> None:
    """Draw it from the folder into the file that are named."""
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    base, tokenizer = subgpt.load(folder / "base")
    plt.rcParams.update({"font.size": 10, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": QUIET})
    figure = plt.figure(figsize=(12, 5.6), layout="constrained")
    rows = figure.add_gridspec(3, 2, height_ratios=[0.85, 3.2, 0.95], width_ratios=[1.25, 1])
    tokens(figure.add_subplot(rows[0, :]), tokenizer)
    losses(figure.add_subplot(rows[1, 0]), folder)
    expected(figure.add_subplot(rows[1, 1]), base, tokenizer)
    answers(figure.add_subplot(rows[2, :]), folder)
    figure.savefig(out, dpi=110, metadata={"Software": None})


def tokens(axes: Axes, tokenizer: subgpt.Tokenizer) -> None:
    """Draw each token as a chip with its id below."""
    axes.set_axis_off()
    ids = tokenizer.encode(SENTENCE).tolist()
    pieces = [tokenizer.decode([one]) for one in ids]
    widths = [0.9 * max(len(piece), 3) + 0.9 for piece in pieces]
    x = 0.0
    for number, (one, piece, width) in enumerate(zip(ids, pieces, widths, strict=True)):
        chip = FancyBboxPatch(
            (x + 0.1, 0.42), width - 0.2, 0.5, boxstyle="round,pad=0,rounding_size=0.12",
            mutation_aspect=0.2, color=CHIPS[number % len(CHIPS)],
        )  # fmt: skip
        axes.add_patch(chip)
        axes.text(x + width / 2, 0.67, piece.replace(" ", "·"), ha="center", va="center", family="monospace")
        axes.text(x + width / 2, 0.2, str(one), ha="center", va="center", fontsize=8, color=QUIET)
        x += width
    axes.set_xlim(0, x)
    axes.set_ylim(0, 1)
    axes.set_title(f"text: {len(SENTENCE)} characters are {len(ids)} tokens", loc="left", fontsize=11)


def losses(axes: Axes, folder: Path) -> None:
    """Draw training and validation losses, fine-tuning behind pretraining."""
    begin = 0
    for name, label, colour in (("base", "pretraining", BASE), ("qa", "fine-tuning", TUNED)):
        text = (folder / name / "training" / "metrics.jsonl").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        steps = [(begin + line["step"], line["loss"]) for line in lines if "loss" in line]
        checks = [(begin + line["step"], line["val_loss"]) for line in lines if "val_loss" in line]
        axes.plot(*zip(*steps, strict=True), color=colour, alpha=0.35, linewidth=0.8)
        axes.plot(*zip(*checks, strict=True), color=colour, marker="o", markersize=3.5, label=label)
        begin += max(step for step, _ in steps) - begin
    axes.set_title("training: nats per token, dots on held-out text", loc="left", fontsize=11)
    axes.set_xlabel("updates")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def expected(axes: Axes, model: subgpt.GPT, tokenizer: subgpt.Tokenizer) -> None:
    """Draw the ten most probable next tokens."""
    probs = model.next_token_probs(tokenizer.encode(PROMPT))
    best = probs.argsort()[::-1][:10]
    names = [f"“{tokenizer.decode([int(one)])}”".replace(" ", "·").replace("\n", "↵") for one in best]
    axes.barh(range(10), probs[best], color=BASE, height=0.7)
    for place, one in enumerate(best):
        axes.text(probs[one], place, f" {probs[one]:.1%}", va="center", fontsize=8, color=QUIET)
    axes.set_yticks(range(10), names, family="monospace", fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.2 * float(probs[best[0]]))
    axes.xaxis.set_visible(False)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title(f"next token after “{PROMPT}”, of {len(probs):,}", loc="left", fontsize=11)


def answers(axes: Axes, folder: Path) -> None:
    """Write a held-out question, and what is answered before and after fine-tuning."""
    axes.set_axis_off()
    lines = (folder / "corpus" / "held-out.jsonl").read_text(encoding="utf-8").splitlines()
    questions = (json.loads(line)["question"] for line in lines)
    question = next(one for one in questions if one.startswith("What does "))
    axes.set_title(f"asked: {question}", loc="left", fontsize=11)
    for place, (name, label, colour) in enumerate((("base", "before", BASE), ("qa", "after", TUNED))):
        model, tokenizer = subgpt.load(folder / name)
        reply = subgpt.chat(
            model, tokenizer, [{"role": "user", "content": question}], temperature=0, max_new_tokens=40
        )
        shown = textwrap.shorten(" ".join(str(reply).split()), 150, placeholder=" …")
        axes.text(0, 0.75 - 0.45 * place, label, color=colour, va="center", weight="bold")
        axes.text(0.065, 0.75 - 0.45 * place, shown, va="center", family="monospace", fontsize=9)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)


if __name__ == "__main__":
    main()
