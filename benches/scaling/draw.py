"""Draws what the model of scaling says: docs/images/scaling-machines.png.

    python benches/scaling/draw.py -o docs/images/scaling-machines.png     # pip install "subgpt[plot]"

Left: 512 rows an update, whatever the number of machines of two cores. Right: 8 rows for each machine of 64 cores.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from figures import MODELS, NETWORKS
from model import Plan, efficiency, spread

GPT2 = MODELS["gpt2"]
COUNTS = [1 << power for power in range(11)]
LINKS = {
    "1g": "1 Gbit/s",
    "10g": "10 Gbit/s",
    "100g": "100 Gbit/s, sockets",
    "infiniband": "InfiniBand, 200 Gbit/s",
}
VARIANTS = {
    "10 Gbit/s": ("10g", {}),
    "10 Gbit/s, bf16 gradients": ("10g", {"compressed": True}),
    "10 Gbit/s, ZeRO stage 1": ("10g", {"zero_stage": 1}),
    "100 Gbit/s, sockets": ("100g", {}),
    "InfiniBand": ("infiniband", {}),
    "InfiniBand, 64 rows a machine": ("infiniband", {"rows": 64}),
}


def strong(axes: plt.Axes) -> None:
    plan = Plan(machines=1, rows=512)
    counts = [count for count in COUNTS if count <= plan.rows]
    for name, label in LINKS.items():
        plans = [spread(plan, count, weak=False) for count in counts]
        speeds = [each.machines * efficiency(GPT2, NETWORKS[name], each) for each in plans]
        axes.plot(counts, speeds, "o-", markersize=3, label=label)
    axes.plot(counts, counts, "--", color="grey", label="ideal")
    axes.set(xscale="log", yscale="log", xlabel="machines of 2 cores", ylabel="times as fast as one")
    axes.set_title("512 rows an update, GPT-2 124M", fontsize=10)
    axes.legend(fontsize=8)


def weak(axes: plt.Axes) -> None:
    for label, (name, changes) in VARIANTS.items():
        plan = replace(Plan(machines=1, rows=8, cores=64), **changes)
        shares = [efficiency(GPT2, NETWORKS[name], spread(plan, count, weak=True)) for count in COUNTS]
        axes.plot(COUNTS, shares, "o-", markersize=3, label=label)
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="machines of 64 cores", ylabel="efficiency")
    axes.set_title("8 rows for each machine, GPT-2 124M", fontsize=10)
    axes.legend(fontsize=8)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    strong(left)
    weak(right)
    for axes in (left, right):
        axes.set_xticks(COUNTS, [str(count) for count in COUNTS], fontsize=7, minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
    figure.savefig(parser.parse_args().output, dpi=130)


if __name__ == "__main__":
    main()
