"""`import subgpt` is quick and brings nothing heavy; the rest comes when it is used."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ["pydantic", "yaml", "matplotlib", "rich", "typer", "tqdm", "jinja2", "tokenizers"]


def run(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_import_brings_nothing_heavy():
    program = f"import sys, subgpt; print(*[m for m in {HEAVY} if m in sys.modules])"
    assert run(program) == []


def test_a_model_needs_no_settings_library():
    program = (
        f"import sys, subgpt; subgpt.GPT, subgpt.Tokenizer; print(*[m for m in {HEAVY} if m in sys.modules])"
    )
    assert run(program) == []


def test_import_brings_numpy_and_three_small_modules():
    """What its time is made of; the time itself is a bench's, `benches/startup/start.py`."""
    program = (
        "import sys, numpy; before = set(sys.modules); import subgpt; new = set(sys.modules) - before\n"
        "print(*(name for name in new if name.split('.')[0] not in sys.stdlib_module_names))"
    )
    assert set(run(program)) <= {"subgpt", "subgpt._core", "subgpt.errors", "subgpt.lazy"}


def test_import_takes_less_than_150_ms_beside_numpy():
    program = "import time, numpy; t = time.perf_counter(); import subgpt; print(time.perf_counter() - t)"
    assert min(float(run(program)[0]) for _ in range(5)) < 0.150
