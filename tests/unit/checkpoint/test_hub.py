"""Models of the hub by their id, from a cache as `huggingface_hub` leaves it; nothing is asked of the network."""

from __future__ import annotations

import builtins
import shutil
from pathlib import Path

import pytest

import subgpt
from subgpt.adapters.config import LoraConfig
from subgpt.errors import CheckpointError, MissingExtraError, MissingFileError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants", reason='pip install "subgpt[hub]"')
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def fetched(cache: Path, hub_id: str, source: Path) -> None:
    """Put a model where a fetch leaves it."""
    place = cache / f"models--{hub_id.replace('/', '--')}"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    shutil.copytree(source, place / "snapshots" / commit)


def test_a_model_that_was_fetched_is_opened_by_its_id(cache: Path, tmp_path: Path):
    tok = subgpt.Tokenizer.train(["some text to learn from"], vocab_size=260)
    model = subgpt.GPT(subgpt.GPTConfig(260, 8, 1, 2, 8), seed=1)
    model.save(tmp_path / "saved", tokenizer=tok)
    fetched(cache, "someone/small-model", tmp_path / "saved")
    again, their_tokenizer = subgpt.load("someone/small-model")
    assert again.config == model.config
    assert their_tokenizer == tok


def test_an_adapter_is_fetched_with_the_file_that_names_its_base(tmp_path: Path, monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason='pip install "subgpt[hub]"')
    model = subgpt.GPT(subgpt.GPTConfig(260, 8, 1, 2, 8), seed=1)
    model.save(tmp_path / "base")
    model.add_adapter(LoraConfig(r=2, base=str(tmp_path / "base")))
    model.save_adapter(tmp_path / "adapter")

    def snapshot_download(hub_id: str, allow_patterns: list[str]) -> str:
        asked = [path for path in (tmp_path / "adapter").iterdir() if any(map(path.match, allow_patterns))]
        (tmp_path / "fetched").mkdir()
        for path in asked:
            shutil.copy(path, tmp_path / "fetched")
        return str(tmp_path / "fetched")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    assert subgpt.load("someone/some-lora")[0].active_adapter == "default"


def test_what_was_never_fetched_is_named(cache: Path):
    with pytest.raises(
        MissingFileError, match=r"someone/else: neither a directory nor a model that was fetched"
    ):
        subgpt.load("someone/else")


def test_without_the_package_its_installation_is_told(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **more):
        if name.startswith("huggingface_hub"):
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r"pip install \"subgpt\[hub\]\""):
        subgpt.load("someone/small-model")


@pytest.mark.parametrize("name", ["no/such/folder", "../a/b", "nothing", "a/..", "a b/c", "./a/b"])
def test_paths_are_no_ids(name):
    with pytest.raises(MissingFileError, match="no such directory"):
        subgpt.load(name)


def test_a_slip_in_a_path_asks_nobody(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "base").mkdir(parents=True)
    monkeypatch.setattr("subgpt.checkpoint.load.fetch", lambda name: pytest.fail(f"asked for {name}"))
    with pytest.raises(MissingFileError, match=r"did you mean 'runs/base'\?"):
        subgpt.load("runs/bse")


def test_only_the_name_of_a_directory_is_compared(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "zebra").mkdir(parents=True)
    (tmp_path / "models" / "llama.txt").write_text("no model", encoding="utf-8")
    with pytest.raises(MissingFileError, match="no such directory; give one"):
        subgpt.load("./models/llama")
    monkeypatch.setattr("subgpt.checkpoint.load.fetch", lambda name: pytest.fail(f"asked for {name}"))
    with pytest.raises(pytest.fail.Exception, match="asked for models/llama"):
        subgpt.load("models/llama")


def test_a_connection_that_breaks_is_told_whatever_the_package_raises(monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason='pip install "subgpt[hub]"')

    class ReadError(Exception):
        """As httpx has it, of no builtin but Exception."""

    def snapshot_download(hub_id: str, allow_patterns: list[str]) -> str:
        raise ReadError("peer closed connection")

    monkeypatch.setattr(hub, "snapshot_download", snapshot_download)
    with pytest.raises(CheckpointError, match=r"fetching it failed \(peer closed connection\); try again"):
        subgpt.load("someone/small-model")
