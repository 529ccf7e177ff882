"""Examples as a model would learn them, as a page: what is trained in one colour, what is masked in another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subgpt.data.masking import TokenExample, stretches
from subgpt.report.page import environment

if TYPE_CHECKING:
    from subgpt.data.inspection import Inspection
    from subgpt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Part:
    """A stretch of an example: its text, how many tokens it has, and whether they are trained."""

    text: str
    tokens: int
    trained: bool


@dataclass(frozen=True)
class ExampleView:
    """One example: where it stands, and its parts."""

    where: str
    parts: Sequence[Part]

    @property
    def summary(self) -> str:
        """How many tokens there are of either kind."""
        trained = sum(part.tokens for part in self.parts if part.trained)
        return f"{trained:,} trained, {sum(part.tokens for part in self.parts) - trained:,} masked"


def view_examples(examples: Iterable[TokenExample], tokenizer: Tokenizer) -> list[ExampleView]:
    """Turn examples back into text, cut where training begins and ends."""
    return [
        ExampleView(
            str(example.origin),
            [Part(tokenizer.decode(part.ids), len(part.ids), part.trained) for part in stretches(example)],
        )
        for example in examples
    ]


def facts(seen: Inspection) -> list[tuple[str, str]]:
    """Write what was counted for people, one name and value a line."""
    total = seen.trained + seen.masked
    rows = [
        ("format", seen.kind.why),
        ("written", _written(seen)),
        ("examples", f"{len(seen.examples):,}"),
        ("tokens trained", f"{seen.trained:,} of {total:,} ({seen.trained / total:.0%})"),
        ("tokens masked", f"{seen.masked:,}"),
        ("longest", f"{seen.longest:,} tokens"),
    ]
    if seen.block_size is not None:
        prompts, answers = f"{seen.cut_prompts:,} prompts", f"{seen.cut_answers:,} answers"
        rows.append((f"cut at {seen.block_size:,}", f"{prompts} at their beginning, {answers} at their end"))
    return rows


def render_examples(seen: Inspection, views: Sequence[ExampleView], *, title: str = "What is trained") -> str:
    """Write the view as HTML that needs no other file; it runs no script, and every text in it is escaped."""
    page = environment().get_template("examples.html.j2")
    return page.render(facts=facts(seen), views=views, title=title)


def _written(seen: Inspection) -> str:
    form = "in the plain form" if seen.form == "plain" else f"with the chat template {seen.form}"
    return f"{form}; {seen.verbatim:,} used as they are" if seen.verbatim else form
