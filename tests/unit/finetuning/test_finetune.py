"""Fine-tuning: the loss is on the answers, what is forgotten is seen, resumption is exact."""

from __future__ import annotations

import json
import os
import signal
import sys

import numpy as np
import pytest

import subgpt
from subgpt import GPT, Callback, ConfigError, DataError, TrainConfig, finetune, machine
from subgpt.data.chat import CHATML, ChatTemplate
from subgpt.data.form import Form
from subgpt.finetuning.chat import prepare_chat
from subgpt.finetuning.data import choose_form, example_data, finetuning_data
from subgpt.finetuning.replay import ReplayLoader
from subgpt.tokenizer import add_special_tokens
from subgpt.training.data import text_data
from subgpt.training.keeper import Keeper

ROWS = [
    {"question": f"what is {n}?", "answer": f"a red {word}"}
    for n, word in enumerate(["cat", "plum", "bough"] * 4)
]


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "qa.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return path


@pytest.fixture
def model(tiny):
    return GPT(tiny(block_size=48), seed=1)


def run(model, tokenizer, source, settings=None, **options):
    config = TrainConfig(**{"max_steps": 30, "batch_size": 4, "learning_rate": 3e-2, **(settings or {})})
    return finetune(model, tokenizer, source, config, **{"callbacks": (), **options})


def test_only_answers_are_targets(tokenizer, rows):
    data = example_data(rows, tokenizer, TrainConfig(batch_size=2).resolved(48))
    x, y = data.loader.batch(0)
    for ids, targets in zip(x, y, strict=True):
        text = tokenizer.decode(targets[targets != -100])
        assert text.startswith(" a red ")
        assert text.endswith("<|endoftext|>")
        shown = tokenizer.decode(ids[np.concatenate([[True], targets[:-1] == -100])])
        assert shown.startswith("Question: what is")
    assert data.held_out.text_bytes > 0


def test_prepared_data_is_trained_on_as_its_text_would_be(tiny, tokenizer, poems, rows, tmp_path):
    (tmp_path / "new.txt").write_text("<|endoftext|>".join(poems), encoding="utf-8")
    (tmp_path / "old.txt").write_text("<|endoftext|>".join(poems[:8]), encoding="utf-8")
    for name in ("new", "old"):
        subgpt.prepare_data(tmp_path / f"{name}.txt", tmp_path / name, tokenizer, val_fraction=0.3)
    config = {"max_steps": 6, "val_fraction": 0.3, "recall_tokens": 0}
    text = run(GPT(tiny(), seed=1), tokenizer, tmp_path / "new.txt", config)
    there = run(GPT(tiny(), seed=1), tokenizer, tmp_path / "new", config, old_source=tmp_path / "old")
    assert there.losses == text.losses
    assert there.after["new"].loss == text.after["new"].loss
    assert (
        there.after["old"].tokens == subgpt.evaluate(GPT(tiny(), seed=1), tokenizer, tmp_path / "old").tokens
    )
    replayed = run(GPT(tiny(block_size=48), seed=1), tokenizer, rows, config, replay_source=tmp_path / "old")
    assert set(replayed.after) == {"new", "old"}


def test_prepared_data_of_another_tokenizer_is_refused(model, tokenizer, poems, tmp_path):
    other = subgpt.Tokenizer.train(iter([*poems, "£"]), level="char", special_tokens=("<|endoftext|>",))
    subgpt.prepare_data(poems, tmp_path / "set", other, val_fraction=0.3)
    for sources in ({"source": tmp_path / "set"}, {"source": iter(poems), "eval_source": tmp_path / "set"}):
        with pytest.raises(DataError, match="was prepared with another tokenizer"):
            run(model, tokenizer, **sources)


def test_the_new_is_learnt_and_the_old_is_watched(model, tokenizer, rows, poems):
    done = run(model, tokenizer, rows, old_source=iter_twice(poems))
    assert set(done.before) == set(done.after) == {"new", "old"}
    assert done.after["new"].loss < done.before["new"].loss / 2
    assert done.after["old"].tokens == done.before["old"].tokens
    answer = subgpt.generate(
        model, tokenizer, "Question: what is 3?\nAnswer:", temperature=0, return_prompt=False
    )
    assert answer.startswith(" a red ")


