import itertools
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from subgpt import load, next_tokens

from .conftest import invoke


def test_probs_are_probabilities(shop: Path) -> None:
    found = json.loads(invoke("probs", shop / "run", "The cat", "-k", 300, "--json").out)
    chances = [token["probability"] for token in found["tokens"]]
    assert sum(chances) == pytest.approx(1, abs=1e-4)
    assert found["shown"] == pytest.approx(sum(chances))
    assert chances == sorted(chances, reverse=True)
    entropy = -sum(p * math.log(p) for p in chances)
    assert found["entropy_nats"] == pytest.approx(entropy, rel=1e-4)
    assert found["entropy_bits"] == pytest.approx(entropy / math.log(2), rel=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(entropy), rel=1e-4)


def test_probs_table_has_bars_and_says_how_sure_it_is(shop: Path) -> None:
    lines = invoke("probs", shop / "run", "The cat", "-k", 3).out.splitlines()
    assert [line.split()[-1][0] for line in lines[1:4]] == ["█"] * 3
    model, tokenizer = load(shop / "run")
    for line, token in zip(lines[1:4], next_tokens(model, tokenizer, "The cat", 3), strict=True):
        assert f"{token.probability:.4f}" in line.split()
        assert str(token.id) in line.split()
    assert "nats" in lines[-1]
    assert "bits" in lines[-1]
    assert "the 3 shown hold" in lines[-1]


def test_probs_before_and_after_sampling(shop: Path) -> None:
    given = ("probs", shop / "run", "The cat", "-k", 4, "--temperature", 0.5, "--top-k", 2)
    found = json.loads(invoke(*given, "--json").out)
    assert found["sampling"] == {"temperature": 0.5, "top_k": 2}
    assert len(found["tokens"]) == 4
    assert len(found["after"]["tokens"]) == 2
    assert found["after"]["shown"] == pytest.approx(1)
    assert found["after"]["entropy_nats"] < found["entropy_nats"]
    lines = invoke(*given).out.splitlines()
    assert "the model's" in lines[0]
    assert "drawn from" in lines[0]
    assert [line.split()[-1] for line in lines[3:5]] == ["0", "0"], "what sampling drops"


def test_probs_of_every_position(shop: Path) -> None:
    found = json.loads(invoke("probs", shop / "run", "The cat sat", "--all", "-k", 2, "--json").out)
    assert "".join(p["text"] for p in found) == "The cat sat"
    assert [p["position"] for p in found] == list(range(len(found)))
    for here, after in itertools.pairwise(found):
        assert here["following"]["id"] == after["id"]
        assert 1 <= here["following"]["rank"] <= 300
        assert len(here["tokens"]) == 2
    assert found[-1]["following"] is None
    lines = invoke("probs", shop / "run", "The cat sat", "--all").out.splitlines()
    assert lines[0].split()[:6] == ["position", "token", "entropy", "follows", "rank", "probability"]
    assert len(lines) == len(found) + 1


def test_the_lens_shows_every_layer(shop: Path) -> None:
    lens = json.loads(invoke("probs", shop / "run", "The cat sat", "--lens", "-k", 2, "--json").out)
    assert "".join(lens["texts"]) == "The cat sat"
    assert [len(lens["layers"]), len(lens["layers"][0]), len(lens["layers"][0][0])] == [
        2,
        len(lens["ids"]),
        2,
    ]
    out = invoke("probs", shop / "run", "The cat sat on the mat and sang", "--lens").out
    assert max(map(len, out.splitlines())) <= 80
    names = {line.split("  ")[0] for line in out.splitlines()}
    assert names == {"position", "token", "embeddings", "block 0", "follows", ""}


@pytest.mark.parametrize("view", [(), ("--all",), ("--lens",), ("--temperature", "0.5")])
def test_where_the_terminal_has_no_blocks(shop: Path, view: tuple[str, ...]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "subgpt.cli", "probs", str(shop / "run"), "The cat", *view]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.isascii()
    assert "\\u25" not in done.stdout, "no bars made of escapes"
    assert "\x1b" not in done.stdout
    tables = "--all" in view or "--lens" in view
    assert ("'The'" if tables else "###") in done.stdout


def test_attention_is_drawn(shop: Path, tmp_path: Path) -> None:
    done = invoke("attention", shop / "run", "The cat sat", "-o", tmp_path / "maps.png", "--head", 1)
    assert done.code == 0, done.err
    assert done.out == ""
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_explain_step_with_nothing_but_a_sentence() -> None:
    done = invoke("explain-step", "the cat sat on the mat")
    assert done.code == 0, done.err
    assert "old_w - alpha *" in done.out
    assert done.out == invoke("explain-step", "-", stdin="the cat sat on the mat").out
    assert done.out != invoke("explain-step", "the cat sat on the mat", "--seed", 1).out


def test_explain_step_of_a_model_leaves_its_files_alone(untouched: Path) -> None:
    given = ("explain-step", untouched / "run", "The cat sat", "--lr", 0.01, "--steps", 3, "--json")
    told = json.loads(invoke(*given).out)
    assert len(told["losses"]) == 4
    assert told["loss_after"] == told["losses"][1] < told["loss_before"] == told["losses"][0]
    for step in told["weights"]:
        assert step["new"] == pytest.approx(step["old"] - 0.01 * step["gradient"], abs=1e-7)


def test_explain_step_takes_one_sentence() -> None:
    assert invoke("explain-step", "a", "b", "c").code == 2
    assert invoke("explain-step").code == 2
