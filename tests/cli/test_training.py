import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from subgpt.cli import shape
from subgpt.model.dtype import resolve_dtype
from subgpt.training.config import TrainConfig

from .conftest import SHAPE, Result, invoke


def pretrain(shop: Path, out: Path, *more: object) -> Result:
    given = ("--data", shop / "corpus", "--tokenizer", shop / "subword", "-o", out, *SHAPE, "--max-steps", 3)
    return invoke("pretrain", *given, *more)


def settings(run: Path) -> dict[str, dict[str, object]]:
    return yaml.safe_load((run / "training" / "config.yaml").read_text(encoding="utf-8"))


def test_pretrain_writes_a_run_directory(shop: Path) -> None:
    names = {path.name for path in (shop / "run").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "training"} <= names
    assert settings(shop / "run")["inputs"]["data"] == [str((shop / "corpus").resolve())]


def test_every_training_field_is_a_flag() -> None:
    help_text = invoke("pretrain", "--help").out + invoke("finetune", "--help").out
    left_out = {"output_dir"}
    for name in set(TrainConfig.model_fields) - left_out:
        assert "--" + name.replace("_", "-") in help_text, name


def test_the_whole_validation_set_is_zero_batches_from_everywhere(shop: Path, tmp_path: Path) -> None:
    assert pretrain(shop, tmp_path / "flag", "--eval-batches", 0).code == 0
    assert settings(tmp_path / "flag")["train"]["eval_batches"] == 0
    file = tmp_path / "mine.yaml"
    file.write_text("eval_batches: null\n", encoding="utf-8")
    assert pretrain(shop, tmp_path / "file", "--config", file).code == 0
    again = invoke(
        "pretrain", "--config", tmp_path / "file" / "training" / "config.yaml", "-o", tmp_path / "again"
    )
    assert again.code == 0, again.err
    assert settings(tmp_path / "again")["train"]["eval_batches"] == 0


def test_the_settings_are_printed(shop: Path, tmp_path: Path) -> None:
    result = pretrain(shop, tmp_path / "run")
    assert "n_embd=16" in result.err
    assert "max_steps=3" in result.err


def test_flags_win_over_the_environment_and_that_over_the_file(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "learning_rate: 1e-2\nmin_lr: 1e-5\nweight_decay: 0.5\nmomentum: 0.25\n", encoding="utf-8"
    )
    monkeypatch.setenv("SUBGPT_WEIGHT_DECAY", "0.3")
    monkeypatch.setenv("SUBGPT_MOMENTUM", "0.4")
    result = pretrain(shop, tmp_path / "run", "--config", file, "--momentum", 0.125)
    assert result.code == 0, result.err
    train = settings(tmp_path / "run")["train"]
    expected = {"learning_rate": 1e-2, "min_learning_rate": 1e-5, "weight_decay": 0.3, "momentum": 0.125}
    assert {name: train[name] for name in expected} == expected


@pytest.mark.parametrize("given", ["auto", "float32", "bfloat16"])
def test_what_dtype_became_is_written(shop: Path, tmp_path: Path, given: str) -> None:
    result = pretrain(shop, tmp_path / "run", "--dtype", given, "--gradient-checkpointing")
    assert result.code == 0, result.err
    train = settings(tmp_path / "run")["train"]
    assert train["dtype"] == (resolve_dtype("auto") if given == "auto" else given)
    assert train["gradient_checkpointing"] is True


def test_the_command_line_is_as_fast_as_the_processor_allows(shop: Path) -> None:
    assert settings(shop / "run")["train"]["dtype"] == resolve_dtype("auto")


def test_a_depth_is_a_model(shop: Path, tmp_path: Path) -> None:
    given = ("--data", shop / "corpus", "--tokenizer", shop / "subword", "-o", tmp_path / "run")
    smaller = ("--block-size", 16, "--batch-size", 2, "--max-steps", 1)
    result = invoke("pretrain", *given, "--preset", "d1", "--no-qk-norm", *smaller)
    assert result.code == 0, result.err
    model = settings(tmp_path / "run")["model"]
    assert (model["n_layer"], model["n_embd"], model["position"]) == (1, 64, "rotary")
    assert (model["qk_norm"], model["block_size"], model["vocab_size"]) == (False, 16, 300)
    assert "d1 to d48" in " ".join(invoke("pretrain", "--help").out.split())


