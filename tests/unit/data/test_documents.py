import gzip
import io
import json

import pytest

from subgpt.data.documents import Origin, read_documents
from subgpt.errors import ConfigError, DataError


def texts(source, **options):
    return [document.text for document in read_documents(source, **options)]


def test_text_files_are_documents_split_at_the_separator(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(
        "one\n<|endoftext|>\ntwo<|endoftext|> \n <|endoftext|>three", encoding="utf-8", newline="\n"
    )
    documents = list(read_documents(path))
    assert [d.text for d in documents] == ["one\n", "two", "three"]
    assert [d.origin.line for d in documents] == [1, 3, 4]
    assert texts(path, separator=None) == [path.read_text(encoding="utf-8")]
    assert texts(path, separator="two") == ["one\n<|endoftext|>\n", "<|endoftext|> \n <|endoftext|>three"]
    with pytest.raises(ConfigError, match="separator is empty"):
        read_documents(path, separator="")


def test_crlf_survives(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\r\nb\r\n<|endoftext|>\r\nc")
    assert texts(path) == ["a\r\nb\r\n", "c"]


def test_json_lines_plain_and_compressed(tmp_path):
    data = "".join(json.dumps({"text": t, "id": 1}) + "\n" for t in ("one", "", "two\nlines"))
    (tmp_path / "a.jsonl").write_text(data, encoding="utf-8")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(data.encode() + b"\n\n"))
    documents = list(read_documents(tmp_path))
    assert [d.text for d in documents] == ["one", "two\nlines"] * 2
    assert documents[1].origin == Origin(str(tmp_path / "a.jsonl"), 3)
    (tmp_path / "a.jsonl").write_text('{"body": "x"}', encoding="utf-8")
    assert texts(tmp_path / "a.jsonl", text_field="body") == ["x"]


def test_texts_in_memory_lists_of_paths_and_mixtures(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("in a file", encoding="utf-8")
    assert texts(["so much depends", "", "upon"]) == ["so much depends", "upon"]
    assert texts(iter([str(path)])) == [str(path)]
    assert texts([str(path)]) == texts([path]) == ["in a file"]
    with pytest.raises(DataError, match=r"mixes what looks like a path .* iter\(texts\)"):
        read_documents([str(path), "a text"])
    with pytest.raises(FileNotFoundError, match="typo"):
        read_documents(["typo.txt"])


@pytest.mark.parametrize("bad", [b"bytes", {"a": 1}, io.StringIO("x"), 7, None])
def test_what_is_no_source_is_refused(bad):
    with pytest.raises(DataError, match="expected"):
        read_documents(bad)


@pytest.mark.parametrize("bad", [b"bytes", None, 7])
def test_an_iterable_with_something_else_in_it_is_refused(bad):
    with pytest.raises(DataError, match=rf"text number 2 is {type(bad).__name__}"):
        texts(iter(["a", bad]))


def test_an_iterator_that_raises_passes_its_error_on():
    def broken():
        yield "a"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        texts(broken())


@pytest.mark.parametrize("empty", ["", " \n\t", "\ufeff"])
def test_nothing_but_white_space_is_an_error(tmp_path, empty):
    path = tmp_path / "a.txt"
    path.write_text(empty, encoding="utf-8")
    with pytest.raises(DataError, match=r"\.txt.*: no document with any text"):
        texts(path)


def test_reading_is_lazy():
    def endless():
        while True:
            yield "again"

    assert next(read_documents(endless())).text == "again"


def test_damage_is_marked(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a\xff")
    assert [d.damaged for d in read_documents(path)] == [True]
    path.write_bytes(b"a<|endoftext|>b\xff<|endoftext|>c")
    assert [d.damaged for d in read_documents(path)] == [False, True, False]
    assert [d.text for d in read_documents(iter(["\ud800x"]))] == ["\ufffdx"]
