"""`subgpt estimate` and `subgpt bench`: facts for people, JSON for scripts, mistakes in one line."""

import json
from pathlib import Path

import pytest
import yaml

from subgpt.performance import estimate as foretelling

from .conftest import SHAPE, invoke

TINY = (*SHAPE, "--vocab-size", 64)


def test_estimate_tells_memory_and_time() -> None:
    result = invoke("estimate", *TINY, "--max-steps", 50, "--seconds", 0.1)
    assert result.code == 0, result.err
    for words in ("parameters", "memory, total", "tokens/s", "for 50 steps", "steps of this model"):
        assert words in result.out, words
    assert "\x1b" not in result.out, "a pipe gets plain text"


def test_estimate_in_json_adds_up() -> None:
    flags = ("--optimizer", "sgd", "--dtype", "float32", "--gradient-checkpointing")
    result = invoke("estimate", *TINY, *flags, "--seconds", 0, "--json")
    assert result.code == 0, result.err
    seen = json.loads(result.out)
    assert seen["total_bytes"] == sum(seen["memory"].values())
    assert (seen["dtype"], seen["memory"]["optimizer"], seen["step_seconds"]) == ("float32", 0, None)
    assert seen["memory"]["parameters"] >= 4 * seen["parameters"]


def test_estimate_reads_a_file_of_settings_and_a_runs_own(shop: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: d1\nbatch_size: 3\nbf16: false\n", encoding="utf-8")
    seen = json.loads(invoke("estimate", "--config", file, "--seconds", 0, "--json").out)
    assert (seen["tokens_per_step"], seen["dtype"]) == (3 * 256, "float32")
    own = shop / "run" / "training" / "config.yaml"
    model = yaml.safe_load(own.read_text(encoding="utf-8"))["model"]
    seen = json.loads(invoke("estimate", "--config", own, "--seconds", 0, "--json").out)
    assert seen["tokens_per_step"] == 4 * model["block_size"]


def test_what_does_not_fit_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foretelling, "memory_limit", lambda: 1 << 20)
    result = invoke("estimate", *TINY, "--seconds", 0, "--json")
    assert result.code == 0
    assert "warning" in result.err
    assert "take a smaller model" in json.loads(result.out)["warning"]


def test_bench_tells_speed_and_profile() -> None:
    result = invoke("bench", *TINY, "--seconds", 0, "--profile")
    assert result.code == 0, result.err
    for words in ("time of a step", "tokens/s", "of the measured", "of its limit", "(everything else)"):
        assert words in result.out, words
    assert "\x1b" not in result.out


def test_bench_in_json_accounts_for_the_step() -> None:
    seen = json.loads(invoke("bench", *TINY, "--seconds", 0, "--profile", "--json").out)
    assert seen["steps"] >= 3
    assert seen["operations"]
    assert sum(row["share"] for row in seen["operations"]) + seen["rest"] == pytest.approx(1)
    times = [row["seconds"] for row in seen["operations"]]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("command", ["estimate", "bench"])
@pytest.mark.parametrize(
    ("flags", "words", "code"),
    [
        (["--preset", "d99"], ["d99", "d1 to d48"], 1),
        (["--preset", "nano", "--n-head", "3"], ["n_head = 3"], 1),
        (["--dtype", "float16"], ["dtype", "float16"], 1),
        (["--optimizer", "adm"], ["optimizer", "adamw"], 1),
        (["--seconds", "-1"], ["seconds"], 2),
        (["--config", "missing.yaml"], ["missing.yaml"], 1),
    ],
)
def test_mistakes_are_named_in_one_line(command: str, flags: list[str], words: list[str], code: int) -> None:
    result = invoke(command, *flags)
    assert result.code == code
    assert all(word in result.line() for word in words), result.line()