def test_a_saved_config_starts_the_same_run_again(shop: Path, tmp_path: Path) -> None:
    config = shop / "run" / "training" / "config.yaml"
    result = invoke("pretrain", "--config", config, "-o", tmp_path / "again")
    assert result.code == 0, result.err
    weights = [(folder / "model.safetensors").read_bytes() for folder in (shop / "run", tmp_path / "again")]
    assert weights[0] == weights[1]


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_interrupted_and_resumed_is_as_if_never_stopped(shop: Path, tmp_path: Path) -> None:
    steps = ("--max-steps", 400, "--eval-steps", 0, "--save-steps", 0)
    assert pretrain(shop, tmp_path / "whole", *steps).code == 0
    given = ["pretrain", "--data", shop / "corpus", "--tokenizer", shop / "subword", "-o", tmp_path / "cut"]
    process = subprocess.Popen(
        [sys.executable, "-m", "subgpt.cli", *map(str, (*given, *SHAPE, *steps))],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("step 1/"):
            process.send_signal(signal.SIGINT)
            break
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=120) == 130, told
    assert "--resume" in told
    resumed = invoke("pretrain", "-o", tmp_path / "cut", "--resume")
    assert resumed.code == 0, resumed.err
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut")]
    assert weights[0] == weights[1]


