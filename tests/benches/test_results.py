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
NAMES = (
    "targets",
    "figures",
    "page",
    "run",
    "report",
    "time_to_loss",
    "quiet",
    "processes",
    "settings",
    "sides",
)


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


def kept(folder: Path, name: str, found: object, **changed: object) -> None:
    facts = {
        "command": "{python} x --json {json}",
        "date": "2026-01-01T00:00:00",
        "seconds": 61.0,
        "cpu": "c",
        "cores": 2,
        "isa": "avx2",
        "code": 0,
        "commit": "0123456789",
        "found": found,
    }
    (folder / f"{name}.json").write_text(json.dumps({**facts, **changed}))


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
        {
            "what": "products",
            "asked": "at least 0.9 x",
            "bench": "blas",
            "figure": "[].torch",
            "elsewhere": "0.5 x on an abacus.",
        },
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
    assert (
        "2 of 5 are met, 0 in part (some of their\ntests were skipped), 2 are missed, 1 were not measured"
        in page
    )
    assert "| products | at least 0.9 x | 0.930 x | yes | [blas](#commands-dates-and-machines) |" in page
    assert (
        "## Met here, missed elsewhere\n\n- **products**, asked at least 0.9 x: 0.5 x on an abacus.\n" in page
    )
    assert "| all | all pass | 1 passed, 1 failed, 1 skipped | **no** |" in page
    assert "the second one is new." in page
    assert "| elsewhere | at most 1 s | not measured |  |" in page


def test_what_was_recorded_counts_until_its_bench_finds_something(results, tmp_path):
    recorded = {"value": 0, "date": "2026-11-29", "command": "make soak"}
    row = {
        "what": "leaks",
        "asked": "at most 0",
        "bench": "blas",
        "figure": "[0].grows",
        "recorded": recorded,
    }
    targets = sections(results, row)
    page = results.page.page(targets, results.figures.gather(tmp_path, targets))
    assert "| leaks | at most 0 | 0 | yes | recorded |" in page
    assert "| leaks | `make soak` | 2026-11-29 | | | |" in page
    kept(tmp_path, "blas", [{"grows": 0}])
    page = results.page.page(targets, results.figures.gather(tmp_path, targets))
    assert "| leaks | at most 0 | 0 | yes | [blas](#commands-dates-and-machines) |" in page
    assert "make soak" not in page


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


def test_what_a_busy_machine_kept_from_being_measured_is_open(results, tmp_path):
    kept(tmp_path, "adapters", [{"ratio": 1.5}, {"ratio": None}])
    kept(tmp_path, "training", {"ratio": None, "peak": {"ours": 1, "theirs": 2}})
    targets = sections(
        results,
        {"what": "adapters", "asked": "at least 1.4 x", "bench": "adapters", "figure": "[].ratio"},
        {"what": "a step", "asked": "at least 2 x", "bench": "training", "figure": "ratio"},
        {"what": "part", "asked": "below 2 x", "bench": "training", "figure": "peak.ours", "over": "ratio"},
        {
            "what": "no",
            "asked": "below 2 x",
            "bench": "training",
            "figure": "peak.ours",
            "over": "peak.theirs",
        },
    )
    store = results.figures.gather(tmp_path, targets)
    page = results.page.page(targets, store)
    assert "| adapters | at least 1.4 x | not measured (machine busy): `run.py adapters` |  |" in page
    assert "| a step | at least 2 x | not measured (machine busy): `run.py training` |  |" in page
    assert "| part | below 2 x | not measured (machine busy): `run.py training` |  |" in page
    assert "| no | below 2 x | 0.500 x | yes |" in page


def test_a_figure_can_be_the_least_that_it_is(results, tmp_path):
    kept(tmp_path, "loss", {"ratio": 6.789, "above": True})
    row = {"what": "time", "asked": "at least 5 x", "bench": "loss", "figure": "ratio", "above": "above"}
    targets = sections(results, row)
    assert "| above 6.78 x | yes |" in results.page.page(targets, results.figures.gather(tmp_path, targets))


@pytest.mark.parametrize(
    ("ours", "theirs", "found"),
    [
        ((True, 10.0), (True, 60.0), (6.0, False)),
        ((True, 10.0), (False, 60.0), (6.0, True)),
        ((False, 10.0), (True, 60.0), (0.0, False)),
        ((True, None), (True, 60.0), (None, False)),
    ],
)
def test_the_time_to_a_loss_is_that_of_quiet_turns(results, ours, theirs, found):
    sides = {"subgpt": ours, "torch": theirs}
    outcomes = {
        name: {"reached": reached, "quiet_seconds": calm, "seconds": 1.0}
        for name, (reached, calm) in sides.items()
    }
    ratio, above = found
    assert results.time_to_loss.compared(outcomes) == {"ratio": ratio, "above": above}


def test_skipped_tests_are_said(results, tmp_path):
    outcomes = {"a": "passed", "b": "skipped", "c": "skipped"}
    cases = [
        {"name": f"unit/test_{file}.py::test_it", "outcome": outcome, "told": {}}
        for file, outcome in outcomes.items()
    ]
    kept(tmp_path, "tests", cases)
    some = {"what": "some", "asked": "all pass", "tests": ("unit",)}
    none = {"what": "none", "asked": "all pass", "tests": ("unit/test_b.py",)}
    targets = sections(results, some, none)
    page = results.page.page(targets, results.figures.gather(tmp_path, targets))
    assert "0 of 2 are met, 1 in part" in page
    assert "| some | all pass | 1 passed, 2 skipped | partly, 2 skipped |" in page
    assert "| none | all pass | 1 skipped |  |" in page


