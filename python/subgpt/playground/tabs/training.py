"""The tab *Training*: the runs of a folder, their curves while they grow, and what the models wrote on the way."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nicegui import ui

from subgpt.checkpoint.load import load_with_tokenizer
from subgpt.errors import MissingFileError
from subgpt.generation.config import GenerationConfig
from subgpt.generation.stream import stream
from subgpt.playground.limits import MAX_TEXT, cut
from subgpt.playground.parts import button, card, enable, html, rendered, text
from subgpt.playground.views.courses import Course, find_runs, newest_model
from subgpt.playground.views.curves import colours, loss_options, rate_options
from subgpt.playground.visit import Visit
from subgpt.playground.working import Latest, Notice

_NONE = (
    "There is no run to look at yet. Start the server with a run, or with --runs and the folder of your runs."
)
_SAMPLE_TOKENS = 60
_LOOK_EVERY = 1.0
"""Seconds between two looks at a run while its tab is in front."""
_WRITER = ThreadPoolExecutor(1, "sample")
"""Writes one sample after the other: each loads a model of its own, and there are any number of visitors."""


class Training:
    """One run, followed."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._runs: dict[str, Path] = {}
        self._course: Course | None = None
        self._asked: list[dict[str, Any]] = []
        with card("Runs", "Curves grow while a run goes on."):
            with ui.element("div").classes("strip"):
                self._choice = ui.select([], label="Run", on_change=lambda event: self._choose(event.value))
                self._choice.classes("grow").props("outlined dense options-dense")
                button("Look again", self._find, icon="reset", hint="Look for new runs")
            self._notice = Notice()
            self._none = text(_NONE)
            self._facts = html()
        with ui.element("div").classes("stack") as self._drawn:
            self._build_drawings()
        self._latest = Latest(self._work, self._show, self._notice)
        self._timer = ui.timer(_LOOK_EVERY, self._look, active=False, immediate=False)
        visit.on_tab(self._turn)
        visit.on_looks(lambda: self._look(always=True))
        self._find()

    def _build_drawings(self) -> None:
        with ui.element("div").classes("halves"):
            with card("Loss"):
                self._loss = ui.echart({}).classes("chart")
            with card("Learning rate"):
                self._rate = ui.echart({}).classes("chart")
        with card("What it wrote on the way"):
            self._samples = html().classes("samples")
            with ui.element("div").classes("strip"):
                self._prompt = ui.input("Begin with", value="Once upon a time").classes("grow")
                self._prompt.props(f"outlined dense maxlength={MAX_TEXT} data-enter=plain spellcheck=false")
                self._ask_button = button("Write a sample now", self._ask, kind="primary", icon="run")
                self._ask_button.props["data-run"] = ""

    def _find(self) -> None:
        """Look for runs; the newest one is shown if none was chosen."""
        self._runs = find_runs(self._visit.served, self._visit.runs)
        for element, on in ((self._none, not self._runs), (self._drawn, bool(self._runs))):
            element.set_visibility(on)
        kept = self._choice.value if self._choice.value in self._runs else next(iter(self._runs), None)
        self._choice.set_options(list(self._runs), value=kept)

    def _choose(self, name: str | None) -> None:
        path = self._runs.get(name or "")
        if path is not None:
            self._course, self._asked = Course(path), []
            self._look(always=True)

    def _turn(self) -> None:
        self._timer.active = self._visit.tab == "training"
        self._look(always=True)

    def _look(self, always: bool = False) -> None:
        """Read what is new, and draw it; what is drawn stays if nothing is, unless `always`."""
        if self._course is not None and self._visit.tab == "training":
            self._latest.ask(self._course, always)

    def _work(self, course: Course, always: bool) -> Course | None:
        return course if course.read() or always else None

    def _show(self, course: Course | None) -> None:
        if course is None or course is not self._course:
            return
        look = colours(self._visit.dark)
        self._facts.set_content(rendered("facts.html.j2", facts=course.facts()))
        for chart, options in ((self._loss, loss_options), (self._rate, rate_options)):
            chart.options.update(options(course.run, look))
            chart.update()
        self._show_samples()

    def _show_samples(self) -> None:
        kept = [] if self._course is None else self._course.samples
        self._samples.set_content(
            rendered("samples.html.j2", samples=_first_and_last(kept), asked=self._asked)
        )

    async def _ask(self) -> None:
        """Write a text with the model as the run has saved it last."""
        course = self._course
        if course is None:
            self._notice.show(MissingFileError("there is no run to ask"))
            return
        self._notice.clear()
        enable(self._ask_button, False)
        prompt = cut(self._prompt.value)
        client = ui.context.client

        def is_wanted() -> bool:
            return not client.is_deleted and course is self._course

        try:
            loop = asyncio.get_running_loop()
            sample = await loop.run_in_executor(_WRITER, _sample, course.path, prompt, is_wanted)
            if sample is not None and is_wanted():
                self._asked.insert(0, sample)
                self._show_samples()
        except Exception as error:
            if not client.is_deleted:
                self._notice.show(error)
        finally:
            if not client.is_deleted:
                enable(self._ask_button, True)


def _sample(path: Path, prompt: str, is_wanted: Callable[[], bool]) -> dict[str, Any] | None:
    """Write a text with the newest model of a run; None once nobody waits for it any more."""
    if not is_wanted():
        return None
    where, name = newest_model(path)
    model, tokenizer = load_with_tokenizer(where)
    config = GenerationConfig(max_new_tokens=_SAMPLE_TOKENS, temperature=0.8, top_k=50, seed=0)
    written = ""
    for piece in stream(model, tokenizer, prompt, config=config):
        if not is_wanted():
            return None
        written += piece
    return {"name": name, "prompt": prompt, "text": written}


def _first_and_last(samples: list[dict[str, Any]], most: int = 6) -> list[dict[str, Any]]:
    """Keep `most` samples at even distances, the first and the last among them."""
    if len(samples) <= most:
        return samples
    return [samples[round(i * (len(samples) - 1) / (most - 1))] for i in range(most)]


def training_tab(visit: Visit) -> None:
    """Show runs."""
    Training(visit)
