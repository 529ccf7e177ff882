"""Token shards: written in pieces, checked when they are opened, read as one row."""

import os

import numpy as np
import pytest

from subgpt import DataError, MissingFileError, OutputError
from subgpt.data import read_shard
from subgpt.data.atomic import atomic_file
from subgpt.data.loader import WindowLoader, evaluation_batches
from subgpt.data.shards import INDEX_MAGIC, check_shard, id_dtype, read_header, read_index, writing
from subgpt.data.tokens import ShardedTokens

FINGERPRINT = "ab" * 32


@pytest.fixture
def shard(tmp_path):
    path = tmp_path / "a.bin"
    with writing(path, id_dtype(1000), FINGERPRINT) as out:
        out.append(np.arange(5))
        out.append(np.arange(5, 9, dtype=np.uint32))
    return path


def test_what_was_written_is_read(shard):
    ids = read_shard(shard, fingerprint=FINGERPRINT)
    assert ids.tolist() == list(range(9))
    assert ids.dtype == np.uint16
    assert not ids.flags.writeable
    check_shard(shard)
    with pytest.raises(DataError, match="another tokenizer"):
        read_shard(shard, fingerprint="00" * 32)


def test_the_bytes_are_those_of_the_page(shard):
    raw = shard.read_bytes()
    assert raw[:8] == b"subgptok"
    assert np.frombuffer(raw[8:16], "<u4").tolist() == [2, 2]
    assert np.frombuffer(raw[16:24], "<u8").tolist() == [9]
    assert raw[24:56].hex() == FINGERPRINT
    assert raw[56:64].hex() == read_header(shard).checksum
    assert np.frombuffer(raw[64:], "<u2").tolist() == list(range(9))


def test_every_truncation_and_every_flipped_byte_is_noticed(shard):
    raw = shard.read_bytes()
    for length in range(len(raw)):
        shard.write_bytes(raw[:length])
        with pytest.raises(DataError):
            read_shard(shard)
    for at in range(len(raw)):
        if not 24 <= at < 56:  # the fingerprint is compared with the tokenizer's
            shard.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
            with pytest.raises(DataError):
                check_shard(shard)


def test_an_index_is_no_shard(shard, tmp_path):
    with pytest.raises(DataError, match="no index of documents"):
        read_index(shard)
    with pytest.raises(MissingFileError):
        read_index(tmp_path / "none.idx")
    with pytest.raises(DataError, match="no index"):
        check_shard(shard, INDEX_MAGIC)


def test_a_failed_write_leaves_what_was_there(shard):
    before = shard.read_bytes()

    def fail():
        with writing(shard, id_dtype(9), FINGERPRINT) as out:
            out.append(np.arange(3))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert shard.read_bytes() == before
    assert [entry.name for entry in shard.parent.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("cuts", [[], [1], [0, 7, 7, 50], list(range(0, 100, 3))])
def test_a_row_in_pieces_gives_the_batches_of_the_whole(cuts):
    whole = np.arange(100, dtype=np.uint32)
    row = ShardedTokens([part.astype(np.uint16) for part in np.split(whole, cuts)])
    options = {"block_size": 7, "batch_size": 3, "seed": 5}
    for step in range(12):
        for ours, theirs in zip(
            WindowLoader(row, **options).batch(step), WindowLoader(whole, **options).batch(step), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
    both = [list(evaluation_batches(tokens, block_size=7, batch_size=3)) for tokens in (row, whole)]
    assert [[a.tolist() for a in batch] for batch in both[0]] == [[a.tolist() for a in b] for b in both[1]]


def write(path, act):
    with atomic_file(path) as file:
        file.write(b"half")
        act(file)


@pytest.mark.parametrize("error", [MissingFileError("gone"), BrokenPipeError("nobody reads")])
def test_what_whoever_writes_a_file_complains_of_comes_through(tmp_path, error):
    def act(file):
        raise error

    with pytest.raises(type(error), match=str(error)):
        write(tmp_path / "a.bin", act)
    assert not list(tmp_path.iterdir())


def test_what_the_disk_complains_of_names_the_file(tmp_path):
    def act(file):
        os.close(file.fileno())  # a disk that is gone, so to speak
        file.write(bytes(1 << 21))

    for path in (tmp_path / "a.bin", tmp_path / "no" / "a.bin"):
        with pytest.raises(OutputError, match=r"a\.bin: cannot be written"):
            write(path, act)
    assert not list(tmp_path.iterdir())
