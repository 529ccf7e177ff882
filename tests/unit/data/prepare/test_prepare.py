"""Preparing data: the same bytes whatever the way, no document on both sides, every removal accounted for."""

from __future__ import annotations

import csv
import gzip
import json
import os
import signal
import struct
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from subgpt import CheckpointError, ConfigError, DataError, OutputError, Tokenizer, TokenizerError
from subgpt.checkpoint.lock import DirectoryLock
from subgpt.data.corpus import load_corpus
from subgpt.data.prepare import stage, texts, units
from subgpt.data.prepare.options import PrepareOptions
from subgpt.data.prepare.prepare import prepare_data
from subgpt.data.shards import check_shard, read_index, read_shard

WORDS = ["so", "much", "depends", "upon", "a", "red", "wheel", "barrow", "glazed", "with", "rain", "water"]


def text(number: int) -> str:
    """A document of its own."""
    rng = np.random.default_rng(number)
    return f"Number {number}: " + " ".join(rng.choice(WORDS, rng.integers(3, 60))) + ".\n"


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.train(iter([text(i) for i in range(100)]), vocab_size=400)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Documents in every kind of file that needs no extra, some of them twice."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text("<|endoftext|>\n".join(text(i) for i in range(40)), encoding="utf-8")
    (folder / "b.md").write_text(text(40), encoding="utf-8")
    rows = [json.dumps({"text": text(i), "id": i}) for i in range(30, 120)]
    (folder / "c.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    packed = gzip.compress("\n".join(json.dumps({"text": text(i)}) for i in range(110, 140)).encode())
    (folder / "d.jsonl.gz").write_bytes(packed)
    with (folder / "e.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([i, text(i)] for i in range(140, 160))])
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def documents(folder: Path, tok: Tokenizer) -> dict[str, list[str]]:
    """The texts of each side, read by the index."""
    found = {}
    for side in ("train", "val"):
        found[side] = []
        for shard in sorted(folder.glob(f"{side}-*.bin")):
            ids, index = read_shard(shard, fingerprint=tok.fingerprint), read_index(shard.with_suffix(".idx"))
            ends = index["end"].astype(int).tolist()
            assert ends[-1] == len(ids)
            for begin, end, size in zip([0, *ends[:-1]], ends, index["bytes"].tolist(), strict=True):
                assert ids[end - 1] == tok.eot_id
                found[side].append(tok.decode(ids[begin : end - 1]))
                assert len(found[side][-1].encode()) == size
    return found


def test_every_document_is_there_once_and_on_one_side(corpus, tok, tmp_path):
    made = prepare_data(corpus, tmp_path / "out", tok, val_fraction=0.2, shard_tokens=900)
    sides = documents(tmp_path / "out", tok)
    expected = [text(i) for i in range(160)]
    assert sorted(sides["train"] + sides["val"]) == sorted(expected)
    assert not set(sides["train"]) & set(sides["val"])
    assert 10 < len(sides["val"]) < 60
    said = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert said == made.manifest
    assert said["documents"] == {
        "read": 181, "kept": 160, "exact_duplicates": 21, "near_duplicates": 0,
        "empty": 0, "bad_rows": 0, "damaged": 0,
    }  # fmt: skip
    assert [row["exact_duplicates"] for row in said["sources"]] == [0, 0, 11, 10, 0]
    assert [row["documents"] for row in said["sources"]] == [40, 1, 79, 20, 20]
    assert said["removed"][0]["document"].endswith("c.jsonl:1")
    assert said["removed"][0]["like"].endswith("a.txt:61")
    assert sum(row["tokens"] for row in said["sources"]) == made.train_tokens + made.val_tokens
    for side in ("train", "val"):
        assert said[side]["text_bytes"] == sum(len(one.encode()) for one in sides[side])
        assert len(said[side]["shards"]) > 1
        assert all(shard["tokens"] <= 900 for shard in said[side]["shards"])
    for shard in (tmp_path / "out").glob("*.bin"):
        check_shard(shard)
    assert Tokenizer.load(tmp_path / "out") == tok
    assert not (tmp_path / "out" / ".preparing").exists()


def test_ids_are_those_of_a_run_on_the_text_itself(corpus, tok, tmp_path):
    for name in ("d.jsonl.gz", "e.csv"):
        (corpus / name).unlink()
    train, val, summary = load_corpus(corpus, tok, val_fraction=0.2, seed=3)
    prepare_data(corpus, tmp_path / "out", tok, val_fraction=0.2, seed=3, exact_duplicates=False)
    assert read_shard(tmp_path / "out" / "train-00000.bin").tolist() == train.tokens.tolist()
    assert read_shard(tmp_path / "out" / "val-00000.bin").tolist() == val.tokens.tolist()
    made = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert (made["train"]["text_bytes"], made["val"]["text_bytes"]) == (train.text_bytes, val.text_bytes)
    assert made["split"] == summary.split


def test_one_text_is_divided_at_its_end(tok, tmp_path):
    (tmp_path / "one.txt").write_text("".join(text(i) for i in range(50)), encoding="utf-8")
    train, val, _ = load_corpus(tmp_path / "one.txt", tok, val_fraction=0.1, seed=0)
    made = prepare_data(tmp_path / "one.txt", tmp_path / "out", tok, val_fraction=0.1)
    assert read_shard(tmp_path / "out" / "train-00000.bin").tolist() == train.tokens.tolist()
    assert read_shard(tmp_path / "out" / "val-00000.bin").tolist() == val.tokens.tolist()
    assert made.manifest["val"]["text_bytes"] == val.text_bytes
    assert made.manifest["train"]["text_bytes"] == train.text_bytes
    assert "its last 10 % is validation" in made.describe()[1]


@pytest.mark.parametrize("cut", [700, 5000])
def test_neither_the_cut_nor_processes_leave_a_trace(corpus, tok, tmp_path, monkeypatch, cut):
    prepare_data(corpus, tmp_path / "whole", tok, val_fraction=0.2, shard_tokens=900)
    monkeypatch.setattr(units, "UNIT_BYTES", cut)
    monkeypatch.setattr(stage, "PART_BYTES", 300)
    monkeypatch.setattr(stage, "BATCH_DOCUMENTS", 2)
    monkeypatch.setattr(texts.Cutter.__init__, "__defaults__", (50,))
    prepare_data(corpus, tmp_path / "cut", tok, val_fraction=0.2, shard_tokens=900)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")
    if cut == 5000:
        prepare_data(corpus, tmp_path / "two", tok, val_fraction=0.2, shard_tokens=900, processes=2)
        assert content(tmp_path / "two") == content(tmp_path / "whole")


class Stop(Exception):  # noqa: N818
    pass


def test_broken_off_anywhere_it_goes_on_to_the_same_bytes(corpus, tok, tmp_path, monkeypatch):
    monkeypatch.setattr(units, "UNIT_BYTES", 3000)
    monkeypatch.setattr(stage, "PART_BYTES", 500)
    monkeypatch.setattr(stage, "BATCH_DOCUMENTS", 3)
    options = {"val_fraction": 0.2, "shard_tokens": 900}
    calls = []
    prepare_data(corpus, tmp_path / "whole", tok, progress=lambda *told: calls.append(told), **options)
    assert {what for what, _, _ in calls} == {"reading", "writing"}
    assert [done for what, done, _ in calls if what == "reading"][-1] == calls[0][2]
    out = tmp_path / "out"
    left, runs = 0, 0

    def stop(*told):
        nonlocal left
        left -= 1
        if left == 0:
            raise Stop

    while not (out / "dataset.json").exists():
        left, runs = 3 * runs + 3, runs + 1
        try:
            prepare_data(corpus, out, tok, progress=stop, **options)
        except Stop:
            (out / ".preparing" / "text-left.txt").write_text("left behind")
            assert runs < 200
    assert runs > 4
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no kill -9")
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_it_goes_on_to_the_same_bytes(tok, tmp_path, processes):
    corpus, out = tmp_path / "c", tmp_path / "out"
    corpus.mkdir()
    tok.save(tmp_path / "tok")
    for name in range(6):
        rows = [json.dumps({"text": text(1000 * name + i)}) for i in range(200)]
        (corpus / f"{name}.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    program = tmp_path / "run.py"
    program.write_text(
        textwrap.dedent(f"""
        import sys, time
        from subgpt import Tokenizer
        from subgpt.data.prepare import stage, units
        from subgpt.data.prepare.prepare import prepare_data
        units.UNIT_BYTES, stage.PART_BYTES, stage.BATCH_DOCUMENTS = 30_000, 4_000, 10
        if __name__ == "__main__":
            prepare_data({str(corpus)!r}, sys.argv[1], Tokenizer.load({str(tmp_path / "tok")!r}),
                         processes={processes}, progress=lambda *told: time.sleep(float(sys.argv[2])))
    """),
        encoding="utf-8",
    )
    process = subprocess.Popen([sys.executable, str(program), str(out), "0.02"])
    deadline = time.monotonic() + 60
    while len(list(out.glob(".preparing/*.npy"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (out / "dataset.json").exists()
    assert list(out.glob(".preparing/*.npy"))
    for folder in (out, tmp_path / "whole"):
        subprocess.run([sys.executable, str(program), str(folder), "0"], check=True, timeout=120)
    assert content(out) == content(tmp_path / "whole")


def test_prepared_again_nothing_changes(corpus, tok, tmp_path):
    out = tmp_path / "out"
    prepare_data(corpus, out, tok)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    (out / ".preparing").mkdir()  # a process was killed in the instant after all was done
    (out / ".preparing" / "000000.json").write_text("{}", encoding="utf-8")
    with DirectoryLock(out / ".preparing" / "lock", "preparing data"):
        prepare_data(corpus, out, tok)
        assert (out / ".preparing" / "000000.json").exists()
    again = prepare_data(corpus, out, tok)
    assert again.train_tokens > 0
    assert before == {path: path.stat().st_mtime_ns for path in out.iterdir()}
    with pytest.raises(ConfigError, match="prepared with seed = 0 already, not 5"):
        prepare_data(corpus, out, tok, seed=5)
    with pytest.raises(ConfigError, match="other sources"):
        prepare_data(corpus / "a.txt", out, tok)
    with pytest.raises(ConfigError, match="another tokenizer"):
        prepare_data(corpus, out, Tokenizer.train(["other"], vocab_size=258))
    prepare_data(corpus, out, tok, seed=5, overwrite=True)
    assert json.loads((out / "dataset.json").read_text())["options"]["seed"] == 5


def break_off(corpus, out, tok, **options):
    def stop(*told):
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "PART_BYTES", 1)  # so that there is something to go on from
        with pytest.raises(Stop):
            prepare_data(corpus, out, tok, progress=stop, **options)


def test_one_goes_on_with_the_same_or_not_at_all(corpus, tok, tmp_path):
    out = tmp_path / "out"
    break_off(corpus, out, tok)
    with pytest.raises(ConfigError, match="begun with seed = 0, now it is 1"):
        prepare_data(corpus, out, tok, seed=1)
    with pytest.raises(ConfigError, match="begun with another tokenizer"):
        prepare_data(corpus, out, Tokenizer.train(["other"], vocab_size=258))
    (corpus / "b.md").write_text("changed")
    with pytest.raises(DataError, match=r"b\.md was changed since the preparation began"):
        prepare_data(corpus, out, tok)
    (corpus / "b.md").unlink()
    with pytest.raises(DataError, match="give the same files"):
        prepare_data(corpus, out, tok)
    (out / ".preparing" / "plan.json").write_text("[")
    with pytest.raises(DataError, match=r"plan\.json: damaged"):
        prepare_data(corpus, out, tok)
    prepare_data(corpus, out, tok, overwrite=True)


def test_what_an_error_advises_is_taken(tok, tmp_path, monkeypatch):
    """Before anything was made, and after."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text(json.dumps({"body": text(1)}) + "\n", encoding="utf-8")
    (tmp_path / "in" / "b.txt").write_bytes(text(2).encode() + b"\xff")
    out, changes = tmp_path / "out", {}
    for change in ({"text_field": "body"}, {"errors": "replace"}):
        with pytest.raises(DataError):
            prepare_data(tmp_path / "in", out, tok, val_fraction=0, **changes)
        changes |= change
    prepare_data(tmp_path / "in", out, tok, val_fraction=0, **changes)
    monkeypatch.setattr(units, "UNIT_BYTES", 500)
    lines = [json.dumps({"text": text(number)}) for number in range(20)]
    (tmp_path / "c.jsonl").write_text("\n".join([*lines, "{", *lines]), encoding="utf-8")
    with pytest.raises(DataError, match="not JSON"):
        prepare_data(tmp_path / "c.jsonl", tmp_path / "more", tok)
    assert list(tmp_path.glob("more/.preparing/*.npy"))
    for folder in ("more", "whole"):
        prepare_data(tmp_path / "c.jsonl", tmp_path / folder, tok, bad_rows="skip")
    assert content(tmp_path / "more") == content(tmp_path / "whole")


def test_only_one_prepares_at_a_time_and_only_in_a_place_of_its_own(corpus, tok, tmp_path):
    out = tmp_path / "out"
    break_off(corpus, out, tok)
    with (
        DirectoryLock(out / ".preparing" / "lock", "preparing data"),
        pytest.raises(CheckpointError, match="is preparing data here"),
    ):
        prepare_data(corpus, out, tok)
    before = content(out / ".preparing")
    with (
        DirectoryLock(out / ".preparing" / "lock", "preparing data"),
        pytest.raises(CheckpointError, match="is preparing data here"),
    ):
        prepare_data(corpus, out, tok, overwrite=True)
    assert content(out / ".preparing") == before
    with pytest.raises(OutputError, match="has something in it already"):
        prepare_data(corpus, corpus, tok)
    with pytest.raises(OutputError, match="cannot be made"):
        prepare_data(corpus, corpus / "a.txt" / "out", tok)


def test_overwriting_takes_nothing_away_that_no_preparation_wrote(corpus, tok, tmp_path):
    (corpus / "train-small.jsonl").write_text(json.dumps({"text": text(1)}), encoding="utf-8")
    before = content(corpus)
    with pytest.raises(OutputError, match="has something in it already"):
        prepare_data(corpus, corpus, tok, overwrite=True)
    assert content(corpus) == before
    out = tmp_path / "out"
    prepare_data(corpus, out, tok, shard_tokens=900)
    (out / "val-notes.txt").write_text("mine", encoding="utf-8")
    before = content(out)
    with pytest.raises(OutputError, match="has something in it already"):
        prepare_data(corpus, out, tok, overwrite=True)
    assert content(out) == before
    (out / "val-notes.txt").unlink()
    (out / ".subgpt-left.tmp").write_bytes(b"of one that was killed")
    prepare_data(corpus, out, tok, overwrite=True)
    assert sorted(path.name for path in out.glob("train-*")) == ["train-00000.bin", "train-00000.idx"]
    assert not (out / ".subgpt-left.tmp").exists()


@pytest.mark.parametrize("wrong", ["0.8", True, 0])
def test_a_similarity_is_a_number(wrong):
    with pytest.raises(ConfigError, match="near_duplicates must be above 0 and at most 1"):
        PrepareOptions(near_duplicates=wrong)


def test_what_cannot_be_taken_away_is_named(corpus, tok, tmp_path):
    out = tmp_path / "out"
    (out / "train-00000.bin").mkdir(parents=True)
    with pytest.raises(OutputError, match=r"out: cannot write there"):
        prepare_data(corpus, out, tok, overwrite=True)


def test_texts_in_memory(tok, tmp_path):
    given = [text(i) for i in (1, 2, 1, 3)] + [" \n", "of <|endoftext|> it speaks"]
    made = prepare_data(iter(given), tmp_path / "out", tok, val_fraction=0)
    assert documents(tmp_path / "out", tok)["train"] == [*given[:2], given[3], given[5]]
    assert made.manifest["documents"]["empty"] == 1
    assert made.manifest["removed"] == [
        {"what": "exact_duplicates", "document": "texts in memory:3", "like": "texts in memory:1"}
    ]


def test_bad_rows_are_refused_with_their_line_or_skipped_and_counted(tok, tmp_path, monkeypatch):
    file = tmp_path / "a.jsonl"
    rows = [json.dumps({"text": text(i)}) for i in range(50)]
    rows[20], rows[31], rows[45] = '{"text": "broken', '{"body": "no text"}', '{"text": 7}'
    file.write_text("\n".join(rows), encoding="utf-8")
    for size in (units.UNIT_BYTES, 800):
        monkeypatch.setattr(units, "UNIT_BYTES", size)
        with pytest.raises(DataError, match=r"a\.jsonl:21: not JSON"):
            prepare_data(file, tmp_path / "refused", tok, overwrite=True)
        made = prepare_data(file, tmp_path / f"skipped-{size}", tok, bad_rows="skip")
        assert made.manifest["documents"]["bad_rows"] == 3
        assert [why.split(": ")[0] for why in made.manifest["bad"]] == [f"{file}:{n}" for n in (21, 32, 46)]
        assert made.manifest["documents"]["kept"] == 47
    index = read_index(tmp_path / "skipped-800" / "train-00000.idx")
    assert index["line"][-1] in (49, 50)


def test_a_wrong_line_deep_in_a_large_file_is_named(tok, tmp_path, monkeypatch):
    file = tmp_path / "a.jsonl"
    good = [json.dumps({"text": text(i)}) for i in range(60)]
    for size in (100, 1001):
        monkeypatch.setattr(units, "UNIT_BYTES", size)
        for at in (0, 59):
            file.write_bytes(("\n".join([*good[:at], '{"text":', *good[at:]]) + "\n").encode())
            with pytest.raises(DataError, match=rf"a\.jsonl:{at + 1}: not JSON"):
                prepare_data(file, tmp_path / "out", tok, overwrite=True)
            file.write_bytes(
                "\n".join(good[:at]).encode() + b'\n{"text": "\xff"}\n' + "\n".join(good[at:]).encode()
            )
            with pytest.raises(DataError, match=rf"a\.jsonl:{max(at, 1) + 1}: not UTF-8"):
                prepare_data(file, tmp_path / "out", tok, overwrite=True)


def test_parquet_by_row_groups(tok, tmp_path, monkeypatch):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"n": list(range(90)), "text": [text(i) for i in range(89)] + [None]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    with pytest.raises(DataError, match=r"a\.parquet:90: field 'text' must be a string, not null"):
        prepare_data(tmp_path / "a.parquet", tmp_path / "out", tok)
    for size in (units.UNIT_BYTES, 1500):
        monkeypatch.setattr(units, "UNIT_BYTES", size)
        made = prepare_data(
            tmp_path / "a.parquet", tmp_path / f"out-{size}", tok, bad_rows="skip", val_fraction=0
        )
        assert documents(tmp_path / f"out-{size}", tok)["train"] == [text(i) for i in range(89)]
        assert made.manifest["documents"]["bad_rows"] == 1
        assert read_index(tmp_path / f"out-{size}" / "train-00000.idx")["line"].tolist() == list(range(1, 90))
    with pytest.raises(DataError, match="no field 'body'; the fields there are: 'n', 'text'"):
        prepare_data(tmp_path / "a.parquet", tmp_path / "none", tok, text_field="body")


def test_near_duplicates_go_and_others_stay(tok, tmp_path):
    pytest.importorskip("rensa", reason='rensa is an extra: pip install "subgpt[dedup]"')
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in range(5000)]
    texts_ = [" ".join(rng.choice(words, 300)) for _ in range(40)]
    near = texts_[7].replace(texts_[7].split()[150], "other", 1)
    far = " ".join(texts_[8].split()[:120] + list(rng.choice(words, 180)))
    given = [*texts_, near, far, "a b", "a b c", "x y z", texts_[3]]
    made = prepare_data(iter(given), tmp_path / "out", tok, near_duplicates=0.8, val_fraction=0)
    counts = made.manifest["documents"]
    assert (counts["near_duplicates"], counts["exact_duplicates"]) == (1, 1)
    assert {"what": "near_duplicates", "document": "texts in memory:41", "like": "texts in memory:8"} in (
        made.manifest["removed"]
    )


def test_options_that_cannot_be(corpus, tok, tmp_path):
    for wrong, message in (
        ({"val_fraction": 1}, "val_fraction"),
        ({"shard_tokens": 0}, "shard_tokens"),
        ({"near_duplicates": 0}, "near_duplicates"),
        ({"bad_rows": "ignore"}, "bad_rows"),
        ({"processes": 0}, "processes"),
        ({"seed": -1}, "seed"),
        ({"separator": ""}, "separator"),
    ):
        with pytest.raises(ConfigError, match=message):
            prepare_data(corpus, tmp_path / "out", tok, **wrong)
    assert not (tmp_path / "out").exists()
    (tmp_path / "blank.txt").write_text(" \n")
    with pytest.raises(DataError, match="no document with any text in it"):
        prepare_data(tmp_path / "blank.txt", tmp_path / "out", tok)


def kept_as_it_came(folder):
    """A tokenizer of llama2.c with equal scores, which no tokenizer.json can say."""
    tokens = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((f"<0x{byte:02X}>", 0.0) for byte in range(256))]
    tokens += [(letter, -9.0) for letter in sorted({*"".join(map(text, range(20)))})] + [
        ("Nu", -1.0),
        ("um", -1.0),
    ]
    entries = [struct.pack("<fi", score, len(piece)) + piece.encode() for piece, score in tokens]
    path = folder / "tokenizer.bin"
    path.write_bytes(struct.pack("<i", 6) + b"".join(entries))
    return Tokenizer.load(path)


def test_a_tokenizer_that_would_hide_this_one_is_refused_before_the_work(tok, tmp_path):
    pieces = kept_as_it_came(tmp_path)
    (tmp_path / "a.txt").write_text("".join(map(text, range(20))), encoding="utf-8")
    prepare_data(tmp_path / "a.txt", tmp_path / "set", tok)
    before = {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()}
    with pytest.raises(TokenizerError, match=r"holds a tokenizer\.json, which would be loaded instead"):
        prepare_data(tmp_path / "a.txt", tmp_path / "set", pieces, overwrite=True)
    assert {path: path.read_bytes() for path in (tmp_path / "set").rglob("*") if path.is_file()} == before
    assert prepare_data(tmp_path / "a.txt", tmp_path / "other", pieces).train_tokens > 0
