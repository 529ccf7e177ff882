import pytest

from subgpt.data.documents import read_documents
from subgpt.data.jsonl import read_rows
from subgpt.errors import DataError


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "a.jsonl:2: not JSON: .* at column 2"),
        ('{"text": "a",}', "not JSON"),
        ('{"text": "a"} {"text": "b"}', "not JSON: Extra data"),
        ("[1]", "not an array"),
        ("null", "not null"),
        ('{"text": "a", "text": "b"}', "key 'text' occurs twice"),
        ('{"x": {"k": 1, "k": 2}}', "key 'k' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"text": ' + "1" * 5000 + "}", "not usable JSON|must be a string"),
        ('{"text": 7}', "field 'text' must be a string, not a number"),
        ('{"text": null}', "not null"),
        ('{"body": "a", "id": 1}', r"no field 'text'; the fields there are: 'body', 'id'; .*text_field"),
        ("{}", "the fields there are: none"),
    ],
)
def test_every_fault_names_file_and_line(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        list(read_documents(path))
    assert f"{path}:2" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_hundred_megabytes_in_a_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "' + b"x" * 20_000_000 + b'"}\n{"text": "y"}')
    assert [len(row.fields["text"]) for row in read_rows(path)] == [20_000_000, 1]
