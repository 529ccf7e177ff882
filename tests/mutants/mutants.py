"""Changes the Python of the sampler, the optimizers and the tokenizers in every small way, and asks which tests notice.

    python tests/mutants/mutants.py                            # all; what was found before is kept
    python tests/mutants/mutants.py 'subgpt.tokenizer.*'

mutmut writes the mutants into a copy of the package and runs the tests that come by each. A mutant that no test notices
is a hole in the tests or makes no difference; `accepted.yaml` says of the latter why, and any other ends this with an
error. What the core does has its own (`rust/mutants`). Needs `pip install mutmut`, and an environment with the
package's tests.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from difflib import SequenceMatcher
from fnmatch import fnmatch
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "target" / "mutmut"
GROUPS = {
    "sampler": (
        "generation/beams",
        "generation/config",
        "generation/healing",
        "generation/speculation",
        "generation/stops",
        "generation/structured",
    ),
    "optimizers": ("training/optimizers", "training/schedule"),
    "tokenizers": (
        "tokenizer/arguments",
        "tokenizer/prefixes",
        "tokenizer/saving",
        "tokenizer/segments",
        "tokenizer/special",
        "tokenizer/tokenizer",
        "tokenizer/training",
    ),
}
TESTS = [
    "tests/unit/training/test_optimizers.py",
    "tests/unit/training/test_schedule.py",
    "tests/unit/generation",
    "tests/unit/tokenizer",
    *(
        f"tests/docs/test_documentation.py::test_docstring_examples[subgpt.{file.replace('/', '.')}]"
        for files in GROUPS.values()
        for file in files
    ),
]
NOTICED = ("killed", "timeout", "segfault", "suspicious", "caught by type check")


@dataclass(frozen=True)
class Mutant:
    """A change: the file it is in, the function, the words that were there and those that are."""

    name: str
    file: str
    function: str
    change: str

    @property
    def group(self) -> str:
        """What its file belongs to."""
        return next(group for group, files in GROUPS.items() if self.file.removesuffix(".py") in files)

    def __str__(self) -> str:
        return f"{self.file}: {self.function}: {self.change}"


def main() -> None:
    """Try the mutants, and say what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="mutants, as mutmut calls them; * stands for anything")
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="mutants that are tried at once"
    )
    args = parser.parse_args()
    copy_sources()
    mutmut = [sys.executable, "-m", "mutmut"]
    subprocess.run([*mutmut, "run", "--max-children", str(args.jobs), *args.names], cwd=WORK, check=True)
    listed = subprocess.run(
        [*mutmut, "results", "--all", "true"], cwd=WORK, check=True, capture_output=True, text=True
    ).stdout
    outcomes = dict(re.findall(r"^\s*(\S+): (.+?)\s*$", listed, re.MULTILINE))
    report({name: outcome for name, outcome in outcomes.items() if outcome != "not checked"})


def copy_sources() -> None:
    """Copy the package and what its tests read to where mutmut looks for it."""
    WORK.mkdir(parents=True, exist_ok=True)
    for source, name in (("python", "src"), ("tests", "tests"), ("docs", "docs")):
        shutil.rmtree(WORK / name, ignore_errors=True)
        shutil.copytree(ROOT / source, WORK / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "README.md", WORK)
    # mutmut leaves what it has copied, and the core may have been built anew.
    for core in (WORK / "mutants").rglob("_core*"):
        core.unlink()
    shared = ROOT.parent / "shared"
    if shared.exists() and not (WORK / "shared").exists():
        (WORK / "shared").symlink_to(shared)
    changed = [f"src/subgpt/{file}.py" for files in GROUPS.values() for file in files]
    settings = {
        "source_paths": ["src"],
        "only_mutate": changed,
        "also_copy": ["docs", "README.md", "tests"],
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": TESTS,
    }
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (WORK / "pyproject.toml").write_text(f"{project}\n[tool.mutmut]\n{lines}", encoding="utf-8")


def report(outcomes: dict[str, str]) -> None:
    """Count what became of each, and name those that nobody noticed and nobody has explained."""
    accepted = yaml.safe_load((HERE / "accepted.yaml").read_text(encoding="utf-8"))
    changes = read_changes(set(outcomes))
    unexplained = []
    for group in GROUPS:
        mine = [mutant for mutant in changes if mutant.group == group]
        alive = [mutant for mutant in mine if outcomes[mutant.name] not in NOTICED]
        unknown = [mutant for mutant in alive if not is_explained(mutant, accepted)]
        counts = dict(Counter(outcomes[mutant.name] for mutant in mine))
        print(
            f"{group}: {counts}, {len(alive) - len(unknown)} of those that survived are known to make no difference"
        )
        unexplained += unknown
    if unexplained:
        raise SystemExit("\n".join(["no test notices:", *sorted(map(str, unexplained))]))


def is_explained(mutant: Mutant, accepted: list[dict[str, str]]) -> bool:
    """Whether a reason is given for a mutant: `where` is its file and function, `change` in what it changes."""
    place = f"{mutant.file}: {mutant.function}"
    return any(fnmatch(place, one["where"]) and one.get("change", "") in mutant.change for one in accepted)


def read_changes(names: set[str]) -> list[Mutant]:
    """Compare the mutants that mutmut has written with what they were made of."""
    found = []
    for file in (file for files in GROUPS.values() for file in files):
        text = (WORK / "mutants" / "src" / "subgpt" / f"{file}.py").read_text(encoding="utf-8")
        functions = {
            node.name: node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)
        }
        module = f"subgpt.{file.replace('/', '.')}."
        for name, function in functions.items():
            if module + name in names:
                of = name.rpartition("__mutmut_")[0]
                change = changed_words(written(functions[f"{of}__mutmut_orig"]), written(function))
                shown = of.removeprefix("x_").removeprefix("xǁ").replace("ǁ", ".")
                found.append(Mutant(module + name, f"{file}.py", shown, change))
    return found


def written(function: ast.FunctionDef) -> str:
    """Write a function in one form, whatever its name."""
    return ast.unparse(function).replace(function.name, "f")


def changed_words(old: str, new: str) -> str:
    """Give the words that differ, as `old -> new`."""
    before, after = old.split(), new.split()
    blocks = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    return ", ".join(
        f"{' '.join(before[a:b])} -> {' '.join(after[c:d])}" for kind, a, b, c, d in blocks if kind != "equal"
    )


if __name__ == "__main__":
    main()
