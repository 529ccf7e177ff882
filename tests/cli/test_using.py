import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import subgpt

from .conftest import invoke


def test_generate_prints_prompt_and_text(shop: Path) -> None:
    given = ("generate", shop / "run", "The cat", "--max-new-tokens", 8, "--seed", 3)
    first, second = invoke(*given), invoke(*given)
    assert first.code == 0, first.err
    assert first.out.startswith("The cat")
    assert first.out == second.out
    assert first.err == ""


def test_generate_without_echo_and_from_standard_input(shop: Path) -> None:
    options = ("--max-new-tokens", 8, "--seed", 3)
    with_prompt = invoke("generate", shop / "run", "The cat", *options)
    without = invoke("generate", shop / "run", "-", "--no-echo", *options, stdin="The cat")
    assert with_prompt.out == "The cat" + without.out


def test_generate_stops_and_asks(shop: Path) -> None:
    stopped = invoke("generate", shop / "run", "The", "--stop", "e", "--max-new-tokens", 40, "--no-echo")
    assert stopped.code == 0
    assert "e" not in stopped.out
    assert invoke("generate", shop / "run", "Who sat?", "--ask", "--max-new-tokens", 4).code == 0


def test_generate_heals_the_end_of_a_prompt_unless_told_not_to(shop: Path) -> None:
    options = ("--max-new-tokens", 6, "--temperature", 0)
    plain = invoke("generate", shop / "run", "The cat s", "--no-token-healing", *options)
    model, tokenizer = subgpt.load(shop / "run")
    ids = model.generate(tokenizer.encode("The cat s"), max_new_tokens=6, temperature=0)
    assert plain.out == tokenizer.decode(ids)
    healed = invoke("generate", shop / "run", "The cat s", *options)
    assert healed.out == subgpt.generate(model, tokenizer, "The cat s", max_new_tokens=6, temperature=0)


def test_generate_from_nothing_and_from_too_much(shop: Path) -> None:
    assert invoke("generate", shop / "run", "", "--max-new-tokens", 4).code == 0
    assert invoke("generate", shop / "run", "The cat sat. " * 50, "--max-new-tokens", 4).code == 0


def test_generate_with_characters_that_the_tokenizer_has_never_seen(shop: Path) -> None:
    result = invoke("generate", shop / "run", "漢字🙂", "--max-new-tokens", 4)
    assert result.code == 0
    assert result.out.startswith("漢字🙂")


def test_evaluate_in_words_and_as_json(shop: Path) -> None:
    words = invoke("evaluate", shop / "run", "--data", shop / "corpus")
    assert "bits per byte" in words.out
    numbers = json.loads(invoke("evaluate", shop / "run", "--data", shop / "qa.jsonl", "--json").out)
    assert numbers["loss"] > 0
    assert numbers["tokens"] > 0


def test_evaluate_takes_any_text_field_and_damaged_text_if_told_so(shop: Path, tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    data.write_bytes(b'{"body": "The cat s\xffat on the mat."}\n' * 9)
    given = ("evaluate", shop / "run", "--data", data)
    assert "text_field" in invoke(*given).line()
    assert "--errors replace" in invoke(*given, "--text-field", "body").line()
    assert invoke(*given, "--text-field", "body", "--errors", "replace").code == 0


@pytest.mark.parametrize("kind", ["bfloat16", "int8", "int4"])
def test_weights_in_fewer_bits_are_used_where_they_are_asked_for(shop: Path, kind: str) -> None:
    def loss(*options: str) -> float:
        given = ("evaluate", shop / "run", "--data", shop / "corpus", "--json", *options)
        return float(json.loads(invoke(*given).out)["loss"])

    exact, rounded = loss(), loss("--quantize", kind)
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.1)
    model, tokenizer = subgpt.load(shop / "run", quantize=kind)
    options = ("--max-new-tokens", 6, "--temperature", 0)
    text = invoke("generate", shop / "run", "The cat", "--quantize", kind, *options).out
    assert text == subgpt.generate(model, tokenizer, "The cat", max_new_tokens=6, temperature=0)
    shown = json.loads(invoke("probs", shop / "run", "The cat", "--quantize", kind, "--json").out)
    assert shown != json.loads(invoke("probs", shop / "run", "The cat", "--json").out)
    refused = invoke("chat", shop / "run", "--quantize", kind + "0", stdin="")
    assert f"did you mean '{kind}'" in refused.line()


