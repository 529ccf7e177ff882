"""Conversations in both shapes, and what is wrong with some."""

import pytest

from subgpt.data.instruct import read_examples
from subgpt.data.masking import tokenize_examples
from subgpt.data.messages import Message
from subgpt.errors import ConfigError, DataError


def share(*turns):
    return {"conversations": [{"from": role, "value": content} for role, content in turns]}


def test_sharegpt_is_a_conversation():
    row = share(("system", "S"), ("human", "a"), ("gpt", "b"))
    expected = (Message("system", "S"), Message("user", "a"), Message("assistant", "b"))
    assert read_examples([row])[0].messages == expected
    named = {"conversations": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    assert read_examples([named])[0].messages == expected[1:]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            share(("human", "a"), ("bot", "b")),
            "row:1: message 2: unknown role 'bot'; known are 'system', 'human'",
        ),
        (
            {"messages": [{"role": "human", "content": "a"}]},
            "unknown role 'human'; known are 'system', 'user'",
        ),
        ({"conversations": [{"from": "human"}]}, "message 1: no field 'value'"),
        ({"conversations": [{"from": "human", "value": 3}]}, "field 'value' must be a string, not a number"),
        ({"conversations": None}, "'conversations' must be an array of at least one message, not null"),
        (share(("human", "a"), ("human", "b")), "'assistant' is expected where 'user' stands"),
        (share(("human", "a"), ("gpt", "  ")), "the content of 'gpt' is empty"),
    ],
)
def test_faults_are_named(row, message):
    with pytest.raises(DataError, match=message):
        read_examples([row])


def test_the_order_of_roles_can_be_left_to_a_template():
    row = share(("gpt", "Hello"), ("human", "a"), ("human", "b"), ("gpt", "c"))
    assert len(read_examples([row], free_turns=True)[0].messages) == 4
    with pytest.raises(DataError, match="has no answer"):
        read_examples([share(("gpt", "a"), ("human", "b"))], free_turns=True)


@pytest.mark.parametrize(
    ("loss_on", "trained"),
    [
        ("answers", " b<|endoftext|> d<|endoftext|>"),
        ("last", " d<|endoftext|>"),
        ("all", "Question: a\nAnswer: b<|endoftext|>Question: c\nAnswer: d<|endoftext|>"),
    ],
)
def test_what_is_trained_in_the_plain_form(tok, loss_on, trained):
    row = share(("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))
    [example] = tokenize_examples(read_examples([row]), tok, loss_on=loss_on)
    assert tok.decode(example.ids[example.trained]) == trained
    assert tok.decode(example.ids) == "Question: a\nAnswer: b<|endoftext|>Question: c\nAnswer: d<|endoftext|>"


def test_an_unknown_loss_is_refused(tok):
    with pytest.raises(ConfigError, match="loss_on must be 'answers', 'all' or 'last', not 'none'"):
        tokenize_examples(read_examples([{"q": "a", "a": "b"}]), tok, loss_on="none")
