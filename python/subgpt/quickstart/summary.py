"""The report of a quickstart: what happened as the page's plain data, and the page and the plot as files."""

import platform
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from subgpt import _core
from subgpt.errors import MissingExtraError
from subgpt.evaluation.measure import Evaluation
from subgpt.quickstart.texts import Texts
from subgpt.report import (
    Answer,
    Candidate,
    LossChange,
    Piece,
    Report,
    Sample,
    Stage,
    render_page,
    svg_file,
)
from subgpt.training.plot import panel_of, save_loss_plot
from subgpt.training.run import Run
from subgpt.units import duration, in_bytes


@dataclass(frozen=True)
class Outcome:
    """Everything that a quickstart found out."""

    out: Path
    seconds: float
    seed: int
    texts: Texts
    parameters: int
    base: Run
    tuned: Run
    knowledge: Evaluation
    stages: Sequence[Stage]
    pieces: Sequence[Piece]
    prompt: str
    candidates: Sequence[Candidate]
    samples: Sequence[Sample]
    answers: Sequence[Answer]
    losses: Sequence[LossChange]


def make_report(outcome: Outcome) -> Report:
    """Turn what was found out into what the page shows."""
    base, knowledge = outcome.base, outcome.knowledge
    bits = knowledge.bits_per_byte
    return Report(
        title="subgpt quickstart",
        summary=(
            f"A tokenizer, a GPT of {outcome.parameters / 1e6:.1f} million parameters and its fine-tuning on "
            f"questions and answers, all trained on this machine in {duration(outcome.seconds)}, from the "
            "library and language reference that come with Python."
        ),
        facts=[
            ("corpus", in_bytes(outcome.texts.text_bytes)),
            ("parameters", f"{outcome.parameters:,}"),
            ("tokens seen", f"{base.tokens:,}"),
            ("held-out loss", f"{knowledge.loss:.3f} nats"),
            ("bits per byte", "unknown" if bits is None else f"{bits:.3f}"),
            ("time", duration(outcome.seconds)),
        ],
        stages=outcome.stages,
        panels=[panel_of(base, "Pretraining"), panel_of(outcome.tuned, "Fine-tuning")],
        pieces=outcome.pieces,
        prompt=outcome.prompt,
        candidates=outcome.candidates,
        samples=outcome.samples,
        answers=outcome.answers,
        losses=outcome.losses,
        environment=_environment(outcome.seed),
        commands=_commands(outcome),
    )


def write_report(report: Report, out: Path) -> list[Path]:
    """Write `report.html`, and `loss.png` or, without matplotlib, `loss.svg`; give their paths."""
    page = out / "report.html"
    try:
        picture = save_loss_plot(report.panels, out / "loss.png")
    except MissingExtraError:
        picture = out / "loss.svg"
        _core.write_atomic(str(picture), svg_file(report.panels).encode())
    _core.write_atomic(str(page), render_page(report).encode())
    return [page, picture]


def _environment(seed: int) -> list[tuple[str, str]]:
    return [
        ("subgpt", _core.__version__),
        ("Python", platform.python_version()),
        ("system", f"{platform.system()} {platform.machine()}"),
        ("instruction set", _core.isa()),
        ("threads", str(_core.get_num_threads())),
        ("seed", str(seed)),
    ]


def _commands(outcome: Outcome) -> list[tuple[str, str]]:
    """List the three commands to type next, each with what it is for."""

    def place(name: str) -> str:
        return shlex.quote(str(outcome.out / name))

    question = shlex.quote(outcome.answers[0].question)
    return [
        (f"subgpt generate {place('qa')} {question} --ask", "ask the fine-tuned model something"),
        (
            f"subgpt probs {place('base')} {shlex.quote(outcome.prompt)}",
            "see what the base model expects next",
        ),
        (
            f"subgpt pretrain --data my-texts/ --tokenizer {place('tokenizer')} -o runs/mine",
            "train a model on texts of your own",
        ),
    ]
