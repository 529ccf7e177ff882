"""Runs the blocks of docs/tutorial.md in order; writes what they print, and the pictures they draw, into the page.

    python docs/make_tutorial.py     # or: make tutorial

A block is ```python or ```sh; a ```text right after it is what it printed. Python runs in this process, so that a
block has the names of those before it; a command line runs beside it. Both run in one new folder. "```sh notest" is
shown only.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "tutorial.md"
BLOCK = re.compile(
    r"^```(?P<language>python|sh)\n(?P<code>.*?)^```\n(?:\n```text\n(?P<shown>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
PICTURE = re.compile(r"!\[[^\]]+\]\((images/tutorial/[\w-]+\.png)\)")
COLORS = 64
"""Colours of a kept picture: lines, bars and letters need no more, and it has a third of the bytes."""


@dataclass(frozen=True)
class Block:
    """A block of the page: its language, its lines, and what the page says that it prints ("": nothing)."""

    language: str
    code: str
    shown: str


def blocks(page: str) -> list[Block]:
    """Find the blocks that are run, in the order of the page."""
    return [Block(m["language"], m["code"], m["shown"] or "") for m in BLOCK.finditer(page)]


def pictures(page: str) -> list[str]:
    """Find the pictures that the blocks draw, as paths from the page."""
    return PICTURE.findall(page)


def run(found: Sequence[Block], folder: Path, change: Callable[[str], str] = str) -> Iterator[str]:
    """Run blocks in `folder` and yield what each prints; `change` may change their lines before."""
    command = folder / "bin" / "subgpt"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m subgpt.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    names: dict[str, object] = {"__name__": "tutorial"}
    for block in found:
        ran = _python if block.language == "python" else _command_line
        with _inside(folder):
            printed = ran(change(block.code), names)
        yield "".join(f"{line.rstrip()}\n" for line in printed.rstrip("\n").split("\n") if printed)


def _python(code: str, names: dict[str, object]) -> str:
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        exec(compile(code, str(PAGE.name), "exec"), names)
    return heard.getvalue()


def _command_line(code: str, _: dict[str, object]) -> str:
    path = f"{Path.cwd() / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "100"}
    done = subprocess.run(
        ["sh", "-ec", code], env=environment, capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode:
        raise RuntimeError(f"{code}ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def woven(page: str, printed: Sequence[str]) -> str:
    """Put what the blocks printed after them, in place of what stood there."""
    rest = iter(printed)

    def with_output(match: re.Match[str]) -> str:
        said = next(rest)
        block = f"```{match['language']}\n{match['code']}```\n"
        return block + (f"\n```text\n{said}```\n" if said else "")

    return BLOCK.sub(with_output, page)


def keep_picture(drawn: Path, place: Path) -> None:
    """Copy a picture with few colours, which a page loads sooner."""
    from PIL import Image

    place.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(drawn) as image:
        few = image.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    few.save(place, optimize=True)


def main() -> None:
    """Run the page, say how long each block took, and write page and pictures."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    page = PAGE.read_text(encoding="utf-8")
    found, printed = blocks(page), list[str]()
    folder = Path(tempfile.mkdtemp(prefix="subgpt-tutorial-"))
    try:
        begin = time.monotonic()
        for said in run(found, folder):
            block = found[len(printed)]
            print(f"{time.monotonic() - begin:6.1f} s  {block.code.splitlines()[0]}", flush=True)
            printed.append(said)
            begin = time.monotonic()
        for name in pictures(page):
            keep_picture(folder / Path(name).name, PAGE.parent / name)
    finally:
        shutil.rmtree(folder)
    PAGE.write_text(woven(page, printed), encoding="utf-8")


if __name__ == "__main__":
    main()