def iter_twice(texts):
    return list(texts)


def test_what_the_tokenizer_does_not_know_is_said(tokenizer, poems):
    config = TrainConfig(batch_size=2).resolved(48)
    notes = example_data([{"q": "Ü?", "a": "a ÖÄ"}, {"q": "b?", "a": "b"}], tokenizer, config).notes
    assert any(note.startswith("3 tokens (") and "<unk>" in note for note in notes), notes
    assert not any("<unk>" in note for note in text_data(iter(poems), tokenizer, config).notes)


def test_held_out_data_may_be_given(model, tokenizer, rows):
    held = [{"question": "what is 99?", "answer": "a red cat"}]
    done = run(model, tokenizer, rows, eval_source=held)
    assert done.before["new"].tokens == len(" a red cat") + 1


def test_what_is_replayed_is_forgotten_less(tiny, tokenizer, rows, poems):
    settings = {"max_steps": 60, "learning_rate": 1e-2}
    base = GPT(tiny(block_size=48), seed=1)
    run(base, tokenizer, iter_twice(poems), {"max_steps": 40})
    losses = {}
    for replay in (None, iter_twice(poems)):
        model = GPT(base.config, seed=1)
        model.load_state_dict(base.state_dict())
        more = {} if replay is None else {"replay_ratio": 0.5}
        done = run(
            model, tokenizer, rows, {**settings, **more}, old_source=iter_twice(poems), replay_source=replay
        )
        losses[replay is not None] = {
            name: done.after[name].loss - done.before[name].loss for name in done.after
        }
    assert losses[True]["old"] < losses[False]["old"] / 2
    assert losses[True]["new"] < -0.5


