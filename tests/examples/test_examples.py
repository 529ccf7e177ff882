"""The examples run on the real data, in a tiny form, and print their tables."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEST = ("| loss on test data", "| loss on old data")
HELD_OUT = ("--held-out", 8)


def call(script: str, *words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(EXAMPLES / script), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=280, check=False)


@pytest.mark.parametrize(
    ("script", "more", "said"),
    [
        ("knowledge.py", HELD_OUT, ["| seen | exact match 0 of ", "| paraphrased | ", "loss on old data"]),
        (
            "voice.py",
            ("--voice", "VOICE"),
            ["loss on new data", "loss on old data", "sample    Once upon a time"],
        ),
        (
            "qa.py",
            HELD_OUT,
            [
                "| loss on test data",
                "| whole answers to it | exact match ",
                "| tokens of answers to it | tokens foretold ",
            ],
        ),
        (
            "speciality.py",
            ("maths", *HELD_OUT),
            [*TEST, "whole answers to it | right number ", "| tokens of its solutions | "],
        ),
        (
            "speciality.py",
            ("code", *HELD_OUT),
            [*TEST, "whole answers to it | exact match ", "| tokens of its solutions | "],
        ),
        (
            "stories.py",
            ("--stories", 8),
            ["| loss on new data", "| loss on old data", "before: of ", " from the sea", "Once upon a time"],
        ),
    ],
)
def test_an_example_runs(shared, script, more, said):
    data = shared / "data"
    more = [data / "corpora" / "books" / "the_time_machine.txt" if word == "VOICE" else word for word in more]
    done = call(script, *more, "--data", data, "--steps", 2)
    assert done.returncode == 0, done.stderr
    for words in said:
        assert words in done.stdout


def test_no_steps_are_not_the_recipes(shared):
    done = call("voice.py", "--data", shared / "data", "--steps", 0)
    assert done.returncode == 1
    assert "voice.py: TrainConfig: max_steps = 0" in done.stderr


def test_three_learning_rates_are_drawn(shared, tmp_path):
    pytest.importorskip("matplotlib")
    done = call("learning_rates.py", "--data", shared / "data", "--steps", 8, "-o", tmp_path / "rates.png")
    assert done.returncode == 0, done.stderr
    assert "| 3 | too large | 4.23 | " in done.stdout
    assert "no number after step" in done.stdout
    assert (tmp_path / "rates.png").read_bytes().startswith(b"\x89PNG")


def test_names_are_invented_and_spelt(tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("".join(f"{a}{b}{c}\n" for a in "BDKLM" for b in "aeiou" for c in ("na", "rin", "sto")))
    done = call("names.py", "--data", names, "--steps", 20, "--count", 8)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("75 names, such as ")
    drawn = re.search(r"8 names drawn, (\d) of them new and different:\n((?:  .*\n)*)", done.stdout)
    assert drawn
    new = drawn[2].split()
    assert len(new) == int(drawn[1])
    assert not set(new) & set(names.read_text().split())
    assert new == [] or f"How it spells '{new[0]}'" in done.stdout


def test_names_need_no_file():
    done = call("names.py", "--steps", 1, "--count", 2)
    assert done.returncode == 0, done.stderr
    assert re.match(r"\d{3} names, such as [A-Z]", done.stdout)


def test_shakespeare_speaks(tmp_path):
    play = tmp_path / "play.txt"
    play.write_text("ROMEO:\nWhat light is that?\n\nNURSE:\nThe sun, I think.\n\n" * 60)
    done = call("shakespeare.py", "--data", play, "--steps", 2, "--speaker", "NURSE")
    assert done.returncode == 0, done.stderr
    assert "validation loss " in done.stdout
    assert "nanoGPT's model for a CPU: 1.88" in done.stdout
    assert "\nNURSE:\n" in done.stdout


def test_code_is_completed_and_parsed(tmp_path):
    for i in range(40):
        text = f"def method(self, name):\n    return self.get(name, {i % 3})\n\n\n" * 20
        (tmp_path / f"{i}.py").write_text(text.replace("method", f"method_{'abcdefgh'[i % 8]}"))
    done = call("stdlib_code.py", "--data", tmp_path, "--steps", 4, "--asked", 3)
    assert done.returncode == 0, done.stderr
    assert "38 files of code, " in done.stdout
    assert re.search(r"\nbefore: \d of \d completed functions are Python\nafter:  \d of \d ", done.stdout)
    assert "def parse(text):\n" in done.stdout


WITH_DATA = ["shakespeare", "stdlib_code", "names", "qa", "voice", "stories", "knowledge", "learning_rates"]


@pytest.mark.parametrize("script", [*WITH_DATA, "speciality"])
def test_missing_data_is_a_line_that_says_what_to_give(script, tmp_path):
    more = ["maths"] if script == "speciality" else []
    done = call(f"{script}.py", *more, "--data", tmp_path / "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{script}.py: {tmp_path / 'nowhere'}")
    assert "no such file" in done.stderr
    assert "--data" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("script", ["names", "shakespeare"])
def test_data_that_is_no_text_is_a_line(script, tmp_path):
    (tmp_path / "b.txt").write_bytes(b"caf\xe9\n")
    (tmp_path / "empty.txt").touch()
    for path in (tmp_path, tmp_path / "b.txt", tmp_path / "empty.txt"):
        done = call(f"{script}.py", "--data", path)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{script}.py: "), done.stderr
        assert "Traceback" not in done.stderr


def test_the_list_of_examples_is_whole():
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - {"common.py"}
    notebooks = {f"notebooks/{path.name}" for path in (EXAMPLES / "notebooks").glob("*.ipynb")}
    for name in scripts | notebooks:
        assert f"({name})" in text, name
    for path in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in path or (EXAMPLES / path).exists(), path


def test_words_are_exchanged_as_wholes(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    stories = importlib.import_module("stories")
    assert stories.twisted("A boy in a carpark, with Mom.") == "A pirate in a carpark, with Captain."
    counted = stories.count(["The park", "the ship, aye"])
    assert counted == "of 5 words 1 from ashore (park, Mom, toy), 2 from the sea"


def test_where_there_are_no_time_zones_names_are_those_of_pictures(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    names = importlib.import_module("names")
    assert {"Samoa", "Punta Arenas"} & set(names.places())
    monkeypatch.setattr("zoneinfo.available_timezones", set)
    assert {"Panda Face", "Volcano"} <= set(names.places())
