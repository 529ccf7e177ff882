"""What a model is asked with is what it was trained to go on from, id for id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subgpt.data.chat import CHATML, ChatTemplate
from subgpt.data.instruct import read_examples
from subgpt.data.masking import tokenize_examples
from subgpt.data.messages import Message
from subgpt.data.prompting import answer_prompt
from subgpt.errors import DataError
from subgpt.tokenizer import Tokenizer, add_special_tokens

NAMES = ["<|im_start|>", "<|im_end|>", "<s>", "</s>"]
LLAMA_2 = ChatTemplate(
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content | trim + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama-2",
    {"bos_token": "<s>", "eos_token": "</s>"},
)
MARKED = ChatTemplate(
    "{% for m in messages %}<{{ m.role }}>\n{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content }}</s>{% endgeneration %}{% else %}{{ m.content }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}",
    "marked",
)
SHOUT = ChatTemplate(
    "{% for m in messages %}{{ m.role | upper }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}",
    "shout",
)
# Thoughts of earlier turns are left out once there is a later one, and a thought is begun for the answer.
FORGETFUL = ChatTemplate(
    "{% for m in messages %}<{{ m.role }}>"
    "{{ m.content if loop.last else m.content.split('</think>')[-1] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}",
    "forgetful",
)
TEMPLATES = {t.name: t for t in (CHATML, LLAMA_2, MARKED, SHOUT, FORGETFUL)} | {"plain": None}
TEXT = "the user asked and the assistant answered <assistant> [INST] so it is </s> ASSISTANT: Question: \nAnswer: yes"


@pytest.fixture(scope="module")
def subwords():
    return add_special_tokens(Tokenizer.train([TEXT], vocab_size=330), NAMES)


@pytest.fixture
def sentencepiece(shared):
    """A tokenizer that puts a space before every text, and has no end of text."""
    return Tokenizer.load(shared / "data" / "model" / "tok512.model")


def trained_ids(tok, messages, template, loss_on="answers"):
    """The ids that fine-tuning makes, and where the last answer begins in them."""
    row = {"messages": [message.as_dict() for message in messages]}
    (example,) = read_examples([row], free_turns=template is not None)
    (made,) = tokenize_examples([example], tok, template=template, loss_on=loss_on)
    (last,) = tokenize_examples([example], tok, template=template, loss_on="last")
    return made.ids.tolist(), int(last.trained.argmax())


def talk(*contents: str) -> list[Message]:
    return [Message(("user", "assistant")[place % 2], content) for place, content in enumerate(contents)]


CONTENT = st.one_of(
    st.text(min_size=1, max_size=12).filter(str.strip),
    st.sampled_from(
        ["so it is", " the user ", "<|im_end|>\n<|im_start|>assistant\n", "</s", "Answer:", "日本\n"]
    ),
)


@pytest.mark.parametrize("name", TEMPLATES)
@given(
    contents=st.lists(CONTENT, min_size=2, max_size=6).filter(lambda c: len(c) % 2 == 0), system=st.booleans()
)
def test_a_prompt_is_the_beginning_of_what_is_trained(subwords, name, contents, system):
    messages = [Message("system", "the user")] * system + talk(*contents)
    prompt = answer_prompt(messages[:-1], subwords, TEMPLATES[name])
    ids, begin = trained_ids(subwords, messages, TEMPLATES[name])
    assert prompt.ids.tolist() == ids[: len(prompt.ids)]
    assert len(prompt.ids) == begin


@pytest.mark.parametrize("name", ["plain", "shout", "llama-2"])
def test_where_a_space_is_put_before_every_text(sentencepiece, name):
    for contents in (["Hi", "Hello"], ["Hi", "Hello", "the cat?", "A dog."]):
        prompt = answer_prompt(talk(*contents)[:-1], sentencepiece, TEMPLATES[name])
        ids, begin = trained_ids(sentencepiece, talk(*contents), TEMPLATES[name])
        assert prompt.ids.tolist() == ids[: len(prompt.ids)]
        assert len(prompt.ids) == begin


def test_a_template_that_forgets_thoughts_is_asked_as_its_last_answer_is_trained(subwords):
    messages = talk("a", "hm</think>b", "c", "d")
    prompt = answer_prompt(messages[:-1], subwords, FORGETFUL)
    ids, begin = trained_ids(subwords, messages, FORGETFUL, "last")
    assert prompt.ids.tolist() == ids[:begin]
    assert "hm" not in subwords.decode(prompt.ids)


def test_a_prompt_that_no_answer_begins_with_is_the_templates(subwords):
    thinking = ChatTemplate(FORGETFUL.source.replace("<assistant>{% endif", "<assistant><think>{% endif"))
    prompt = answer_prompt(talk("a"), subwords, thinking)
    assert subwords.decode(prompt.ids) == "<user>a</s><assistant><think>"
    assert prompt.end_ids == (subwords.special_tokens["</s>"],)


@pytest.mark.parametrize(
    ("name", "end", "stop"),
    [
        ("chatml", "<|im_end|>", ()),
        ("llama-2", "</s>", ()),
        ("marked", "</s>", ()),
        ("shout", None, ("\nUSER:",)),
        ("plain", None, ()),
    ],
)
def test_what_ends_a_turn(subwords, name, end, stop):
    prompt = answer_prompt(talk("so it is"), subwords, TEMPLATES[name])
    assert prompt.end_ids == (() if end is None else (subwords.special_tokens[end],))
    assert prompt.stop == stop


def test_a_line_ends_a_turn_where_there_is_no_end_of_text(sentencepiece):
    assert answer_prompt(talk("Hi"), sentencepiece, None).stop == ("\n",)


def test_what_cannot_be_asked(subwords):
    with pytest.raises(DataError, match="here: the last message is of 'assistant'; end with one of 'user'"):
        answer_prompt(talk("a", "b"), subwords, CHATML, "here")
    with pytest.raises(DataError, match="user and assistant must take turns"):
        answer_prompt([*talk("a"), Message("user", "b")], subwords, None)
    refusing = ChatTemplate("{{ raise_exception('only cats') }}", "mine")
    with pytest.raises(DataError, match="here: the chat template mine refuses the messages: only cats"):
        answer_prompt(talk("a"), subwords, refusing, "here")
    with pytest.raises(DataError, match="writes nothing of them"):
        answer_prompt(talk("a"), subwords, ChatTemplate(""), "here")
