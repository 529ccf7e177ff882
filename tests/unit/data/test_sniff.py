import pytest

from subgpt.data.sniff import sniff_kind
from subgpt.errors import DataError, MissingFileError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_kinds_by_name_and_first_row(tmp_path):
    a = write(tmp_path / "a.txt", "text")
    b = write(tmp_path / "b.jsonl", '\n{"text": "x"}\n')
    c = write(tmp_path / "c.jsonl", '{"question": "x", "answer": "y", "text": "rendered"}')
    assert str(sniff_kind(a)) == f"text: text in {a}"
    assert str(sniff_kind(b)) == f"text: rows with 'text' in {b}"
    assert str(sniff_kind(c)) == f"instruct: rows with question + answer in {c}"
    assert str(sniff_kind([a, b])) == f"text: text in {a} and 1 more"
    with pytest.raises(DataError, match="mixes running text with examples"):
        sniff_kind(tmp_path)


def test_rows_in_no_shape_list_their_keys(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"body": "x"}')
    with pytest.raises(DataError, match=r"a\.jsonl:1: the keys 'body' are neither"):
        sniff_kind(path)
    assert sniff_kind(path, text_field="body").kind == "text"


def test_what_is_in_memory():
    assert sniff_kind(["a text"]).kind == "text"
    assert sniff_kind(iter(["a"])).kind == "text"
    assert sniff_kind([{"prompt": "a", "completion": "b"}]).kind == "instruct"
    with pytest.raises(DataError, match="row 1"):
        sniff_kind([{"x": 1}])
    with pytest.raises(MissingFileError):
        sniff_kind("nowhere.jsonl")
