"""A text as tokenizers cut it, and the tokenizers that can be asked."""

from __future__ import annotations

import dataclasses

from subgpt.playground.views.texts import bytes_of, characters_of, folders_with, openers_of, view_of


def test_characters_and_bytes_need_no_tokenizer():
    text = "né🙂"
    characters, raw = characters_of(text), bytes_of(text)
    assert (characters.count, raw.count) == (3, 7)
    assert characters.size == raw.size == 7
    assert [segment.text for segment in raw.segments] == ["n", "é", "🙂"]


def test_half_a_surrogate_pair_does_no_harm():
    assert characters_of("a\ud800").count == 2
    assert bytes_of("a\ud800").count == 2


def test_models_with_the_same_tokenizer_have_one_view(served, run_folder):
    other = dataclasses.replace(served, name="again")
    openers = openers_of([served, other], run_folder)
    assert list(openers) == ["plums", "more/letters", "plums (another)"]
    assert openers["more/letters"]().vocab_size == served.tokenizer.vocab_size
    assert openers["more/letters"]() is openers["more/letters"]()


def test_a_special_token_is_recognised_if_that_is_wanted(served):
    openers = openers_of([served], None)
    text = "a<|endoftext|>"
    assert view_of("plums", openers, text, special=True).count == 2
    assert view_of("plums", openers, text, special=False).count > 2


def test_only_two_levels_of_a_folder_are_looked_through(tmp_path):
    for place in ("", "a", "a/b", "a/b/c"):
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        (folder / "tokenizer.json").write_text("{}")
    found = [path.relative_to(tmp_path).as_posix() for path in folders_with(tmp_path, "tokenizer.json")]
    assert found == [".", "a", "a/b"]
    assert folders_with(None, "tokenizer.json") == []
