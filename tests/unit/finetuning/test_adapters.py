"""Fine-tuning with adapters, or part of the weights: what is trained, kept, resumed and opened again."""

from __future__ import annotations

import json
import os
import signal
import sys

import numpy as np
import pytest

import subgpt
from subgpt import GPT, Callback, CheckpointError, ConfigError, TrainConfig, finetune
from subgpt.adapters.config import LoraConfig
from subgpt.adapters.files import Adapter, Layer
from subgpt.adapters.merge import merge_adapter
from subgpt.data.chat import CHATML
from subgpt.finetuning.chat import prepare_chat
from subgpt.gguf.model import save_gguf

ROWS = [
    {"question": f"what is {n}?", "answer": f"a red {word}"} for n, word in enumerate(["cat", "plum"] * 6)
]
LORA = {"lora_r": 4, "learning_rate": 3e-2, "max_steps": 40, "batch_size": 4, "recall_tokens": 0}


@pytest.fixture(scope="module")
def pretrained(tiny, tokenizer, poems):
    """A model that can write a little: over fresh weights an adapter has nothing to change."""
    model = GPT(tiny(block_size=48, n_layer=2, n_embd=32), seed=1)
    config = TrainConfig(max_steps=150, batch_size=8, learning_rate=1e-2, eval_steps=0)
    subgpt.pretrain(model, tokenizer, list(poems), config, callbacks=())
    return model


@pytest.fixture
def base(pretrained, tokenizer, tmp_path):
    """The directory of a model, to lie under adapters."""
    pretrained.save(tmp_path / "base", tokenizer=tokenizer)
    return tmp_path / "base"


def run(model, tokenizer, source=ROWS, settings=None, **options):
    config = TrainConfig(**{**LORA, **(settings or {})})
    return finetune(model, tokenizer, source, config, **{"callbacks": (), **options})


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_dora": True, "target_modules": "c_attn,mlp.c_proj"},
        {"use_rslora": True, "lora_alpha": 4, "lora_dropout": 0.1},
        {"optimizer": "muon", "muon_adjust_lr": "match_rms_adamw"},
        {"gradient_checkpointing": True, "dtype": "bfloat16"},
    ],
)
def test_an_adapter_learns_and_the_base_stays(base, settings, tmp_path):
    model, tokenizer = subgpt.load(base)
    before = model.state_dict()
    done = run(model, tokenizer, settings=settings, output_dir=tmp_path / "run", eval_source=ROWS)
    assert done.after["new"].loss < done.before["new"].loss / 2
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert not (tmp_path / "run" / "model.safetensors").exists()
    again, found = subgpt.load(tmp_path / "run", dtype=model.dtype)
    assert again.active_adapter == "default"
    assert again.adapter_configs["default"] == model.adapter_configs["default"]
    np.testing.assert_array_equal(again.forward([1, 2, 3]), model.forward([1, 2, 3]))
    assert subgpt.evaluate(again, found, ROWS).loss == pytest.approx(done.after["new"].loss)
    model.merge_adapter()
    model.save(tmp_path / "merged", tokenizer=tokenizer)
    merged, _ = subgpt.load(tmp_path / "merged")
    assert subgpt.evaluate(merged, found, ROWS).loss == pytest.approx(done.after["new"].loss, rel=0.02)


def test_what_is_trained_is_said(base):
    class Notes(Callback):
        lines: tuple[str, ...] = ()

        def on_start(self, event):
            self.lines = event.notes

    model, tokenizer = subgpt.load(base)
    notes = Notes()
    run(model, tokenizer, settings={"max_steps": 1}, callbacks=[notes])
    assert any("rank 4 adapters over" in line and "%" in line for line in notes.lines), notes.lines
    fresh = GPT(model.config, seed=1)
    run(fresh, tokenizer, settings={"max_steps": 1}, callbacks=[notes])
    assert any("names no base" in line or "name no base" in line for line in notes.lines), notes.lines


