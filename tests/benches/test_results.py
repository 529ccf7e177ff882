"""The page of results is what its figures say, every target has a source, and nothing is rounded in our favour."""

from __future__ import annotations

import ast
import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("jmespath", reason='jmespath is an extra: pip install "subgpt[test]"')
ROOT = Path(__file__).resolve().parents[2]
NAMES = ("targets", "figures", "page", "run", "report")


@pytest.fixture(scope="module")
def results() -> SimpleNamespace:
    """The modules of benches/results, which are no package."""
    sys.path.insert(0, str(ROOT / "benches" / "results"))
    sys.path.insert(0, str(ROOT / "benches" / "training"))
    before = {name: sys.modules.pop(name, None) for name in NAMES}
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        for name, module in before.items():
            sys.modules.pop(name, None)
            if module is not None:
                sys.modules[name] = module
        del sys.path[:2]


def test_every_target_has_a_source(results):
    known = results.targets.benches()
    for section in results.targets.sections():
        for target in section.targets:
            assert target.recorded or target.bench in known, target.what
            assert target.recorded or target.figure or target.tests, target.what


def test_every_bench_is_there_and_makes_a_figure(results):
    used = {target.bench for section in results.targets.sections() for target in section.targets}
    for name, bench in results.targets.benches().items():
        scripts = [word for word in bench.command.split() if word.startswith("benches/")]
        assert all((ROOT / script).is_file() for script in scripts), name
        assert name in used, f"{name} is measured and not shown"


def test_every_test_that_is_named_is_there(results):
    for section in results.targets.sections():
        for name in (name for target in section.targets for name in target.tests):
            place, _, begin = name.partition("::")
            path = ROOT / "tests" / place
            if path.is_dir():
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            found = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            assert any(one.startswith(begin or "test_") for one in found), name


@pytest.mark.parametrize(
    ("asked", "fine", "bad", "shown"),
    [
        ("at least 2.5 x", 2.5, 2.4999, "2.49 x"),
        ("at most 5 %", 0.05, 0.05001, "5.01 %"),
        ("below 60 ms", 0.05999, 0.06, "60.0 ms"),
        ("at most 1e-4", 1e-4, 1.001e-4, "1.01e-04"),
        ("at most 4 minutes", 240, 241, "4.02 minutes"),
        ("below 500 MB", 499e6, 500e6, "500 MB"),
    ],
)
def test_a_bound_is_a_bound(results, asked, fine, bad, shown):
    bound = results.targets.Asked.parse(asked)
    assert bound.met(fine)
    assert not bound.met(bad)
    assert bound.show(bad) == shown


def test_what_is_no_target_is_refused(results):
    for text in ("2.5 x", "at least fast", "at least 3 parsecs"):
        with pytest.raises(ValueError, match="at least"):
            results.targets.Asked.parse(text)


@given(value=st.floats(1e-9, 1e9), up=st.booleans())
def test_nothing_is_rounded_in_our_favour(results, value, up):
    shown = float(results.targets.rounded(value, up=up).replace(",", ""))
    assert shown == pytest.approx(value, rel=0.0101)
    assert shown >= value * (1 - 1e-8) if up else shown <= value * (1 + 1e-8)


def kept(folder: Path, name: str, found: object) -> None:
    facts = {
        "command": "x",
        "date": "2026-01-01T00:00:00",
        "seconds": 61.0,
        "cpu": "c",
        "cores": 2,
        "isa": "avx2",
    }
    (folder / f"{name}.json").write_text(json.dumps({**facts, "commit": "0123456789", "found": found}))


def sections(results, *rows: dict) -> list:
    make = results.targets.Target
    parse = results.targets.Asked.parse
    made = [make(**{**row, "asked": parse(row["asked"]), "bench": row.get("bench", "tests")}) for row in rows]
    return [results.targets.Section("Speed", "", made)]