def test_a_mistake_in_a_file_of_a_run_that_goes_on_names_that_file(shop: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert pretrain(shop, run).code == 0
    file = tmp_path / "mine.yaml"
    file.write_text("max_steps: many\n", encoding="utf-8")
    line = invoke("pretrain", "-o", run, "--resume", "--config", file).line()
    assert f"(set in {file})" in line


def test_finetune_shows_new_and_old_losses(shop: Path, tmp_path: Path) -> None:
    given = (
        "--data",
        shop / "qa.jsonl",
        "--old-data",
        shop / "corpus",
        "-o",
        tmp_path / "qa",
        "--max-steps",
        3,
    )
    result = invoke("finetune", shop / "run", *given, "--batch-size", 4)
    assert result.code == 0, result.err
    assert "new" in result.out
    assert "old" in result.out
    assert (tmp_path / "qa" / "model.safetensors").is_file()
    assert settings(tmp_path / "qa")["train"]["learning_rate"] == 1e-4


def test_finetune_packs_examples_and_parts_documents(shop: Path, tmp_path: Path) -> None:
    given = ("-o", tmp_path / "qa", "--max-steps", 2, "--packing")
    result = invoke("finetune", shop / "run", "--data", shop / "qa.jsonl", *given)
    assert result.code == 0, result.err
    assert "packed into" in result.out + result.err
    assert "padding" in result.out + result.err
    assert settings(tmp_path / "qa")["train"]["packing"] is True
    given = ("-o", tmp_path / "text", "--max-steps", 2, "--packing", "--replay", shop / "qa.jsonl")
    text = invoke("finetune", shop / "run", "--data", shop / "corpus", *given)
    assert text.code == 0, text.err
    assert settings(tmp_path / "text")["train"]["packing"] is True


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--data", "{tmp}/empty.txt"], ["empty.txt", "no document"]),
        (["--data", "{tmp}/missing"], ["missing"]),
        (["--data", "{tmp}/short.txt"], ["short.txt", "too few"]),
        (["--data", "{tmp}/bytes.txt"], ["bytes.txt", "9"]),
        (["--tokenizer", "{tmp}/missing"], ["missing"]),
        (["--preset", "nanno"], ["nanno", "nano"]),
        (["--n-head", "3"], ["n_head", "n_embd"]),
        (["--learning-rate", "0"], ["learning_rate"]),
        (["--max-steps", "0"], ["max_steps"]),
        (["--warmup-steps", "50"], ["warmup_steps"]),
        (["--optimizer", "adm"], ["optimizer", "adamw"]),
        (["--config", "{tmp}/wrong.yaml"], ["wrong.yaml", "learnig_rate", "learning_rate"]),
        (["--config", "{tmp}/broken.yaml"], ["broken.yaml", "YAML"]),
        (["--config", "{tmp}/missing.yaml"], ["missing.yaml"]),
        (["-o", "{tmp}/short.txt"], ["short.txt"]),
        (["-o", "{shop}/run"], ["run", "overwrite"]),
        (["-o", "{tmp}/new", "--resume"], ["new", "no run to resume"]),
        (["--data", ""], ["empty"]),
        (["--vocab-size", "5"], []),
    ],
)
def test_mistakes_are_named_in_one_line(
    untouched: Path, tmp_path: Path, more: list[str], words: list[str]
) -> None:
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    (tmp_path / "short.txt").write_text("ab", encoding="utf-8")
    (tmp_path / "bytes.txt").write_bytes(b"The cat s\xff\xfet on the mat and sang. " * 40)
    (tmp_path / "wrong.yaml").write_text("learnig_rate: 1e-3\n", encoding="utf-8")
    (tmp_path / "broken.yaml").write_text("a: [1\n", encoding="utf-8")
    given = {"--data": untouched / "corpus", "--tokenizer": untouched / "subword", "-o": tmp_path / "run"}
    given |= dict(zip(SHAPE[::2], SHAPE[1::2], strict=True)) | {"--max-steps": 3}
    flags = [a.format(shop=untouched, tmp=tmp_path) for a in more]
    given |= dict(zip(flags[::2], flags[1::2], strict=False))
    if "--resume" in flags:
        given = {"--resume": given.pop("--resume", None), **given}
    arguments = [str(x) for pair in given.items() for x in pair if x is not None]
    result = invoke("pretrain", *arguments)
    assert result.code == (2 if more[0] == "--vocab-size" else 1)
    assert all(word in result.line() for word in words), result.line()
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_broken_loss_names_its_step_and_keeps_the_checkpoint(shop: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    wild = ("--optimizer", "sgd", "--learning-rate", 100, "--max-grad-norm", 0, "--warmup-steps", 0)
    result = pretrain(shop, run, *wild, "--max-steps", 300, "--save-steps", 1, "--eval-steps", 0)
    assert result.code == 1
    assert "step " in result.line()
    assert list((run / "training" / "checkpoints").glob("step-*/model.safetensors"))


def test_a_callback_less_model_table_matches_the_config() -> None:
    # What only single families have comes with a file of settings.
    assert {setting.name for setting in shape.SHAPE} == set(shape.MODEL_NAMES) - {
        "vocab_size", "norm_eps", "qkv_bias", "norm_unit_offset", "post_norm", "rope_scaling", "rope_local_theta",
        "rope_layers", "query_pre_attn_scalar", "attn_softcap", "logit_softcap", "layer_types", "scale_embeddings",
    }  # fmt: skip


def test_a_tokenizer_too_large_for_the_base_is_refused(shop: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(shop / "run", run)
    made = invoke("tokenizer", "train", shop / "corpus", "--vocab-size", 310, "-o", run)
    assert made.code == 0, made.err
    result = invoke("generate", run, "The cat")
    assert result.code == 1
    assert "310" in result.line()
    assert "300" in result.line()


def test_questions_without_answers_are_refused(shop: Path, tmp_path: Path) -> None:
    data = tmp_path / "bad.jsonl"
    data.write_text(json.dumps({"question": "Why?", "answr": "So."}) + "\n", encoding="utf-8")
    result = invoke("finetune", shop / "run", "--data", data, "-o", tmp_path / "qa")
    assert result.code == 1
    assert "bad.jsonl" in result.line()
    assert "answr" in result.line()
