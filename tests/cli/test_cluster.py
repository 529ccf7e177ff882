"""`--ray`: preparing data and sweeping on a cluster that the command begins and ends."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from .conftest import SHAPE, invoke, snapshot


def prepare(shop: Path, out: Path, *more: object) -> tuple[object, ...]:
    return (
        "data",
        "prepare",
        shop / "corpus",
        "-t",
        shop / "subword",
        "-o",
        out,
        "--val-fraction",
        0.1,
        *more,
    )


def sweep(shop: Path, out: Path, *more: object) -> tuple[object, ...]:
    given = ("--data", shop / "corpus", "--tokenizer", shop / "subword", *SHAPE, "--max-steps", 3)
    return ("sweep", *given, "-o", out, "learning_rate=1e-3,1e-2", *more)


def test_both_give_what_they_give_here(shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    there = invoke(*prepare(shop, tmp_path / "there", "--ray", "local"))
    assert there.code == 0, there.err
    assert invoke(*prepare(shop, tmp_path / "here")).code == 0
    assert snapshot(tmp_path / "there") == snapshot(tmp_path / "here")

    done = invoke(*sweep(shop, tmp_path / "sweep", "--ray", "local", "--json"))
    assert done.code == 0, done.err
    assert "1 at a time" in done.err
    assert [
        line for line in done.err.splitlines() if not line.startswith(("trial", "2 trials", "2 finished"))
    ] == []
    local = invoke(*sweep(shop, tmp_path / "local", "--json"))
    losses = [[trial["val_loss"] for trial in json.loads(seen.out)["trials"]] for seen in (done, local)]
    assert losses[0] == losses[1]


def test_where_there_is_no_cluster_nothing_is_begun(shop: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra ray is not installed")
    said = invoke(*sweep(shop, tmp_path / "sweep", "--ray", "127.0.0.1:1")).line()
    assert "no cluster can be joined there" in said
    assert "ray start --head" in said
    assert not (tmp_path / "sweep").exists()
    assert (
        "no cluster can be joined" in invoke(*prepare(shop, tmp_path / "out", "--ray", "127.0.0.1:1")).line()
    )


@pytest.mark.parametrize("command", [prepare, sweep])
def test_without_ray_the_extra_is_named(command, shop: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = invoke(*command(shop, tmp_path / "out", "--ray", "auto"))
    assert result.code == 1
    assert 'pip install "subgpt[ray]"' in result.line()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", [prepare, sweep])
def test_a_cluster_without_processors_is_refused(command, shop: Path, tmp_path: Path, monkeypatch) -> None:
    head = {"Alive": True, "Resources": {"memory": 1.0}}
    stand_in = SimpleNamespace(is_initialized=lambda: True, nodes=lambda: [head])
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    result = invoke(*command(shop, tmp_path / "out", "--ray", "auto"))
    assert result.code == 1
    assert "ray = 'auto': no machine of the cluster has processors" in result.line()
