"""Probes: asked as fine-tuning writes questions, compared as was said, and refused in words that help."""

from __future__ import annotations

import json

import numpy as np
import pytest

import subgpt
from subgpt import GPT, ConfigError, DataError, Tokenizer, TrainConfig
from subgpt.data.chat import CHATML
from subgpt.data.examples import ExampleLoader
from subgpt.data.form import PLAIN, Form
from subgpt.evaluation.probes import read_probe
from subgpt.finetuning.chat import prepare_chat

WORDS = {"who sits?": "cat", "what fell?": "plum", "and where?": "bough"}
ROWS = [{"question": asked, "answer": f"a red {word}"} for asked, word in WORDS.items()]


def learnt(model, tokenizer, rows, **settings):
    config = TrainConfig(
        max_steps=120, batch_size=4, learning_rate=2e-2, val_fraction=0, recall_tokens=0, **settings
    )
    subgpt.finetune(model, tokenizer, rows, config, callbacks=())
    return model


@pytest.fixture(scope="module")
def knowing(tiny, tokenizer):
    """A model that knows the three answers by heart."""
    return learnt(GPT(tiny(block_size=48), seed=1), tokenizer, ROWS)


def test_what_was_learnt_is_found_and_nothing_else(knowing, tokenizer, tiny):
    others = [{**row, "answer": "a wet bird"} for row in ROWS[:2]]
    seen = subgpt.probe(knowing, tokenizer, [*ROWS, *others])
    assert (seen.correct, seen.total, seen.accuracy) == (3, 5, 0.6)
    assert [miss.expected for miss in seen.misses] == ["a wet bird"] * 2
    assert [miss.answered.strip() for miss in seen.misses] == [row["answer"] for row in ROWS[:2]]
    assert [miss.question for miss in seen.misses] == [row["question"] for row in ROWS[:2]]
    assert str(seen) == "exact match 3 of 5 (60.0 %)"
    assert subgpt.probe(GPT(tiny(block_size=48), seed=1), tokenizer, ROWS).correct == 0


@pytest.mark.parametrize("block_size", [0, 49])
def test_rows_longer_than_the_models_are_refused(knowing, tokenizer, block_size):
    with pytest.raises(ConfigError, match=f"probe: block_size = {block_size}; give 1 to the model's 48"):
        subgpt.probe(knowing, tokenizer, ROWS, block_size=block_size)


@pytest.mark.parametrize("match", ["exact", "tokens", "number"])
def test_the_model_is_left_as_it_was(knowing, tokenizer, match):
    rows = [{"question": "what is 1?", "answer": "12"}]
    before = knowing.state_dict()
    first, again = (subgpt.probe(knowing, tokenizer, rows, match=match) for _ in range(2))
    assert (first.correct, first.total, first.misses) == (again.correct, again.total, again.misses)
    assert all(np.array_equal(value, before[name]) for name, value in knowing.state_dict().items())


@pytest.mark.parametrize(("block_size", "note"), [(48, "1 examples"), (24, "1 prompts lost their beginning")])
def test_a_question_is_the_ids_that_training_shows(tokenizer, block_size, note):
    """Also where the row is too long and loses its beginning."""
    rows = [{"prompt": "so much depends upon", "completion": " a red cat"}]
    asked = read_probe(rows, tokenizer, PLAIN, block_size=block_size, match="exact", errors="strict")
    assert note in asked.note
    trained = PLAIN.tokenize(PLAIN.read(rows, "strict"), tokenizer)
    ids, targets = ExampleLoader(trained, block_size=block_size, batch_size=1, seed=0).batch(0)
    shown = ids[0][: int(np.argmax(targets[0] != -100)) + 1]
    assert asked.questions[0].prompt.tolist() == shown.tolist()


def test_tokens_are_those_that_are_most_probable(knowing, tokenizer):
    rows = [ROWS[0], {"question": ROWS[1]["question"], "answer": "a red cat"}]
    seen = subgpt.probe(knowing, tokenizer, rows, match="tokens")
    assert seen.total == 2 * len(" a red cat.")  # a token each, and the end of text
    right = 0
    for row in PLAIN.tokenize(PLAIN.read(rows, "strict"), tokenizer):
        guesses = knowing.forward(row.ids[:-1]).argmax(-1)
        right += int((guesses == row.ids[1:])[row.trained[1:]].sum())
    assert seen.correct == right < seen.total
    assert [miss.expected for miss in seen.misses] == ["a red cat"]


