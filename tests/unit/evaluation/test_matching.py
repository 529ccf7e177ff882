"""When an answer counts: case, spaces and final punctuation do not matter, numbers are compared as numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt.evaluation.matching import normalised, number_in, same_number, same_text

SPACE = st.text(" \t\n\r ", min_size=1, max_size=3)
WORDS = st.lists(st.text("abcXYZ019'-é", min_size=1, max_size=5), min_size=1, max_size=4)


@given(st.text())
def test_normalising_twice_is_normalising_once(text):
    assert normalised(normalised(text)) == normalised(text)


@given(WORDS, SPACE, st.text(".,;:!?… ", max_size=4))
def test_case_spaces_and_the_end_do_not_matter(words, space, end):
    plain, written = " ".join(words), space + space.join(words) + end
    assert same_text(written, plain)
    assert same_text(written.upper(), plain.upper())


@pytest.mark.parametrize(
    ("answer", "expected"),
    [("Paris", "Pari"), ("a b", "ab"), ("", "?"), ("U.S", "US"), ("Paris, France", "Paris")],
)
def test_other_texts_are_others(answer, expected):
    assert not same_text(answer, expected)


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["{}", "It is {}.", "3 and 4 make {}", "x\n#### {}\nso 9"]),
)
def test_a_number_is_found_with_and_without_commas(number, frame):
    assert number_in(frame.format(number)) == number
    assert number_in(frame.format(f"{number:,}")) == number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("costs $1,234.50", "1234.50"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("minus −7", "-7"),
        ("10-3", "3"),
        ("(2)-3", "3"),
        ("1,2,3", "3"),
        ("12,34", "34"),
        ("7.", "7"),
        ("<<48/2=24>>24 clips\n#### 72", "72"),
        ("#### none, 3", "3"),
    ],
)
def test_numbers_as_they_are_written(text, number):
    assert number_in(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none", "####", "١٢", "."])
def test_no_number(text):
    assert number_in(text) is None
    assert not same_number(text, text)


def test_equal_numbers_may_be_written_otherwise():
    assert same_number("72.00 dollars", "#### 72")
    assert not same_number("#### 73", "#### 72")
    assert not same_number("72, then #### 73", "#### 72")
