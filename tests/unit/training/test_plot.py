"""The picture of the losses: one style for every run, written whole, and one line where matplotlib is missing."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt import InvalidValueError, MissingExtraError, MissingFileError
from subgpt.training.plot import Panel, Series, panel_of, running_mean, save_loss_plot
from subgpt.training.run import Run

NAN = float("nan")


@pytest.fixture
def run():
    return Run(steps=[1, 2, 3], losses=[3.0, NAN, 2.0], val_steps=[0, 3], val_losses=[3.5, 2.25])


@pytest.mark.parametrize(("name", "head"), [("a.png", b"\x89PNG"), ("a.SVG", b"<?xml"), ("a.pdf", b"%PDF")])
def test_the_ending_says_the_format(run, tmp_path, name, head):
    pytest.importorskip("matplotlib")
    assert save_loss_plot([panel_of(run, "one"), panel_of(run, "two")], tmp_path / name) == tmp_path / name
    assert (tmp_path / name).read_bytes().startswith(head)
    assert run.plot(tmp_path / "b.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_losses_has_a_picture_too(tmp_path):
    pytest.importorskip("matplotlib")
    assert Run().plot(tmp_path / "loss.png").stat().st_size > 0


def test_a_place_or_name_that_cannot_be(run, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(MissingFileError, match=r"nowhere.loss\.png"):
        run.plot(tmp_path / "nowhere" / "loss.png")
    for name in ("loss", "loss.gif"):
        with pytest.raises(InvalidValueError, match=r"\.png, \.svg, \.pdf"):
            run.plot(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_remedy_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"pip install \"subgpt\[plot\]\""):
        run.plot(tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_finite_is_not_drawn():
    panel = Panel("p", [Series("training", [1, 2], [NAN, 2.0]), Series("held-out", [1], [NAN])])
    assert [(s.label, s.steps, s.losses) for s in panel.drawable()] == [("training", [2], [2.0])]


@given(st.lists(st.floats(0, 100), max_size=200), st.integers(1, 30))
def test_running_mean_stays_within_the_values(values, window):
    means = running_mean(values, window)
    assert len(means) == len(values)
    assert all(min(values) - 1e-6 <= m <= max(values) + 1e-6 for m in means)


def test_running_mean_of_window_one_changes_nothing():
    assert running_mean([4.0, 2.0, 9.0], window=1) == [4.0, 2.0, 9.0]
