"""The workflows that test and release: by their schema, and in step with what a release promises."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import pytest
import yaml

import subgpt

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PLATFORMS = {
    "manylinux x86_64",
    "manylinux aarch64",
    "musllinux x86_64",
    "musllinux aarch64",
    "macos-arm64",
    "macos-x86_64",
    "windows-x64",
    "windows-arm64",
}


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "manifest", sorted((ROOT / "rust").glob("*/Cargo.toml")), ids=lambda path: path.parent.name
)
def test_crates_of_one_system_are_named_where_that_system_is(manifest):
    """Only Linux compiles here: a crate that stands among its own would be missing on the others."""
    tomllib = pytest.importorskip("tomllib", reason="Python reads TOML from 3.11 on")
    tables = tomllib.loads(manifest.read_text(encoding="utf-8")).get("target", {})
    for system, kind in ((system, kind) for system, table in tables.items() for kind in table):
        for crate in (name.replace("-", "_") for name in tables[system][kind]):
            for source in (manifest.parent / "src").rglob("*.rs"):
                text = source.read_text(encoding="utf-8")
                named = re.search(rf"\b{crate}::", text)
                assert not named or re.search(r"cfg\((all\(test, )?(unix|target_os)", text), (
                    f"{source}: {crate}"
                )


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_they_are_what_the_schema_says(path):
    if find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema is not installed")
    words = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        str(path),
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_nothing_may_more_than_it_needs(path):
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert "permissions" not in job or name == "publish"
        assert job.get("timeout-minutes", 0) > 0 or name == "publish"
        for step in job["steps"]:
            assert "@" in step.get("uses", "@"), step
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_a_release_has_a_wheel_for_every_platform_and_tries_each():
    jobs = read("release.yml")["jobs"]
    linux, others = (
        jobs["linux"]["strategy"]["matrix"]["include"],
        jobs["others"]["strategy"]["matrix"]["include"],
    )
    named = {f"{each['libc']} {each['target']}" for each in linux} | {each["name"] for each in others}
    assert named == PLATFORMS
    for job in (jobs["linux"], jobs["others"]):
        assert any(".ci/try-wheel" in step.get("run", "") for step in job["steps"])
    assert set(jobs["publish"]["needs"]) == set(jobs) - {"publish"}
    assert "refs/tags/v" in jobs["publish"]["if"]


def test_the_scripts_that_they_call_are_there():
    for script in ("run", "try-wheel"):
        assert (ROOT / ".ci" / script).is_file()
    assert ".ci/try-wheel" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    if os.name == "posix":
        done = subprocess.run(["sh", "-n", str(ROOT / ".ci" / "try-wheel")], check=False)
        assert done.returncode == 0


def test_the_version_is_the_same_everywhere():
    cargo = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    version = next(line.split('"')[1] for line in cargo.splitlines() if line.startswith("version = "))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == version == subgpt.__version__


def test_no_wheel_is_a_part_of_the_sources():
    if not (ROOT / ".git").exists() or which("git") is None:
        pytest.skip("no checkout, or no git")
    done = subprocess.run(["git", "ls-files", "*.whl"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"git does not list the files: {done.stderr.strip()}")
    assert done.stdout == ""
