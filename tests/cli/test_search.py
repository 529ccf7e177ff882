"""`subgpt lr-find` and `subgpt sweep`: what they print, write and leave alone, and how they end."""

import json
import sys
from pathlib import Path

import pytest

from subgpt.cli import search
from subgpt.cli.training import TEAM

from .conftest import SHAPE, Result, invoke, snapshot


def lr_find(shop: Path, *more: object) -> Result:
    given = ("--data", shop / "corpus", "--tokenizer", shop / "subword", *SHAPE, "--steps", 12)
    return invoke("lr-find", *given, *more)


def sweep(shop: Path, out: Path, *more: object) -> Result:
    given = ("--data", shop / "corpus", "--tokenizer", shop / "subword", *SHAPE, "--max-steps", 3)
    return invoke("sweep", *given, "-o", out, *more)


def test_what_plays_no_part_is_no_flag() -> None:
    test, trials = (
        {setting.name for setting in settings()} for settings in (search.test_settings, search.sweep_settings)
    )
    assert not {*TEAM, "on_spike", "spike_z_score", "max_rollbacks"} & test
    assert not {*TEAM} & trials
    assert {"on_spike", "batch_size"} <= trials


def test_lr_find_prints_and_leaves_a_picture_and_numbers(
    untouched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = lr_find(untouched, "--min", 1e-4, "--max", 1)
    assert result.code == 0, result.err
    assert "recommended" in result.out
    assert "train with: --learning-rate" in result.out
    assert {path.name for path in tmp_path.iterdir()} == {"lr-find.png", "lr-find.json"}
    seen = json.loads((tmp_path / "lr-find.json").read_text(encoding="utf-8"))
    assert len(seen["losses"]) == len(seen["learning_rates"]) <= 12
    assert (tmp_path / "lr-find.png").read_bytes().startswith(b"\x89PNG")


def test_lr_find_for_scripts(shop: Path, tmp_path: Path) -> None:
    files = ("--plot", tmp_path / "a.svg", "--results", tmp_path / "a.json")
    result = lr_find(shop, *files, "--json", "--optimizer", "sgd")
    assert result.code == 0, result.err
    seen = json.loads(result.out)
    assert seen == json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert seen["optimizer"] == "sgd"
    assert seen["learning_rates"][-1] == pytest.approx(10)


def test_lr_find_over_a_saved_model(untouched: Path, tmp_path: Path) -> None:
    files = ("--plot", tmp_path / "a.png", "--results", tmp_path / "a.json")
    given = ("--model", untouched / "run", "--data", untouched / "qa.jsonl", "--lora-r", 2, "--steps", 12)
    result = invoke("lr-find", *given, *files)
    assert result.code == 0, result.err
    refused = invoke("lr-find", *given, "--n-layer", 2, *files)
    assert refused.code == 1
    assert "n_layer is fixed by the model" in refused.line()


def test_lr_find_without_matplotlib_has_the_numbers(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.chdir(tmp_path)
    result = lr_find(shop)
    assert result.code == 0, result.err
    assert 'pip install "subgpt[plot]"' in result.err
    assert {path.name for path in tmp_path.iterdir()} == {"lr-find.json"}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--plot", "rates.gif"), ".png, .svg, .pdf"),
        (("--min", 1, "--max", 0.1), "the lower one first"),
        (("--data", "nowhere.txt"), "nowhere.txt"),
    ],
)
def test_lr_find_refuses_in_one_line_and_writes_nothing(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: tuple[object, ...], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = lr_find(shop, *more)
    assert result.code == 1
    assert words in result.line()
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_ranks_its_trials_and_is_resumed_without_running_them_again(
    untouched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "sweep"
    result = sweep(untouched, out, "learning-rate=1e-3,1e-2", "n_embd=16,15")
    assert result.code == 0, result.err
    assert "validation loss" in result.out
    assert "n_embd = 15 is not a multiple" in result.out
    assert "2 finished, 2 failed" in result.err
    before = snapshot(out / "runs")
    monkeypatch.chdir(tmp_path)  # data and tokenizer are found from anywhere
    again = invoke("sweep", "-o", out, "--resume", "--json")
    assert again.code == 0, again.err
    assert "2 done before" in again.err
    assert snapshot(out / "runs") == before
    seen = json.loads(again.out)
    assert seen["best"] == seen["trials"][0]["trial"]
    more = invoke("sweep", "-o", out, "--resume", "learning_rate=3e-3")
    assert more.code == 0, more.err
    assert "1 trial to run, 2 done before" in more.err
    other = invoke("sweep", "-o", out, "--resume", "--max-steps", 4)
    assert other.code == 1
    assert "max_steps was 3, is 4" in other.line()


def test_what_is_drawn_depends_on_the_seed_and_presets_are_swept(shop: Path, tmp_path: Path) -> None:
    small = ("--block-size", 16, "--batch-size", 2, "--max-steps", 1)
    given = ("--data", shop / "corpus", "--tokenizer", shop / "subword", *small, "--seed", 3, "--random", 2)
    result = invoke("sweep", *given, "-o", tmp_path / "a", "learning_rate=1e-4..1e-2", "preset=d1,d2")
    assert result.code == 0, result.err
    plan = json.loads((tmp_path / "a" / "sweep.json").read_text(encoding="utf-8"))
    assert len(plan["trials"]) == 2
    rates = [trial["learning_rate"] for trial in plan["trials"]]
    assert all(1e-4 <= rate <= 1e-2 for rate in rates)
    assert len(set(rates)) == 2


def test_the_environment_sets_the_base_and_not_the_trials(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUBGPT_LEARNING_RATE", "0.5")
    result = sweep(shop, tmp_path / "a", "learning_rate=1e-3")
    assert result.code == 0, result.err
    text = (tmp_path / "a" / "runs" / "001" / "training" / "config.yaml").read_text(encoding="utf-8")
    assert "learning_rate: 0.001" in text


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "nothing is varied"),
        (("learning_rate",), "name=values"),
        (("learnig_rate=1",), "did you mean 'learning_rate'"),
        (("learning_rate=1e-4..1e-2",), "--random"),
        (("--val-fraction", 0, "learning_rate=1e-3"), "val_fraction"),
        (("--data", "nowhere.txt", "learning_rate=1e-3"), "nowhere.txt"),
        (("--model", "nowhere", "learning_rate=1e-3"), "fixed by the model"),
    ],
)
def test_a_sweep_refuses_in_one_line(
    shop: Path, tmp_path: Path, more: tuple[object, ...], words: str
) -> None:
    result = sweep(shop, tmp_path / "a", *more)
    assert result.code == 1
    assert words in result.line()
    assert not (tmp_path / "a" / "sweep.json").exists()


def test_a_sweep_in_which_nothing_finishes_ends_with_1(shop: Path, tmp_path: Path) -> None:
    result = sweep(shop, tmp_path / "a", "learning_rate=1e-3", "--block-size", 4000)
    assert result.code == 1
    assert "trial 1 failed: " in result.out
    assert (tmp_path / "a" / "report.html").is_file()