def test_text_that_the_terminal_cannot_show_is_escaped(shop: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    for prompt in ("漢字", os.fsdecode(b"\xff") if os.name == "posix" else "🙂"):
        command = [sys.executable, "-m", "subgpt.cli", "generate", str(shop / "run"), prompt]
        done = subprocess.run(
            [*command, "--max-new-tokens", "3"], env=environment, capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()


def test_info_of_the_installation_and_of_a_run(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = json.loads(invoke("info", "--json").out)
    asked_for = {"subgpt", "python", "system", "processor", "instruction set", "threads", "cores", "memory"}
    assert asked_for | {"packages", "extra plot", "package", "interpreter"} <= set(installed)
    assert "numpy 2" in installed["packages"] or "numpy 1" in installed["packages"]
    assert "missing" not in installed["packages"]
    monkeypatch.setenv("SUBGPT_NUM_THREADS", "3")
    assert json.loads(invoke("info", "--json").out)["SUBGPT_NUM_THREADS"] == "3"
    run = json.loads(invoke("info", shop / "run", "--json").out)
    assert run["tokenizer"] == "subword, 300 tokens"
    assert run["n_embd"] == 16
    assert run["steps"] == 4
    assert str(run["parameters"]) in invoke("info", shop / "run").out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["generate", "{tmp}/missing", "a"], ["missing"]),
        (["generate", "{shop}/corpus", "a"], ["config.json"]),
        (["generate", "{shop}/run", "a", "--temperature", "-1"], ["temperature"]),
        (["generate", "{shop}/run", "a", "--top-p", "0"], ["top_p"]),
        (["generate", "{shop}/run", "a", "--max-new-tokens", "-5"], ["max_new_tokens"]),
        (["generate", "{shop}/run", "a", "--stop", ""], ["stop"]),
        (["generate", "{shop}/run/model.safetensors", "a"], ["model.safetensors", "directory"]),
        (["probs", "{shop}/run", "a", "-k", "0"], ["0"]),
        (["probs", "{shop}/run", "a", "--all", "--lens"], ["--all", "--lens"]),
        (["probs", "{shop}/run", "a", "--lens", "--top-k", "3"], ["--lens", "--top-k"]),
        (["probs", "{shop}/run", "a", "--top-p", "2"], ["top_p"]),
        (["attention", "{shop}/run", "a", "-o", "{tmp}/a.gif"], ["a.gif", ".png"]),
        (["attention", "{shop}/run", "a", "-o", "{tmp}/a.png", "--layer", "7"], ["layers has 7"]),
        (["explain-step", "{shop}/run", "a " * 90], ["explain_step", "block_size"]),
        (["explain-step", "a"], ["two characters"]),
        (["explain-step", "abc", "--lr", "0"], ["lr is 0.0"]),
        (["evaluate", "{shop}/run", "--data", "{tmp}/missing"], ["missing"]),
        (["evaluate", "{shop}/run", "--data", "{tmp}/empty.txt"], ["empty.txt", "no document"]),
        (["info", "{tmp}/missing"], ["missing"]),
    ],
)
def test_mistakes_are_named_in_one_line(
    untouched: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    result = invoke(*(a.format(shop=untouched, tmp=tmp_path) for a in arguments))
    assert result.code == 1
    assert all(word in result.line() for word in words), result.line()


def test_a_prompt_that_is_not_text_is_refused(untouched: Path) -> None:
    result = invoke("generate", untouched / "run", "-", stdin=b"\xff\xfe")
    assert result.code == 1
    assert "UTF-8" in result.line()


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_a_truncated_checkpoint_is_refused(shop: Path, tmp_path: Path, size: int) -> None:
    run = tmp_path / "run"
    shutil.copytree(shop / "run", run)
    weights = run / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:size])
    result = invoke("generate", run, "a")
    assert result.code == 1
    assert "model.safetensors" in result.line()


@pytest.mark.parametrize("content", [b"\x80\x02}q\x00.", b"<html></html>", b"PK\x03\x04zip", b"\x00" * 64])
def test_a_foreign_checkpoint_is_refused(shop: Path, tmp_path: Path, content: bytes) -> None:
    run = tmp_path / "run"
    shutil.copytree(shop / "run", run)
    (run / "model.safetensors").write_bytes(content)
    result = invoke("generate", run, "a")
    assert result.code == 1
    assert "model.safetensors" in result.line()


def test_a_run_without_tokenizer_says_what_is_missing(shop: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(shop / "run", run)
    (run / "tokenizer.json").unlink()
    result = invoke("generate", run, "a")
    assert result.code == 1
    assert "tokenizer.json" in result.line()


def test_generate_takes_every_rule(shop: Path) -> None:
    rules = (
        "--typical-p",
        0.9,
        "--presence-penalty",
        0.5,
        "--no-repeat-ngram-size",
        3,
        "--min-new-tokens",
        4,
    )
    given = ("generate", shop / "run", "The", "--seed", 3, "--max-new-tokens", 20, "--no-echo", *rules)
    free = invoke(*given)
    assert free.code == 0, free.err
    exclaimed = invoke(*given, "--logit-bias", f"{ord('!')}=1e4", "--bad-words", "!!", "--bad-words", "?")
    assert exclaimed.code == 0, exclaimed.err
    assert "!" in exclaimed.out
    assert "!!" not in exclaimed.out
    wrong = invoke(*given, "--logit-bias", "3:2")
    assert wrong.code == 1
    assert "--logit-bias 3:2: give ID=BIAS" in wrong.line()


def test_generate_with_beams_always_writes_the_same(shop: Path) -> None:
    given = (
        "generate",
        shop / "run",
        "The",
        "--num-beams",
        3,
        "--length-penalty",
        0.5,
        "--max-new-tokens",
        8,
    )
    first = invoke(*given)
    assert first.code == 0, first.err
    assert first.out.startswith("The")
    assert first.out == invoke(*given).out
    assert invoke(*given, "--early-stopping").code == 0
    assert "num_beams = 3 and top_k" in invoke(*given, "--top-k", 3).line()


def test_generate_keeps_to_an_expression(shop: Path) -> None:
    pytest.importorskip("llguidance")
    result = invoke("generate", shop / "run", "The", "--no-echo", "--regex", " (cat|mat)")
    assert result.code == 0, result.err
    assert result.out in (" cat", " mat")
