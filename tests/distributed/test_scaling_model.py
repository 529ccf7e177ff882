"""The model of scaling: by hand where it can be, and beside what it is fed with and what the page says."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import subgpt

ROOT = Path(__file__).resolve().parents[2]
BENCHES = ROOT / "benches" / "scaling"
PAGE = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
SHOWN = re.findall(
    r"^```console\n\$ (python benches/scaling/model\.py.*)\n((?s:.*?))^```", PAGE, re.MULTILINE
)


@pytest.fixture
def model(monkeypatch):
    monkeypatch.syspath_prepend(BENCHES)
    yield importlib.import_module("model")
    for name in ("model", "figures"):
        sys.modules.pop(name, None)


@pytest.fixture
def tiny(model):
    """Ten blocks of 10 bytes and a table of 100; a row takes a second, half of it backwards."""
    return model.Compute(
        name="tiny", parameters=50, embedding_parameters=25, layers=10, context=8, head_share=0.0,
        pass_seconds=0.0, row_seconds=1.0, backward_share=0.5, update_seconds=2.0, sum_speed=float("inf"),
        fixed_bytes=1000, row_bytes=10,
    )  # fmt: skip


@pytest.fixture
def slow(model):
    """Ten bytes a second, and nothing else."""
    return model.Network("slow", 10.0, 0.0, 0.0, 0.0)


def test_one_machine_sends_nothing(model, tiny, slow):
    made = model.step(tiny, slow, model.Plan(1, rows=8, cores=1))
    assert (made.seconds, made.exposed, made.sent) == (8 + 2, 0, 0)


def test_an_update_by_hand(model, tiny, slow):
    # Two machines, four rows each: a pass of 4 s, its last 2 s backwards, in which a block is finished every 0.2 s.
    # A bucket of 10 bytes takes 0.5 s to reduce and 0.5 s to gather, so ten of them end at 0.2 + 10 s; then the table.
    plan = model.Plan(2, rows=8, cores=1, bucket_bytes=10, jitter=0)
    made = model.step(tiny, slow, plan)
    assert made.compute == 4
    assert made.exposed == pytest.approx(0.2 + 10 + 10 - 2)
    assert made.hidden == pytest.approx(2 - 0.2)
    assert made.seconds == pytest.approx(4 + 18.2 + 2)
    assert made.sent == 200
    # Stage 1 gathers weights instead of gradients, after half of the update.
    sharded = model.step(tiny, slow, replace(plan, zero_stage=1))
    assert sharded.exposed == pytest.approx(0.2 + 5 + 5 - 2 + 10)
    assert (sharded.update, sharded.sent) == (1, 200)
    assert made.memory - sharded.memory == 8 * 50 / 2
    # Half the bytes for gradients, as many for weights.
    assert model.step(tiny, slow, replace(plan, compressed=True)).sent == 100
    assert model.step(tiny, slow, replace(plan, compressed=True, zero_stage=1)).sent == 150


def test_a_fast_network_leaves_what_is_finished_last(model, tiny, slow):
    fast = replace(slow, bandwidth=1000.0)
    plan = model.Plan(2, rows=8, cores=1, bucket_bytes=10, jitter=0)
    # The last block and the table: eleven buckets of 0.01 s that are not ready before the pass ends.
    assert model.step(tiny, fast, plan).exposed == pytest.approx(0.11)


def test_messages_cost_what_they_cost(model, slow):
    network = replace(slow, latency=0.1, overhead=0.01)
    assert model.reduce_seconds(40, 4, network, float("inf")) == pytest.approx(0.1 + 3 * 0.01 + 3)
    assert model.gather_seconds(40, 4, network) == pytest.approx(3 * 0.11 + 3)
    assert model.scalars_seconds(4, network) == pytest.approx(4 * 4 * 0.11)


@pytest.mark.parametrize("size", [1, 7, 10, 64, 1000])
def test_buckets_hold_every_gradient_once_and_are_ready_in_order(model, tiny, size):
    made = model.buckets(tiny, size)
    assert sum(part.size for part in made) == pytest.approx(4 * tiny.parameters)
    assert max(part.size for part in made) <= size
    assert [part.ready for part in made] == sorted(part.ready for part in made)
    assert made[-1].ready == 1


@pytest.mark.parametrize("name", ["nano", "d6", "d12", "gpt2"])
def test_figures_are_of_the_presets(model, name):
    figures, config = model.MODELS[name], subgpt.GPTConfig.preset(name)
    assert figures.parameters == config.num_params()
    assert (figures.layers, figures.context) == (config.n_layer, config.block_size)
    assert figures.embedding_parameters >= config.vocab_size * config.n_embd


@pytest.mark.parametrize("name", ["1g", "10g", "100g", "infiniband"])
def test_more_machines_never_do_more_each(model, name):
    plan = model.Plan(1, rows=8)
    for weak in (True, False):
        shares = [
            model.efficiency(model.MODELS["d6"], model.NETWORKS[name], model.spread(plan, count, weak))
            for count in (1, 2, 4, 8)
        ]
        assert shares[0] == 1
        assert shares == sorted(shares, reverse=True)


def test_the_page_shows_something():
    assert len(SHOWN) >= 3


@pytest.mark.parametrize(("command", "output"), SHOWN, ids=[line.split("model.py ")[1] for line, _ in SHOWN])
def test_the_page_shows_what_the_model_says(command, output):
    words = [sys.executable, *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == output


VARIANTS = {
    "as it is": {},
    "`--gradient-compression bf16`": {"compressed": True},
    "`--zero-stage 1`": {"zero_stage": 1},
    "64 rows a machine (`--rows 64`), in passes of 8": {"rows": 64},
}


@pytest.mark.parametrize("label", VARIANTS)
def test_the_table_of_variants_is_what_the_model_says(model, label):
    row = re.search(rf"^\| {re.escape(label)} \|(.*)\|$", PAGE, re.MULTILINE)[1]
    plan = replace(model.Plan(1, rows=8, cores=64), **VARIANTS[label])
    for cell, name in zip(row.split("|"), ["1g", "10g", "infiniband"], strict=True):
        plans = [model.spread(plan, count, weak=True) for count in (2, 16, 1024)]
        made = [model.efficiency(model.MODELS["gpt2"], model.NETWORKS[name], each) for each in plans]
        assert cell.strip() == ", ".join(f"{100 * share:.0f}" for share in made) + " %"


def test_measuring_a_core_gives_figures_as_they_are_kept(model):
    words = [sys.executable, str(BENCHES / "measure.py"), "compute", "--preset", "nano", "--counts", "1,2"]
    done = subprocess.run([*words, "--repeat", "1"], capture_output=True, text=True, check=True)
    made = eval("{" + done.stdout + "}", {"Compute": model.Compute})["nano"]
    kept = model.MODELS["nano"]
    for field in ("parameters", "embedding_parameters", "layers", "context", "head_share"):
        assert getattr(made, field) == getattr(kept, field), field
    assert made.row_seconds > 0
