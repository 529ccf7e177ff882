"""What the README and the docs show runs: Python blocks are executed, `subgpt` command lines too, paths exist.

The blocks of a page run in order, in one folder that holds a small `corpus/`, a `qa.jsonl` and a `questions.txt`; the
number of training steps of command lines is cut down by SUBGPT_MAX_STEPS, and by --steps where that is a flag alone.
"""

from __future__ import annotations

import doctest
import importlib
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import subgpt

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
RUN_HERE = [page for page in PAGES if page.name != "tutorial.md"]  # which test_tutorial.py runs
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SENTENCE = "In {place} the {who} asked what a small model can learn, and wrote it down {how}. "


def blocks(page: Path, language: str) -> list[str]:
    return [text for name, text in BLOCK.findall(page.read_text(encoding="utf-8")) if name == language]


def test_excerpts_of_the_worked_example_are_the_code():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    excerpts = re.findall(r"^```(?:rust|python notest)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    sources = [*(ROOT / "python").rglob("*.py"), *(ROOT / "rust").rglob("*.rs")]
    texts = [source.read_text(encoding="utf-8") for source in sources if "target" not in source.parts]
    assert len(excerpts) == 2
    for excerpt in excerpts:
        assert any(excerpt in text for text in texts), excerpt


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the corpus and the questions that the pages speak of."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    places, people, ways = (
        ["spring", "a library", "the city"],
        ["teacher", "learner", "engineer"],
        ["twice", "at once"],
    )
    for i in range(30):
        text = "".join(
            SENTENCE.format(place=places[(i + j) % 3], who=people[(i * j) % 3], how=ways[j % 2])
            for j in range(60)
        )
        (corpus / f"{i}.txt").write_text(text + f"Page {i} ends here.\n", encoding="utf-8")
    rows = [{"question": f"Who asked on page {i}?", "answer": f"The {people[i % 3]} did."} for i in range(60)]
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "held.txt").write_text(
        SENTENCE.format(place="winter", who="teacher", how="twice") * 40, encoding="utf-8"
    )
    (tmp_path / "questions.txt").write_text("Who asked on page 3?\nAnd on page 4?\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_something_to_run():
    assert blocks(ROOT / "README.md", "python")
    assert any("subgpt " in text for text in blocks(ROOT / "README.md", "sh"))


def test_every_line_of_the_page_on_tokenizers_is_run():
    lines = "".join(blocks(ROOT / "docs" / "tokenizers.md", "sh")).splitlines()
    assert [line for line in lines if line and not line.startswith("subgpt ")] == []


@pytest.mark.parametrize("page", [p for p in RUN_HERE if blocks(p, "python")], ids=lambda p: p.name)
def test_python_blocks_run(page, folder):
    names: dict[str, object] = {}
    for text in blocks(page, "python"):
        short = re.sub(r"max_steps=\d+", "max_steps=4", text)
        exec(compile(short, f"{page.name}", "exec"), names)


@pytest.mark.parametrize("page", [p for p in RUN_HERE if blocks(p, "sh")], ids=lambda p: p.name)
def test_command_lines_run(page, folder):
    (folder / "bin").mkdir()
    subgpt_command = folder / "bin" / "subgpt"
    subgpt_command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m subgpt.cli "$@"\n', encoding="utf-8")
    subgpt_command.chmod(0o755)
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SUBGPT_MAX_STEPS": "4", "NO_COLOR": "1"}
    for text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] != ["subgpt"] or words[1:2] == ["quickstart"]:
                continue  # set-up commands, and the quickstart, which has a test of its own
            if words[1] == "lr-find":
                line += " --steps 20"
            done = subprocess.run(
                ["sh", "-c", line],
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_inside_the_project_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_tree_in_the_readme_is_the_tree():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"^ {4}(\S+/)\s{2,}", text, re.MULTILINE)
    assert len(named) >= 15
    assert all((ROOT / path).is_dir() for path in named), [p for p in named if not (ROOT / p).is_dir()]


def modules() -> list[str]:
    return [
        m.name for m in pkgutil.walk_packages(subgpt.__path__, "subgpt.") if not m.name.endswith("__main__")
    ]


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name, folder):
    try:
        module = importlib.import_module(name)
    except subgpt.MissingExtraError as error:
        pytest.skip(str(error))
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    assert doctest.testmod(module, optionflags=flags).failed == 0


def test_import_is_light():
    heavy = ["pydantic", "yaml", "matplotlib", "rich", "typer", "tqdm", "jinja2", "torch"]
    code = f"import sys, subgpt; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_documented():
    missing = [name for name in subgpt.__all__ if not getattr(getattr(subgpt, name), "__doc__", None)]
    assert [name for name in missing if not name.startswith("__")] == []


@pytest.mark.parametrize("package", [subgpt, subgpt.data], ids=lambda package: package.__name__)
def test_every_public_name_is_on_the_page_of_names(package):
    page = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    made = re.findall(r"^::: (\S+)$", page, re.MULTILINE)
    written = re.findall(r"`(\w+)(?:\(\w*\))?`", page)  # by hand, what has no docstring
    missing = []
    for name in package.__all__:
        home = getattr(getattr(package, name), "__module__", package.__name__)
        if not {home, f"{home}.{name}"} & set(made) and name not in written:
            missing.append(name)
    assert missing == []
