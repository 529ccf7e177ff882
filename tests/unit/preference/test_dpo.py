"""Learning from preferences: the gradient is that of the loss, chosen answers become likelier, bad rows are named."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import sys

import numpy as np
import pytest

import subgpt
from subgpt import GPT, Callback, GPTConfig, Tokenizer, TrainConfig
from subgpt.errors import CheckpointError, ConfigError, DataError, InvalidValueError, ShapeError
from subgpt.preference.dpo import Preference, dpo
from subgpt.preference.loss import dpo_loss
from subgpt.preference.pairs import PairLoader, log_probs, read_pairs
from subgpt.training.callbacks import LogLines
from subgpt.training.data import fingerprint

ROWS = [
    {"prompt": f"The {thing} is", "chosen": " kind and warm.", "rejected": " cold and grey."}
    for thing in ("cat", "hill", "boat", "moon", "house", "road", "rain", "bread")
]


@pytest.fixture(scope="module")
def tokenizer():
    text = " ".join(row["prompt"] + row["chosen"] + row["rejected"] for row in ROWS)
    return Tokenizer.train([text] * 3, vocab_size=300)


@pytest.fixture
def model(tokenizer):
    config = GPTConfig(tokenizer.vocab_size, 32, 1, 2, 32, activation="gelu_new")
    return GPT(config, seed=3)


def settings(**more):
    return TrainConfig(
        **{"max_steps": 20, "batch_size": 3, "learning_rate": 3e-3, "val_fraction": 0.25, **more}
    )


def go_on(model, tokenizer, place, **more):
    """Resume a run of one step."""
    return dpo(
        model, tokenizer, ROWS, settings(max_steps=2), output_dir=place, resume=True, callbacks=(), **more
    )


def test_the_gradient_is_that_of_the_loss(model, tokenizer):
    pairs = read_pairs(ROWS)
    sides = [subgpt.data.tokenize_examples(list(side), tokenizer) for side in zip(*pairs, strict=True)]
    loader = PairLoader(*sides, block_size=32, batch_size=3, seed=0)
    loader.remember(model)
    rng = np.random.default_rng(1)
    state = {k: v + rng.normal(0, 0.05, v.shape).astype("f4") for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    objective, batches = Preference(0.5, 0.1), [loader.batch(0), loader.batch(1)]
    model.zero_grad()
    loss = objective.backward(model, batches)
    assert loss.targets == 6
    grads = model.grads()

    def mean_loss():
        return float(np.mean([x for batch in batches for x in objective.of(model, batch).losses]))

    assert loss.loss == pytest.approx(mean_loss(), abs=1e-6)
    for name in ("transformer.wte.weight", "transformer.h.0.attn.c_attn.weight", "transformer.ln_f.bias"):
        direction = rng.normal(0, 1, state[name].shape).astype("f4")
        sides = []
        for sign in (1, -1):
            model.load_state_dict({**state, name: state[name] + sign * 2e-3 * direction})
            sides.append(mean_loss())
        slope = (sides[0] - sides[1]) / 4e-3
        assert slope == pytest.approx(float((grads[name] * direction).sum()), rel=2e-2, abs=2e-3), name


def test_chosen_answers_become_likelier_than_rejected_ones(model, tokenizer):
    run = dpo(model, tokenizer, ROWS, settings(), callbacks=())
    before, after = run.before["preferences"], run.after["preferences"]
    assert before.loss == pytest.approx(np.log(2), abs=1e-6)
    assert after.loss < 0.4
    assert run.losses[0] == pytest.approx(np.log(2), abs=1e-5)


def test_what_is_counted_are_pairs(model, tokenizer, tmp_path):
    said = io.StringIO()
    config = settings(max_steps=2, eval_steps=1, report_to="csv", gradient_accumulation_steps=2)
    run = dpo(
        model, tokenizer, ROWS, config, output_dir=tmp_path / "run", callbacks=[LogLines(said, every=0)]
    )
    assert run.tokens == 2 * 2 * 3
    assert "at most 384 positions a step" in said.getvalue()  # 2 batches of 3 pairs, 32 long
    assert " pairs/s" in said.getvalue()
    assert "perplexity" not in said.getvalue()
    assert " over 3 pairs" in str(run.after["preferences"])
    lines = [json.loads(line) for line in (tmp_path / "run/training/metrics.jsonl").read_text().splitlines()]
    assert {line["val_perplexity"] for line in lines if "val_loss" in line} == {None}
    again = dpo(model, tokenizer, ROWS, config, output_dir=tmp_path / "run", resume=True, callbacks=())
    assert again.before == run.before


@pytest.mark.parametrize(
    "precision",
    [{"dtype": "bfloat16"}, {"lora_r": 2, "quantize_base": "int4"}, {"lora_r": 2, "quantize_base": "int8"}],
)
def test_the_reference_computes_as_the_model_that_is_trained(model, tokenizer, precision):
    run = dpo(model, tokenizer, ROWS, settings(max_steps=1, **precision), callbacks=())
    assert run.before["preferences"].loss == pytest.approx(np.log(2), abs=1e-6)


def test_interrupted_and_resumed_it_is_the_same(model, tokenizer, tmp_path):
    if sys.platform == "win32":
        pytest.skip("signals are delivered differently on Windows")

    class Stop(Callback):
        def on_step(self, event):
            if event.step == 6:
                os.kill(os.getpid(), signal.SIGINT)

    cut = GPT(model.config, seed=3)
    whole = dpo(model, tokenizer, ROWS, settings(), output_dir=tmp_path / "whole", callbacks=())
    first = dpo(cut, tokenizer, ROWS, settings(), output_dir=tmp_path / "cut", callbacks=[Stop()])
    assert first.interrupted
    # The model that goes on is no longer the reference.
    second = dpo(cut, tokenizer, ROWS, settings(), output_dir=tmp_path / "cut", resume=True, callbacks=())
    assert second.losses == whole.losses
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(cut.state_dict()[name], value, err_msg=name)


def test_another_beta_is_refused_by_its_name_and_changes_nothing(model, tokenizer, tmp_path):
    dpo(model, tokenizer, ROWS, settings(max_steps=1), output_dir=tmp_path / "run", beta=0.3, callbacks=())
    kept = (tmp_path / "run" / "training" / "reference.json").read_bytes()
    for given, said in (
        ({}, "beta was 0.3, is 0.1"),
        ({"beta": 0.3, "label_smoothing": 0.1}, "label_smoothing was 0.0, is 0.1"),
    ):
        with pytest.raises(ConfigError, match=said):
            go_on(model, tokenizer, tmp_path / "run", **given)
    assert (tmp_path / "run" / "training" / "reference.json").read_bytes() == kept


def test_conversations_are_written_in_the_models_form(tokenizer, model):
    asked = [{"role": "user", "content": "The cat is?"}]
    rows = [
        {
            "prompt": asked,
            "chosen": [{"role": "assistant", "content": f"kind {n}"}],
            "rejected": [{"role": "assistant", "content": f"cold {n}"}],
        }
        for n in range(3)
    ]
    whole = [{key: [*row["prompt"], *row[key]] for key in ("chosen", "rejected")} for row in rows]
    assert [[e.messages for e in pair] for pair in read_pairs(rows)] == [
        [e.messages for e in pair] for pair in read_pairs(whole)
    ]
    run = dpo(model, tokenizer, rows, settings(max_steps=1, val_fraction=0.0), callbacks=())
    assert run.losses[0] == pytest.approx(np.log(2), abs=1e-5)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "chosen": "b"}, "keys"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "rejected a number"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "field 'rejected' is empty"),
        (
            {"prompt": [], "chosen": [{"role": "x", "content": "y"}], "rejected": []},
            "2: prompt + chosen: message 1",
        ),
        ({"chosen": [{"role": "user", "content": "y"}], "rejected": []}, "2: chosen: the last message"),
        ({"chosen": "b", "rejected": "c"}, "both must be texts"),
        ({"prompt": "a", "chosen": [], "rejected": []}, "both must be texts"),
        (
            {
                "chosen": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
                "rejected": [{"role": "user", "content": "z"}, {"role": "assistant", "content": "y"}],
            },
            "different prompts",
        ),
    ],
)
def test_rows_that_are_no_preferences_are_named(row, said, tmp_path):
    path = tmp_path / "prefs.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=r"prefs\.jsonl.*2") as caught:
        read_pairs(path)
    assert said in str(caught.value)


def test_files_without_preferences_are_named(tmp_path):
    (tmp_path / "prefs.jsonl").write_text("\n")
    with pytest.raises(DataError, match=r"prefs\.jsonl: no preferences in it; each row must have prompt"):
        read_pairs(tmp_path / "prefs.jsonl")


def test_numbers_that_cannot_be_are_refused(model, tokenizer):
    for beta, smoothing in [(0, 0), (-1, 0), (float("nan"), 0), (0.1, 0.5), (0.1, -0.1)]:
        with pytest.raises(InvalidValueError, match="dpo_loss"):
            dpo(model, tokenizer, "not/there", settings(), beta=beta, label_smoothing=smoothing, callbacks=())
    with pytest.raises(ShapeError, match="all must be"):
        dpo_loss([1.0], [1.0, 2.0], [1.0], [1.0])
    with pytest.raises(ConfigError, match="packing"):
        dpo(model, tokenizer, ROWS, settings(packing=True), callbacks=())
    with pytest.raises(DataError, match="no preferences"):
        dpo(model, tokenizer, [], settings(), callbacks=())


def test_pairs_are_hashed_and_counted_as_the_batch_that_holds_all_of_them(tokenizer):
    sides = zip(*read_pairs([*ROWS, {**ROWS[0], "rejected": " cold, grey and wet."}]), strict=True)
    sides = [subgpt.data.tokenize_examples(list(side), tokenizer) for side in sides]
    loaders = [PairLoader(*sides, block_size=size, batch_size=2, seed=0, pad=3) for size in (32, 5)]
    digest = hashlib.blake2b(digest_size=16)
    for loader in loaders:
        loader.add_to(digest)
    whole = [loader.pairs(np.arange(9)) for loader in loaders]
    assert digest.hexdigest() == fingerprint([array for batch in whole for array in batch[:2]])
    assert [loader.targets for loader in loaders] == [int((batch.targets >= 0).sum()) for batch in whole]


def test_log_probabilities_are_sums_over_answers(model, tokenizer):
    pairs = read_pairs(ROWS[:2])
    sides = [subgpt.data.tokenize_examples(list(side), tokenizer) for side in zip(*pairs, strict=True)]
    loader = PairLoader(*sides, block_size=32, batch_size=2, seed=0)
    batch = loader.pairs(np.arange(2))
    got = log_probs(model, batch)
    for row in range(4):
        logits = model.forward(batch.ids[row]).astype("f8")
        logs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        kept = batch.targets[row] >= 0
        expected = logs[np.flatnonzero(kept), batch.targets[row][kept]].sum()
        assert got[row] == pytest.approx(expected, abs=1e-4)


def test_a_run_that_is_refused_leaves_the_reference_of_the_one_before(model, tokenizer, tmp_path):
    place = tmp_path / "run"
    dpo(model, tokenizer, ROWS, settings(max_steps=1), output_dir=place, callbacks=())
    kept = (place / "training" / "reference.json").read_bytes()
    other = GPT(model.config, seed=4)
    refused = settings(max_steps=1, overwrite_output_dir=True, freeze="nothing.of.this.name")
    with pytest.raises(ConfigError, match="freeze"):
        dpo(other, tokenizer, ROWS, refused, output_dir=place, callbacks=())
    assert (place / "training" / "reference.json").read_bytes() == kept


@pytest.mark.parametrize("log_probs", [None, [], [[0.0]], [["a"], ["b"]]])
def test_a_reference_that_is_damaged_is_named(model, tokenizer, tmp_path, log_probs):
    place = tmp_path / "run" / "training" / "reference.json"
    dpo(model, tokenizer, ROWS, settings(max_steps=1), output_dir=tmp_path / "run", callbacks=())
    kept = json.loads(place.read_text(encoding="utf-8"))
    place.write_text(json.dumps({**kept, "log_probs": log_probs}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"reference\.json: holds no log-probabilities of these pairs"):
        go_on(model, tokenizer, tmp_path / "run")


def test_what_a_run_tells_is_of_pairs(model, tokenizer, tmp_path):
    run = dpo(model, tokenizer, ROWS, settings(max_steps=2), output_dir=tmp_path / "run", callbacks=())
    page = (tmp_path / "run" / "training" / "report.html").read_text(encoding="utf-8")
    assert "nats per pair" in page
    assert "per token" not in page
    assert run.unit == subgpt.Run.load(tmp_path / "run").unit == "pairs"
