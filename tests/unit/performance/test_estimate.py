"""What is foretold: memory beside a process that really trains, time from steps of whole and of cut models."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

import subgpt
from subgpt import ConfigError, GPTConfig, OutOfMemoryError, TrainConfig, machine
from subgpt.performance import bench, calibrate, estimate, memory
from subgpt.performance.steps import Timing, gflop

SHAPE = {"vocab_size": 4096, "block_size": 128, "n_layer": 3, "n_head": 4, "n_embd": 256}

# Large enough to stand out beside the interpreter and the kernels' own scratch memory, small enough for a second.
STANDS_OUT = {"vocab_size": 2048, "block_size": 128, "n_layer": 6, "n_head": 8, "n_embd": 512}

READS = """
import json, sys
import subgpt
from subgpt.machine import peak_resident
from subgpt.performance.steps import Steps
shape, settings = json.loads(sys.argv[1])
model, config = subgpt.GPTConfig(**shape), subgpt.TrainConfig(**settings)
"""
FORETELLS = READS + "print(subgpt.estimate(model, config, seconds=0).total_bytes)"
TRAINS = (
    READS
    + """
import subgpt.tokenizer, subgpt.training.pretrain
steps = Steps(model, config.resolved(model.block_size))
for _ in range(2):
    steps.step()
    steps.loss()
