"""Rows from every kind of file: the same examples, and faults that name file and line."""

import gzip
import json
import sys

import pytest

from subgpt.data.formats import format_of
from subgpt.data.instruct import read_examples
from subgpt.data.sniff import sniff_kind
from subgpt.errors import DataError, MissingExtraError

ROWS = [
    {"question": "Who, me?", "answer": 'Yes, "you".\nAll of you.'},
    {"question": "ä ö ü 诗", "answer": "🙂"},
    {"question": "tab\there", "answer": "; 'quoted'"},
]


def quoted(text):
    return '"' + text.replace('"', '""') + '"'


def delimited(sign, rows=ROWS):
    lines = [sign.join(rows[0]), *(sign.join(map(quoted, row.values())) for row in rows)]
    return "\r\n".join(lines) + "\r\n"


def write_parquet(path, rows=ROWS):
    pa = pytest.importorskip("pyarrow", reason='pyarrow is an extra: pip install "subgpt[data]"')
    import pyarrow.parquet as parquet

    parquet.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("qa.jsonl", "\n".join(map(json.dumps, ROWS)), "rows"),
        ("qa.csv", delimited(","), "CSV rows"),
        ("qa.tsv", delimited("\t"), "TSV rows"),
        ("qa.json", json.dumps(ROWS, indent=2), "JSON rows"),
        ("bom.csv", "\ufeff" + delimited(","), "CSV rows"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_rows_from_every_kind_of_file(tmp_path, name, text, said, packed):
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert [e.messages for e in read_examples(path)] == [e.messages for e in read_examples(ROWS)]
    assert str(sniff_kind(path)) == f"instruct: {said} with question + answer in {path}"


def test_parquet_by_name_and_in_a_directory(tmp_path):
    path = tmp_path / "qa.parquet"
    write_parquet(path)
    for source in (path, str(path), tmp_path, [path], str(tmp_path / "*.parquet")):
        examples = read_examples(source)
        assert [e.messages for e in examples] == [e.messages for e in read_examples(ROWS)]
        assert sniff_kind(source).why == f"Parquet rows with question + answer in {path}"
    assert str(examples[2].origin) == f"{path}:3"


def test_conversations_in_parquet(tmp_path):
    talk = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write_parquet(tmp_path / "a.parquet", [{"messages": talk, "id": 1}, {"messages": talk * 2, "id": 2}])
    assert [len(e.messages) for e in read_examples(tmp_path)] == [2, 4]


def test_lines_of_csv_are_those_of_the_file(tmp_path):
    path = tmp_path / "qa.csv"
    path.write_text('question,answer\n"a\nb",c\n\nd,e\n', encoding="utf-8")
    assert [str(e.origin) for e in read_examples(path)] == [f"{path}:2", f"{path}:5"]


def test_messages_in_a_cell_are_json(tmp_path):
    path = tmp_path / "chat.csv"
    talk = json.dumps([{"from": "human", "value": "a, b"}, {"from": "gpt", "value": "c"}])
    path.write_text(f"id,conversations\n1,{quoted(talk)}\n", encoding="utf-8")
    assert [m.content for m in read_examples(path)[0].messages] == ["a, b", "c"]
    path.write_text("messages\n[broken\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"chat\.csv:2: column 'messages': not JSON"):
        read_examples(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "id,body\n1,x\n", r"a\.csv:2: the keys 'id', 'body' are no example"),
        (
            "a.csv",
            "question,answer\na\n",
            r"a\.csv:2: 1 fields, but there are 2 columns \('question', 'answer'\)",
        ),
        ("a.csv", "question,answer\na,b,c\n", r"a\.csv:2: 3 fields"),
        ("a.csv", 'question,answer\na,"b\n', r"a\.csv:2: broken row: unexpected end of data"),
        ("a.csv", 'question,answer\na,b\n"c"d,e\n', r"a\.csv:3: broken row"),
        ("a.csv", "q,q\na,b\n", r"a\.csv:1: the column 'q' occurs twice"),
        ("a.csv", "", r"a\.csv:1: no names of columns"),
        ("a.csv", "question,answer\n", "no examples in it"),
        ("a.csv", "question,answer\na,\n", r"a\.csv:2: field 'answer' is empty"),
        ("a.json", "[1]", r"a\.json:1: an object is expected, not a number"),
        ("a.json", '{"a": 1}', r"a\.json: an array of objects is expected, not an object"),
        (
            "a.json",
            '[{"q": "a", "a": "b"},\n{"q" 2}]',
            r"a\.json: not JSON: Expecting ':' delimiter at line 2, column 6",
        ),
        ("a.json", "[" * 100_000, r"a\.json: the JSON is nested too deeply"),
        ("a.json", '[{"q": "a", "a": 7}]', r"a\.json:1: field 'a' must be a string, not a number"),
        ("a.json", '[{"q": "a", "q": "b"}]', r"a\.json: the key 'q' occurs twice"),
    ],
)
def test_faults_name_the_place(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_examples(path)


def test_other_columns_are_named_when_a_source_is_looked_at(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,body\n1,x\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"a\.csv:2: the CSV columns 'id', 'body' are no example.*name it \.txt"
    ):
        sniff_kind(path)


def test_json_that_is_no_array_of_objects_is_running_text(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 1}', encoding="utf-8")
    assert sniff_kind(tmp_path).kind == "text"


def test_a_damaged_parquet_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    write_parquet(path)
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[: len(whole) // 2], whole[:-9] + b"\xff" * 9):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"a\.parquet: not readable as Parquet"):
            read_examples(path)


@pytest.mark.parametrize("module", ["pyarrow.parquet", "datasets"])
def test_a_missing_extra_says_what_to_type(tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    if module == "datasets":
        for name in ("dataset_info.json", "state.json"):
            (tmp_path / name).write_text("{}", encoding="utf-8")
    else:
        (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(MissingExtraError, match=r"pip install \"subgpt\[data\]\""):
        read_examples(tmp_path)


class Rows:
    """What a `datasets.Dataset` is to us: names of columns, and rows as often as one likes."""

    column_names = ("question", "answer")

    def __iter__(self):
        return iter(ROWS)


def test_rows_in_memory():
    rows = Rows()
    assert str(sniff_kind(rows)) == "instruct: rows with question + answer"
    assert len(read_examples(rows)) == len(ROWS)
    with pytest.raises(DataError, match="a mapping of 'train', 'test' was given; give the rows of one"):
        read_examples({"train": ROWS, "test": ROWS})


def test_the_kind_is_told_by_the_name(tmp_path):
    names = ["a.jsonl", "a.ndjson.gz", "A.CSV", "a.tsv", "a.json", "a.parquet", "a.txt", "csv"]
    kinds = [format_of(tmp_path / name) for name in names]
    assert [kind and kind.name for kind in kinds] == [
        *("JSON Lines", "JSON Lines", "CSV", "TSV", "JSON", "Parquet", None, None)
    ]
