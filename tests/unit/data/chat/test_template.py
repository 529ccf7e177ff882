"""Templates: rendered, found in model directories, kept, and refused where they are broken."""

import json

import pytest

from subgpt.data.chat import CHATML, ChatTemplate, choose_template, missing_special_tokens, render_chat
from subgpt.data.messages import Message
from subgpt.errors import ConfigError, DataError, MissingFileError
from subgpt.tokenizer import Tokenizer, add_special_tokens

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
PLAIN = "{% for m in messages %}{{ bos_token }}{{ m.role }}:{{ m.content }}{{ eos_token }}{% endfor %}"


def test_chatml():
    text = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
    assert render_chat(TALK) == text
    assert CHATML.render([Message("user", "Hi"), Message("assistant", "Hello")]) == text
    assert CHATML.render(TALK, add_generation_prompt=True) == text + "<|im_start|>assistant\n"


def test_the_settings_are_those_of_transformers():
    source = "{% for m in messages %}\n    {% if loop.first %}\n{{ m.content }}\n    {% endif %}\n{% endfor %}\nend"
    assert ChatTemplate(source).render(TALK) == "Hi\nend"
    source = (
        "{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}{{ m | tojson }}{% endfor %}"
    )
    assert ChatTemplate(source).render([{"role": "user", "content": "<é>"}, *TALK]) == (
        '{"role": "user", "content": "<é>"}'
    )
    assert ChatTemplate("{{ tools is none }}{{ x is defined }}{{ bos_token }}").render(TALK) == "TrueFalse"
    assert ChatTemplate("{{ strftime_now('%Y') }}").render(TALK).isdigit()


def test_a_template_refuses_in_its_own_words():
    source = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    )
    with pytest.raises(
        DataError, match="the chat template mine refuses the messages: System role not supported"
    ):
        ChatTemplate(source, "mine").render([{"role": "system", "content": "x"}])


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("{% for %}", ConfigError, "line 1: Expected an expression"),
        ("\n{{ 1 | nosuch }}", ConfigError, "line 2: No filter named 'nosuch'"),
        ("{% if 1 %}", ConfigError, "Unexpected end of template"),
        ("x" * (1 << 18) + "x", ConfigError, "262,145 characters; at most 262,144"),
        ("{{ messages[0].a.b }}", DataError, "fails on the messages: 'dict object' has no attribute 'a'"),
        ("{{ 1 / 0 }}", DataError, "fails on the messages: division by zero"),
        ("{{ 'a' + 1 }}", DataError, "fails on the messages"),
        ("{% include 'x' %}", DataError, "fails on the messages: no loader"),
    ],
)
def test_broken_templates_say_what_is_broken(source, error, message):
    with pytest.raises(error, match=message):
        ChatTemplate(source).render(TALK)


@pytest.mark.parametrize("messages", ["text", {"role": "user"}, None, 7, ["text"], [None]])
def test_what_is_no_list_of_messages_is_refused(messages):
    with pytest.raises(DataError, match="message"):
        render_chat(messages)


def write(folder, **files):
    for name, value in files.items():
        text = value if isinstance(value, str) else json.dumps(value)
        (folder / name.replace("__", ".")).write_text(text, encoding="utf-8")


def test_where_models_keep_templates(tmp_path):
    assert ChatTemplate.find(tmp_path) is None
    with pytest.raises(MissingFileError, match=r"no chat template: neither chat_template\.jinja nor"):
        ChatTemplate.load(tmp_path)
    tokens = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}
    write(tmp_path, tokenizer_config__json={**tokens, "chat_template": PLAIN})
    for path in (tmp_path, tmp_path / "tokenizer_config.json"):
        assert ChatTemplate.load(path).render(TALK) == "<s>user:Hi</s><s>assistant:Hello</s>"
    write(tmp_path, chat_template__jinja="{{ bos_token }}own")
    assert ChatTemplate.load(tmp_path).render(TALK) == "<s>own"
    assert render_chat(TALK, template=tmp_path / "chat_template.jinja") == "<s>own"
    assert ChatTemplate.load(tmp_path).name == str(tmp_path / "chat_template.jinja")


def test_of_several_templates_the_default_is_taken(tmp_path):
    several = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "plain"}]
    write(tmp_path, tokenizer_config__json={"chat_template": several})
    assert ChatTemplate.load(tmp_path).render(TALK) == "plain"
    write(tmp_path, tokenizer_config__json={"chat_template": several[:1]})
    with pytest.raises(ConfigError, match="no template 'default' \\(there are: 'tool_use'\\)"):
        ChatTemplate.load(tmp_path)


@pytest.mark.parametrize("text", ["[1]", "{", '{"chat_template": 7}', "\x00"])
def test_broken_configurations_name_the_file(tmp_path, text):
    write(tmp_path, tokenizer_config__json=text)
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json"):
        ChatTemplate.find(tmp_path)


def test_names_that_lead_nowhere():
    with pytest.raises(MissingFileError, match="nowhere: no such file; a chat template is"):
        ChatTemplate.load("nowhere")


def test_a_template_is_kept_with_its_variables(tmp_path):
    write(tmp_path, tokenizer_config__json={"bos_token": "<|endoftext|>", "chat_template": "old", "x": 1})
    template = ChatTemplate(PLAIN, "mine", {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"})
    template.save(tmp_path)
    again = ChatTemplate.load(tmp_path)
    assert again.render(TALK) == template.render(TALK)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config == {"bos_token": "<s>", "x": 1, "eos_token": "</s>"}


@pytest.fixture(scope="module")
def bare():
    return Tokenizer.train(["some text"], vocab_size=260)


def test_which_template_is_chosen(tmp_path, bare):
    own = ChatTemplate("own")
    chatty = add_special_tokens(bare, ["<|im_start|>", "<|im_end|>"])
    assert choose_template("auto", bare) is None
    assert choose_template("auto", chatty) is CHATML
    assert choose_template("auto", chatty, own) is own
    assert choose_template("plain", chatty, own) is None
    assert choose_template("chatml", bare, own) is CHATML
    assert choose_template(own, bare) is own
    (tmp_path / "mine.jinja").write_text("mine", encoding="utf-8")
    assert choose_template(str(tmp_path / "mine.jinja"), bare).source == "mine"


def test_the_special_tokens_that_are_missing(bare):
    assert missing_special_tokens(CHATML, bare) == ["<|im_start|>", "<|im_end|>"]
    source = "{{ bos_token }}<|user|>{{ '<|end|>' ~ '<|user|>' }} <| no |> <||> {{ eos_token }}"
    template = ChatTemplate(
        source, "x", {"bos_token": "<s>", "eos_token": "<|endoftext|>", "pad_token": "<p>"}
    )
    assert sorted(missing_special_tokens(template, bare)) == ["<s>", "<|end|>", "<|user|>"]
    with pytest.raises(ConfigError, match="cannot be used"):
        missing_special_tokens(ChatTemplate("{% if %}"), bare)