print(peak_resident())
"""
)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 4},
        {"batch_size": 4, "gradient_checkpointing": True},
        {"batch_size": 2, "optimizer": "sgd"},
        {"batch_size": 2, "optimizer": "sgd", "momentum": 0.9},
    ],
)
def test_memory_is_within_a_tenth_of_what_a_process_then_holds(settings, dtype):
    given = json.dumps([STANDS_OUT, {**settings, "dtype": dtype}])
    foretold, held = (
        int(subprocess.run([sys.executable, "-c", program, given], capture_output=True, check=True).stdout)
        for program in (FORETELLS, TRAINS)
    )
    assert foretold == pytest.approx(held, rel=0.1)


def test_memory_of_a_large_model_is_told_by_its_blocks(monkeypatch):
    model, config = (
        GPTConfig(**{**SHAPE, "n_layer": 7}),
        TrainConfig(batch_size=4, dtype="float32").resolved(64),
    )
    asked = memory.native_memory(model, config)
    monkeypatch.setattr(memory, "LARGE", 1)
    assert memory.is_large(model)
    assert memory.native_memory(model, config) == asked


@pytest.mark.parametrize("n_layer", [1, 5])
def test_blocks_that_differ_are_cut_with_the_model(monkeypatch, n_layer):
    lists = {"layer_types": ["sliding_attention"] * n_layer, "rope_layers": [True] * n_layer}
    model = GPTConfig(**{**SHAPE, "n_layer": n_layer}, position="rotary", sliding_window=9, **lists)
    config = TrainConfig(batch_size=4, dtype="float32").resolved(64)
    asked = memory.native_memory(model, config)
    monkeypatch.setattr(memory, "LARGE", 1)
    assert memory.native_memory(model, config) == asked
    monkeypatch.setattr(calibrate, "_parts", lambda *_: (1.0, 1.0, 1.0))
    assert f"1 and {min(4, n_layer)} of {n_layer} blocks" in calibrate.calibrate(model, config, 1e-6).method


@pytest.mark.parametrize(
    ("freeze", "bound"),
    [("0-2,embeddings", "0-2,embeddings"), ("*.mlp.*", "*.mlp.*"), ("1-2", ""), ("*.h.2.*", ""), ("0", "")],
)
def test_frozen_blocks_of_a_large_model_are_a_bound_from_above(monkeypatch, freeze, bound):
    model = GPTConfig(**SHAPE)
    configs = [TrainConfig(batch_size=4, freeze=words).resolved(64) for words in (freeze, bound)]
    whole = [memory.native_memory(model, config) for config in configs]
    monkeypatch.setattr(memory, "LARGE", 1)
    assert memory.native_memory(model, configs[0]) == whole[1]
    assert sum(whole[0].values()) <= sum(whole[1].values())
    monkeypatch.setattr(calibrate, "_parts", lambda *_: (1.0, 1.0, 1.0))
    seen = calibrate._by_blocks(model, configs[0], 4)
    assert ("as if they were trained" in seen.method) == (freeze != bound)


def test_what_freezes_nothing_of_a_large_model_is_refused_as_by_a_run(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 1)
    with pytest.raises(ConfigError, match="'3' means no weight"):
        memory.native_memory(GPTConfig(**SHAPE), TrainConfig(freeze="1,3").resolved(64))


@pytest.mark.parametrize("freeze", ["", "0-1", "embeddings", "*.mlp.*"])
def test_muon_keeps_one_number_for_each_matrix_that_is_trained(freeze):
    config = TrainConfig(optimizer="muon", freeze=freeze).resolved(64)
    model = subgpt.GPT(GPTConfig(**SHAPE), seed=1)
    model.freeze(config.frozen)
    trained = model.grads()
    matrices = sum(x.size for name, x in trained.items() if ".h." in name and x.ndim == 2)
    others = sum(x.size for x in trained.values()) - matrices
    assert memory.native_memory(model.config, config)["optimizer"] == 4 * (matrices + 2 * others)


def test_what_does_not_fit_is_said(monkeypatch):
    model = GPTConfig(**SHAPE)
    assert subgpt.estimate(model, seconds=0).warning is None
    for module in (estimate, machine, memory):
        monkeypatch.setattr(module, "memory_limit", lambda: 50 << 20)
    seen = subgpt.estimate(model, seconds=0)
    assert "this machine gives 50.0 MiB: take a smaller model" in seen.warning
    with pytest.raises(OutOfMemoryError, match=r"this machine gives 50\.0 MiB"):
        subgpt.bench(model, seconds=0)


def test_time_counts_steps_and_validations(monkeypatch):
    monkeypatch.setattr(
        estimate, "calibrate", lambda *_: calibrate.Calibration(step=2.0, forward=0.5, method="by hand")
    )
    for settings, validations in [
        ({"eval_steps": 10}, 5),  # before, after 10, 20, 30 and at the end
        ({"eval_steps": 40}, 2),
        ({"eval_steps": 0}, 2),
        ({"val_fraction": 0}, 0),
        ({"eval_batches": 0}, 0),  # all of the data, whose size nobody knows here
    ]:
        config = TrainConfig(**{"max_steps": 40, "eval_batches": 8, "batch_size": 3, **settings})
        seen = subgpt.estimate(GPTConfig(**SHAPE), config)
        assert seen.total_seconds == 40 * 2 + validations * 8 * 0.5
        assert seen.step_seconds == 2.0
        uncounted = "; validations over all held-out data are not counted"
        assert seen.method == "by hand" + (uncounted if "eval_batches" in settings else "")
        assert seen.tokens_per_second == 3 * 128 / 2


def test_a_large_step_is_told_by_a_few_blocks_and_what_is_around_them(monkeypatch):
    """Passes grow with blocks, windows and vocabulary, updates with blocks: seconds as a made-up machine has them."""
    made = []

    def parts(model, config, windows, cycles):
        made.append((model.n_layer, model.vocab_size, windows, cycles))
        head = model.vocab_size / 1000
        return (
            windows * (head + 1.0 + 3.0 * model.n_layer),
            head + 0.5 + 0.25 * model.n_layer,
            windows * (head + model.n_layer),
        )

    monkeypatch.setattr(calibrate, "_parts", parts)
    config = TrainConfig(batch_size=8, gradient_accumulation_steps=2).resolved(128)
    seen = calibrate._by_blocks(GPTConfig(**{**SHAPE, "n_layer": 10}), config, 4)
    assert made == [(1, 4096, 4, 1), (1, 64, 4, 3), (4, 64, 4, 3)]
    assert seen.step == pytest.approx(2 * 8 * (4.096 + 1 + 3 * 10) + 4.096 + 0.5 + 0.25 * 10)
    assert seen.forward == pytest.approx(8 * (4.096 + 10))


@pytest.mark.parametrize("seconds", [1e-9, 10.0])
def test_both_ways_make_steps(seconds, monkeypatch):
    monkeypatch.setattr(calibrate, "timed", lambda call, *_, **__: (call(), Timing(1.0, 1.0, 1))[1])
    small = {"vocab_size": 11, "block_size": 8, "n_layer": 2, "n_head": 2, "n_embd": 16}
    seen = subgpt.estimate(GPTConfig(**small), TrainConfig(batch_size=2), seconds=seconds)
    assert seen.step_seconds > 0
    assert ("blocks" in seen.method) == (seconds < 1)


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="model is str; give a GPTConfig"):
        subgpt.estimate("nano")
    with pytest.raises(ConfigError, match="config is dict; give a TrainConfig"):
        subgpt.estimate(GPTConfig(**SHAPE), {})


def test_bench_counts_what_a_step_does(monkeypatch):
    peaks = {"float32": 100.0, "bfloat16": 200.0, "read": 30.0, "copy": 20.0}
    monkeypatch.setattr(bench._core, "peaks", lambda seconds: peaks)
    config = TrainConfig(batch_size=2, gradient_accumulation_steps=2, dtype="float32")
    seen = subgpt.bench(GPTConfig(**SHAPE), config, seconds=0)
    assert (seen.batch_size, seen.block_size, seen.dtype, seen.peak) == (2, 128, "float32", 100.0)
    assert seen.steps == 3
    assert seen.tokens_per_second == pytest.approx(4 * 128 / seen.step_seconds)
    assert seen.of_peak == pytest.approx(seen.gflops / 100)
    assert (seen.operations, seen.rest) == ((), None)


def test_attention_is_as_wide_as_its_heads():
    narrow, wide = (GPTConfig(**SHAPE, head_dim=size) for size in (64, 128))
    weights = 6 * 3 * (wide.block_weights - narrow.block_weights)
    attention = 6 * 3 * 4 * 64 * 128
    assert gflop(wide, 2, 128) - gflop(narrow, 2, 128) == pytest.approx(2 * 128 * (weights + attention) / 1e9)


def test_a_profile_holds_each_operation_against_its_own_limit(monkeypatch):
    records = [("norm", 8, 0.1, 0.0, 1e9), ("mlp up", 4, 0.4, 32e9, 0.0), ("nothing", 1, 0.0, 0.0, 0.0)]
    monkeypatch.setattr(bench._core, "profile_start", lambda: None)
    monkeypatch.setattr(bench._core, "profile_stop", lambda: records)
    clock = iter([0.0, 1.0])
    monkeypatch.setattr(bench.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(bench, "timed", lambda *_, **__: Timing(0.5, 0.5, 2))
    steps = SimpleNamespace(step=lambda: None)
    operations, rest = bench._profile(steps, seconds=1, peak=100, bandwidth=20)
    product, norm, nothing = operations
    assert (product.name, product.calls, product.seconds, product.share) == ("mlp up", 2, 0.2, 0.4)
    assert (product.rate, product.unit, product.of_limit) == (
        pytest.approx(80),
        "GFLOP/s",
        pytest.approx(0.8),
    )
    assert (norm.rate, norm.unit, norm.of_limit) == (pytest.approx(10), "GB/s", pytest.approx(0.5))
    assert nothing.rate == 0
    assert rest == pytest.approx(0.5)
