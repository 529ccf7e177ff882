import gzip

import pytest

from subgpt.data import reading
from subgpt.data.decoding import clean
from subgpt.data.reading import read_lines, read_text
from subgpt.errors import ConfigError, DataError, MissingFileError


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"plain", "plain"),
        (b"\xef\xbb\xbfmark", "mark"),
        ("ü€😀".encode("utf-16"), "ü€😀"),
        (b"\xfe\xff" + "ü😀".encode("utf-16-be"), "ü😀"),
        (b"a\r\nb\rc\n", "a\r\nb\rc\n"),
        (b"", ""),
    ],
)
def test_encodings_by_their_mark_and_line_ends_untouched(tmp_path, data, text):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    assert read_text(path, "strict").text == text


def test_invalid_bytes_are_replaced_and_reported_or_refused_with_their_offset(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfgood \xff bad")
    decoded = read_text(path)
    assert decoded.text == "good \ufffd bad"
    assert decoded.damaged
    with pytest.raises(DataError, match=r"a\.txt: not UTF-8: byte 0xff at offset 8"):
        read_text(path, "strict")
    with pytest.raises(ConfigError, match="'ignore'"):
        read_text(path, "ignore")


def test_utf32_is_refused_with_advice(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("x".encode("utf-32"))
    with pytest.raises(DataError, match="save it as UTF-8"):
        read_text(path)


def test_lines_keep_separators_that_are_no_line_ends(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes("\ufeffa\u2028b\x0cc\r\n\nlast".encode())
    assert [(n, d.text) for n, d in read_lines(path)] == [(1, "a\u2028b\x0cc"), (2, ""), (3, "last")]
    path.write_bytes("ü\r\nz\n".encode("utf-16"))
    assert [d.text for _, d in read_lines(path)] == ["ü", "z", ""]


def test_lines_that_span_chunks_are_whole_and_offsets_exact(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    lines = [b"x" * n for n in (0, 1, 5, 3000000, 2, 0, 7)]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert [d.text.encode() for _, d in read_lines(path)] == lines
    path.write_bytes(b"abc\nde\xfff\n")
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*0xff at offset 6"):
        list(read_lines(path, "strict"))


def test_gzip_is_read_and_a_broken_one_named(tmp_path):
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"hello" * 1000))
    assert read_text(path).text == "hello" * 1000
    for broken in (gzip.compress(b"hello" * 1000)[:-9], b"no gzip at all", b""):
        path.write_bytes(broken)
        if broken:
            with pytest.raises(DataError, match=r"a\.txt\.gz: reading failed after \d+ bytes"):
                read_text(path)


def test_a_gzip_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "GZIP_FREE_BYTES", 1 << 20)
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\n" * (8 << 20)))
    with pytest.raises(DataError, match="gzip bomb"):
        read_text(path)


def test_a_missing_file_and_a_directory_are_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"gone\.txt"):
        read_text(tmp_path / "gone.txt")
    with pytest.raises(DataError, match="is a directory; name a file"):
        read_text(tmp_path)


def test_lone_surrogates():
    assert clean("a\udc00b", "x").text == "a\ufffdb"
    assert clean("\ud83d\ude00", "x").text == "😀"
    with pytest.raises(DataError, match=r"x: lone surrogate U\+DC00 at character 1"):
        clean("a\udc00b", "x", "strict")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xef\xbb\xbfmark \xc3\xbc\xe2\x82\xac\xf0\x9f\x98\x80 end",
        "ü€😀 plain".encode("utf-16"),
        b"broken \xff\xe2\x82 in \xf0\x9f\x98 the middle \xe2\x82",
        b"\xff\xfea\x00\x00\xd8b\x00\x00\xd8",
    ],
)
def test_pieces_of_a_text_are_the_text(tmp_path, data, size):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    pieces = list(reading.read_text_chunks(path, size=size))
    whole = read_text(path)
    assert "".join(piece.text for piece in pieces) == whole.text
    assert any(piece.damaged for piece in pieces) == whole.damaged
    assert all(piece.text for piece in pieces)
    if whole.damaged:
        with pytest.raises(DataError) as expected:
            read_text(path, "strict")
        with pytest.raises(DataError, match="offset") as found:
            list(reading.read_text_chunks(path, "strict", size=size))
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("text", ["", "a", "a\rb\r\nc\n\nd", "a\r", "\r\n", "x\u2028y\x0cz\n"])
@pytest.mark.parametrize("size", [1, 3, 100])
def test_lines_keep_their_ends(tmp_path, monkeypatch, text, size):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    pieces = reading.read_text_chunks
    monkeypatch.setattr(reading, "read_text_chunks", lambda path, errors: pieces(path, errors, size))
    with path.open(encoding="utf-8", newline="") as file:
        assert [line.text for line in reading.read_text_lines(path)] == list(file)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_of_the_lines_of_a_file_only_damaged_ones_are_marked(tmp_path, monkeypatch, size):
    path = tmp_path / "a.csv"
    path.write_bytes(b"one\ntwo \xff\nthree\nfo\xffur\nfive")
    pieces = reading.read_text_chunks
    monkeypatch.setattr(reading, "read_text_chunks", lambda path, errors: pieces(path, errors, size))
    assert [line.damaged for line in reading.read_text_lines(path)] == [False, True, False, True, False]
    path.write_bytes(
        b"\xff\xfe" + "one\ntwo".encode("utf-16-le") + b"\x00\xd8" + "\nthree".encode("utf-16-le")
    )
    assert [line.damaged for _, line in read_lines(path)] == [False, True, False]


def test_zstandard_is_read_and_a_broken_one_named(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    packed = arrow.compress(b"one\ntwo\n" * 1000, codec="zstd", asbytes=True)
    path = tmp_path / "a.txt.zst"
    path.write_bytes(packed + packed)
    assert read_text(path).text == "one\ntwo\n" * 2000
    path.write_bytes(packed[:-3])
    with pytest.raises(DataError, match=r"a\.txt\.zst: reading failed after"):
        read_text(path)
