import json
from collections import Counter

import pytest

from subgpt.data.instruct import read_examples, split_examples
from subgpt.data.masking import preview, tokenize_examples
from subgpt.errors import DataError


def segments(row):
    return [(s.text, s.trained) for s in read_examples([row])[0].segments]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "1+1=", "completion": "2"}, [("1+1=", False), ("2", True)]),
        ({"prompt": "", "completion": "2"}, [("", False), ("2", True)]),
        ({"question": "A?", "answer": "B."}, [("Question: A?\nAnswer:", False), (" B.", True)]),
        ({"q": "A?", "a": "B.", "id": 3}, [("Question: A?\nAnswer:", False), (" B.", True)]),
        (
            {"instruction": "Add", "input": "1 2", "output": "3"},
            [("Question: Add\n1 2\nAnswer:", False), (" 3", True)],
        ),
        (
            {"instruction": "Add", "input": "", "output": "3"},
            [("Question: Add\nAnswer:", False), (" 3", True)],
        ),
        (
            {
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": "A?"},
                    {"role": "assistant", "content": "B."},
                    {"role": "user", "content": "C?"},
                    {"role": "assistant", "content": "D."},
                ]
            },
            [
                ("Be brief.\nQuestion: A?\nAnswer:", False),
                (" B.", True),
                ("Question: C?\nAnswer:", False),
                (" D.", True),
            ],
        ),
    ],
)
def test_accepted_shapes(row, expected):
    assert segments(row) == expected


def chat(*turns):
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"text": "a", "label": 1},
            r"the keys 'text', 'label' are no example; expected prompt \+ completion, question",
        ),
        ({"question": "a"}, "the keys 'question' are no example"),
        ({"question": "a", "answer": " "}, "field 'answer' is empty"),
        ({"question": "", "answer": "b"}, "field 'question' is empty"),
        ({"prompt": "a", "completion": ""}, "field 'completion' is empty"),
        ({"q": "a", "a": ["b"]}, "field 'a' must be a string, not an array"),
        ({"instruction": "a", "input": 7, "output": "b"}, "field 'input' must be a string, not a number"),
        ({"messages": []}, "at least one message"),
        ({"messages": "hi"}, "must be an array"),
        ({"messages": ["hi"]}, "message 1 must be an object"),
        ({"messages": [{"role": "user"}]}, "message 1: no field 'content'"),
        (chat(("tool", "x")), "message 1: unknown role 'tool'; known are"),
        (chat(("user", " ")), "content of 'user' is empty"),
        (chat(("system", "x")), "nothing to train on"),
        (chat(("assistant", "x")), "'user' is expected where 'assistant' stands"),
        (chat(("user", "x"), ("user", "y")), "'assistant' is expected where 'user' stands"),
        (chat(("user", "x"), ("system", "y")), "'assistant' is expected where 'system' stands"),
        (chat(("user", "x")), "has no answer"),
    ],
)
def test_every_fault_names_the_line(tmp_path, row, message):
    path = tmp_path / "qa.jsonl"
    path.write_text(json.dumps({"q": "a", "a": "b"}) + "\n" + json.dumps(row), encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_examples(path)
    assert f"{path}:2" in str(caught.value)


def test_sources_without_examples(tmp_path):
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    with pytest.raises(DataError, match="examples are read from JSON Lines"):
        read_examples(tmp_path)
    (tmp_path / "a.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(DataError, match="no examples"):
        read_examples(tmp_path)
    with pytest.raises(DataError, match="row 1 is int"):
        read_examples(iter([7]))


def test_masks_cover_exactly_the_answer_and_its_end(tok):
    [example] = tokenize_examples(read_examples([{"q": "A?", "a": "B."}]), tok)
    assert tok.decode(example.ids) == "Question: A?\nAnswer: B.<|endoftext|>"
    assert tok.decode(example.ids[example.trained]) == " B.<|endoftext|>"


def test_masks_of_a_chat(tok):
    row = chat(("user", "A?"), ("assistant", "B."), ("user", "C?"), ("assistant", "D."))
    [example] = tokenize_examples(read_examples([row]), tok)
    assert tok.decode(example.ids[example.trained]) == " B.<|endoftext|> D.<|endoftext|>"
    assert preview(example, tok).splitlines() == [
        "masked    20 | 'Question: A?\\nAnswer:'",
        "trained    4 | ' B.<|endoftext|>'",
        "masked    20 | 'Question: C?\\nAnswer:'",
        "trained    4 | ' D.<|endoftext|>'",
    ]


def test_without_an_end_of_text_id_a_newline_ends_the_answer(tok_without_eot):
    [example] = tokenize_examples(read_examples([{"q": "A?", "a": "B."}]), tok_without_eot)
    assert tok_without_eot.decode(example.ids[example.trained]) == " B.\n"


def test_an_empty_prompt_begins_like_a_new_document(tok):
    [example] = tokenize_examples(read_examples([{"prompt": "", "completion": "xy"}]), tok)
    assert example.ids.tolist() == [999, 120, 121, 999]
    assert example.trained.tolist() == [False, True, True, True]


def test_what_begins_every_text_begins_examples_as_it_does_prompts(tok, monkeypatch):
    monkeypatch.setattr(tok, "template", ([7], []))
    rows = [{"prompt": "a", "completion": "xy"}, {"prompt": "", "completion": "z"}]
    both = tokenize_examples(read_examples(rows), tok)
    assert [example.ids.tolist() for example in both] == [[7, 97, 120, 121, 999], [7, 122, 999]]
    assert [example.trained.tolist() for example in both] == [[False] * 2 + [True] * 3, [False, True, True]]


def test_examples_keep_their_own_tokens_across_batches(tok, monkeypatch):
    monkeypatch.setattr("subgpt.data.masking._BATCH", 3)
    rows = [{"prompt": f"p{i}", "completion": f"c{i}"} for i in range(10)]
    decoded = [tok.decode(e.ids) for e in tokenize_examples(read_examples(rows), tok)]
    assert decoded == [f"p{i}c{i}<|endoftext|>" for i in range(10)]


def test_zero_trained_tokens_are_refused(tok_without_eot):
    class Dropping(type(tok_without_eot)):
        def encode_ordinary(self, text):
            return super().encode_ordinary(text.strip("z\n"))

    examples = read_examples([{"prompt": "a", "completion": "zz"}])
    with pytest.raises(DataError, match="row:1: no token is left to train on"):
        tokenize_examples(examples, Dropping(eot=False))


def test_split_keeps_equal_prompts_together():
    rows = [{"q": f"question {i % 40}", "a": f"answer {i}"} for i in range(200)]
    examples = read_examples(rows)
    train, val, how = split_examples(examples, val_fraction=0.25, seed=1)
    assert not {e.prompt for e in train} & {e.prompt for e in val}
    assert Counter(train + val) == Counter(examples)
    assert how == f"by prompt: {len(train)} train, {len(val)} validation"
    assert split_examples(examples, val_fraction=0.25, seed=1)[1] == val


@pytest.mark.parametrize("fraction", [0.0001, 0.9999])
def test_neither_side_is_empty_with_two_prompts(fraction):
    examples = read_examples([{"q": "a", "a": "x"}, {"q": "b", "a": "y"}])
    train, val, _ = split_examples(examples, val_fraction=fraction)
    assert len(train) == len(val) == 1


def test_no_validation_is_said():
    examples = read_examples([{"q": "a", "a": "x"}, {"q": "a", "a": "y"}])
    assert split_examples(examples)[1:] == ([], "no validation examples: all examples have the same prompt")
    assert split_examples(examples, val_fraction=0)[2] == "no validation examples: none was asked for"
