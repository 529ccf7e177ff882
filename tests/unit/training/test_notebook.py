"""What a notebook shows: a run that is drawn anew in one output, and objects as pictures and tables."""

from __future__ import annotations

import math
import sys
from types import SimpleNamespace

import pytest

from subgpt.evaluation.next_tokens import Distribution, NextToken
from subgpt.search.rates import LrFind
from subgpt.training import callbacks
from subgpt.training.callbacks import LogLines, RunStart, StepEvent
from subgpt.training.notebook import EVERY, NotebookView
from subgpt.training.run import Run

START = RunStart(
    step=10, max_steps=40, parameters=5, train_tokens=6, val_tokens=0, tokens_per_step=2, output_dir=None
)


def _step(number: int, seconds: float) -> StepEvent:
    return StepEvent(
        step=number,
        max_steps=40,
        loss=2.5,
        learning_rate=1e-3,
        grad_norm=1.0,
        tokens_per_second=7.0,
        seconds=seconds,
    )


@pytest.fixture
def shown(monkeypatch):
    """The bundles that a notebook would be sent, in order."""
    display = pytest.importorskip("IPython.display")
    bundles = []
    handle = SimpleNamespace(update=lambda bundle, raw: bundles.append(bundle))

    def begin(bundle, *, raw, display_id):
        assert not bundles  # one output for the whole run
        bundles.append(bundle)
        return handle

    monkeypatch.setattr(display, "display", begin)
    return bundles


def test_a_run_is_one_output_whose_end_has_no_bar(shown, monkeypatch):
    monkeypatch.setattr("subgpt.training.notebook.EVERY", 0.0)
    view = NotebookView()
    view.on_start(START)
    view.on_step(_step(20, 5.0))
    view.on_note("a <note>")
    assert shown[-2]["text/plain"].startswith("step 20/40  loss 2.5000")
    assert '<progress max="40" value="20"></progress>' in shown[-1]["text/html"]
    view.on_end(Run(step=40, max_steps=40, seconds=9.0))
    assert set(shown[-1]) == {"text/plain", "text/html"}
    assert shown[-1]["text/plain"].splitlines()[1:] == ["a <note>", "40 steps in 9.0 s"]
    assert "a &lt;note&gt;" in shown[-1]["text/html"]
    assert "progress" not in shown[-1]["text/html"]


def test_the_time_left_is_that_of_the_steps_made_here(shown, monkeypatch):
    monkeypatch.setattr("subgpt.training.notebook.EVERY", 0.0)
    view = NotebookView()
    view.on_start(START)
    view.on_step(_step(11, 1.0))
    view.on_step(_step(20, 10.0))  # ten steps in ten seconds, twenty to go
    assert "20 s left" in shown[-1]["text/plain"]


def test_it_is_not_drawn_at_every_step(shown):
    view = NotebookView()
    view.on_start(START)
    drawn = len(shown)
    for number in range(11, 41):
        view.on_step(_step(number, 0.0))
    assert len(shown) - drawn <= 1 + 1 / EVERY  # thirty steps in much less than a second


def test_only_a_kernel_is_a_notebook(monkeypatch):
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: False))
    for shell in (None, SimpleNamespace()):  # no IPython, and IPython in a terminal
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert type(callbacks.default_callbacks()[0]) is LogLines
    kernel = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: kernel))
    assert type(callbacks.default_callbacks()[0]) is NotebookView


RUN = Run(steps=[1, 2, 3], losses=[3.0, 2.5, 2.0], val_steps=[0, 3], val_losses=[3.5, 2.25], step=3)
FOUND = LrFind((1e-3, 1e-2, 1e-1), (3.0, 2.0, 4.0), (3.0, 2.5, 3.5), 1e-2, 1e-2, diverged=False)


@pytest.mark.parametrize("it", [RUN, FOUND], ids=["run", "lr_find"])
def test_a_picture_with_matplotlib_and_words_without(it, monkeypatch):
    pytest.importorskip("matplotlib")
    data, about = it._repr_mimebundle_(include=None, exclude=None)
    assert data["text/plain"] == str(it)
    assert data["image/png"].startswith(b"\x89PNG")
    assert about["image/png"]["width"] == 576
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert it._repr_mimebundle_() == ({"text/plain": str(it)}, {})


def test_a_distribution_is_a_table_whose_texts_are_escaped():
    tokens = (NextToken("<b>", 7, 0.5), NextToken(" ", 1, 0.25))
    page = Distribution(tokens, math.log(4))._repr_html_()
    assert "<code>&lt;b&gt;</code></td><td>7</td><td>50.0%</td>" in page
    assert page.count("█") == 30
    assert "<code>·</code>" in page
    assert "2.000 bits; 75.0% shown" in page
    assert Distribution((), 0.0)._repr_html_().startswith("<table>")
