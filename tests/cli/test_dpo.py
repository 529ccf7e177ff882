"""`subgpt dpo`: preferences from a file to a run, and rows that are none."""

import json
from pathlib import Path

import pytest
import yaml

from subgpt.cli.search import given_of

from .conftest import invoke


def test_a_chat_templates_file_does_not_depend_on_the_directory_that_one_is_in(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}", encoding="utf-8")
    Path("prefs.jsonl").write_text('{"prompt": "The cat", "chosen": " sat.", "rejected": " ran."}\n' * 6)
    given = ("--data", "prefs.jsonl", "--batch-size", 2, "--max-steps", 1, "--chat-template", "mine.jinja")
    done = invoke("dpo", shop / "run", *given, "-o", "liked")
    assert done.code == 0, done.err
    kept = yaml.safe_load(Path("liked/training/config.yaml").read_text(encoding="utf-8"))
    assert kept["train"]["chat_template"] == str(tmp_path / "mine.jinja")
    assert given_of(None, {"chat_template": "mine.jinja"}) == {"chat_template": str(tmp_path / "mine.jinja")}


def test_a_run_learns_preferences(shop: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"The {who} sat", "chosen": " on the mat.", "rejected": " nowhere."}
        for who in ("red cat", "green dog", "grey owl", "small fox", "red hen", "grey cat")
    ]
    data = tmp_path / "prefs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("dpo", shop / "run", "--data", data, "-o", tmp_path / "liked", "--batch-size", 2)
    done = invoke(*given, "--max-steps", 4, "--learning-rate", 1e-2, "--beta", 0.3, "--val-fraction", 0.3)
    assert done.code == 0, done.err
    assert "preferences" in done.out
    assert (tmp_path / "liked" / "model.safetensors").exists()
    resumed = ("dpo", shop / "run", "-o", tmp_path / "liked", "--resume", "--max-steps", 5)
    refused = invoke(*resumed, "--beta", 0.5)
    assert "beta was 0.3, is 0.5" in refused.line()
    done = invoke(*resumed)  # with the data and the beta that it began with
    assert done.code == 0, done.err
    config = tmp_path / "beta.yaml"
    config.write_text("beta: 3e-1\n")  # which is a text to YAML
    begun = (*given[:-4], "-o", tmp_path / "text", "--max-steps", 1, "--config", config)
    assert invoke(*begun).code == 0
    done = invoke("dpo", shop / "run", "-o", tmp_path / "text", "--resume", "--max-steps", 2)
    assert done.code == 0, done.err
    config.write_text("beta: much\n")
    refused = invoke("dpo", shop / "run", "--data", data, "-o", tmp_path / "no", "--config", config)
    assert "beta = 'much': give a number" in refused.line()
    refused = invoke("dpo", shop / "run", "--data", data, "-o", tmp_path / "no", "--beta", 0)
    assert refused.code == 1
    assert "beta = 0" in refused.line()
    data.write_text('{"prompt": "a", "completion": "b"}\n')
    refused = invoke("dpo", shop / "run", "--data", data, "-o", tmp_path / "no")
    assert refused.code == 1
    assert "prefs.jsonl:1" in refused.line()
