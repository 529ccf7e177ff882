"""Changes the sampler, the optimizers and the tokenizers in every small way, and asks which tests notice.

    python rust/mutants/mutants.py                    # all; what was found before is kept
    python rust/mutants/mutants.py sampling --jobs 2

What cargo-mutants would change one by one is put into a single build of a copy of the sources (`src/main.rs`). Which
mutants each test comes by is seen once (`mutant.rs`, `seen.py`); then those tests run for each mutant: quick ones of
the crate, slow ones of the crate, those of Python, until one fails. A mutant that no test notices is a hole in the
tests or makes no difference; `accepted.yaml` says of the latter why, and any other ends this with an error. Needs
`cargo install cargo-mutants`, and an environment with the package's tests.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "target" / "mutants"
SOURCE = WORK / "source"
SEEN = WORK / "seen"
PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
PROFILE = ["--profile", "mutants", "--config", 'profile.mutants.inherits="dev"']
PROFILE += ["--config", "profile.mutants.opt-level=3", "--config", 'profile.mutants.debug="none"']
QUICK = 0.15
"""Seconds of a test that is run first."""
ADDRESSES = 8 << 30
"""Bytes that a test may ask for: a mutant may want all there are."""


@dataclass(frozen=True)
class Group:
    """Files that are changed, and the tests that should notice."""

    files: tuple[str, ...]
    rust: str
    python: tuple[str, ...]


@dataclass(frozen=True)
class Test:
    """A test, how long it takes, and the mutants that it comes by."""

    name: str
    seconds: float
    reached: frozenset[int]


GROUPS = {
    "sampling": Group(
        ("sampling/**",),
        "sampling::",
        ("tests/parity/test_sampling.py", "tests/unit/generation", "tests/unit/serving/test_completions.py"),
    ),
    "optim": Group(
        ("optim/**",),
        "optim::",
        (
            "tests/unit/training/test_optimizers.py",
            "tests/parity/test_optimizers.py",
            "tests/parity/test_trace.py",
            # Twenty-four runs beside PyTorch's, of which each of the others is one.
            "--deselect=tests/parity/test_trace.py::test_bfloat16_is_nearer_to_the_traces_than_pytorchs_autocast",
        ),
    ),
    "tokenizer": Group(
        (
            "tokenizer/bpe/{batch,cache,encode,key,merge,symbols,tokens,words}.rs",
            "tokenizer/bpe/merge/**",
            "tokenizer/{added,batch,char,cutting,encode,pipeline,spans,special,tasks,word}.rs",
            "tokenizer/pretokenize/**",
        ),
        "tokenizer::",
        (
            "tests/unit/tokenizer",
            "tests/property/test_tokenizers.py",
            "tests/parity/test_tokenizers.py",
            "tests/parity/test_tokenizer_formats.py",
        ),
    ),
}


@dataclass(frozen=True)
class Mutant:
    """A change, by its place in the list."""

    number: int
    name: str
    group: str

    @property
    def keys(self) -> set[str]:
        """What `accepted.yaml` may call it: without its place; its function or its change alone."""
        file, _, _, what = self.name.removeprefix("rust/core/src/").split(":", 3)
        of_function = re.fullmatch(r" replace (.+?)(?: -> .+)? with .+", what) if " in " not in what else None
        function = of_function[1] if of_function else what.rpartition(" in ")[2]
        return {f"{file}:{what}", f"{file}: {function}", f"*:{what.rpartition(' in ')[0]}"}


def main() -> None:
    """Try the mutants of some groups."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", choices=[[], *GROUPS], metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="mutants that are tried at once"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="of Python's tests for each mutant, the quickest first; some of those that survive may not survive all",
    )
    parser.add_argument("--again", action="store_true", help="forget what was found before")
    args = parser.parse_args()
    groups = args.groups or list(GROUPS)
    listed = list_mutants()
    left_out, missed = put_in(listed)
    print(
        f"{len(listed)} mutants; {len(left_out)} do not compile, {len(missed)} cannot be chosen at run time"
    )
    trial = Trial(build_tests(), build_extension(), groups, args.seconds)
    mutants = [
        Mutant(number, one["name"], group_of(one["file"]))
        for number, one in enumerate(listed, 1)
        if number not in left_out | missed
    ]
    mutants = [mutant for mutant in mutants if mutant.group in groups]
    kept = WORK / "outcomes.json"
    outcomes: dict[str, str] = json.loads(kept.read_text()) if kept.exists() and not args.again else {}
    todo = [mutant for mutant in mutants if mutant.name not in outcomes]
    with ThreadPoolExecutor(args.jobs) as pool:
        trials = [pool.submit(trial.run, mutant) for mutant in todo]
        for done, future in enumerate(as_completed(trials), 1):
            mutant, outcome = future.result()
            outcomes[mutant.name] = outcome
            if done % 50 == 0 or done == len(todo):
                kept.write_text(json.dumps(outcomes, indent=1))
                print(f"{done} of {len(todo)}", flush=True)
    report(mutants, outcomes)


