"""The ablation script: what is done is written and not done again, what cannot be made is said."""

import csv
import subprocess
import sys
from pathlib import Path

TEXT = "the moon is a mirror of the sun, and the sea is one of both\n" * 60
SCRIPT = Path(__file__).resolve().parents[2] / "benches" / "quality" / "ablation.py"


def ablate(*arguments: object, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    return done.stderr if code else done.stdout


def test_rows_are_trained_once_and_laid_side_by_side(tmp_path: Path) -> None:
    text, out = tmp_path / "text.txt", tmp_path / "out"
    text.write_text(TEXT, encoding="utf-8")
    given = ("-o", out, "--data", text, "--steps", 2, "--rows", "nanogpt-cpu", "nanogpt-cpu, rate 0.001")
    first = ablate(*given, "--seeds", 1)
    assert first.count("seed 1: loss") == 2
    second = ablate(*given, "--seeds", 1, 2)
    assert "seed 1: loss" not in second
    assert second.count("seed 2: loss") == 2
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["seed"]) for row in rows] == [
        (name, seed) for seed in "12" for name in ("nanogpt-cpu", "nanogpt-cpu, rate 0.001")
    ]
    table = (out / "ablation.md").read_text(encoding="utf-8")
    assert "| nanogpt-cpu, rate 0.001 | nanogpt-cpu |" in table
    assert (out / "ablation.png").stat().st_size > 1000


def test_without_the_text_it_says_so(tmp_path: Path) -> None:
    said = ablate("-o", tmp_path / "out", "--data", tmp_path / "none.txt", code=1)
    assert said == f"{tmp_path / 'none.txt'} is not there; give Shakespeare's text with --data\n"
    assert not (tmp_path / "out").exists()


def test_every_row_says_what_it_changes() -> None:
    lines = ablate("--list").splitlines()
    assert lines[0].startswith("nanogpt-cpu: by itself")
    assert any("'qk_norm': True" in line for line in lines)