def test_the_page_tells_what_was_run_and_how_it_ended(results, tmp_path):
    figure = {"what": "speed", "asked": "at least 1 x", "bench": "blas", "figure": "ratio"}
    targets = sections(results, figure)
    kept(tmp_path, "blas", {"ratio": 2.0}, code=1, commit="0123456789+changes")
    lines = results.page.page(targets, results.figures.gather(tmp_path, targets)).splitlines()
    (line,) = [line for line in lines if line.startswith("| blas |")]
    assert line == (
        "| blas | `python x` (ended with 1) | 2026-01-01 | 1 | 2 cores, c, avx2 | 0123456+changes |"
    )
    assert "| matmul | `cargo bench --quiet -p subgpt-benches --bench matmul` | not yet | | | |" in lines
    kept(tmp_path, "blas", {"ratio": 2.0}, commit=None)
    assert "avx2 | unknown |" in results.page.page(targets, results.figures.gather(tmp_path, targets))


def test_the_readme_waits_for_all_headlines(results, tmp_path):
    rows = [
        {"what": name, "asked": "at least 1 x", "bench": name, "figure": "ratio", "headline": f"the {name}"}
        for name in ("blas", "matmul")
    ]
    targets = sections(results, *rows)
    readme = "before\n<!-- results -->\nby hand\n<!-- end of results -->\nafter\n"
    kept(tmp_path, "blas", {"ratio": 2.0})
    store = results.figures.gather(tmp_path, targets)
    assert results.page.without_figure(targets, store) == ["the matmul"]
    assert results.page.with_headlines(readme, targets, store) == readme
    kept(tmp_path, "matmul", {"ratio": 3.0})
    shown = results.page.with_headlines(readme, targets, results.figures.gather(tmp_path, targets))
    assert "by hand" not in shown
    assert "| the matmul | 3.00 x | `python x` |" in shown


def test_a_bench_that_writes_nothing_has_found_nothing(results, tmp_path):
    make = results.targets.Bench
    assert results.run.read(make("a", "{python} a.py --json {json}"), tmp_path / "none", "skipped") is None
    assert results.run.read(make("b", "{python} b.py"), tmp_path / "none", "") == {"ended": True}


def test_what_an_earlier_run_left_is_not_read_again(results, tmp_path, monkeypatch):
    monkeypatch.setattr(results.run, "circumstances", lambda threads: {"threads": threads})
    script = "import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); (p / 'rows').touch()"
    bench = results.targets.Bench("rows", f'{{python}} -c "{script}" {{work}}/rows')
    assert results.run.run(bench, tmp_path, tmp_path)
    (tmp_path / "rows" / "old").touch()
    assert results.run.run(bench, tmp_path, tmp_path)
    assert [path.name for path in (tmp_path / "rows").iterdir()] == ["rows"]


def test_what_another_commit_made_is_named_and_done_again_on_request(results, tmp_path, monkeypatch, capsys):
    benches = {name: results.targets.Bench(name, "{python} -c pass") for name in ("old", "new")}
    monkeypatch.setattr(results.run, "benches", lambda: benches)
    monkeypatch.setattr(results.run, "commit", lambda: "aaaa")
    kept(tmp_path, "old", 0, commit="bbbb")
    kept(tmp_path, "new", 0, commit="aaaa")

    def made(*arguments: str) -> list[str]:
        done: list[str] = []
        monkeypatch.setattr(results.run, "run", lambda bench, *_: done.append(bench.name) or True)
        monkeypatch.setattr(sys, "argv", ["run.py", "--folder", str(tmp_path), *arguments])
        results.run.main()
        return done

    assert made() == []
    assert "old: bbbb" in capsys.readouterr().out
    assert made("--stale") == ["old"]
    assert made("new") == ["new"]


def test_lines_and_reports_become_rows(results, tmp_path):
    bench = results.targets.benches()["matmul"]
    line = (
        "large dX      2048 x  3072 x   768  float32  197.1 93.04%  packed  198.0 93.51%  gemm  185.0 x1.065  | "
        "bfloat16  400.0 88.12%  packed  401.0 88.34% | peaks 212.0 454.0\n"
    )
    (row,) = results.run.read(bench, tmp_path / "none", "2 threads\n" + line)
    assert (row["name"], row["m"], row["float32_share"]) == ("large dX", 2048.0, 93.04)
    assert (row["over_gemm"], row["bfloat16_share"]) == (1.065, 88.12)
    steps = results.targets.benches()["optimizer"]
    line = "  AdamW                     12.345 ms, median    13.456   210.1 GB/s  87.35 %\n"
    assert results.run.read(steps, tmp_path / "none", line) == [
        {"name": "AdamW", "ms": 12.345, "share": 87.35}
    ]
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="tests.parity.test_a" name="test_one[x]"><properties>'
        '<property name="logits" value="1e-06"/></properties></testcase>'
        '<testcase classname="tests.parity.test_a.TestB" name="test_two"><skipped message="no"/></testcase>'
        '<testcase classname="" name="tests.parity.test_b"><skipped message="no module"/></testcase>'
        "</testsuite></testsuites>"
    )
    assert results.run.cases(report) == [
        {"name": "parity/test_a.py::test_one[x]", "outcome": "passed", "told": {"logits": 1e-6}},
        {"name": "parity/test_a.py::TestB::test_two", "outcome": "skipped", "told": {}},
        {"name": "parity/test_b.py", "outcome": "skipped", "told": {}},
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
