"""`--recipe` and `--probe` on the command line: layers, names, what is kept, what is shown, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from subgpt import recipe, recipe_names
from subgpt.cli.probing import named_files
from subgpt.errors import ConfigError, DataError

from .conftest import invoke

FAST = ("--max-steps", 2, "--batch-size", 2, "--eval-steps", 0, "--recall-tokens", 0)


@pytest.fixture(scope="session")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions that fit the shop's small block."""
    path = tmp_path_factory.mktemp("asked") / "asked.jsonl"
    rows = [
        {"prompt": f"The {animal}", "completion": f" sat {n}"} for n, animal in enumerate(["cat", "hen"] * 4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def train_section(run: Path) -> dict:
    return yaml.safe_load((run / "training" / "config.yaml").read_text())["train"]


def test_help_names_the_recipes() -> None:
    help_text = " ".join(invoke("finetune", "--help").out.replace("│", " ").split())
    assert "--recipe" in help_text
    assert ", ".join(recipe_names()) in help_text
    assert "--probe-match" in help_text
    assert "--recipe" not in invoke("pretrain", "--help").out + invoke("dpo", "--help").out


def test_recipe_below_file_below_environment_below_flags(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("weight_decay: 0.5\nbatch_size: 3\nmax_steps: 9\nrecall_tokens: 0\n")
    monkeypatch.setenv("SUBGPT_BATCH_SIZE", "4")
    monkeypatch.setenv("SUBGPT_MAX_STEPS", "8")
    given = ("--data", shop / "qa.jsonl", "--recipe", "knowledge", "--config", file, "--max-steps", 2)
    done = invoke("finetune", shop / "run", *given, "-o", tmp_path / "x")
    assert done.code == 0, done.err
    kept = train_section(tmp_path / "x")
    assert (kept["weight_decay"], kept["batch_size"], kept["max_steps"]) == (0.5, 4, 2)
    assert kept["learning_rate"] == recipe("knowledge").settings["learning_rate"]
    assert kept["recipe"] == "knowledge"


def test_a_recipe_may_be_named_in_the_file_and_is_kept_on_resuming(
    shop: Path, asked: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"recipe: qa\ndata: {shop / 'qa.jsonl'}\nprobe: {{asked: {asked}}}\n")
    done = invoke("finetune", shop / "run", "--config", file, *FAST, "-o", tmp_path / "x")
    assert done.code == 0, done.err
    before = train_section(tmp_path / "x")
    assert before["recipe"] == "qa"
    resumed = invoke("finetune", shop / "run", "-o", tmp_path / "x", "--resume", "--max-steps", 3)
    assert resumed.code == 0, resumed.err
    assert train_section(tmp_path / "x") == {**before, "max_steps": 3}
    assert "tokens foretold" in resumed.out


def test_an_unknown_recipe_is_one_line(shop: Path, tmp_path: Path) -> None:
    done = invoke(
        "finetune", shop / "run", "--data", shop / "qa.jsonl", "--recipe", "voise", "-o", tmp_path / "x"
    )
    assert done.code == 1
    assert "there is no recipe 'voise'; did you mean 'voice'?" in done.line()
    assert not (tmp_path / "x").exists()


def test_probes_before_and_after_a_run(
    shop: Path, asked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(asked.parent)
    given = ("--data", shop / "qa.jsonl", "--probe", "seen=asked.jsonl", "--probe", "asked.jsonl")
    done = invoke("finetune", shop / "run", *given, "--probe-match", "tokens", *FAST, "-o", tmp_path / "x")
    assert done.code == 0, done.err
    for name in ("seen", "asked"):
        for when in ("before", "after"):
            assert f"probe {name} {when}: tokens foretold" in done.err
    assert done.out.count("tokens foretold") == 4
    kept = yaml.safe_load((tmp_path / "x" / "training" / "config.yaml").read_text())["inputs"]["probe"]
    assert kept == {"seen": str(asked.resolve()), "asked": str(asked.resolve())}
    monkeypatch.chdir(tmp_path)  # what is kept does not depend on where one is
    resumed = invoke("finetune", shop / "run", "-o", tmp_path / "x", "--resume", "--max-steps", 3)
    assert resumed.code == 0, resumed.err
    assert "not asked before" not in resumed.err
    assert resumed.out.count("tokens foretold") == 4


def test_evaluate_asks(shop: Path, asked: Path) -> None:
    told = invoke("evaluate", shop / "run", "--probe", f"seen={asked}")
    assert told.code == 0, told.err
    assert "seen: exact match 0 of 8 (0.0 %)" in told.out
    assert "expected  sat 0" in told.out
    given = ("--data", shop / "qa.jsonl", "--probe", asked, "--probe-match", "number", "--json")
    values = json.loads(invoke("evaluate", shop / "run", *given).out)
    assert values["loss"] > 0
    assert values["probes"]["asked"]["match"] == "number"
    assert values["probes"]["asked"]["total"] == 8
    assert len(values["probes"]["asked"]["misses"]) == 5
    only = json.loads(invoke("evaluate", shop / "run", "--probe", asked, "--json").out)
    assert list(only) == ["probes"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((), "--data"),
        (("--probe", "nowhere.jsonl"), "nowhere.jsonl"),
        (("--probe", ""), "file name is empty"),
        (("--probe", "a=x.jsonl", "--probe", "a=y.jsonl"), "probe 'a' already"),
        (("--probe", "QA", "--probe-match", "exactly"), "did you mean 'exact'"),
        (("--probe", "EMPTY"), "empty.jsonl: no examples"),
        (("--probe", "BROKEN"), "broken.jsonl:2"),
        (("--probe", "LONG"), "shorten it"),
        (("--probe", "NONE", "--probe-match", "number"), "no number"),
        (("--probe", "TEXT"), "a.txt"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    shop: Path, tmp_path: Path, given: tuple[str, ...], said: str
) -> None:
    long = json.dumps({"question": "who sat? " * 40, "answer": "cat"})
    for name, text in (
        ("empty", ""),
        ("broken", '{"q": "a", "a": "b"}\n{"q": "a"}\n'),
        ("long", long),
        ("none", '{"prompt": "a", "completion": "b"}'),
    ):
        (tmp_path / f"{name}.jsonl").write_text(text)
    files = {name.upper(): str(tmp_path / f"{name}.jsonl") for name in ("empty", "broken", "long", "none")}
    files |= {"QA": str(shop / "qa.jsonl"), "TEXT": str(shop / "corpus" / "a.txt")}
    done = invoke("evaluate", shop / "run", *(files.get(word, word) for word in given))
    assert done.code == (2 if "invalid value" in done.line() else 1)
    assert said in done.line()


def test_names_of_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a=b.jsonl").touch()
    assert named_files(None) == {}
    assert named_files("x/facts.jsonl.gz") == {"facts": Path("x/facts.jsonl.gz")}
    assert named_files(["seen=x=y.jsonl", "./z.csv"]) == {"seen": Path("x=y.jsonl"), "z": Path("z.csv")}
    assert named_files(["a=b.jsonl"]) == {"a=b": Path("a=b.jsonl")}
    assert named_files({"seen": "x.jsonl"}) == {"seen": Path("x.jsonl")}
    with pytest.raises(ConfigError, match="--probe other="):
        named_files(["a.csv", "a.jsonl"])
    with pytest.raises(DataError, match="empty"):
        named_files([""])
    for broken in (5, True, [1], {"a": 1}, {1: "a.jsonl"}, [["a.jsonl"]]):
        with pytest.raises(ConfigError, match="expected files"):
            named_files(broken)
