"""Output that keeps to a regular expression, a JSON schema or a grammar, whatever the model would rather write."""

from __future__ import annotations

import io
import json
import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subgpt
from subgpt import (
    GPT,
    ConfigError,
    GPTConfig,
    InvalidValueError,
    MissingExtraError,
    complete,
    generate,
    stream,
)
from subgpt.generation.config import GenerationConfig
from subgpt.generation.structured import Matcher, _Entries, anchor

pytest.importorskip("llguidance", reason="llguidance, of the extra `structured`, is not installed")

TEXT = string.ascii_letters + string.digits + string.punctuation + " \n"


@pytest.fixture(scope="module")
def subwords():
    """A tokenizer with tokens of several bytes, and a model of random weights."""
    text = '{"name": "red", "size": 12, "on": true} {"a": [1, 2.5, null]} 2026-11-28 the red cat ' * 20
    tokenizer = subgpt.Tokenizer.train(iter([text]), vocab_size=320)
    return GPT(shape(tokenizer), seed=1), tokenizer


def shape(tokenizer, **changes):
    return GPTConfig(tokenizer.vocab_size, block_size=64, n_layer=1, n_head=2, n_embd=16, **changes)


def sentencepiece_tokenizer(tmp_path):
    """A SentencePiece vocabulary with byte tokens, whose decoder drops the space that begins a text."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the red cat sat on 12 mats {a: b}"] * 50),
        model_writer=model,
        model_type="bpe",
        vocab_size=330,
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path / "tokenizer.model"
    path.write_bytes(model.getvalue())
    return subgpt.Tokenizer.load(path)


def tokenizers(tmp_path):
    yield "bytes", subgpt.Tokenizer.train(iter(["the red cat sat"] * 9), vocab_size=280)
    yield (
        "bytes without an end",
        subgpt.Tokenizer.train(iter(["the cat"] * 9), vocab_size=270, special_tokens=()),
    )
    yield "characters", subgpt.Tokenizer.train(iter([TEXT]), level="char")
    yield "characters without an end", subgpt.Tokenizer.train(iter([TEXT]), level="char", special_tokens=())
    yield "words", subgpt.Tokenizer.train(iter(["the red cat sat 1 2 12 a ab b"]), level="word")
    yield "sentencepiece", sentencepiece_tokenizer(tmp_path)


@pytest.mark.parametrize("prompt", ["", "the cat"])
def test_every_kind_of_tokenizer_keeps_to_an_expression(tmp_path, prompt):
    for name, tokenizer in tokenizers(tmp_path):
        model = GPT(shape(tokenizer), seed=2)
        for seed in range(4):
            (one,) = complete(model, tokenizer, prompt, regex="( (red|cat|12))+", seed=seed, max_new_tokens=8)
            assert re.fullmatch("( (red|cat|12))*( (r|re|c|ca|1)?)?", one.text), name
            if one.finish_reason == "stop":
                assert re.fullmatch("( (red|cat|12))+", one.text), name
            (one,) = complete(model, tokenizer, prompt, regex="(the|a) (red )?cat", seed=seed)
            assert one.finish_reason == "stop", name
            assert re.fullmatch("(the|a) (red )?cat", one.text), name


def test_where_an_expression_may_end_a_text_may_end(subwords):
    ended = [complete(*subwords, "x", regex="a*", seed=seed, max_new_tokens=60)[0] for seed in range(8)]
    assert {one.finish_reason for one in ended} == {"stop"}
    assert len({one.text for one in ended}) > 1


def test_what_must_come_next_is_cut_as_the_tokenizer_cuts_it():
    tokenizer = subgpt.Tokenizer.train(["the red cat sat, so the red cat"] * 9, vocab_size=280)
    entries = _Entries(tokenizer, (tokenizer.eot_id,))
    for text in ("the red", "thedr"):  # in the latter no merge leads to the entry `the`
        assert entries(text.encode()) == tokenizer.encode(text).tolist()
    assert entries._by_longest(b"thedr") != entries(b"thedr")
    assert entries(b"\xc3\xa9\xff") == [0xC3, 0xA9, 0xFF]
    assert entries(b"") == []
    (end,) = tokenizer.encode("t").tolist()
    assert end in _Entries(tokenizer, ())(b"tz")
    assert _Entries(tokenizer, (end,))(b"tz") == [], "an id that ends a text is none within it"


def test_what_the_tokenizer_would_write_otherwise_is_cut_by_the_longest_entries(tmp_path):
    words = subgpt.Tokenizer.train(["the red cat a ab"], level="word")
    entries = _Entries(words, (words.eot_id,))
    # Cut as words `abred` is unknown; and nothing goes on at `z`.
    assert [words.id_to_token(id) for id in entries(b"abred az")] == ["ab", "red", " ", "a"]
    assert entries(b"<|endoftext|>") == entries(b"<unk>") == []
    pieces = sentencepiece_tokenizer(tmp_path)  # puts a space in front of what it encodes
    entries = _Entries(pieces, (2,))
    assert b"".join(entries.tokens[id] for id in entries(b"red cat")) == b"red cat"


def test_an_anchor_is_text_by_itself(tmp_path):
    for name, tokenizer in tokenizers(tmp_path):
        id = anchor(tokenizer)
        assert id not in tokenizer.special_tokens.values(), name
        assert tokenizer.decode([id]).strip(), name
    blank = subgpt.Tokenizer.train([" "], level="char")
    assert anchor(blank) == 0


EXPRESSIONS = st.recursive(
    st.sampled_from(["a", "[0-9]", "[a-f]", "é", "日", r"\.", "cat", " "]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["?", "*", "+", "{2}", "{1,3}"])).map(
            lambda two: f"({two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)


@settings(max_examples=100)
@given(expression=EXPRESSIONS, seed=st.integers(0, 1000))
def test_what_ends_matches_the_expression(subwords, expression, seed):
    (one,) = complete(*subwords, "x", regex=expression, seed=seed, max_new_tokens=40)
    assert one.finish_reason == "length" or re.fullmatch(expression, one.text)
    assert one.text == "".join(stream(*subwords, "x", regex=expression, seed=seed, max_new_tokens=40))


SIMPLE = st.one_of(
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"type": "integer", "minimum": 0, "maximum": 99}]
    ),
    st.integers(1, 6).map(lambda most: {"type": "string", "maxLength": most}),
    st.lists(st.text('abc"\\é', max_size=3), min_size=1, max_size=3).map(lambda texts: {"enum": texts}),
)
SCHEMAS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.tuples(inner, st.integers(0, 3)).map(
            lambda two: {"type": "array", "items": two[0], "maxItems": two[1]}
        ),
        st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, min_size=1, max_size=3).map(
            lambda fields: {
                "type": "object",
                "properties": fields,
                "required": sorted(fields),
                "additionalProperties": False,
            }
        ),
    ),
    max_leaves=4,
)


def fits(value, schema):
    """Whether a value is of a schema: the keywords that are drawn above."""
    if "enum" in schema:
        return value in schema["enum"]
    kinds = {
        "boolean": bool,
        "null": type(None),
        "integer": int,
        "string": str,
        "array": list,
        "object": dict,
    }
    if type(value) is not kinds[schema["type"]]:
        return False
    if schema["type"] == "integer":
        return schema["minimum"] <= value <= schema["maximum"]
    if schema["type"] == "string":
        return len(value) <= schema["maxLength"]
    if schema["type"] == "array":
        return len(value) <= schema["maxItems"] and all(fits(item, schema["items"]) for item in value)
    if schema["type"] == "object":
        fields = schema["properties"]
        return value.keys() == fields.keys() and all(fits(value[name], fields[name]) for name in fields)
    return True


@settings(max_examples=100)
@given(schema=SCHEMAS, seed=st.integers(0, 1000))
def test_what_ends_is_json_of_the_schema(subwords, schema, seed):
    (one,) = complete(*subwords, "x", json_schema=schema, seed=seed, max_new_tokens=150)
    assert one.finish_reason == "length" or fits(json.loads(one.text), schema)
    assert one == complete(*subwords, "x", json_schema=json.dumps(schema), seed=seed, max_new_tokens=150)[0]


def test_most_texts_end_of_themselves(subwords):
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["red", "cat"]}, "on": {"type": "boolean"}},
        "required": ["name", "on"],
        "additionalProperties": False,
    }
    ended = complete(*subwords, "x", json_schema=schema, seed=1, n=10, max_new_tokens=200)
    assert all(
        one.finish_reason == "stop" and fits(json.loads(one.text), schema | {"type": "object"})
        for one in ended
    )


def test_a_grammar_in_lark_and_in_gbnf(subwords):
    for grammar in ('start: "yes" | "no" /[0-9]/', 'root ::= "yes" | "no" [0-9]'):
        for seed in range(5):
            text = generate(*subwords, "x", grammar=grammar, seed=seed, return_prompt=False)
            assert re.fullmatch("yes|no[0-9]", text)


def test_the_rules_of_sampling_hold_beside_a_grammar(subwords):
    model, tokenizer = subwords
    greedy = {"regex": "(red|cat)", "temperature": 0, "return_prompt": False}
    first = generate(model, tokenizer, "x", **greedy)
    other = generate(model, tokenizer, "x", bad_words=[first, first[0]], **greedy)
    assert {first, other} == {"red", "cat"}
    assert generate(model, tokenizer, "x", regex="a*", max_new_tokens=0) == "x"
    (one,) = complete(model, tokenizer, "x", regex="abc", max_new_tokens=3, logprobs=2)
    assert one.finish_reason == "stop"
    assert len(one.tokens) == len(one.ids)


def test_what_cannot_be_met_is_an_error_and_never_free_text(subwords, tmp_path):
    for options, said in [
        ({"regex": "(a"}, "regex cannot be used"),
        ({"json_schema": "{"}, "json_schema is not JSON"),
        ({"json_schema": {"type": "frog"}}, "json_schema cannot be used"),
        ({"json_schema": {"type": "integer", "minimum": 5, "maximum": 3}}, "minimum .5. is greater"),
        ({"grammar": "start: ("}, "grammar"),
        ({"grammar": "root ::= ("}, "grammar"),
        ({"regex": "a", "grammar": 'start: "a"'}, "give one of them"),
    ]:
        with pytest.raises(ConfigError, match=said) as caught:
            stream(*subwords, "x", **options)
        assert "\n" not in str(caught.value)
    few = subgpt.Tokenizer.train(iter(["abc"]), level="char")
    model = GPT(shape(few), seed=1)
    with pytest.raises(InvalidValueError, match="no token of the vocabulary"):
        generate(model, few, "a", regex="abX")
    with pytest.raises(
        InvalidValueError,
        match=r"^regex: no token of the vocabulary goes on with what is required after the text so far \(\w+\); the "
        "tokenizer has no entries for it: give another regex or tokenizer$",
    ):
        generate(model, few, "a", regex="abX")
    with_space = subgpt.Tokenizer.train(iter(["a b c"]), level="char")
    with pytest.raises(InvalidValueError, match="no token of the vocabulary"):
        generate(GPT(shape(with_space), seed=1), with_space, "a", json_schema={"type": "object"})
    with pytest.raises(InvalidValueError, match="bad_words or what the grammar lets"):
        generate(*subwords, "x", regex="7", bad_words="7")


def test_a_grammar_that_is_given_up_says_why(subwords):
    """llguidance counts the work that a token costs it; the sampler offers none that its mask refuses."""
    matcher = Matcher(subwords[1], GenerationConfig(regex="ab"))
    with pytest.raises(InvalidValueError, match=r"^regex: too much to keep track of \(.*\); simplify it$"):
        matcher.push(ord("z"))
    assert matcher._reason()


class Complaining:
    """A grammar that has one thing to say."""

    def __init__(self, said):
        self.said = said

    def get_error(self):
        return self.said


def test_the_first_line_of_a_reason_is_passed_on(subwords):
    matcher = Matcher(subwords[1], GenerationConfig(regex="ab"))
    for said, passed_on in [("", ""), ("<state>\nmore", ""), ("too deep\nmore", " (too deep)")]:
        matcher._native = Complaining(said)
        assert matcher._reason() == passed_on


def test_without_llguidance_the_line_to_type_is_said(subwords, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "llguidance", None)
    with pytest.raises(
        MissingExtraError, match=r"regex needs llguidance: pip install \"subgpt\[structured\]\""
    ):
        generate(*subwords, "x", regex="a")
