"""A JSON array read piece by piece: the elements, and the errors, of a parser that sees all of it."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt import DataError
from subgpt.data.decoding import Decoded
from subgpt.data.formats.array import read_array
from subgpt.data.formats.elements import NoArrayError, read_elements
from subgpt.data.jsonl import parse_json

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just("\\ud83d\\ude00 \n"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
PUT = ("", *',]}{[":x-', "\\", "\\u12", "\n", "1.", "1e", "nul")
SIZES = st.sampled_from([1, 2, 3, 7, 40, 10_000])


def pieces(text, size):
    return (Decoded(text[at : at + size]) for at in range(0, len(text), size))


def streamed(text, size):
    """What comes out, and the error at its end."""
    found = []
    try:
        found += [element.value for element in read_elements(pieces(text, size), "a.json", "mend it")]
    except DataError as error:
        return found, str(error)
    return found, None


def whole(text):
    try:
        return parse_json(text, "a.json", "mend it"), None
    except DataError as error:
        return None, str(error)


@given(
    st.lists(JSON, max_size=5),
    SIZES,
    st.sampled_from([None, 1, 3]),
    st.sampled_from(["", " \n\t ", " " * 50]),
)
def test_the_elements_are_those_of_the_whole(values, size, indent, space):
    text = space + json.dumps(values, indent=indent).replace(",", space + "," + space) + space
    found, error = streamed(text, size)
    assert error is None
    assert repr(found) == repr(whole(text)[0])  # NaN is not NaN


@given(st.lists(JSON, min_size=1, max_size=4), SIZES, st.data())
def test_what_is_wrong_is_said_as_of_the_whole(values, size, data):
    text = json.dumps(values, indent=data.draw(st.sampled_from([None, 2])), ensure_ascii=False)
    at = data.draw(st.integers(1, len(text)))
    cut = data.draw(st.integers(0, 3))
    put = data.draw(st.sampled_from(PUT))
    broken = text[:at] + put + text[at + cut :]
    if not broken.lstrip().startswith("["):
        return
    expected, said = whole(broken)
    found, error = streamed(broken, size)
    assert error == said
    if said is None:
        assert repr(found) == repr(expected)


@pytest.mark.parametrize(
    "text",
    [
        "[", "[ ", "[1", "[1,", "[1,]", "[1\n ,\n ]", "[]x", "[] \n x", "[1]]", "[1 2]", "[,]", "[1,,2]", "[tru]",
        "[-]", "[1.]", "[1e]", "[" + "9" * 5000 + "]",
        '[{"a": 1}, {"a": 1, "a": 2}]', '[{"a": "b]', '["\\q"]', '["a\nb"]',
        "[{}" + " " * 100, "[{},\n\n" + " " * 100 + "}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_known_faults(text, size):
    assert whole(text)[1] is not None
    assert streamed(text, size)[1] == whole(text)[1]


def test_something_else_than_an_array():
    for text in ("", "  ", "{}", "\ufeff[]", "7"):
        with pytest.raises(NoArrayError):
            list(read_elements(pieces(text, 2), "a.json", "mend it"))


def test_what_is_before_a_fault_comes_first_and_what_is_behind_is_not_read():
    def text():
        yield Decoded('[{"a": 1}, {"b" 2}, ')
        for _ in range(3):
            yield Decoded('{"c": 3}, ')
        raise AssertionError("read on behind the fault")

    elements = read_elements(text(), "a.json", "mend it")
    assert next(elements).value == {"a": 1}
    with pytest.raises(DataError, match="Expecting ':' delimiter at column 17"):
        next(elements)


def test_memory_is_that_of_a_piece(tmp_path):
    row = json.dumps({"text": "so much depends upon a red wheel barrow " * 20})
    path = tmp_path / "a.json"
    with path.open("w") as file:
        file.write("[" + row)
        for _ in range(30_000):
            file.write(",\n" + row)
        file.write("]")
    assert path.stat().st_size > 24_000_000
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_array(path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 30_001
    assert peak < 8_000_000


def test_an_element_of_many_pieces_is_read_in_few_steps(monkeypatch):
    tries = []
    from subgpt.data.formats import elements

    class Counting:
        def raw_decode(self, text, at):
            tries.append(len(text))
            return json.JSONDecoder().raw_decode(text, at)

    monkeypatch.setattr(elements, "_DECODER", Counting())
    long = json.dumps([{"text": "a" * 100_000}])
    assert streamed(long, 10) == (json.loads(long), None)
    assert sum(tries) < 4 * len(long)


def test_damage_is_that_of_the_object(tmp_path):
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"text": "a"}, {"text": "b\xff"}, {"text": "c"}]')
    assert [(row.line, row.damaged) for row in read_array(path)] == [(1, False), (2, True), (3, False)]
    with pytest.raises(DataError, match="byte 0xff at offset 27"):
        list(read_array(path, "strict"))


def test_utf_16(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"text": "ä"}]', encoding="utf-16")
    assert [row.fields for row in read_array(path)] == [{"text": "ä"}]
