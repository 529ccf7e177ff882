"""Text out of a model: one call and a stream agree; prompts of any length; stop texts; the distribution."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import subgpt
from subgpt import GPT, ConfigError, InvalidValueError, complete, generate, sampling_probs, stream
from subgpt.generation.stops import StopGuard


def both(model, tokenizer, prompt, **options):
    """The text of one native call, after making sure that the stream gives the same."""
    text = generate(model, tokenizer, prompt, **options)
    assert prompt + "".join(stream(model, tokenizer, prompt, **options)) == text
    assert text.startswith(prompt)
    return text


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0},
        {"seed": 1},
        {"seed": 2, "temperature": 0.7, "top_k": 5},
        {"seed": 3, "top_p": 0.8, "min_p": 0.01, "repetition_penalty": 1.3},
        {"seed": 4, "ignore_eos": True},
        {"seed": 2**64 - 1, "do_sample": False},
    ],
)
def test_one_call_and_a_stream_give_the_same_text(model, tokenizer, options):
    text = both(model, tokenizer, "so much", max_new_tokens=60, **options)
    assert generate(model, tokenizer, "so much", max_new_tokens=60, **options) == text


def test_without_a_seed_texts_differ(model, tokenizer):
    assert generate(model, tokenizer, "a", max_new_tokens=80) != generate(
        model, tokenizer, "a", max_new_tokens=80
    )


def test_prompts_of_any_length(model, tokenizer):
    for prompt in ("", "a", "so much depends upon" * 20):
        both(model, tokenizer, prompt, max_new_tokens=20, seed=1)
        assert generate(model, tokenizer, prompt, max_new_tokens=0) == prompt
        assert generate(model, tokenizer, prompt, max_new_tokens=0, return_prompt=False) == ""


def test_an_empty_prompt_starts_from_the_end_of_text(model, tokenizer):
    expected = model.generate([tokenizer.eot_id], max_new_tokens=9, temperature=0)[1:]
    text = generate(model, tokenizer, "", max_new_tokens=9, temperature=0, ignore_eos=True)
    assert text == tokenizer.decode(expected)


def test_unknown_characters_become_unk_or_are_refused(model, tokenizer):
    both(model, tokenizer, "日本", max_new_tokens=3, seed=1)
    with pytest.raises(subgpt.TokenizerError):
        generate(model, tokenizer, "日本", max_new_tokens=3, errors="strict")


def test_a_name_of_a_special_token_is_this_token_unless_it_is_to_be_text(model, tokenizer):
    prompt, options = "so<|endoftext|>a", {"temperature": 0, "max_new_tokens": 9, "ignore_eos": True}
    for parse_special, ids in (
        (True, tokenizer.encode(prompt, allowed_special="all")),
        (False, tokenizer.encode_ordinary(prompt)),
    ):
        (text,) = complete(
            model, tokenizer, prompt, parse_special=parse_special, logprobs=0, echo=True, **options
        )
        assert [token.id for token in text.tokens[: len(ids)]] == ids.tolist()
        expected = model.generate(ids, max_new_tokens=9, temperature=0)[len(ids) :]
        assert [token.id for token in text.tokens[len(ids) :]] == expected.tolist()
        written = generate(
            model, tokenizer, prompt, parse_special=parse_special, return_prompt=False, **options
        )
        assert written == tokenizer.decode(expected)


def test_the_end_of_text_ends_and_is_not_shown(model, tokenizer):
    weights = model.state_dict()
    weights["transformer.ln_f.bias"] = weights["transformer.wte.weight"][tokenizer.eot_id] * 1e4
    weights["transformer.ln_f.weight"] *= 0
    model.load_state_dict(weights)
    assert both(model, tokenizer, "so much", max_new_tokens=5, temperature=0) == "so much"
    shown = both(model, tokenizer, "so", max_new_tokens=2, temperature=0, ignore_eos=True)
    assert shown == "so" + "<|endoftext|>" * 2


def test_stop_texts_end_the_text_before_them(model, tokenizer):
    whole = generate(model, tokenizer, "so much", max_new_tokens=60, seed=9, return_prompt=False)
    stop = whole[20:24]
    cut = generate(
        model, tokenizer, "so much", max_new_tokens=60, seed=9, return_prompt=False, stop=[stop, "no such"]
    )
    assert cut == whole[: whole.index(stop)]
    assert "".join(stream(model, tokenizer, "so much", max_new_tokens=60, seed=9, stop=stop)) == cut


def test_errors_come_with_the_call_not_with_the_first_piece(model, tokenizer):
    with pytest.raises(ConfigError):
        stream(model, tokenizer, "a", temperature=-1)
    with pytest.raises(InvalidValueError, match="prompt is bytes"):
        stream(model, tokenizer, b"a")


def test_ids_are_no_prompt_of_a_text(model, tokenizer):
    for call in (generate, stream, subgpt.complete):
        for options in ({}, {"stop": "x"}):
            with pytest.raises(InvalidValueError, match=r"prompt is list; give a str \(GPT\.generate"):
                call(model, tokenizer, [1, 2, 3], max_new_tokens=2, **options)


def test_a_prompt_that_is_left_out_begins_as_an_empty_one(tiny):
    parsed = json.loads(subgpt.Tokenizer.train(["a rose is a rose"], vocab_size=260).to_json())
    parsed["normalizer"] = {"type": "Replace", "pattern": {"String": "x"}, "content": ""}
    words = subgpt.Tokenizer.from_json(json.dumps(parsed))
    model = GPT(tiny(vocab_size=260), seed=1)
    options = {"max_new_tokens": 5, "seed": 2}
    assert both(model, words, "xx", **options) == "xx" + generate(model, words, "", **options)


def test_options_go_over_a_config(model, tokenizer):
    config = subgpt.GenerationConfig(max_new_tokens=10, seed=3)
    one = generate(model, tokenizer, "a", config=config, temperature=0.5)
    assert one == generate(model, tokenizer, "a", max_new_tokens=10, seed=3, temperature=0.5)


def test_ids_beyond_the_tokenizer_stand_for_nothing(tiny, tokenizer):
    wide = GPT(tiny(vocab_size=tokenizer.vocab_size + 500), seed=1)
    both(wide, tokenizer, "so", max_new_tokens=30, seed=1)


def test_a_tokenizer_larger_than_the_model_is_refused_by_name(tiny, tokenizer):
    narrow = GPT(tiny(vocab_size=5), seed=1)
    for call in (generate, stream, subgpt.next_tokens):
        with pytest.raises(ConfigError, match="they do not belong together"):
            call(narrow, tokenizer, "")


def test_bytes_of_a_character_come_out_together(tiny):
    words = subgpt.Tokenizer.train(iter(["é日本"]), level="subword", vocab_size=257)
    model = GPT(tiny(vocab_size=words.vocab_size), seed=1)
    for seed in range(5):
        both(model, words, "é", max_new_tokens=40, seed=seed, ignore_eos=True)


@given(st.text("abc", max_size=40), st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_the_guard_cuts_at_the_first_stop_however_the_text_is_cut(text, stops, data):
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    guard = StopGuard(stops)
    assert guard.done is False
    shown = []
    for piece in pieces:
        shown.append(guard.push(piece))
        sofar = "".join(shown)
        assert not any(stop in sofar for stop in stops)
        # What is held back is the longest beginning of a stop text that the text ends with.
        if not guard.done:
            read = text[: sum(map(len, pieces[: len(shown)]))]
            begun = [stop[:n] for stop in stops for n in range(len(stop)) if read.endswith(stop[:n])]
            assert sofar == read[: len(read) - max(map(len, begun), default=0)]
    result = "".join(shown) + guard.flush()
    assert guard.flush() == ""
    ends = [(text.index(stop) + len(stop), text.index(stop)) for stop in stops if stop in text]
    if not ends:
        assert result == text
    else:
        assert guard.done
        assert not any(stop in result for stop in stops)
        assert text.startswith(result)


def test_sampling_probs_on_a_distribution_a_person_can_add_up():
    logits = np.log([0.5, 0.25, 0.125, 0.125])
    assert sampling_probs(logits).tolist() == pytest.approx([0.5, 0.25, 0.125, 0.125])
    assert sampling_probs(logits, top_k=2).tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert sampling_probs(logits, top_p=0.6).tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert sampling_probs(logits, min_p=0.4).tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert sampling_probs(logits, temperature=0).tolist() == [1, 0, 0, 0]
    assert sampling_probs(logits, do_sample=False).tolist() == [1, 0, 0, 0]
    assert sampling_probs(logits, temperature=0.5)[0] == pytest.approx(0.25 / (0.25 + 0.0625 + 2 * 0.015625))
    probs = sampling_probs([2.0, 1.0, 0.0], context=[0], repetition_penalty=2.0)
    assert probs.dtype == np.float64
    assert probs[0] == probs[1]


def test_sampling_probs_refuses_what_is_no_rule():
    with pytest.raises(ConfigError, match="no option 'topk'; did you mean 'top_k'"):
        sampling_probs([1.0, 2.0], topk=1)
    with pytest.raises(ConfigError, match="max_new_tokens"):
        sampling_probs([1.0, 2.0], max_new_tokens=1)
    with pytest.raises(subgpt.ShapeError):
        sampling_probs([[1.0, 2.0]])


def test_what_is_drawn_follows_the_distribution(model):
    ids = [1, 2, 3]
    probs = model.next_token_probs(ids)
    session_probs = sampling_probs(model.forward(ids)[-1])
    assert np.allclose(probs, session_probs, atol=1e-6)
    drawn = [int(model.generate(ids, max_new_tokens=1, seed=seed)[-1]) for seed in range(2000)]
    seen = np.bincount(drawn, minlength=len(probs)) / 2000
    assert np.abs(seen - probs).max() < 0.03


def test_who_ignores_the_end_of_text_ignores_the_ids_that_the_files_say_end_it(model, tokenizer):
    plain = generate(model, tokenizer, "so", max_new_tokens=12, temperature=0, ignore_eos=True)
    model.generation_config = {"eos_token_id": tokenizer.encode(plain[5]).tolist()}
    assert generate(model, tokenizer, "so", max_new_tokens=12, temperature=0, ignore_eos=True) == plain
    assert len(generate(model, tokenizer, "so", max_new_tokens=12, temperature=0)) < len(plain)
    ends = tokenizer.encode(plain[5]).tolist()
    named = generate(
        model, tokenizer, "so", max_new_tokens=12, temperature=0, ignore_eos=True, eos_token_id=ends
    )
    assert len(named) < len(plain)