def report(mutants: list[Mutant], outcomes: dict[str, str]) -> None:
    """Count what became of each, and name those that nobody noticed and nobody has explained."""
    accepted = yaml.safe_load((HERE / "accepted.yaml").read_text(encoding="utf-8")) or {}
    alive = [mutant for mutant in mutants if outcomes[mutant.name] in ("survived", "unreached")]
    for group in GROUPS:
        mine = Counter(outcomes[mutant.name] for mutant in mutants if mutant.group == group)
        explained = sum(mutant.group == group and not mutant.keys.isdisjoint(accepted) for mutant in alive)
        if mine:
            print(f"{group}: {dict(mine)}, {explained} of those that survived make no difference")
    if unexplained := [mutant.name for mutant in alive if mutant.keys.isdisjoint(accepted)]:
        raise SystemExit("\n".join(["no test notices:", *unexplained]))


def group_of(file: str) -> str:
    """Give the group of a file: its folder in the crate."""
    return file.removeprefix("rust/core/src/").split("/")[0]


def list_mutants() -> list[dict[str, Any]]:
    """Ask cargo-mutants for all mutants of all groups."""
    files = [f"rust/core/src/{file}" for group in GROUPS.values() for file in group.files]
    patterns = [part for file in files for part in ("-f", file)]
    listed = command(["cargo", "mutants", "--list", "--json", "-p", "subgpt-core", *patterns], ROOT)
    found: list[dict[str, Any]] = json.loads(listed)
    return found


def put_in(listed: list[dict[str, Any]]) -> tuple[set[int], set[int]]:
    """Copy the sources and put all mutants in; those that do not compile, and those that cannot be chosen."""
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "listed.json").write_text(json.dumps(listed))
    # Iterators of another type than the function's own.
    numbered = [(number, one) for number, one in enumerate(listed, 1) if one["genre"] == "FnValue"]
    left_out = {number for number, one in numbered if "::std::iter" in one["replacement"]}
    while True:
        copy_sources()
        (WORK / "left_out.json").write_text(json.dumps(sorted(left_out)))
        rewrite = ["cargo", "run", "-q", "--release", "--manifest-path", str(HERE / "Cargo.toml")]
        rewrite += ["--target-dir", str(WORK / "tool"), "--"]
        rewrite += [str(WORK / "listed.json"), str(SOURCE), str(WORK / "left_out.json")]
        missed: set[int] = set(json.loads(command(rewrite, ROOT)))
        core = SOURCE / "rust" / "core" / "src"
        shutil.copy(HERE / "mutant.rs", core / "mutant.rs")
        with (core / "lib.rs").open("a") as file:
            file.write("pub mod mutant;\n")
        wrong = errors()
        if not wrong:
            return left_out, missed
        left_out |= wrong


def copy_sources() -> None:
    """Copy what git knows; what is the same keeps its time, so that it is not built again.

    Sources and tests that are gone go from the copy, where they would be built and run for ever.
    """
    listed = command(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], ROOT)
    names = [name for name in listed.split("\0") if (ROOT / name).is_file()]
    for name in names:
        old, new = ROOT / name, SOURCE / name
        if not (new.exists() and old.read_bytes() == new.read_bytes()):
            new.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(old, new)
    known = {SOURCE / name for name in names}
    for folder in ("rust", "tests"):
        for path in (SOURCE / folder).rglob("*"):
            if path.is_file() and path not in known:
                path.unlink()
    if (ROOT.parent / "shared").exists() and not (WORK / "shared").exists():
        (WORK / "shared").symlink_to(ROOT.parent / "shared")


def errors() -> set[int]:
    """Give the numbers of the mutants that the compiler refuses."""
    check = ["cargo", "check", "-q", "-p", "subgpt-core", "--lib", *PROFILE, "--message-format=json"]
    printed = subprocess.run(check, cwd=SOURCE, capture_output=True, text=True, check=False).stdout
    messages = [json.loads(line) for line in printed.splitlines()]
    wrong: set[int] = set()
    for message in (one["message"] for one in messages if one["reason"] == "compiler-message"):
        if message["level"] != "error" or not message["spans"]:
            continue
        marks = [mark for span in message["spans"] if (mark := mark_before(span))]
        if not marks:
            raise SystemExit(f"not of a mutant: {message['rendered']}")
        wrong |= set(marks[0])
    return wrong


def mark_before(span: dict[str, Any]) -> list[int]:
    """Give the numbers of the alternative that a place of the text is in."""
    lines = (SOURCE / span["file_name"]).read_text(encoding="utf-8").split("\n")[: span["line_start"]]
    lines[-1] = lines[-1][: span["column_start"] - 1]
    marks = re.findall(r"/\*mutants ?([\d,]*)\*/", "\n".join(lines))
    return [int(number) for number in marks[-1].split(",") if number] if marks else []


