"""Fuzzes one reader: coverage of subgpt's own code guides what is tried. Needs atheris (`make fuzz-python`).

    python tests/fuzz/run.py jsonl CORPUS tests/fuzz/seeds/jsonl -max_total_time=60

What comes after the name is libFuzzer's: folders to begin with, of which the first gets what is found new, and flags.
A crash is a file `crash-...`; mended, it goes to the seeds.
"""

from __future__ import annotations

import sys

import atheris


def main() -> None:
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["subgpt"]):
        import readers

        for seed in readers.seeds(name):  # modules are imported when they are needed
            readers.check(name, seed)
    atheris.Setup(sys.argv, lambda data: readers.check(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