def test_the_number_that_is_come_to_counts(tiny, tokenizer):
    rows = [{"q": f"what is {n}?", "a": f"so it is {n}: {7 * n}"} for n in range(3)]
    model = learnt(GPT(tiny(block_size=48), seed=1), tokenizer, rows)
    others = [{"q": row["q"], "a": row["a"].split()[-1]} for row in rows]
    assert subgpt.probe(model, tokenizer, others).correct == 0
    assert subgpt.probe(model, tokenizer, others, match="number").correct == 3


def test_without_an_end_of_text_a_line_ends_an_answer(poems, tiny):
    plain = Tokenizer.train(iter(poems), level="char", special_tokens=())
    assert plain.eot_id is None
    rows = [*ROWS, {"question": "what is 8?", "answer": "a cat\na plum"}]
    model = learnt(GPT(tiny(vocab_size=plain.vocab_size, block_size=48), seed=1), plain, rows)
    assert subgpt.probe(model, plain, rows).correct == 4


def test_a_conversation_is_asked_for_its_last_answer(tiny, tokenizer):
    model = GPT(tiny(block_size=192), seed=1)
    chatty = prepare_chat(model, tokenizer, "chatml")
    talk = [
        {
            "messages": [
                {"role": "user", "content": "who?"},
                {"role": "assistant", "content": "me"},
                {"role": "user", "content": "what?"},
                {"role": "assistant", "content": "plums"},
            ]
        }
    ]
    learnt(model, chatty, talk, chat_template="chatml")
    question = read_probe(
        talk, chatty, Form(CHATML), block_size=192, match="exact", errors="strict"
    ).questions[0]
    assert chatty.decode(question.prompt).endswith("what?<|im_end|>\n<|im_start|>assistant\n")
    assert subgpt.probe(model, chatty, talk, chat_template=CHATML).correct == 1
    model.generation_config = {}  # a model that does not know where a turn ends: the template does
    assert subgpt.probe(model, chatty, talk, chat_template=CHATML).correct == 1


def test_a_large_vocabulary_is_asked_in_small_batches(knowing, tokenizer, monkeypatch):
    whole = subgpt.probe(knowing, tokenizer, ROWS, match="tokens")
    monkeypatch.setattr("subgpt.evaluation.probes._LOGITS", 1)
    assert subgpt.probe(knowing, tokenizer, ROWS, match="tokens").correct == whole.correct


# --- what cannot be asked ---


def test_what_is_no_probe_is_named(knowing, tokenizer, tmp_path):
    empty, broken = tmp_path / "empty.jsonl", tmp_path / "broken.jsonl"
    empty.write_text("")
    broken.write_text(json.dumps(ROWS[0]) + '\n{"question": "what?", "answer": ""}\n')
    for path, said in (
        (empty, r"empty\.jsonl: no examples"),
        (broken, r"broken\.jsonl.*2: field 'answer' is empty"),
    ):
        with pytest.raises(DataError, match=said):
            subgpt.probe(knowing, tokenizer, path)
    with pytest.raises(subgpt.MissingFileError, match=r"nowhere\.jsonl"):
        subgpt.probe(knowing, tokenizer, tmp_path / "nowhere.jsonl")
    broken.write_text("just text\n")
    with pytest.raises(DataError, match=r"broken\.jsonl"):
        subgpt.probe(knowing, tokenizer, broken)


def test_a_question_beyond_the_block_is_named(knowing, tokenizer):
    rows = [ROWS[0], {"question": "what " * 20, "answer": "a cat"}]
    with pytest.raises(
        DataError, match=r"row:2: the question is 118 tokens long and block_size is 48.*shorten"
    ):
        subgpt.probe(knowing, tokenizer, rows)


def test_an_answer_longer_than_the_block_is_asked_all_the_same(knowing, tokenizer):
    rows = [{"question": "what?", "answer": "a red cat " * 20}]
    assert subgpt.probe(knowing, tokenizer, rows).total == 1
    assert 0 < subgpt.probe(knowing, tokenizer, rows, match="tokens").total <= 48


def test_an_answer_without_a_number_is_named(knowing, tokenizer):
    with pytest.raises(DataError, match=r"row:1: the answer has no number.*match='exact'"):
        subgpt.probe(knowing, tokenizer, ROWS, match="number")


def test_an_unknown_match_is_named(knowing, tokenizer):
    with pytest.raises(ConfigError, match="did you mean 'exact'"):
        subgpt.probe(knowing, tokenizer, ROWS, match="exactly")
    with pytest.raises(ConfigError, match="probe_match"):
        TrainConfig(probe_match="exactly")