def build_tests() -> Path:
    """Build the crate's tests; the program."""
    build = [
        "cargo",
        "test",
        "-q",
        "-p",
        "subgpt-core",
        "--lib",
        "--no-run",
        *PROFILE,
        "--message-format=json",
    ]
    messages = [json.loads(line) for line in command(build, SOURCE).splitlines()]
    return Path(next(one["executable"] for one in messages if one.get("executable")))


def build_extension() -> Path:
    """Build the module for Python; the folder that it can be imported from."""
    build = ["cargo", "build", "-q", "-p", "subgpt-python", *PROFILE]
    command(build, SOURCE, PYO3_PYTHON=sys.executable)
    shutil.copy(SOURCE / "target" / "mutants" / "lib_core.so", SOURCE / "python" / "subgpt" / "_core.abi3.so")
    return SOURCE / "python"


class Trial:
    """The tests for one mutant after the other."""

    def __init__(self, program: Path, package: Path, groups: list[str], budget: float) -> None:
        self._program, self._package, self._budget = program, package, budget
        self._crate = {name: self._crate_tests(GROUPS[name]) for name in groups}
        self._python = {name: self._python_tests(GROUPS[name]) for name in groups}

    def run(self, mutant: Mutant) -> tuple[Mutant, str]:
        """Say which tests noticed a mutant first: "quick", "slow" or "python"; "timeout", "survived", "unreached"."""
        crate, python = (
            [test for test in tests[mutant.group] if mutant.number in test.reached]
            for tests in (self._crate, self._python)
        )
        quick = [test.name for test in crate if test.seconds <= QUICK]
        slow = [test.name for test in crate if test.seconds > QUICK]
        for name, arguments, tests, seconds in [
            ("quick", [str(self._program), "-q", "--test-threads", "1", "--exact"], quick, 8),
            ("slow", [str(self._program), "-q", "--exact"], slow, 300),
            ("python", [*PYTEST, "-x"], [test.name for test in within(python, self._budget)], 600),
        ]:
            if not tests:
                # Without a name all tests there are would run.
                continue
            outcome = self._try([*arguments, *tests], seconds, SUBGPT_MUTANT=str(mutant.number))
            if outcome != "passed":
                return mutant, name if outcome == "failed" else outcome
        return mutant, "survived" if crate or python else "unreached"

    def _crate_tests(self, group: Group) -> list[Test]:
        """Time the tests of the crate, with no mutant on, and see which mutants each of them comes by."""
        timed = [str(self._program), "-Zunstable-options", "--report-time", "--test-threads", "1", group.rust]
        printed = command(timed, SOURCE, RUSTC_BOOTSTRAP="1")
        pattern = r"^test (\S+)(?: - should panic)? \.\.\. ok <([\d.]+)s>"
        tests = []
        for name, seconds in re.findall(pattern, printed, flags=re.MULTILINE):
            outcome = self._try([str(self._program), "-q", "--exact", name], 300, SUBGPT_MUTANT="record")
            if outcome != "passed":
                raise SystemExit(f"{name}: {outcome} with no mutant on")
            tests.append(Test(name, float(seconds), self._seen()))
        return tests

    def _python_tests(self, group: Group) -> list[Test]:
        """Do the same for those of Python; the quickest come first."""
        found = WORK / "tests.json"
        found.unlink(missing_ok=True)
        outcome = self._try(
            [*PYTEST, "-p", "seen", *group.python],
            1200,
            SUBGPT_MUTANT="record",
            SUBGPT_MUTANTS_TESTS=str(found),
        )
        if outcome != "passed":
            raise SystemExit(f"{group.python}: {outcome} with no mutant on, so that they tell nothing")
        self._seen()
        tests = [
            Test(name, seconds, frozenset(reached))
            for name, (seconds, reached) in json.loads(found.read_text()).items()
        ]
        return sorted(tests, key=lambda test: test.seconds)

    def _try(self, arguments: list[str], seconds: int, **own: str) -> str:
        paths = os.pathsep.join([str(self._package), str(HERE)])
        process = subprocess.Popen(
            ["prlimit", f"--as={ADDRESSES}", *arguments],
            cwd=SOURCE,
            env={**os.environ, "PYTHONPATH": paths, "SUBGPT_MUTANTS_SEEN": str(SEEN), **own},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return "failed" if process.wait(seconds) else "passed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return "timeout"

    @staticmethod
    def _seen() -> frozenset[int]:
        numbers = SEEN.read_text(encoding="ascii").split() if SEEN.exists() else []
        SEEN.unlink(missing_ok=True)
        return frozenset(map(int, numbers))


def within(tests: list[Test], seconds: float) -> list[Test]:
    """Give the first of `tests`, as many as take so many seconds, and at least one."""
    ends = list(accumulate(test.seconds for test in tests))
    return tests[: max(1, sum(end <= seconds for end in ends))]


def command(arguments: list[str], folder: Path, **environment: str) -> str:
    """Run a command; what it printed. Ends with what it complained of if it fails."""
    done = subprocess.run(
        arguments, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments[:4])} …: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