def test_figures_are_the_worst_that_were_found(results, tmp_path):
    kept(tmp_path, "blas", [{"torch": 1.2}, {"torch": 0.93}])
    cases = [
        {"name": "parity/test_a.py::test_one[x]", "outcome": "passed", "told": {"logits": 1e-6}},
        {"name": "parity/test_a.py::test_one[y]", "outcome": "failure", "told": {"logits": 3e-6}},
        {"name": "parity/test_a.py::test_two", "outcome": "skipped", "told": {}},
    ]
    kept(tmp_path, "tests", cases)
    targets = sections(
        results,
        {"what": "products", "asked": "at least 0.9 x", "bench": "blas", "figure": "[].torch"},
        {
            "what": "their sum",
            "asked": "at most 3 x",
            "bench": "blas",
            "figure": "[0].torch",
            "over": "[1].torch",
        },
        {
            "what": "logits",
            "asked": "at most 1e-4",
            "tests": ("parity/test_a.py::test_one",),
            "largest": "logits",
        },
        {"what": "all", "asked": "all pass", "tests": ("parity",), "why": "the second one is new."},
        {"what": "elsewhere", "asked": "at most 1 s", "bench": "absent", "figure": "x"},
    )
    store = results.figures.gather(tmp_path, targets)
    assert store["blas"]["figures"] == {"products": {"value": 0.93}, "their sum": {"value": 1.2 / 0.93}}
    assert store["tests"]["figures"]["logits"] == {"tests": {"passed": 1, "failure": 1}, "value": 3e-6}
    targets[0].targets[2] = results.targets.Target(**{**vars(targets[0].targets[2]), "why": "it was so."})
    page = results.page.page(targets, store)
    assert "2 of 5 are met, 2 are missed, 1 were\nnot measured" in page
    assert "| products | at least 0.9 x | 0.930 x | yes | [blas](#commands-dates-and-machines) |" in page
    assert "| all | all pass | 1 passed, 1 failed, 1 skipped | **no** |" in page
    assert "the second one is new." in page
    assert "| elsewhere | at most 1 s | not measured |  |" in page


def test_a_miss_needs_its_reason(results, tmp_path):
    kept(tmp_path, "blas", [{"torch": 0.5}])
    targets = sections(
        results, {"what": "products", "asked": "at least 0.9 x", "bench": "blas", "figure": "[].torch"}
    )
    with pytest.raises(SystemExit, match="products"):
        results.page.page(targets, results.figures.gather(tmp_path, targets))


def test_a_figure_that_is_not_there_is_named(results, tmp_path):
    kept(tmp_path, "blas", [])
    targets = sections(
        results, {"what": "products", "asked": "at least 0.9 x", "bench": "blas", "figure": "[].torch"}
    )
    with pytest.raises(ValueError, match=r"products: \[\]\.torch finds nothing"):
        results.figures.gather(tmp_path, targets)


def test_lines_and_reports_become_rows(results, tmp_path):
    bench = results.targets.benches()["matmul"]
    line = (
        "large dX      2048 x  3072 x   768  float32  197.1 93.0%  packed  198.0 93.5%  gemm  185.0 x1.06  | "
        "bfloat16  400.0 88.1%  packed  401.0 88.3% | peaks 212.0 454.0\n"
    )
    (row,) = results.run.read(bench, tmp_path / "none", "2 threads\n" + line)
    assert (row["name"], row["m"], row["float32_share"]) == ("large dX", 2048.0, 93.0)
    assert (row["over_gemm"], row["bfloat16_share"]) == (1.06, 88.1)
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.parity.test_a" name="test_one[x]"><properties>'
        '<property name="logits" value="1e-06"/></properties></testcase>'
        '<testcase classname="tests.parity.test_a.TestB" name="test_two"><skipped message="no"/></testcase>'
        "</testsuite></testsuites>"
    )
    assert results.run.cases(report) == [
        {"name": "parity/test_a.py::test_one[x]", "outcome": "passed", "told": {"logits": 1e-6}},
        {"name": "parity/test_a.py::TestB::test_two", "outcome": "skipped", "told": {}},
    ]


@pytest.mark.skipif(
    not (ROOT / "benches/results/figures.json").exists(), reason="the benches were not run: make results"
)
def test_the_page_is_what_the_figures_say(results):
    made = results.page.page(results.targets.sections(), results.figures.stored())
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == made, "run benches/results/page.py"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = results.page.with_headlines(readme, results.targets.sections(), results.figures.stored())
    assert readme == shown, "run benches/results/page.py"
