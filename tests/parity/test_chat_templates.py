"""Chat templates in subgpt and in `transformers` (where it is installed): the same text, ids and masks."""

from __future__ import annotations

import json
import warnings

import pytest

from subgpt.data import ChatTemplate, read_examples, tokenize_examples
from subgpt.data.chat import CHATML
from subgpt.tokenizer import Tokenizer, add_special_tokens

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip(
        "transformers", reason='transformers is an extra: pip install "subgpt[parity]"'
    )

LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n"
    "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
MARKED = (
    "{%- for message in messages -%}\n    {{- '<|im_start|>' ~ message.role ~ '\\n' -}}\n"
    "    {%- if message.role == 'assistant' -%}\n        {%- generation -%}{{- message.content ~ '<|im_end|>' -}}"
    "{%- endgeneration -%}\n    {%- else -%}\n        {{- message.content ~ '<|im_end|>' -}}\n    {%- endif -%}\n"
    "    {{- '\\n' -}}\n{%- endfor -%}\n{%- if add_generation_prompt -%}"
    "{{- '<|im_start|>assistant\\n' -}}{%- endif -%}\n"
)
ALL_SORTS = (
    "{%- set ns = namespace(n=0, names=[]) -%}\n{%- macro show(m, i) -%}\n"
    "{{ i }}:{{ m.role | upper }}={{ m | tojson }}\n"
    "{%- endmacro -%}\n{% for m in messages if m.content is string %}\n"
    "  {%- if loop.index0 > 4 %}{% break %}{% endif -%}\n"
    "  {%- set ns.n = ns.n + m.content | length -%}\n  {%- set ns.names = ns.names + [m['role'][:2]] -%}\n"
    "  {{ show(m, loop.index) }}{% if not loop.last %}, {% endif %}\n{% endfor %}\n"
    "{{ ns.n }} {{ ns.names | join('/') }} {{ messages | map(attribute='role') | unique | list }}\n"
    "{{ messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | first | replace('a', 'b')"
    " | trim }}\n"
    "{{ '%s-%02d' % ('x', 7) }} {{ '{} {a}'.format(1, a=2) }} "
    "{{ messages[::-1][0].content.split(' ')[-1].rstrip('.') }}\n"
    "{{ {'a': 1, 'b': [true, none]} | tojson(indent=2) }} {{ messages[0].get('x', 'none') }} {{ undefined_name }}\n"
    "{{ 7 // 2 }} {{ 7 % 4 }} {{ 2 ** 5 }} {{ 1 / 4 }} {{ 'a' * 3 }} {{ (1, 2) }} {{ [1, 'x'] }} {{ 'b' in 'abc' }}\n"
    "{% filter upper %}text{% endfilter %}{% for k, v in messages[0].items() %}{{ k }}{% endfor %}\n"
    "{%- if tools is defined and tools is not none %}tools{% endif %}{{ documents is none }}"
)
UNDEFINED = (
    "{{ no | trim }}{{ no | upper }}{{ no | default('d') }}{{ no | length }}{{ no | join }}{{ no | list }}{{ no == 1 }}"
    "{{ no ~ 'a' }}{{ 'x' if no else 'y' }}{{ no is defined }}{{ no | string }}{{ no | replace('a', 'b') }}{{ none }}"
    "{{ no in ['a'] }}{{ 'a' in no }}{{ messages[0].no }}{{ messages[0].no | d('e') }}{% for x in no %}x{% endfor %}"
    "{{ [no, 1] | select | list }}{{ [2, 1, 2] | sort | unique | join('-') }}{{ 'a-b' | replace('-', '+', 1) }}"
    "{{ messages | selectattr('role', '==', 'user') | list | length }}{{ messages | rejectattr('no') | list | length }}"
    "{% for m in messages %}{{ loop.previtem.role if loop.previtem is defined }}{{ loop.nextitem is defined }}"
    "{{ loop.cycle('odd', 'even') }}{{ loop.revindex }}{{ loop.length }}{{ loop.changed(m.role) }}{% endfor %}"
    "{{ messages | map(attribute='role') | join(', ') }}{{ messages | join(', ', attribute='role') }}"
    "{{ '3' | int + 1 }}"
    "{% macro wrap() %}<{{ caller() }}>{% endmacro %}{% call wrap() %}in{% endcall %}{{ 'a\nb' | indent(2) }}"
    "{{ [1, 2] + [3] }}{{ 'abc'[1:] }}{{ (messages | last)['content'] | first }}{{ -1 | abs }}{{ 'aBc' | title }}"
    "{{ '<b>' | e }}{{ '<b>' | safe }}{{ dict(a=1) | items | list }}{{ {'b': 1, 'a': 2} | dictsort }}{{ not no }}"
)
TEMPLATES = {
    "undefined": UNDEFINED,
    "chatml": CHATML.source,
    "llama-2": LLAMA_2,
    "zephyr": ZEPHYR,
    "marked": MARKED,
    "all sorts": ALL_SORTS,
}
TALKS = [
    [{"role": "user", "content": "a rose"}, {"role": "assistant", "content": "is a rose."}],
    [
        {"role": "system", "content": "Be brief <&>."},
        {"role": "user", "content": "  was ist 诗? "},
        {"role": "assistant", "content": 'a "poem"\n\nis\n'},
        {"role": "user", "content": "a 🙂 again"},
        {"role": "assistant", "content": "fine"},
    ],
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """One tokenizer, in transformers and here."""
    folder = tmp_path_factory.mktemp("tok")
    made = Tokenizer.train(["a rose is a rose is a rose, be brief, what is a poem?"], vocab_size=300)
    ours = add_special_tokens(made, ["<|im_start|>", "<|im_end|>", "<s>", "</s>"])
    ours.save(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.bos_token, theirs.eos_token = "<s>", "</s>"
    return theirs, ours


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_same_text(pair, name, prompt):
    theirs, _ = pair
    template = ChatTemplate(TEMPLATES[name], name, {"bos_token": "<s>", "eos_token": "</s>"})
    for talk in TALKS:
        expected = theirs.apply_chat_template(
            talk, chat_template=template.source, tokenize=False, add_generation_prompt=prompt
        )
        assert template.render(talk, add_generation_prompt=prompt) == expected


@pytest.mark.filterwarnings("ignore")
def test_refusals_have_the_same_words(pair):
    theirs, _ = pair
    talk = [{"role": "user", "content": "a"}] * 2
    with pytest.raises(Exception, match="Conversation roles must alternate") as caught:
        theirs.apply_chat_template(talk, chat_template=LLAMA_2, tokenize=False)
    with pytest.raises(ValueError, match="refuses the messages") as ours:
        ChatTemplate(LLAMA_2, "llama", {"bos_token": "<s>", "eos_token": "</s>"}).render(talk)
    assert str(caught.value) in str(ours.value)


@pytest.mark.filterwarnings("ignore")
def test_the_same_ids_and_masks_with_marks(pair):
    theirs, ours = pair
    for talk in TALKS:
        expected = theirs.apply_chat_template(
            talk, chat_template=MARKED, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )
        [made] = tokenize_examples(read_examples([{"messages": talk}]), ours, template=ChatTemplate(MARKED))
        assert made.ids.tolist() == expected["input_ids"]
        assert made.trained.astype(int).tolist() == expected["assistant_masks"]


@pytest.fixture(scope="module")
def spaced(tmp_path_factory):
    """A tokenizer that puts a space before every text, as SentencePiece's do, in transformers and here."""
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.normalizer = tokenizers.normalizers.Sequence(
        [tokenizers.normalizers.Prepend("▁"), tokenizers.normalizers.Replace(" ", "▁")]
    )
    made.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(content=" ", left=1),
        ]
    )
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", *bytes_]
    )
    made.train_from_iterator(["a rose is a rose is a rose be brief what is a poem fine again"] * 9, trainer)
    # Only now: while they were special, training kept them whole.
    text = json.loads(made.to_str())
    text["added_tokens"] = [entry for entry in text["added_tokens"] if entry["content"] not in bytes_]
    folder = tmp_path_factory.mktemp("spaced")
    (folder / "tokenizer.json").write_text(json.dumps(text), encoding="utf-8")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    theirs.bos_token, theirs.eos_token = "<s>", "</s>"
    return theirs, Tokenizer.load(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["llama-2", "zephyr", "marked"])
def test_no_space_is_put_before_answers(spaced, name):
    theirs, ours = spaced
    template = ChatTemplate(TEMPLATES[name], name, {"bos_token": "<s>", "eos_token": "</s>"})
    for talk in TALKS:
        text = theirs.apply_chat_template(talk, chat_template=template.source, tokenize=False)
        [made] = tokenize_examples(read_examples([{"messages": talk}]), ours, template=template)
        assert made.ids.tolist() == theirs(text, add_special_tokens=False)["input_ids"]
        end = "<|im_end|>" if name == "marked" else "</s>"
        answers = [m["content"] for m in talk if m["role"] == "assistant"]
        learnt = ours.decode(made.ids[made.trained]).split(end)[:-1]
        assert [text.strip() for text in learnt] == [text.strip() for text in answers]
