"""`transformers` writes on with what is saved here: beams, each rule of sampling, ends of texts, chats; and models that
it made are opened here.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

import subgpt
from subgpt.data import ChatTemplate

from ..parity.families import FAMILIES, lively

torch = pytest.importorskip("torch", reason='torch is not installed: pip install "subgpt[parity]"')
transformers = pytest.importorskip(
    "transformers", reason='transformers is not installed: pip install "subgpt[parity]"'
)

TEXT = "A model that is saved here is opened there, and both say the same. " * 40
SOME = ("gpt2", "llama", "mistral", "qwen3", "gemma3")
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@pytest.fixture(scope="module", params=SOME)
def pair(request, tmp_path_factory):
    """A model of a family, here and there."""
    model = lively(FAMILIES[request.param])
    folder = tmp_path_factory.mktemp(request.param)
    model.save(folder)
    return model, transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tok():
    return subgpt.Tokenizer.train(iter([TEXT]), vocab_size=300, special_tokens=SPECIAL)


@pytest.fixture(scope="module")
def run(tok, tmp_path_factory):
    """A run directory with a tokenizer and a chat template, and the model in it."""
    model = lively(subgpt.GPTConfig(vocab_size=tok.vocab_size, block_size=96, n_layer=2, n_head=3, n_embd=36))
    model.chat_template = ChatTemplate(
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        variables={"bos_token": "<|endoftext|>"},
    )
    model.generation_config = {"eos_token_id": [299, 297], "repetition_penalty": 1.3, "top_k": 7}
    folder = tmp_path_factory.mktemp("runs") / "chat"
    model.save(folder, tokenizer=tok)
    return model, folder


def generated(theirs, prompt, **options):
    """What transformers makes of a prompt."""
    batch = torch.tensor([prompt])
    plain = {"attention_mask": torch.ones_like(batch), "pad_token_id": 0, "eos_token_id": None}
    with torch.no_grad():
        return theirs.generate(batch, **{**plain, **options})


BEAMS = [
    {"num_beams": 3},
    {"num_beams": 4, "length_penalty": 0.0},
    {"num_beams": 4, "length_penalty": 2.0, "eos_token_id": [5, 9]},
    {"num_beams": 2, "early_stopping": True, "eos_token_id": [5, 9, 11, 12]},
    {"num_beams": 3, "early_stopping": "never", "length_penalty": -1.0, "eos_token_id": [5, 9, 11, 12]},
    {"num_beams": 3, "no_repeat_ngram_size": 2, "repetition_penalty": 1.2},
]


@pytest.mark.parametrize("options", BEAMS, ids=lambda options: ",".join(map(str, options.values())))
def test_beams(pair, options):
    model, theirs = pair
    prompt = [3, 1, 4, 1, 5]
    found = generated(theirs, prompt, max_new_tokens=24, do_sample=False, **options)[0].tolist()
    ends = options.get("eos_token_id", ())
    ours = model.generate(prompt, max_new_tokens=24, **options).tolist()
    assert ours == (found[:-1] if found[-1] in ends else found)


RULES = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.7},
    {"top_k": 5},
    {"top_p": 0.7},
    {"min_p": 0.1},
    {"typical_p": 0.6},
    {"repetition_penalty": 1.4},
    {"repetition_penalty": 0.7},
    {"no_repeat_ngram_size": 2},
    {"bad_words_ids": [[7], [5, 8], [1, 2, 3]]},
    {"min_new_tokens": 1, "eos_token_id": [9, 30]},
    {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.02, "repetition_penalty": 1.1},
]


@pytest.mark.parametrize("options", RULES, ids=lambda options: ",".join(options) or "none")
def test_rules_leave_the_same_distribution(pair, options):
    model, theirs = pair
    prompt = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 1, 4, 5]
    found = generated(
        theirs, prompt, max_new_tokens=1, do_sample=True, output_scores=True, return_dict_in_generate=True,
        **{"top_k": 0, **options},
    )  # fmt: skip
    expected = torch.softmax(found.scores[0][0].double(), -1).numpy()
    ours = subgpt.sampling_probs(model.forward(prompt)[-1], context=prompt, **options)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)
    assert (ours > 0).tolist() == (expected > 0).tolist()


def test_texts_end_alike(pair):
    model, theirs = pair
    prompt = [3, 1, 4, 1, 5]
    free = model.generate(prompt, max_new_tokens=30, temperature=0).tolist()
    end = free[len(prompt) + 6]
    found = generated(theirs, prompt, max_new_tokens=30, do_sample=False, eos_token_id=end)[0].tolist()
    ours = model.generate(prompt, max_new_tokens=30, temperature=0, eos_token_id=end).tolist()
    assert found == [*ours, end]


def test_what_a_run_says_of_generation_is_read(run):
    model, folder = run
    found = transformers.GenerationConfig.from_pretrained(folder)
    assert {name: getattr(found, name) for name in model.generation_config} == model.generation_config
    opened, _ = subgpt.load(folder)
    assert opened.generation_config == {**model.generation_config, "do_sample": True, "temperature": 1.0}


def test_a_pipeline_writes_the_text(run):
    model, folder = run
    _, tok = subgpt.load(folder)
    options = {"max_new_tokens": 20, "do_sample": False}
    write = transformers.pipeline("text-generation", model=str(folder), dtype=torch.float32)
    prompt = "A model that is saved"
    (found,) = write(prompt, **options)
    ours = subgpt.generate(model, tok, prompt, token_healing=False, ignore_eos=True, **options)
    assert found["generated_text"] == ours


def test_texts_of_a_tokenizer(run):
    _, folder = run
    _, tok = subgpt.load(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert (theirs.bos_token, theirs.eos_token, len(theirs)) == ("<|endoftext|>", "<|endoftext|>", len(tok))
    for text in (
        "A model",
        " is saved  here.\n",
        "",
        "<|im_start|>user\n1.234 – déjà vu 😀<|im_end|>",
        "\t\u3000x",
    ):
        ids = tok.encode(text, allowed_special="all").tolist()
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == tok.decode(ids) == text
    texts = ["A model that is", "opened"]
    theirs.pad_token = "<|endoftext|>"
    padded = theirs(texts, padding=True)
    for text, ids, mask in zip(texts, padded["input_ids"], padded["attention_mask"], strict=True):
        assert ids[: sum(mask)] == tok.encode(text).tolist()
        assert set(ids[sum(mask) :]) <= {tok.eot_id}
    located = theirs(TEXT[:60], return_offsets_mapping=True)["offset_mapping"]
    assert [list(span) for span in located] == tok.encode_with_offsets(TEXT[:60]).chars.tolist()


def test_chats_are_written_alike(run):
    model, folder = run
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    talk = [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "Who\nasked?"},
        {"role": "assistant", "content": "A model."},
        {"role": "user", "content": "<|im_end|>?"},
    ]
    for messages, prompt in ((talk[:2], True), (talk[:3], False), (talk, True)):
        found = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert model.chat_template.render(messages, prompt) == found


@pytest.mark.parametrize("name", SOME)
def test_models_made_there_are_opened_here(tmp_path, name):
    """With shards, with a tokenizer that `tokenizers` trained, as a script for transformers would leave them."""
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")
    values = FAMILIES[name].replace(vocab_size=300).to_hf(bos_token_id=0, eos_token_id=0)
    for ours in ("subgpt", "torch_dtype", "rope_theta", "rope_scaling", "rope_local_base_freq"):
        values.pop(ours, None)  # what transformers from 5 on does not write itself
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    theirs = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for weight in theirs.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    theirs.save_pretrained(tmp_path, max_shard_size="60KB")
    plain = tokenizers.Tokenizer(tokenizers.models.BPE())
    plain.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    plain.train_from_iterator([TEXT], trainer)
    their_tok = transformers.PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token="<|endoftext|>", eos_token="<|endoftext|>"
    )
    their_tok.save_pretrained(tmp_path)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1

    model, tok = subgpt.load(tmp_path)
    text = "A model that is opened there, déjà vu 😀"
    ids = tok.encode(text).tolist()
    assert their_tok(text)["input_ids"] == ids
    with torch.no_grad():
        logits = theirs(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(model.forward(ids), logits, rtol=0, atol=1e-4)
    found = generated(theirs, ids, max_new_tokens=20, do_sample=False)[0].tolist()
    ours = model.generate(ids, max_new_tokens=20, temperature=0, eos_token_id=()).tolist()
    assert ours == found
    written = subgpt.generate(
        model, tok, text, max_new_tokens=20, temperature=0, token_healing=False, ignore_eos=True
    )
    assert written == their_tok.decode(found)
    # And back, as one file with its tokenizer.
    model.save(tmp_path / "back", tokenizer=tok)
    back = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "back", dtype=torch.float32)
    with torch.no_grad():
        np.testing.assert_array_equal(back(torch.tensor([ids])).logits[0].numpy(), logits)
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "back")(text)["input_ids"] == ids
    assert json.loads((tmp_path / "back" / "config.json").read_text())["eos_token_id"] == 0