def test_what_it_wrote_before_tells_what_is_forgotten(tiny, tokenizer, rows, poems, tmp_path):
    model = GPT(tiny(block_size=48), seed=1)
    run(model, tokenizer, iter_twice(poems), {"max_steps": 40})
    done = run(model, tokenizer, rows, {"max_steps": 40, "recall_tokens": 300}, output_dir=tmp_path / "run")
    assert done.before["recalled"].tokens == (300 // 48) * 47
    assert done.after["recalled"].loss > done.before["recalled"].loss + 0.3
    page = (tmp_path / "run" / "training" / "report.html").read_text()
    assert "texts that the model wrote before" in page
    assert f"{done.after['recalled'].loss:.3f}" in page
    none = run(model, tokenizer, rows, {"max_steps": 1, "recall_tokens": 0})
    assert set(none.after) == {"new"}


@pytest.mark.parametrize(
    "content", ["{}", "[]", "[[1, 2], [3]]", "[[1, 99999999]]", "[[-1, 2]]", '[["a", "b"]]']
)
def test_kept_texts_that_are_none_are_named(tiny, tokenizer, rows, tmp_path, content):
    settings = {"max_steps": 2, "save_steps": 1}
    run(GPT(tiny(block_size=48), seed=1), tokenizer, rows, settings, output_dir=tmp_path / "run")
    (tmp_path / "run" / "training" / "recalled.json").write_text(content)
    with pytest.raises(subgpt.CheckpointError, match=r"recalled\.json"):
        run(
            GPT(tiny(block_size=48), seed=1),
            tokenizer,
            rows,
            settings,
            output_dir=tmp_path / "run",
            resume=True,
        )


def test_replayed_data_is_watched_by_itself(model, tokenizer, rows, poems):
    done = run(model, tokenizer, rows, {"max_steps": 3, "val_fraction": 0.2}, replay_source=iter_twice(poems))
    assert set(done.after) == {"new", "old"}
    with pytest.raises(subgpt.ConfigError, match="replay_ratio"):
        TrainConfig(replay_ratio=1.0)


def test_rows_of_examples_are_known_to_be_padded_and_windows_to_be_full(tokenizer, rows, poems):
    config = TrainConfig(batch_size=2).resolved(48)
    assert finetuning_data(rows, tokenizer, config).padded
    assert not finetuning_data(iter_twice(poems), tokenizer, config).padded


def test_what_is_said_of_replayed_data_is_marked(model, tokenizer, rows, poems):
    heard = []

    class Listener(Callback):
        def on_start(self, start):
            heard.extend(start.notes)

    run(model, tokenizer, rows, {"max_steps": 1}, replay_source=iter_twice(poems), callbacks=[Listener()])
    marked = [note for note in heard if note.startswith("replayed: ")]
    config = TrainConfig(batch_size=4).resolved(48)
    assert marked == [f"replayed: {note}" for note in finetuning_data(list(poems), tokenizer, config).notes]


def test_what_is_forgotten_is_measured_also_where_nothing_is_held_out(model, tokenizer, rows, poems):
    settings = {"max_steps": 3, "val_fraction": 0.0, "recall_tokens": 96}
    done = run(model, tokenizer, rows, settings, replay_source=iter_twice(poems))
    assert set(done.after) == {"recalled"}


def test_all_that_is_replayed_is_trained_on_where_other_data_is_watched(model, tokenizer, rows, poems):
    config = TrainConfig(max_steps=1, batch_size=4, val_fraction=0.3)
    heard = []

    class Listener(Callback):
        def on_start(self, start):
            heard.extend(note for note in start.notes if note.startswith("replay"))

    old = {"old_source": iter_twice(poems), "replay_source": iter_twice(poems)}
    finetune(model, tokenizer, rows, config, callbacks=[Listener()], **old)
    whole = text_data(iter_twice(poems), tokenizer, config.replace(val_fraction=0.0).resolved(48)).tokens
    assert f"{whole:,} tokens" in heard[0]


def test_replay_is_spread_evenly_and_by_arithmetic():
    class Numbers:
        def __init__(self, kind):
            self.kind = kind

        def batch(self, step):
            return (self.kind, step)

    for ratio in (0.1, 0.25, 1 / 3, 0.5, 0.9):
        loader = ReplayLoader(Numbers("new"), Numbers("old"), ratio)
        seen = [loader.batch(step) for step in range(300)]
        for kind in ("new", "old"):
            assert [n for k, n in seen if k == kind] == list(range(sum(k == kind for k, _ in seen)))
        for end in range(1, 300):
            assert abs(sum(k == "old" for k, _ in seen[:end]) - ratio * end) <= 1
        assert seen[150:] == [loader.batch(step) for step in range(150, 300)]


def test_running_text_is_learnt_as_in_pretraining(model, tokenizer, poems):
    done = run(model, tokenizer, list(poems))
    assert done.losses[-1] < done.losses[0]
    assert list(done.after) == ["new", "recalled"]


def test_defaults_are_gentler_than_pretrainings(model, tokenizer, rows, tmp_path):
    import yaml

    finetune(model, tokenizer, rows, TrainConfig(max_steps=2), output_dir=tmp_path / "r", callbacks=())
    values = yaml.safe_load((tmp_path / "r" / "training" / "config.yaml").read_text())
    assert values["train"]["learning_rate"] == 1e-4
    assert values["train"]["max_steps"] == 2
    assert values["verb"] == "finetune"


def test_examples_that_teach_nothing_are_refused(model, tokenizer):
    with pytest.raises(DataError, match="answer"):
        run(model, tokenizer, [{"question": "why?", "answer": " "}])
    with pytest.raises(DataError):
        run(model, tokenizer, [{"body": "why?"}])


def test_packed_examples_are_learnt_and_the_held_out_ones_are_alone(tiny, tokenizer, rows):
    model = GPT(tiny(block_size=120), seed=1)
    settings = {"packing": True, "batch_size": 2, "max_steps": 40}
    plain, packed = (
        example_data(rows, tokenizer, TrainConfig(packing=packing, batch_size=2).resolved(120))
        for packing in (False, True)
    )
    assert len(packed.loader) < len(plain.loader)
    assert "packed into" in packed.notes[0]
    assert "% of them padding" in packed.notes[0]
    assert packed.held_out.targets == plain.held_out.targets
    for one, other in zip(packed.held_out.batches, plain.held_out.batches, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    done = run(model, tokenizer, rows, settings)
    assert done.after["new"].loss < done.before["new"].loss / 2


def test_documents_of_running_text_are_as_if_each_were_alone(tiny, tokenizer, poems):
    model = GPT(tiny(block_size=96), seed=1)
    config = TrainConfig(packing=True, batch_size=3, val_fraction=0.3).resolved(96)
    data = text_data(list(poems), tokenizer, config)
    for batch in (data.loader.batch(0), next(iter(data.held_out.batches))):
        assert (batch.segments.max(axis=1) > 0).any(), "windows hold several documents"
        losses = model.token_losses(batch.x, batch.y, documents=batch.segments)
        for ids, targets, segments, packed in zip(*batch, losses, strict=True):
            for segment in np.unique(segments):
                inside = segments == segment
                assert segment == 0 or ids[inside][0] == tokenizer.eot_id
                alone = model.token_losses(ids[inside], targets[inside])
                np.testing.assert_allclose(packed[inside], alone, rtol=0, atol=1e-5)
    done = run(model, tokenizer, list(poems), {"packing": True, "val_fraction": 0.3})
    assert done.after["new"].loss < done.before["new"].loss - 0.5
    ended = subgpt.Tokenizer.train(iter(poems), level="char", special_tokens=())
    with pytest.raises(ConfigError, match="end-of-text id, which this tokenizer has not"):
        text_data(list(poems), ended, config)


@pytest.mark.parametrize("packing", [False, True])
def test_interrupted_and_resumed_it_is_the_same(tiny, tokenizer, rows, tmp_path, packing):
    if sys.platform == "win32":
        pytest.skip("signals are delivered differently on Windows")

    class Stop(Callback):
        def on_step(self, event):
            if event.step == 4:
                os.kill(os.getpid(), signal.SIGINT)

    settings = {"max_steps": 9, "val_fraction": 0.3, "packing": packing, "recall_tokens": 100}
    whole, cut = GPT(tiny(block_size=120), seed=1), GPT(tiny(block_size=120), seed=1)
    one = run(whole, tokenizer, rows, settings, output_dir=tmp_path / "whole")
    first = run(cut, tokenizer, rows, settings, output_dir=tmp_path / "cut", callbacks=[Stop()])
    assert first.interrupted
    assert (set(first.before), first.after) == ({"new", "recalled"}, {})
    two = run(cut, tokenizer, rows, settings, output_dir=tmp_path / "cut", resume=True)
    assert two.losses == one.losses
    assert two.before["new"].loss == one.before["new"].loss, (
        "measured before the first step, not at the resumption"
    )
    assert two.after["new"].loss == one.after["new"].loss
    # The same texts, though the model that went on would have written others.
    assert two.before["recalled"].loss == one.before["recalled"].loss
    assert two.after["recalled"].loss == one.after["recalled"].loss
    for name, value in whole.state_dict().items():
        assert np.array_equal(value, cut.state_dict()[name]), name


def test_a_chat_model_learns_in_its_template(tokenizer, tiny, tmp_path):
    chatty = add_special_tokens(tokenizer, ["<|im_start|>", "<|im_end|>"])
    model = GPT(tiny(vocab_size=chatty.vocab_size, block_size=64), seed=1)
    talk = [
        [{"role": "user", "content": f"who is {n}?"}, {"role": "assistant", "content": "a red plum"}]
        for n in range(9)
    ]
    rows = [{"messages": messages} for messages in talk]
    done = run(model, chatty, rows, eval_source=rows, output_dir=tmp_path / "run")
    assert done.before["new"].tokens == 9 * (len("a red plum") + 1)
    assert done.after["new"].loss < done.before["new"].loss / 2
    assert ChatTemplate.load(tmp_path / "run").source == CHATML.source
    again = subgpt.evaluate(model, chatty, rows)
    assert again.loss == pytest.approx(done.after["new"].loss)
    prompt = chatty.encode(CHATML.render(talk[0][:1], add_generation_prompt=True), allowed_special="all")
    written = model.generate(prompt, temperature=0, max_new_tokens=11)[len(prompt) :]
    assert chatty.decode(written) == "a red plum<|im_end|>"


def test_a_base_model_gets_chatmls_tokens_and_learns_them(tokenizer, tiny, tmp_path):
    model = GPT(tiny(block_size=64), seed=1)
    before = model.next_token_probs([1, 2])
    chatty = prepare_chat(model, tokenizer, "chatml")
    assert chatty.vocab_size == model.config.vocab_size == tokenizer.vocab_size + 2
    after = model.next_token_probs([1, 2])
    np.testing.assert_allclose(after[:-2] / after[:-2].sum(), before, rtol=1e-4)
    assert prepare_chat(model, chatty, "auto").vocab_size == chatty.vocab_size
    assert prepare_chat(GPT(tiny(block_size=64), seed=1), tokenizer, "auto") is tokenizer
    rows = [{"question": f"who is {n}?", "answer": "a red plum"} for n in range(9)]
    run(model, chatty, rows, {"chat_template": "chatml", "max_steps": 60}, output_dir=tmp_path / "run")
    again, found = subgpt.load(tmp_path / "run")
    assert again.generation_config["eos_token_id"][-1] == chatty.special_tokens["<|im_end|>"]
    prompt = CHATML.render([{"role": "user", "content": "who is 3?"}], add_generation_prompt=True)
    assert subgpt.generate(again, found, prompt, temperature=0, return_prompt=False) == "a red plum"


def test_what_is_learnt_is_a_setting(tokenizer, rows):
    def trained(loss_on):
        config = TrainConfig(batch_size=2, val_fraction=0, loss_on=loss_on).resolved(48)
        return example_data(rows, tokenizer, config, choose_form(config, tokenizer)).tokens

    assert trained("answers") == trained("last") < trained("all")
    with pytest.raises(subgpt.ConfigError, match="loss_on"):
        TrainConfig(loss_on="questions")


def test_chatml_needs_its_tokens(tokenizer):
    with pytest.raises(subgpt.ConfigError, match=r"has no special tokens <\|im_start\|>, <\|im_end\|>; add"):
        choose_form(TrainConfig(chat_template="chatml"), tokenizer)


def test_prompts_with_completions_are_never_templated(tokenizer):
    config = TrainConfig(batch_size=1).resolved(48)
    rows = [{"prompt": f"{n}", "completion": "a"} for n in range(4)]
    notes = example_data(
        rows, tokenizer, config, Form(ChatTemplate("{{ messages[0].content }}", "mine"))
    ).notes
    assert "4 examples have prompt + completion and are used as they are, without template" in notes


def test_numbers_that_json_does_not_have_are_null(model, tokenizer, rows, tmp_path):
    weights = model.state_dict()
    weights["transformer.ln_f.weight"] *= 1e4
    model.load_state_dict(weights)
    ended = run(model, tokenizer, rows, {"max_steps": 1, "recall_tokens": 0}, output_dir=tmp_path)
    assert ended.before["new"].perplexity == float("inf")
    files = [tmp_path / "training" / name for name in ("metrics.jsonl", "before.json")]
    lines = [line for path in files for line in path.read_text(encoding="utf-8").splitlines()]
    assert not [line for line in lines if "Infinity" in line or "NaN" in line]
    assert json.loads(lines[0])["val_perplexity"] is None
    resumed = run(model, tokenizer, rows, {"max_steps": 2}, output_dir=tmp_path, resume=True)
    assert resumed.before["new"].loss == ended.before["new"].loss


def test_old_data_that_cannot_be_read_is_told_before_an_earlier_run_is_discarded(
    model, tokenizer, rows, tmp_path
):
    place = tmp_path / "run"
    run(model, tokenizer, rows, {"max_steps": 2}, output_dir=place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    settings = {"max_steps": 3, "overwrite_output_dir": True}
    with pytest.raises(subgpt.MissingFileError, match="gone"):
        run(model, tokenizer, rows, settings, output_dir=place, old_source=tmp_path / "gone.txt")
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("more", [{"freeze": "embeddings"}, {"lora_r": 2}])
def test_a_run_that_is_refused_leaves_the_model_free(model, tokenizer, rows, tmp_path, monkeypatch, more):
    monkeypatch.setattr(machine, "memory_limit", lambda: 1 << 16)
    with pytest.raises(subgpt.OutOfMemoryError):
        run(model, tokenizer, rows, {"max_steps": 1, **more})
    monkeypatch.undo()
    assert model.num_trained() == model.num_params()
    assert model.active_adapter is None
    with monkeypatch.context() as patch:
        patch.setattr(Keeper, "begin", lambda *_, **__: pytest.fail("at the door"))
        with pytest.raises(pytest.fail.Exception, match="at the door"):
            run(model, tokenizer, rows, {"max_steps": 1, "freeze": "embeddings"}, output_dir=tmp_path / "run")
    assert model.num_trained() == model.num_params()
