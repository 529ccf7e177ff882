"""Special tokens that are added later: new ids at the end, everything else as it was."""

import json

import pytest

from subgpt.errors import DtypeError, TokenizerError
from subgpt.tokenizer import Tokenizer, add_special_tokens

TEXT = "so much depends upon a red wheel barrow"
NAMES = ["<|im_start|>", "<|im_end|>"]


@pytest.mark.parametrize("level", ["subword", "char", "word"])
def test_ids_stay_and_new_ones_follow(level, tmp_path):
    tok = Tokenizer.train([TEXT], level=level, vocab_size=280 if level == "subword" else None)
    more = add_special_tokens(tok, NAMES)
    assert more.vocab_size == tok.vocab_size + 2
    assert [more.token_to_id(name) for name in NAMES] == [tok.vocab_size, tok.vocab_size + 1]
    for text in (TEXT, f"{TEXT} ü 诗\n", "upon"):
        assert more.encode(text).tolist() == tok.encode(text).tolist()
    assert more.encode("a<|im_end|>", allowed_special="all").tolist()[-1] == tok.vocab_size + 1
    assert (more.eot_id, more.unk_id, more.level) == (tok.eot_id, tok.unk_id, tok.level)
    assert more.special_tokens == {
        **tok.special_tokens,
        **dict(zip(NAMES, (tok.vocab_size, tok.vocab_size + 1), strict=True)),
    }
    more.save(tmp_path)
    assert Tokenizer.load(tmp_path) == more
    assert "<|im_end|>" not in tok.special_tokens


@pytest.mark.parametrize("level", ["subword", "char", "word"])
def test_the_file_says_that_they_stand_for_themselves_alone(level):
    tok = Tokenizer.train([TEXT], level=level, vocab_size=280 if level == "subword" else None)
    file = json.loads(add_special_tokens(tok, NAMES).to_json())
    added = {entry["content"]: entry for entry in file["added_tokens"]}
    for id, name in enumerate(NAMES, tok.vocab_size):
        sides = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        assert added[name] == {"id": id, "content": name, "special": True, **sides}
        assert file["model"]["vocab"][name] == id


def test_spaces_beside_them_and_composed_names_stay_as_they_are():
    parsed = json.loads(Tokenizer.train(["e\u0301 caf\u00e9 so"], vocab_size=262).to_json())
    tok = Tokenizer.from_json(json.dumps({**parsed, "normalizer": {"type": "NFC"}}))
    more = add_special_tokens(tok, ["<e\u0301>", "<|x|>"])
    ids = more.encode("a  <|x|>  b<e\u0301><\u00e9>", allowed_special="all")
    assert more.decode(ids) == "a  <|x|>  b<e\u0301><\u00e9>"
    assert [id for id in ids.tolist() if id >= tok.vocab_size] == [tok.vocab_size + 1, tok.vocab_size]


def test_those_that_are_there_stay():
    tok = Tokenizer.train([TEXT], vocab_size=280, special_tokens=("<|endoftext|>", "<|im_end|>"))
    assert add_special_tokens(tok, ["<|im_end|>"]) is tok
    more = add_special_tokens(tok, [*NAMES, *NAMES])
    assert more.vocab_size == tok.vocab_size + 1


def test_an_ordinary_entry_becomes_special_and_keeps_its_id():
    tok = Tokenizer.train([TEXT], level="word")
    more = add_special_tokens(tok, ["upon"])
    assert more.vocab_size == tok.vocab_size
    assert more.special_tokens["upon"] == tok.token_to_id("upon")


def test_text_does_not_become_a_special_token_by_merging():
    # `tokenizers` trains on the text of special tokens as on any other, and so makes merges that lead to them.
    tok = Tokenizer.train(["</s> </s> a"] * 9, vocab_size=262, special_tokens=(), pattern=r"\S+| ")
    end = tok.token_to_id("</s>")
    assert tok.encode("</s>").tolist() == [end]
    characters = {
        "added_tokens": [{"id": 0, "content": "</s>", "special": True}],
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "BPE",
            "vocab": {"</s>": 0, "<": 1, "/": 2, "s": 3, ">": 4, "</": 5, "s>": 6},
            "merges": [["<", "/"], ["s", ">"], ["</", "s>"]],
        },
    }
    for special, id in (
        (add_special_tokens(tok, ["</s>"]), end),
        (Tokenizer.from_json(json.dumps(characters)), 0),
    ):
        ids = special.encode_ordinary("</s>")
        assert id not in ids
        assert special.decode(ids) == "</s>"
        assert special.encode("</s>", allowed_special="all").tolist() == [id]


def test_names_that_cannot_be():
    tok = Tokenizer.train([TEXT], vocab_size=257)
    for name in ("", "\ud800"):
        with pytest.raises(TokenizerError, match="name of a special token"):
            add_special_tokens(tok, [name])
    with pytest.raises(DtypeError, match="put it in a list"):
        add_special_tokens(tok, "<|im_end|>")
    with pytest.raises(DtypeError, match=r"^name must be str, not int$"):
        add_special_tokens(tok, [7])
