"""TrainConfig: names of two projects, ranges, unknown keys."""

from __future__ import annotations

import pytest

from subgpt import ConfigError, TrainConfig


def test_nanogpts_names_are_understood_and_echoed_as_canonical():
    config = TrainConfig(
        max_iters=10, lr=0.1, min_lr=0.01, grad_clip=0.5, beta2=0.9, per_device_train_batch_size=3
    )
    values = config.to_dict()
    assert values["max_steps"] == 10
    assert values["learning_rate"] == 0.1
    assert values["min_learning_rate"] == 0.01
    assert values["max_grad_norm"] == 0.5
    assert values["adam_beta2"] == 0.9
    assert values["batch_size"] == 3
    assert TrainConfig(**values) == config


def test_numbers_from_yaml_that_are_text_are_numbers():
    assert TrainConfig(learning_rate="1e-3", max_steps="20").learning_rate == 1e-3


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"learning_rate": 0}, "learning_rate = 0"),
        ({"learning_rate": -1e-3}, "learning_rate = -0.001"),
        ({"learning_rate": float("nan")}, "learning_rate = nan"),
        ({"learning_rate": float("inf")}, "learning_rate = inf"),
        ({"learning_rate": 1e9}, "learning_rate = 1000000000.0"),
        ({"learning_rate": "fast"}, "learning_rate = 'fast'"),
        ({"max_steps": 10, "warmup_steps": 11}, "warmup_steps = 11 is longer than max_steps = 10"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({"batch_size": True}, "batch_size = True is a truth value"),
        ({"gradient_accumulation_steps": 0}, "gradient_accumulation_steps = 0"),
        ({"max_steps": 0}, "max_steps = 0"),
        ({"max_steps": 1.5}, "max_steps = 1.5"),
        ({"val_fraction": 1}, "val_fraction = 1"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 2**64}, "seed = 18446744073709551616"),
        ({"optimizer": "adam"}, "optimizer = 'adam'"),
        ({"lr_scheduler_type": "polynomial"}, "lr_scheduler_type = 'polynomial'"),
        (
            {"lr_scheduler_type": "warmup_stable_decay", "max_steps": 10, "num_decay_steps": 10},
            "num_decay_steps = 10 and 1 updates of warm-up are longer than max_steps = 10",
        ),
        ({"decay_type": "exp"}, "decay_type = 'exp'"),
        ({"dtype": "float16"}, "dtype = 'float16'"),
        ({"bf16": "yes"}, "dtype = 'yes'"),
        ({"bf16": True, "dtype": "float32"}, "dtype and bf16 are the same setting"),
        ({"gradient_checkpointing": "maybe"}, "gradient_checkpointing = 'maybe'"),
        ({"min_learning_rate": 1.0}, "min_learning_rate = 1 is above"),
        ({"early_stopping_patience": 2, "val_fraction": 0}, "early_stopping_patience needs validation"),
        ({"save_total_limit": 0}, "save_total_limit = 0"),
        ({"max_step": 3}, "no setting 'max_step'; did you mean 'max_steps'?"),
        ({"warmup_iter": 3}, "did you mean 'warmup_iters'?"),
        ({"max_iters": 3, "max_steps": 4}, "max_steps and max_iters are the same setting"),
    ],
)
def test_what_cannot_be_is_named(values, said):
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**values)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_all_of_the_validation_set_can_be_said_in_python_in_a_file_and_with_a_flag():
    for value in (0, None, "0"):
        assert TrainConfig(eval_batches=value).eval_batches == 0
    assert TrainConfig(eval_batches=None).to_dict()["eval_batches"] == 0, "null would be read as not given"
    with pytest.raises(ConfigError, match="eval_batches = -1"):
        TrainConfig(eval_batches=-1)


def test_the_format_of_products_is_the_models_unless_given():
    assert TrainConfig().resolved(8, "bfloat16").dtype == "bfloat16"
    assert TrainConfig(dtype="float32").resolved(8, "bfloat16").dtype == "float32"
    assert TrainConfig(dtype="auto").resolved(8).dtype in ("float32", "bfloat16")
    assert TrainConfig(bf16=True).dtype == "bfloat16"
    assert TrainConfig(bf16=False).dtype == "float32"


def test_windows_longer_than_the_models_are_refused():
    with pytest.raises(ConfigError, match="block_size = 65 is beyond the model's 64"):
        TrainConfig(block_size=65).resolved(64)


def test_defaults_give_way_to_what_was_set():
    config = TrainConfig(max_steps=7).with_defaults(max_steps=200, learning_rate=1e-4)
    assert (config.max_steps, config.learning_rate) == (7, 1e-4)
