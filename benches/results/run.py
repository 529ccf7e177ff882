"""Makes the measurements that docs/results.md is written from: all benches, one after the other, hours of them.

    python benches/results/run.py                       # what is not in the folder yet
    python benches/results/run.py training-A-eager      # these, again
    python benches/results/run.py --stale               # and what another commit made, again
    python benches/results/run.py --list

Of each bench FOLDER/NAME.json has what it found, with the command, the date, the machine and the commit, and
FOLDER/NAME.log what it printed. What was made stays, so that an interrupted run is continued by the same command; what
another commit made is named. A bench whose peers are not installed is passed over, aloud; one that fails is named at
the end, and the others go on. The machine should have nothing else to do. `page.py` then writes the page.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from targets import Bench, benches

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benches" / "training"))
from report import circumstances, commit  # noqa: E402


def main() -> None:
    known = benches()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="BENCH", help="names; all that are not made yet")
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "results")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="reference data")
    parser.add_argument("--stale", action="store_true", help="do again what another commit made")
    parser.add_argument("--list", action="store_true", help="show the benches and their commands")
    args = parser.parse_args()
    if unknown := set(args.names) - known.keys():
        parser.error(f"no such bench: {', '.join(sorted(unknown))}; --list shows them")
    if args.list:
        for bench in known.values():
            print(f"{bench.name:20} {bench.command}")
        return
    args.folder.mkdir(parents=True, exist_ok=True)
    stale = other_commits(known, args.folder)
    if stale and not (args.names or args.stale):
        print("kept, though another commit made them (--stale does them again):", flush=True)
        print(*(f"    {name}: {made}" for name, made in stale.items()), sep="\n", flush=True)
    failed = []
    for bench in [known[name] for name in args.names] or known.values():
        again = bench.name in args.names or (args.stale and bench.name in stale)
        if not again and (args.folder / f"{bench.name}.json").exists():
            continue
        if missing := [name for name in bench.needs if importlib.util.find_spec(name) is None]:
            print(f"{bench.name}: passed over, needs {', '.join(missing)}", flush=True)
        elif bench.after and not (args.folder / f"{bench.after}.json").exists():
            print(f"{bench.name}: passed over, needs {bench.after}", flush=True)
        elif not run(bench, args.folder, args.shared):
            failed.append(bench.name)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; what they printed is in {args.folder}")


def other_commits(known: dict[str, Bench], folder: Path) -> dict[str, str]:
    """Name the benches that were not made by the subgpt that is here, each with its commit."""
    now, found = commit(), {}
    for name in known:
        path = folder / f"{name}.json"
        made = json.loads(path.read_text(encoding="utf-8"))["commit"] if path.exists() else now
        if made != now:
            found[name] = made or "unknown"
    return found


def run(bench: Bench, folder: Path, shared: Path) -> bool:
    """Run one bench and keep what it found; tell whether there was something."""
    wanted, log = folder / f"{bench.name}.part", folder / f"{bench.name}.log"
    wheels = sorted((ROOT / "dist").glob("*.whl"), key=lambda path: path.stat().st_mtime)
    if "{wheel}" in bench.command and not wheels:
        print(f"{bench.name}: passed over, there is no wheel; build it with: make dist", flush=True)
        return False
    places = {
        "json": wanted,
        "work": folder,
        "shared": shared,
        "python": sys.executable,
        "wheel": (wheels or [""])[-1],
    }
    command = shlex.split(bench.command.format(**places))
    print(f"{bench.name}: {shlex.join(command)}", flush=True)
    # What an earlier run left would be read again instead of measured.
    wanted.unlink(missing_ok=True)
    shutil.rmtree(folder / bench.name, ignore_errors=True)
    facts, begin = circumstances(os.cpu_count() or 1), time.perf_counter()
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(
            command, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, check=False
        ).returncode
    seconds = time.perf_counter() - begin
    # Benches say with their exit code whether something is wrong; if they tell what, that is the result.
    found = read(bench, wanted, log.read_text(encoding="utf-8")) if not code or wanted.exists() else None
    print(f"    {seconds:.0f} s, ended with {code}" + ("" if found else "; nothing found"), flush=True)
    wanted.unlink(missing_ok=True)
    if not found:
        return False
    kept = {"command": bench.command, "seconds": seconds, "code": code, **facts, "found": found}
    (folder / f"{bench.name}.json").write_text(
        json.dumps(kept, indent=1, default=str) + "\n", encoding="utf-8"
    )
    return True


def read(bench: Bench, wanted: Path, printed: str) -> Any:
    """Give what a bench found: its JSON, the lines that it printed, the cases of pytest's report, or that it ended."""
    if bench.junit:
        return cases(wanted)
    if bench.lines:
        pattern = re.compile(bench.lines, re.MULTILINE)
        return [
            {name: number(text) for name, text in match.groupdict().items()}
            for match in pattern.finditer(printed)
        ]
    if "{json}" in bench.command:
        return json.loads(wanted.read_text(encoding="utf-8")) if wanted.exists() else None
    return {"ended": True}


def number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def cases(report: Path) -> list[dict[str, Any]]:
    """List the tests of a JUnit report: name, outcome, and what each told of itself."""
    found = []
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        outcomes = [tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None]
        told = {one.get("name"): float(one.get("value", "nan")) for one in case.iter("property")}
        # A file that is skipped as a whole is a case without a class, named as the module.
        module, name = case.get("classname"), case.get("name", "")
        name = f"{place(module)}::{name}" if module else place(name)
        found.append({"name": name, "outcome": outcomes[0] if outcomes else "passed", "told": told})
    return found


def place(classname: str) -> str:
    """Turn tests.parity.test_ops.TestNorms into parity/test_ops.py::TestNorms."""
    parts = classname.removeprefix("tests.").split(".")
    file = next((i for i, part in enumerate(parts) if part.startswith("test_")), len(parts) - 1) + 1
    return "::".join(["/".join(parts[:file]) + ".py", *parts[file:]])


if __name__ == "__main__":
    main()
