"""How large the package is, and how soon it is there: the wheel, `import subgpt`, `subgpt --help`.

    python benches/startup/start.py --wheel dist/subgpt-*.whl

Every time is that of a new process, by turns, medians; all modules are compiled, as pip leaves them. An import is what
importing subgpt adds to an interpreter that does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

WHAT = {
    "nothing": ["-c", "pass"],
    "numpy": ["-c", "import numpy"],
    "import": ["-c", "import subgpt"],
    "import and a kernel": ["-c", "import subgpt; subgpt.GPT"],
    "help": ["-m", "subgpt", "--help"],
}


def seconds(arguments: list[str]) -> float:
    # Where nothing compiled may be kept, every start compiles all modules anew, which no user's does.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=environment)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, help="a wheel to weigh")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path, help="write what was found into this file")
    args = parser.parse_args()
    rounds = [{name: seconds(command) for name, command in WHAT.items()} for _ in range(args.rounds + 1)][1:]
    found = {name: statistics.median(times[name] for times in rounds) for name in WHAT}
    for name in WHAT:
        if name not in ("nothing", "help"):
            found[name] = statistics.median(times[name] - times["nothing"] for times in rounds)
        print(f"{name:20} {1e3 * found[name]:7.1f} ms")
    if args.wheel:
        found["wheel_bytes"] = args.wheel.stat().st_size
        print(f"{'wheel':20} {found['wheel_bytes'] / 1e6:7.2f} MB")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
