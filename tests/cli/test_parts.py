from pathlib import Path

import pytest

from subgpt.cli.ids import parse_ids
from subgpt.cli.settings import default_note, read_settings
from subgpt.cli.tables import bar, facts_table
from subgpt.cli.terminal import harmless, out, print_json
from subgpt.errors import ConfigError, DataError
from subgpt.visible import show_bytes, show_text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b" a\n", "·a⏎"),
        (b"\t\r", "→␍"),
        (b"\xe2\x82", "\\xe2\\x82"),
        (b"\x1b[31m", "\\x1b[31m"),
        ("\u200b\U000e0001".encode(), "\\u200b\\U000e0001"),
        ("漢🙂".encode(), "漢🙂"),
        (b"", ""),
    ],
)
def test_everything_in_a_piece_is_visible(raw: bytes, shown: str) -> None:
    assert show_bytes(raw) == shown


def test_show_text_stays_on_one_line() -> None:
    assert "\n" not in show_text("a\u2028b\x85c\n")


def test_a_models_text_cannot_steer_the_terminal() -> None:
    assert harmless("a\x1b[2J\x07\x9b\tb\n") == "a\\x1b[2J\\x07\\x9b\tb\n"


@pytest.mark.parametrize(("share", "text"), [(0, ""), (0.5, "██"), (1, "████"), (7, "████"), (0.28125, "█▏")])
def test_bars_are_exact_to_an_eighth(share: float, text: str) -> None:
    assert bar(share, 4) == text


def test_ids_in_any_notation() -> None:
    assert parse_ids(["1", "2,3", "[4,", "5]"]) == [1, 2, 3, 4, 5]
    for wrong in ("a", "-1", "1.5", "²", "0x1"):
        with pytest.raises(DataError, match="not an id"):
            parse_ids([wrong])


def test_defaults_are_noted_unless_they_say_nothing() -> None:
    assert "16" in default_note(16)
    assert "0.0" in default_note(0.0)
    assert [default_note(v) for v in (None, "", (), False)] == [""] * 4


def test_a_saved_config_is_laid_flat(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("verb: pretrain\ntrain: {seed: 3, momentum: null}\nmodel: {n_layer: 2}\nextra: 1\n")
    assert read_settings(file, ("train", "model")) == {"extra": 1, "seed": 3, "n_layer": 2}
    assert read_settings(file, ("train",)) == {"extra": 1, "seed": 3}


@pytest.mark.parametrize(
    "text",
    [
        "- a\n- b\n",
        "1: 2\n",
        "just words",
        "train: [1]\n",
        "a: !!python/object:x {}\n",
        "max_steps: {{ steps }}\n",
        "max_steps: {[a]: 1}\n",
        "max_steps: !!map x\n",
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_settings(file, ("train",))


def test_an_empty_file_sets_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("", encoding="utf-8")
    assert read_settings(file, ()) == {}


def test_numbers_that_json_does_not_have_are_null(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": float("nan"), "trials": [(1, float("inf"))], "text": "nan", "steps": 3})
    assert capsys.readouterr().out == '{"loss": null, "trials": [[1, null]], "text": "nan", "steps": 3}\n'


def test_brackets_and_colons_in_a_path_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    out().print("x[/b] t[b] :cat:")
    out().print(facts_table([("made[b]", "a\x1b[2Jb"), ("x", Path("t[/b]:cat:"))]))
    shown = capsys.readouterr().out
    assert "x[/b] t[b] :cat:" in shown
    assert "made[b]" in shown
    assert "a\\x1b[2Jb" in shown
    assert "t[/b]:cat:" in shown
