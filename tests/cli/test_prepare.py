"""`subgpt data prepare`: from files and standard input to what pretrain trains on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import SHAPE, invoke, snapshot


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    file = tmp_path / "rows.jsonl"
    texts = [f"The {n} cats sat on {n} mats and sang to the moon {n} times.\n" for n in range(200)]
    file.write_text("".join(json.dumps({"text": t}) + "\n" for t in [*texts, texts[3]]), encoding="utf-8")
    return file


def test_files_to_shards_and_on_to_a_run(shop: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("data", "prepare", rows, shop / "corpus", "-t", shop / "subword", "-o", out)
    done = invoke(*arguments, "--val-fraction", 0.1, "--shard-tokens", 2000)
    assert done.code == 0, done.err
    assert "202 documents of 203; left out: 1 exact duplicates" in done.out
    assert f"subgpt pretrain --data {out}" in done.err
    before = snapshot(out)
    told = json.loads(invoke(*arguments, "--val-fraction", 0.1, "--shard-tokens", 2000, "--json").out)
    assert told == json.loads((out / "dataset.json").read_text())
    assert snapshot(out) == before
    assert "val_fraction = 0.1 already, not 0.2" in invoke(*arguments, "--val-fraction", 0.2).line()
    assert invoke(*arguments, "--val-fraction", 0.2, "--overwrite", "--keep-duplicates").code == 0
    assert json.loads((out / "dataset.json").read_text())["documents"]["kept"] == 203


def test_standard_input(shop: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("data", "prepare", "-", "--stdin-name", "rows.jsonl", "-t", shop / "subword", "-o", out)
    broken = invoke(*arguments, stdin=rows.read_text() + "{\n")
    assert "rows.jsonl:202: not JSON" in broken.line()
    kept = tmp_path / ".out.stdin" / "rows.jsonl"
    kept.write_text(rows.read_text())
    done = invoke(*arguments, "--overwrite", stdin=rows.read_text())
    assert done.code == 0, done.err
    assert "200 documents of 201" in done.out
    assert not kept.parent.exists()
    assert invoke(*arguments, "--overwrite", stdin="{\n").code == 1
    named = (*arguments[:3], "--stdin-name", "b.txt", *arguments[5:])
    refused = invoke(*named, stdin="the cat\n")
    assert f"{kept}: standard input was kept there" in refused.line()
    assert "--stdin-name rows.jsonl" in refused.line()
    done = invoke(*named, "--overwrite", stdin="the cat\n")
    assert done.code == 0, done.err
    assert not kept.parent.exists()
    assert invoke("data", "prepare", "-", rows, "-t", shop / "subword", "-o", out).code == 2


def test_standard_input_into_the_directory_that_one_is_in(
    shop: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given = ("data", "prepare", "-", "--stdin-name", "rows.jsonl", "-t", shop / "subword", "-o", ".")
    assert f"{tmp_path / '.here.stdin' / 'rows.jsonl'}:1: not JSON" in invoke(*given, stdin="{\n").line()
    done = invoke(*given, "--overwrite", stdin=rows.read_text())
    assert done.code == 0, done.err
    assert (tmp_path / "here" / "dataset.json").exists()


def test_what_is_wrong_is_one_line(shop: Path, rows: Path, tmp_path: Path) -> None:
    base = ("data", "prepare", rows, "-t", shop / "subword", "-o")
    assert "no field 'body'" in invoke(*base, tmp_path / "a", "--text-field", "body").line()
    assert "known: refuse, skip" in invoke(*base, tmp_path / "b", "--bad-rows", "maybe").line()
    assert "has something in it already" in invoke(*base, shop / "corpus").line()
    assert "no such file" in invoke("data", "prepare", tmp_path / "none", *base[3:], tmp_path / "c").line()


def test_a_mixture_from_the_command_line_and_on_with_it(shop: Path, rows: Path, tmp_path: Path) -> None:
    for name, source in (("one", rows), ("two", shop / "corpus")):
        made = invoke("data", "prepare", source, "-t", shop / "subword", "-o", tmp_path / name)
        assert made.code == 0, made.err
    data = ("--data", f"{tmp_path / 'one'}:0.7", "--data", f"{tmp_path / 'two'}:0.3")
    rest = ("--tokenizer", tmp_path / "one", *SHAPE, "--max-steps", 4, "--eval-steps", 2)
    done = invoke("pretrain", *data, *rest, "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert "one 70 %" in done.err
    again = invoke("pretrain", "-o", tmp_path / "run", "--resume", "--max-steps", 6)
    assert again.code == 0, again.err
    settings = tmp_path / "mine.yaml"
    settings.write_text(f"data:\n  {tmp_path / 'one'}: 0.7\n  {tmp_path / 'two'}: 0.3\n")
    same = invoke("pretrain", "--config", settings, *rest, "-o", tmp_path / "same")
    assert same.code == 0, same.err
    assert "one 70 %" in same.err
    wrong = invoke(
        "pretrain", "--data", tmp_path / "one", "--tokenizer", shop / "char", *SHAPE, "-o", tmp_path / "no"
    )
    assert "prepared with another tokenizer" in wrong.line()


def test_prepared_data_is_measured_and_fine_tuned_on(shop: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = ("data", "prepare", rows, "-t", shop / "run", "-o", out, "--val-fraction", 0.2)
    assert invoke(*made).code == 0
    sides = [
        json.loads(invoke("evaluate", shop / "run", "--data", out, *more, "--json").out)
        for more in ((), ("--side", "train"))
    ]
    manifest = json.loads((out / "dataset.json").read_text())
    assert [side["tokens"] for side in sides] == [manifest[side]["tokens"] - 1 for side in ("val", "train")]
    assert "known: val, train" in invoke("evaluate", shop / "run", "--data", out, "--side", "both").line()
    tuned = invoke("finetune", shop / "run", "--data", out, "-o", tmp_path / "run", "--max-steps", 2)
    assert tuned.code == 0, tuned.err
    assert "documents, prepared" in tuned.err
    assert (tmp_path / "run" / "model.safetensors").is_file()
