"""Names with ~: the home directory wherever a path is taken, and never a defect."""

from __future__ import annotations

from pathlib import Path

import pytest

from subgpt import GPT, GPTConfig, MissingFileError, Tokenizer, load, prepare_data
from subgpt.adapters.config import LoraConfig
from subgpt.adapters.files import load_adapter
from subgpt.data.chat.files import load_template
from subgpt.data.formats import find_row_files
from subgpt.data.sources import find_files
from subgpt.data.token_sets import token_sources
from subgpt.gguf.model import save_gguf


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "take", [find_files, find_row_files, load, Tokenizer.load, load_adapter, load_template]
)
def test_a_tilde_before_a_name_that_nobody_has_is_a_name(take):
    with pytest.raises(MissingFileError, match=r"~notes-of-nobody\.txt"):
        take("~notes-of-nobody.txt")


def test_a_file_may_begin_with_a_tilde(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("~notes-of-nobody.txt").write_text("so much depends", encoding="utf-8")
    assert find_files("~notes-of-nobody.txt").files == (Path("~notes-of-nobody.txt"),)
    assert token_sources("~notes-of-nobody.txt") is None


def test_a_tilde_is_the_home_directory_wherever_something_is_written(home):
    tok = Tokenizer.train(["so much depends upon a red wheel barrow"], vocab_size=270)
    tok.save("~/tok")
    tok.save("~/tok.gguf", format="gguf")
    assert Tokenizer.load("~/tok") == Tokenizer.load("~/tok.gguf") == tok
    model = GPT(GPTConfig(270, 8, 1, 2, 8), seed=1)
    model.save("~/model", tok)
    assert load("~/model")[1] == tok
    save_gguf(model, "~/model.gguf")
    model.add_adapter(LoraConfig(r=2))
    model.save_adapter("~/adapter")
    assert load_adapter("~/adapter").config.r == 2
    prepare_data(iter(["so much depends", "upon a red wheel"]), "~/data", tok, val_fraction=0)
    assert [one.path for one in token_sources("~/data")] == [home / "data"]
    made = {"tok", "tok.gguf", "model", "model.gguf", "adapter", "data"}
    assert {path.name for path in home.iterdir()} == made


def test_a_saved_dataset_is_found_at_home(home):
    (home / "rows").mkdir()
    (home / "rows" / "dataset_dict.json").write_text("{}", encoding="utf-8")
    assert find_row_files("~/rows").files == (home / "rows",)