@pytest.mark.parametrize(
    "settings", [{"use_dora": True, "lora_dropout": 0.2}, {"lora_r": None, "freeze": "0,embeddings"}]
)
def test_interrupted_and_resumed_it_is_the_same(base, settings, tmp_path):
    if sys.platform == "win32":
        pytest.skip("signals are delivered differently on Windows")

    class Stop(Callback):
        def on_step(self, event):
            if event.step == 4:
                os.kill(os.getpid(), signal.SIGINT)

    settings = {
        "max_steps": 9,
        "val_fraction": 0.3,
        "eval_steps": 2,
        "load_best_model_at_end": True,
        **settings,
    }
    ends = {}
    for name, callbacks in {"whole": (), "cut": (Stop(),)}.items():
        model, tokenizer = subgpt.load(base)
        done = run(model, tokenizer, settings=settings, output_dir=tmp_path / name, callbacks=callbacks)
        if callbacks:
            assert done.interrupted
            place = tmp_path / name / "training" / "checkpoints" / "step-000004"
            opened, found = subgpt.load(place)
            assert opened.active_adapter == model.active_adapter
            assert found.fingerprint == tokenizer.fingerprint
            other, _ = subgpt.load(base)
            changed = {key: value + 1 for key, value in other.state_dict().items()}
            other.load_state_dict(changed)
            if settings.get("lora_r", 4):
                with pytest.raises(CheckpointError, match="over other weights"):
                    run(other, tokenizer, settings=settings, output_dir=tmp_path / name, resume=True)
                assert place.is_dir()
            model, tokenizer = subgpt.load(base)  # in another process nothing is left of the first
            done = run(model, tokenizer, settings=settings, output_dir=tmp_path / name, resume=True)
        opened, _ = subgpt.load(tmp_path / name)
        ends[name] = (done.losses, done.val_losses, done.after["new"].loss, opened.forward([1, 2, 3]))
    for one, other in zip(*ends.values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_frozen_weights_stay_and_the_others_learn(base, tmp_path):
    model, tokenizer = subgpt.load(base)
    before = model.state_dict()
    settings = {"lora_r": None, "freeze": ["1", "embeddings", "*.ln_f.*"]}
    done = run(model, tokenizer, settings=settings, eval_source=ROWS, output_dir=tmp_path / "run")
    assert done.after["new"].loss < done.before["new"].loss
    for name, value in model.state_dict().items():
        moved = ".h.0." in name
        assert np.array_equal(value, before[name]) != moved, name
    moments = subgpt._core.read_safetensors(
        str(tmp_path / "run" / "training" / "checkpoints" / "step-000040" / "optimizer.safetensors")
    )
    kept = {name.partition("/")[2] for name in moments} - {""}
    assert kept == {name for name in before if ".h.0." in name}
    assert model.num_trained() == model.num_params(), "frozen for that run alone"


def test_what_was_frozen_under_an_adapter_stays_frozen(base):
    model, tokenizer = subgpt.load(base)
    model.freeze(["embeddings", "0"])
    trained = model.num_trained()
    run(model, tokenizer, settings={"max_steps": 1})
    model.delete_adapter("default")
    assert model.num_trained() == trained < model.num_params()


def test_an_adapter_may_be_trained_further(base):
    model, tokenizer = subgpt.load(base)
    first = run(model, tokenizer, eval_source=ROWS)
    second = run(model, tokenizer, eval_source=ROWS)
    assert second.before["new"].loss == pytest.approx(first.after["new"].loss)
    assert second.after["new"].loss < first.after["new"].loss
    for settings, said in [
        ({"lora_r": None}, "adapter 'default' is in use"),
        ({"lora_r": 8}, "r = 4, the run 8"),
        ({"use_dora": True}, "use_dora"),
        ({"target_modules": "c_attn"}, "target_modules"),
    ]:
        with pytest.raises(ConfigError, match=said):
            run(model, tokenizer, settings=settings)
    model.set_adapter(None)
    with pytest.raises(ConfigError, match="not in use"):
        run(model, tokenizer)


def test_a_chat_adapter_brings_its_tokens_and_its_ends(base, tmp_path):
    model, tokenizer = subgpt.load(base)
    chatty = prepare_chat(model, tokenizer, "chatml")
    rows = [{"question": f"who is {n}?", "answer": "a red plum"} for n in range(9)]
    settings = {"chat_template": "chatml", "max_steps": 120, "lora_r": 8}
    run(model, chatty, rows, settings, output_dir=tmp_path / "run")
    again, found = subgpt.load(tmp_path / "run")
    assert found.special_tokens == chatty.special_tokens
    assert again.generation_config["eos_token_id"][-1] == chatty.special_tokens["<|im_end|>"]
    np.testing.assert_array_equal(again.forward([1, 2, 3]), model.forward([1, 2, 3]))
    prompt = CHATML.render([{"role": "user", "content": "who is 3?"}], add_generation_prompt=True)
    ids = chatty.encode(prompt, allowed_special="all")
    written = again.generate(ids, temperature=0, max_new_tokens=11, eos_token_id=None)[len(ids) :]
    assert chatty.decode(written) == "a red plum<|im_end|>"  # the end, too, whose embedding was never trained


def test_preferences_are_learnt_by_an_adapter(base):
    model, tokenizer = subgpt.load(base)
    before = model.state_dict()
    pairs = [{"prompt": f"what is {n}?", "chosen": " a red cat", "rejected": " a plum"} for n in range(8)]
    config = TrainConfig(**{**LORA, "learning_rate": 1e-2, "val_fraction": 0.25})
    done = subgpt.dpo(model, tokenizer, pairs, config, callbacks=())
    assert done.after["preferences"].loss < done.before["preferences"].loss / 2
    assert done.before["preferences"].loss == pytest.approx(np.log(2), abs=1e-6)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_an_adapter_of_another_base_is_refused(base, tiny, tokenizer, tmp_path):
    model, _ = subgpt.load(base)
    run(model, tokenizer, settings={"max_steps": 1}, output_dir=tmp_path / "run")
    GPT(tiny(block_size=48, n_layer=2, n_embd=32), seed=2).save(base, tokenizer=tokenizer)
    with pytest.raises(CheckpointError, match="over other weights"):
        subgpt.load(tmp_path / "run")
    GPT(tiny(block_size=48, n_layer=1, n_embd=32), seed=1).save(base, tokenizer=tokenizer)
    with pytest.raises(CheckpointError, match=r"adapts transformer\.h\.1"):
        subgpt.load(tmp_path / "run")
    wide = GPT(tiny(block_size=48, n_layer=2, n_embd=64), seed=1)
    with pytest.raises(CheckpointError, match="for a weight of shape"):
        wide.load_adapter(tmp_path / "run", check_base=False)
    assert wide.adapters == []
    values = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    (tmp_path / "run" / "adapter_config.json").write_text(json.dumps({**values, "r": 2}))
    with pytest.raises(CheckpointError, match="has rank 4, but"):
        GPT(tiny(block_size=48, n_layer=2, n_embd=32), seed=1).load_adapter(
            tmp_path / "run", check_base=False
        )


def test_an_adapter_is_no_base(base, tmp_path):
    """Two that name each other were opened without end."""
    model, _ = subgpt.load(base)
    for name, other in ("one", "two"), ("two", "one"):
        model.add_adapter(LoraConfig(r=2, base=str(tmp_path / other)), name=name)
        model.save_adapter(tmp_path / name, name)
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: its base .*two is an adapter itself"):
        subgpt.load(tmp_path / "one")


def test_a_model_under_an_adapter_is_not_saved_without_it(base, tmp_path):
    model, _ = subgpt.load(base)
    model.add_adapter(LoraConfig(r=2))
    for doing in (
        lambda: model.save(tmp_path / "x"),
        lambda: model.resize_embeddings(model.config.vocab_size + 1),
        lambda: save_gguf(model, tmp_path / "x.gguf"),
    ):
        with pytest.raises(ConfigError, match="merge_adapter"):
            doing()
    with pytest.raises(ConfigError, match="no linear layer 'q_proj'"):
        model.add_adapter(LoraConfig(r=2, target_modules=("q_proj",)), "other")
    with pytest.raises(subgpt.SubgptError, match="other"):
        model.set_adapter("other")
    with pytest.raises(ConfigError, match="not over this model"):
        model.save_adapter(tmp_path / "x", "other")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"use_dora": True}, "use_dora is for adapters; set lora_r"),
        ({"lora_alpha": 2}, "lora_alpha is for adapters"),
        ({"lora_r": 0}, "lora_r"),
        ({"lora_r": 4, "lora_dropout": 1.0}, "lora_dropout"),
        ({"lora_r": 4, "freeze": "0"}, "freeze is for runs without adapters"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        TrainConfig(**settings)


def test_settings_have_pefts_names_too():
    config = TrainConfig(r=4, lora_target_modules=["q_proj", "v_proj"])
    assert config.lora == LoraConfig(r=4, lora_alpha=8, target_modules=("q_proj", "v_proj"))


def test_weights_frozen_by_hand_are_not_thawed_in_silence(base):
    model, tokenizer = subgpt.load(base)
    model.freeze(["0"])
    frozen = model.num_trained()
    with pytest.raises(ConfigError, match="give them as freeze"):
        run(model, tokenizer, settings={"lora_r": None})
    assert model.num_trained() == frozen
    run(model, tokenizer, settings={"lora_r": None, "freeze": "0", "max_steps": 1})
    assert model.num_trained() == model.num_params()


@pytest.mark.parametrize(
    ("freeze", "said"), [("7", "'7' means no weight"), ("hed", "head"), ("*", "nothing to be trained")]
)
def test_freezing_what_is_not_there_is_refused(base, freeze, said):
    model, tokenizer = subgpt.load(base)
    with pytest.raises(ConfigError, match=said):
        run(model, tokenizer, settings={"lora_r": None, "freeze": freeze})


def test_adapters_have_a_rate_of_their_own(base, tmp_path):
    import yaml

    for settings, rate in (({"lora_r": 2}, 1e-3), ({}, 1e-4), ({"lora_r": 2, "learning_rate": 2e-4}, 2e-4)):
        model, tokenizer = subgpt.load(base)
        place = tmp_path / f"{rate}"
        finetune(model, tokenizer, ROWS, TrainConfig(max_steps=1, **settings), output_dir=place, callbacks=())
        assert (
            yaml.safe_load((place / "training" / "config.yaml").read_text())["train"]["learning_rate"] == rate
        )


def test_settings_of_adapters_are_checked():
    assert LoraConfig(target_modules="q_proj").target_modules == ("q_proj",)
    assert LoraConfig(target_modules=["q_proj", "v_proj"]).target_modules == ("q_proj", "v_proj")
    for wrong in (5, ("q_proj", 5)):
        with pytest.raises(ConfigError, match="are no names of layers"):
            LoraConfig(target_modules=wrong)
    for wrong in ("0.1", True, 1.0):
        with pytest.raises(ConfigError, match="lora_dropout"):
            LoraConfig(lora_dropout=wrong)


def test_an_adapter_of_the_head_is_merged_the_right_way_round(tiny):
    model = GPT(tiny(tie_embeddings=False), seed=1)
    head = model.state_dict()["lm_head.weight"]
    layer = Layer(np.ones((2, head.shape[1]), np.float32), np.ones((len(head), 2), np.float32))
    merge_adapter(model, Adapter(LoraConfig(r=2, lora_alpha=2), {"lm_head": layer}))
    np.testing.assert_allclose(model.state_dict()["lm_head.weight"], head + 2, atol=1e-6)


class Dies(Callback):
    """Looks at what is there after an update, and ends the run by force."""

    def __init__(self, folder, step=1):
        self.folder, self.step = folder, step

    def on_step(self, event):
        if event.step == self.step:
            self.found = {path.name for path in self.folder.iterdir()}
            raise KeyboardInterrupt


OVERWRITE = {"max_steps": 2, "batch_size": 4, "recall_tokens": 0, "overwrite_output_dir": True}
MODEL = {"config.json", "model.safetensors"}
SHARDS = {"model.safetensors.index.json", "model-00001-of-00001.safetensors"}
ADAPTER = {"adapter_config.json", "adapter_model.safetensors"}


def test_of_a_model_that_is_overwritten_nothing_is_left_to_be_opened(base, tmp_path):
    """Neither beside what comes in its place, nor where the run dies before that is written."""
    folder = tmp_path / "run"
    for settings, made in ({"lora_r": 4}, ADAPTER), ({}, MODEL), ({"lora_r": 4}, ADAPTER):
        config = TrainConfig(**OVERWRITE, **settings)
        model, tokenizer = subgpt.load(base)
        dies = Dies(folder)
        with pytest.raises(KeyboardInterrupt):
            finetune(model, tokenizer, ROWS, config, output_dir=folder, callbacks=[dies])
        assert "tokenizer.json" in dies.found
        assert not dies.found & (MODEL | SHARDS | ADAPTER)
        model, tokenizer = subgpt.load(base)
        finetune(model, tokenizer, ROWS, config, output_dir=folder, callbacks=())
        assert {path.name for path in folder.iterdir()} & (MODEL | SHARDS | ADAPTER) == made
        assert bool(subgpt.load(folder)[0].adapters) is (made is ADAPTER)
        for name in SHARDS:
            (folder / name).write_bytes(b"")


def test_what_a_run_begins_with_stays_until_it_is_replaced(base, tmp_path):
    model, tokenizer = subgpt.load(base)
    dies = Dies(base)
    with pytest.raises(KeyboardInterrupt):
        finetune(model, tokenizer, ROWS, TrainConfig(**OVERWRITE), output_dir=base, callbacks=[dies])
    assert dies.found >= MODEL
    model, tokenizer = subgpt.load(base)
    with pytest.raises(CheckpointError, match="holds the model that the adapter is to lie over"):
        run(model, tokenizer, settings=OVERWRITE, output_dir=base)
    assert not model.adapters
    run(model, tokenizer, settings=OVERWRITE, output_dir=tmp_path / "run")
    model, tokenizer = subgpt.load(tmp_path / "run")
    dies = Dies(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        run(model, tokenizer, settings=OVERWRITE, output_dir=tmp_path / "run", callbacks=[dies])
    assert dies.found >= ADAPTER


def test_neither_model_nor_adapter_is_saved_over_the_other(base, tmp_path):
    """Of two in one directory `load` would open the model alone, and transformers both."""
    model, tokenizer = subgpt.load(base)
    adapter = tmp_path / "adapter"
    model.add_adapter(LoraConfig(r=2))
    model.save_adapter(adapter)
    before = files_of(base), files_of(adapter)
    with pytest.raises(subgpt.OutputError, match=r"base: holds a model, .* name another directory"):
        model.save_adapter(base)
    model.merge_adapter()
    with pytest.raises(
        subgpt.OutputError, match=r"adapter: holds an adapter, .* remove adapter_config\.json and"
    ):
        model.save(adapter, tokenizer)
    assert (files_of(base), files_of(adapter)) == before


def test_a_run_that_overwrites_the_adapter_it_began_with_replaces_it(base, tmp_path):
    model, tokenizer = subgpt.load(base)
    run(model, tokenizer, settings=OVERWRITE, output_dir=tmp_path / "run")
    model, tokenizer = subgpt.load(tmp_path / "run")
    model.merge_adapter()
    finetune(model, tokenizer, ROWS, TrainConfig(**OVERWRITE), output_dir=tmp_path / "run", callbacks=())
    assert {path.name for path in (tmp_path / "run").iterdir()} & (MODEL | ADAPTER) == MODEL


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_checkpoints_of_an_overwriting_run_open_with_its_own_tokenizer_and_template(base, poems, tmp_path):
    model, tokenizer = subgpt.load(base)
    model.chat_template = CHATML
    model.save(tmp_path / "run", tokenizer=tokenizer)
    for name in ("special_tokens_map.json", "added_tokens.json"):
        (tmp_path / "run" / name).write_text("{}", encoding="utf-8")
    other = subgpt.Tokenizer.train(iter(poems), vocab_size=258)
    fresh = GPT(subgpt.GPTConfig(other.vocab_size, 16, n_layer=1, n_head=2, n_embd=16), seed=1)
    config = TrainConfig(max_steps=3, batch_size=2, save_steps=1, eval_steps=0, overwrite_output_dir=True)
    dies = Dies(tmp_path / "run", step=2)
    with pytest.raises(KeyboardInterrupt):
        subgpt.pretrain(fresh, other, list(poems), config, output_dir=tmp_path / "run", callbacks=[dies])
    opened, words = subgpt.load(tmp_path / "run/training/checkpoints/step-000001")
    assert words == other
    assert opened.chat_template is None
    assert not dies.found & {"special_tokens_map.json", "added_tokens.json"}
