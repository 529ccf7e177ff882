"""Data prepared on a cluster: the same bytes as here, also where processes are lost or it is broken off."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

import subgpt
from subgpt import ConfigError, DataError, prepare_data
from subgpt.data.prepare import cluster_pool, units
from subgpt.data.prepare.stage import Staging

from .conftest import kill_one_of


def snapshot(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Rows in four units and a few texts in another; named from the directory they lie in."""
    monkeypatch.setattr(units, "UNIT_BYTES", 1 << 20)
    monkeypatch.chdir(tmp_path)
    rows = [{"text": f"The {n} cats sat on {n} mats and sang to the moon.\n" * 50} for n in range(1400)]
    lines = [json.dumps(row) + "\n" for row in [*rows, rows[3], {"body": "none"}]]
    (tmp_path / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    (tmp_path / "texts").mkdir()
    for n in range(3):
        (tmp_path / "texts" / f"{n}.txt").write_text(f"so much depends upon {n}\n" * 100, encoding="utf-8")
    return ["rows.jsonl", "texts"]


@pytest.fixture
def prepare(corpus, tmp_path):
    tok = subgpt.Tokenizer.train(["The cats sat on mats and sang to the moon 0123456789"], vocab_size=300)

    def run(name, **options):
        prepare_data(corpus, name, tok, bad_rows="skip", val_fraction=0.1, **options)
        return snapshot(tmp_path / name)

    return run


def test_the_bytes_are_those_that_come_out_here(prepare, cluster):
    seen = []
    here = prepare("here")
    assert prepare("there", ray="auto", progress=lambda *told: seen.append(told)) == here
    reading = [(done, total) for what, done, total in seen if what == "reading"]
    assert reading == sorted(reading)
    assert reading[-1][0] == reading[-1][1] > 3_000_000
    assert 0 < reading[len(reading) // 2][0] < reading[-1][0]


def test_a_process_that_is_lost_in_the_middle_of_a_unit_leaves_no_trace(prepare, cluster, tmp_path):
    staging = Staging(tmp_path / "there" / ".preparing")
    with ThreadPoolExecutor(1) as threads:
        killing = threads.submit(kill_one_of, lambda: all(staging.done(unit).exists() for unit in range(4)))
        assert prepare("there", ray="auto", processes=1) == prepare("here")
        assert killing.result()


def test_broken_off_it_goes_on(prepare, cluster, tmp_path):
    def break_off(what, done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("there", ray="auto", processes=1, progress=break_off)
    assert list((tmp_path / "there" / ".preparing").glob("*.json"))
    assert not (tmp_path / "there" / "dataset.json").exists()
    assert prepare("there", ray="auto") == prepare("here")


def test_what_is_wrong_in_a_unit_is_said_as_here(prepare, cluster, corpus, tmp_path):
    tok = subgpt.Tokenizer.train(["abc"], level="char", special_tokens=("<|endoftext|>",))
    with pytest.raises(DataError, match=r"^rows.jsonl:1402: no field 'text'"):
        prepare_data(corpus, tmp_path / "there", tok, ray="auto")


def test_a_unit_that_is_lost_again_and_again_is_given_up(prepare, cluster, monkeypatch, tmp_path):
    def die(link, *_):
        import os

        os.abort()

    monkeypatch.setattr(cluster_pool, "_work", die)
    with pytest.raises(DataError, match=r"lost 4 times.*\(--processes\)"):
        prepare("there", ray="auto", processes=1)


def test_no_cluster_at_an_address(prepare, tmp_path):
    with pytest.raises(ConfigError, match="give an address"):
        prepare("there", ray="")
    assert not (tmp_path / "there").exists()
