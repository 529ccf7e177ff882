"""The picture of the house is the house: imports of `python/subgpt` point down, but for the doors on the page."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "python" / "subgpt"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").split("## Two crates")[0]
DOORS = set(re.findall(r"^\| `(\S+\.py)` \| `(\w+)` \|", PAGE, re.MULTILINE))


def floors() -> dict[str, int]:
    """Give the floor of each room in the picture, counted from above."""
    found, floor = {}, 0
    for line in PAGE.split("    cli   ")[1].partition(" _core ")[0].splitlines():
        floor += "└─>" in line
        rooms = re.split(r"\s{4,}", line.replace("└─>", "").strip())[0]
        found.update(dict.fromkeys(rooms.split(), floor))
    return {"cli": 0, **found, "_core": floor}


def name(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name(path): path for path in PACKAGE.rglob("*.py")}


def imports(tree: ast.AST, *, in_calls: bool) -> Iterator[str]:
    """Name what a module imports, without what only type checkers read; `in_calls`: also where functions do."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from imports(ast.Module(node.orelse, []), in_calls=in_calls)
        elif in_calls or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from imports(node, in_calls=in_calls)


def named(path: Path, *, in_calls: bool) -> set[str]:
    found = imports(ast.parse(path.read_text(encoding="utf-8")), in_calls=in_calls)
    return {each for each in found if each.startswith("subgpt.")}


def test_every_room_is_in_the_picture():
    rooms = {
        path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").is_file() or path.suffix == ".py"
    }
    assert set(floors()) == (rooms - {"__init__", "__main__"}) | {"_core"}


def test_imports_point_down_but_for_the_doors():
    known, upwards = floors(), set()
    for path in PACKAGE.rglob("*.py"):
        room = name(path).split(".")[1:2]
        if not room or room == ["__main__"]:
            continue
        for other in (each.split(".")[1] for each in named(path, in_calls=True)):
            # A public name of the package is loaded from wherever it is: only those above all may ask so.
            if known.get(other, 0) < known[room[0]]:
                upwards.add((path.relative_to(PACKAGE).as_posix(), other))
    assert upwards == DOORS
    assert len(DOORS) == 4


def test_no_module_needs_itself_while_it_is_loaded():
    heads = {module: named(path, in_calls=False) for module, path in MODULES.items()}
    needs = {
        module: {
            found
            for each in names
            if (found := each if each in MODULES else each.rpartition(".")[0]) in MODULES
        }
        for module, names in heads.items()
    }
    assert len(list(TopologicalSorter(needs).static_order())) == len(MODULES)
