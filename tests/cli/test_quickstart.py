from pathlib import Path

import pytest

from .conftest import invoke, snapshot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A quickstart of three steps: its directory and what it printed."""
    out = tmp_path_factory.mktemp("quick") / "start"
    result = invoke("quickstart", "--steps", 3, "--out", out)
    assert result.code == 0, result.err
    return out, result.out


def test_it_leaves_a_run_directory_per_stage_and_a_report(made: tuple[Path, str]) -> None:
    out, _ = made
    for name in ("tokenizer/tokenizer.json", "base/model.safetensors", "qa/model.safetensors", "report.html"):
        assert (out / name).is_file(), name
    assert (out / "loss.png").is_file() or (out / "loss.svg").is_file()
    assert (out / "corpus" / "corpus.jsonl").is_file()


def test_it_tells_the_whole_story(made: tuple[Path, str]) -> None:
    _, told = made
    for word in ("Corpus", "MB", "4096 tokens", "Pretraining", "probable", "Fine-tuning", "before", "after"):
        assert word in told, word
    assert told.count("   subgpt ") == 3


def test_its_last_words_can_be_typed(made: tuple[Path, str]) -> None:
    import shlex

    commands = [line.strip() for line in made[1].splitlines() if line.startswith("   subgpt ")]
    for command in commands[:2]:
        arguments = shlex.split(command)[1:]
        more = ("--max-new-tokens", 3) if arguments[0] == "generate" else ()
        assert invoke(*arguments, *more).code == 0


def test_the_report_has_what_was_printed(made: tuple[Path, str]) -> None:
    page = (made[0] / "report.html").read_text(encoding="utf-8")
    for word in ("<svg", "Fine-tuning", "before", "documented", "subgpt generate"):
        assert word in page
    assert "<script" not in page


def test_another_quickstart_replaces_it_and_nothing_else(made: tuple[Path, str]) -> None:
    out, _ = made
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    before = (out / "base" / "model.safetensors").read_bytes()
    assert invoke("quickstart", "--steps", 3, "--out", out).code == 0
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (out / "base" / "model.safetensors").read_bytes() == before  # the same seed, the same weights


def test_a_directory_of_someone_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work", encoding="utf-8")
    before = snapshot(tmp_path)
    result = invoke("quickstart", "--steps", 3, "--out", tmp_path)
    assert result.code == 1
    assert "--out" in result.line()
    assert snapshot(tmp_path) == before


def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("x", encoding="utf-8")
    assert "is a file" in invoke("quickstart", "--steps", 3, "--out", file).line()
    assert str(file / "below") in invoke("quickstart", "--steps", 3, "--out", file / "below").line()
    assert file.read_text(encoding="utf-8") == "x"


@pytest.mark.parametrize("steps", [0, -3])
def test_too_few_steps_are_refused_before_anything_is_written(tmp_path: Path, steps: int) -> None:
    result = invoke("quickstart", "--steps", steps, "--out", tmp_path / "out")
    assert result.code == 2
    assert "--steps" in result.line()
    assert not (tmp_path / "out").exists()
