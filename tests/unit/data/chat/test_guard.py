"""Names of special tokens in messages: broken wherever they are, and put together again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt.data.chat.guard import SpecialNames
from subgpt.errors import DataError

GUARD = "\ufdd0"
# Names that overlap, that contain and that complete each other.
NAMES = ["<|x|>", "|><|", "<|x|>y", "<<", "x|>"]


@given(st.text("<|x>y ", max_size=12), st.text("<|x>y", max_size=4), st.text("<|x>y", max_size=4))
def test_no_name_is_whole_in_a_message_or_at_its_borders(content, before, after):
    names = SpecialNames.of(NAMES)
    guarded = names.guard(content, GUARD)
    assert guarded.replace(GUARD, "") == content
    assert not names.pattern.search(guarded)
    for text, inner in (
        (before + guarded + after, guarded),
        (before + guarded.strip() + after, guarded.strip()),
    ):
        for match in names.pattern.finditer(text):
            # What is found is written by the template alone.
            assert match.end() <= len(before) or match.start() >= len(before) + len(inner) or not inner


@given(st.text("<|x>y ", max_size=12), st.booleans())
def test_segments_are_the_text(content, trained):
    names = SpecialNames.of(NAMES)
    segments = list(names.segments("<|x|>" + names.guard(content, GUARD) + "<|x|>", trained, GUARD))
    assert "".join(s.text for s in segments) == f"<|x|>{content}<|x|>"
    assert all(s.trained == trained for s in segments)
    if names.pattern.search(content):
        assert [s.text for s in segments if s.markup] == ["<|x|>", "<|x|>"]


def test_nothing_to_guard():
    assert SpecialNames.of([]).guard("<|x|>", GUARD) == "<|x|>"
    assert SpecialNames.of(NAMES).guard(" \n", GUARD) == " \n"
    with pytest.raises(DataError, match="special token of one character"):
        SpecialNames.of(["x"]).guard("axb", GUARD)
