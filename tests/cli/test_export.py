"""`subgpt export`: files for other programs, and what cannot be exported."""

import json
from pathlib import Path

import pytest

from subgpt import GPT, GPTConfig, load

from .conftest import invoke


def test_a_run_becomes_a_file_that_opens_again(tmp_path: Path) -> None:
    model = GPT(GPTConfig(64, 16, 1, 2, 32, activation="gelu_new"), seed=1)
    model.save(tmp_path / "run")
    told = invoke("export", tmp_path / "run", "-o", tmp_path / "m.gguf", "--quantize", "q8_0", "--json")
    assert told.code == 0, told.err
    facts = json.loads(told.out)
    assert (facts["architecture"], facts["bytes"]) == ("gpt2", (tmp_path / "m.gguf").stat().st_size)
    assert 0 <= facts["divergence"] < 1e-2 < facts["agreement"] <= 1
    shown = invoke("export", tmp_path / "run", "-o", tmp_path / "m.gguf")
    assert "nats a token" in shown.out, shown.err
    back = invoke("export", tmp_path / "m.gguf", "--format", "hf", "-o", tmp_path / "back")
    assert back.code == 0, back.err
    assert load(tmp_path / "back")[0].config == model.config


def test_the_tokenizer_goes_with_it(shop: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    _, tokenizer = load(shop / "run")
    assert tokenizer is not None
    GPT(GPTConfig(tokenizer.vocab_size, 16, 1, 2, 32, activation="gelu_new"), seed=1).save(run, tokenizer)
    options = ("--max-new-tokens", 5, "--seed", 1)
    assert invoke("export", run, "-o", tmp_path / "m.gguf", "--quantize", "f32").code == 0
    assert (
        invoke("generate", tmp_path / "m.gguf", "The", *options).out
        == invoke("generate", run, "The", *options).out
    )
    assert invoke("export", run, "-o", tmp_path / "bare.gguf", "--no-tokenizer").code == 0
    assert load(tmp_path / "bare.gguf")[1] is None


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--quantize", "q5"), ["'--quantize': 'q5'", "q8_0"]),
        (("--format", "onnx"), ["'--format': 'onnx'", "gguf"]),
        ((), ["activation is relu2"]),
    ],
)
def test_what_cannot_be_is_one_line(tmp_path: Path, more: tuple[str, ...], words: list[str]) -> None:
    GPT(GPTConfig(64, 16, 1, 2, 32, activation="relu2"), seed=1).save(tmp_path / "run")
    result = invoke("export", tmp_path / "run", "-o", tmp_path / "m.gguf", *more)
    assert result.code == (2 if more else 1)
    assert all(word in result.line() for word in words), result.line()
    assert not (tmp_path / "m.gguf").exists()
