"""A model of data-parallel training: how long an update takes on 1 to 1,024 machines, and where it stops scaling.

    python benches/scaling/model.py --model gpt2 --network 10g            # 512 rows an update, whoever makes them
    python benches/scaling/model.py --model gpt2 --network 1g --weak      # 8 rows for each machine
    python benches/scaling/model.py --model d6 --network 1g --rows 64 --zero-stage 1 --gradient-compression bf16

Every formula is below, in the order in which an update happens; what they are fed with (seconds of a core, networks)
is in `figures.py`. R machines, P parameters, G = 4 P bytes of gradients (2 P in bfloat16), N rows an update.

compute       passes x (seconds of a pass) + rows x (seconds of a row), divided by the cores; the slowest of R
              machines is waited for: x (1 + jitter x sqrt(2 ln R)), the expected largest of R normal deviations
reduce        of a bucket of B bytes: latency + (R - 1) x overhead + (R - 1)/R x B / speed + B / (speed of sums)
gather        of a bucket, in a ring: (R - 1) x (latency + overhead) + (R - 1)/R x B / speed
bfloat16      is made on one core's memory: 3.5 x B / (speed of sums) more for each bucket
overlap       the buckets take turns on the wire, each from when the backward pass has finished its weights; what is
              still to be sent when the pass ends is exposed. A tied token embedding is finished last.
sockets       sending and receiving cost seconds of a core for each byte, which the backward pass is longer by
update        the optimizer over P weights, or P / R of them with ZeRO stage 1, which then gathers the weights: exposed
scalars       four sums of single numbers, in a tree: 2 ceil(log2 R) x (latency + overhead) each
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from figures import MODELS, NETWORKS, Compute, Network

MIB = 1 << 20
SCALAR_SUMS = 4
NARROWING = 3.5
"""Bytes read and written for each byte of float32 gradients that bfloat16 with error feedback is made of."""


@dataclass(frozen=True)
class Plan:
    """How a run is spread. rows: of an update over all machines; rows_per_pass: that a machine takes at once."""

    machines: int
    rows: int
    rows_per_pass: int = 8
    cores: float = 2
    zero_stage: int = 0
    compressed: bool = False
    bucket_bytes: int = 25 * MIB
    jitter: float = 0.02


class Step(NamedTuple):
    """Seconds of an update and of its parts; bytes that a machine sends, and that it holds."""

    seconds: float
    compute: float
    exposed: float
    hidden: float
    update: float
    sent: float
    memory: float


class Bucket(NamedTuple):
    """Gradients that are sent together: bytes, and when in the backward pass the last is finished (0 to 1)."""

    size: float
    ready: float


def reduce_seconds(size: float, machines: int, network: Network, sum_speed: float) -> float:
    """Give the time in which each machine gets its slice of `size` bytes, summed over all."""
    if machines == 1:
        return 0.0
    wire = (machines - 1) / machines * size / network.speed
    return network.latency + (machines - 1) * network.overhead + wire + size / sum_speed


def gather_seconds(size: float, machines: int, network: Network) -> float:
    """Give the time in which all machines get `size` bytes of which each has a slice."""
    wire = (machines - 1) / machines * size / network.speed
    return (machines - 1) * (network.latency + network.overhead) + wire


def scalars_seconds(machines: int, network: Network) -> float:
    """Give the time of the sums of single numbers: tokens, loss, norm."""
    rounds = 2 * math.ceil(math.log2(machines))
    return SCALAR_SUMS * rounds * (network.latency + network.overhead)


def buckets(compute: Compute, bucket_bytes: int) -> list[Bucket]:
    """Cut the gradients (float32) into buckets, in the order in which the backward pass finishes them."""
    embedding = 4 * compute.embedding_parameters
    block = (4 * compute.parameters - embedding) / compute.layers
    step = (1 - compute.head_share) / compute.layers
    parts = [(block, compute.head_share + (i + 1) * step) for i in range(compute.layers)] + [(embedding, 1.0)]
    made, size = [], 0.0
    for left, ready in parts:
        while size + left >= bucket_bytes:
            left -= bucket_bytes - size
            made.append(Bucket(bucket_bytes, ready))
            size = 0.0
        size += left
    return [*made, Bucket(size, 1.0)] if size else made


def exposed_seconds(ready: list[float], took: list[float], end: float) -> float:
    """Give what is still to be sent at `end` when buckets take turns, each `took` long and not before it is `ready`."""
    free = 0.0
    for begin, seconds in zip(ready, took, strict=True):
        free = max(free, begin) + seconds
    return max(0.0, free - end)


def step(compute: Compute, network: Network, plan: Plan) -> Step:
    """Give an update's time."""
    machines, own = plan.machines, plan.rows / plan.machines
    passes = math.ceil(own / plan.rows_per_pass)
    slowest = (1 + plan.jitter * math.sqrt(2 * math.log(machines))) / plan.cores
    seconds = slowest * (passes * compute.pass_seconds + own * compute.row_seconds)
    last = slowest * (compute.pass_seconds + own / passes * compute.row_seconds)

    narrow = 2 if plan.compressed else 4
    parts = buckets(compute, plan.bucket_bytes)
    took, sent = [], 0.0
    for part in parts:
        size = part.size * narrow / 4
        reduce = reduce_seconds(size, machines, network, compute.sum_speed * plan.cores)
        reduce += NARROWING * part.size / (compute.sum_speed * plan.cores) if plan.compressed else 0.0
        took.append(reduce + (gather_seconds(size, machines, network) if plan.zero_stage == 0 else 0.0))
        sent += (2 if plan.zero_stage == 0 else 1) * size * (machines - 1) / machines

    backward = last * compute.backward_share + 2 * sent * network.socket_seconds / plan.cores
    seconds += backward - last * compute.backward_share
    exposed = exposed_seconds([part.ready * backward for part in parts], took, backward)
    hidden = sum(took) - exposed

    update = compute.update_seconds / plan.cores
    if plan.zero_stage == 1 and machines > 1:
        update /= machines
        for part in parts:
            exposed += gather_seconds(part.size, machines, network)
            sent += part.size * (machines - 1) / machines
    exposed += scalars_seconds(machines, network)
    return Step(seconds + exposed + update, seconds, exposed, hidden, update, sent, memory(compute, plan))


def memory(compute: Compute, plan: Plan) -> float:
    """Give the bytes that a machine holds: weights, gradients, moments, activations, and what is being sent."""
    moments = 8 * compute.parameters / (plan.machines if plan.zero_stage == 1 else 1)
    sending = 2 * plan.bucket_bytes if plan.machines > 1 else 0
    left_over = (
        4 * compute.parameters * (1 + 1 / plan.machines) if plan.compressed and plan.machines > 1 else 0
    )
    rows = min(plan.rows_per_pass, plan.rows / plan.machines)
    return compute.fixed_bytes + rows * compute.row_bytes + moments + sending + left_over


def spread(plan: Plan, machines: int, weak: bool) -> Plan:
    """Give the plan for another number of machines: of the same rows, or with `weak` of the same rows a machine."""
    rows = plan.rows * machines // plan.machines if weak else plan.rows
    return replace(plan, machines=machines, rows=rows)


def efficiency(compute: Compute, network: Network, plan: Plan) -> float:
    """Give the time of one machine alone, for the same rows, over R times that of R machines."""
    alone = replace(plan, machines=1)
    return step(compute, network, alone).seconds / (plan.machines * step(compute, network, plan).seconds)


def stops(compute: Compute, network: Network, plan: Plan, counts: list[int], *, weak: bool) -> str:
    """Say up to how many of `counts` machines each does at least half of what it would alone."""
    plans = [spread(plan, count, weak) for count in counts]
    good = [
        each.machines
        for each in plans
        if each.rows >= each.machines and efficiency(compute, network, each) >= 0.5
    ]
    return (
        f"efficiency of 50 % and more up to {max(good)} machines"
        if good
        else "efficiency below 50 % everywhere"
    )


def table(compute: Compute, network: Network, plan: Plan, counts: list[int], *, weak: bool) -> str:
    """Give a table with a line for each number of machines."""
    lines = [
        f"{'machines':>8} {'rows':>7} {'step, s':>8} {'compute':>8} {'exposed':>8} {'hidden':>8} {'update':>7} "
        f"{'tokens/s':>10} {'efficiency':>10} {'sent, MiB':>9} {'memory, MiB':>11}"
    ]
    for count in counts:
        spaced = spread(plan, count, weak)
        if spaced.rows < count:
            lines.append(f"{count:8} {'':7} more machines than rows: the rest would have nothing to do")
            continue
        made = step(compute, network, spaced)
        speed = spaced.rows * compute.context / made.seconds
        lines.append(
            f"{count:8} {spaced.rows:7} {made.seconds:8.3f} {made.compute:8.3f} {made.exposed:8.3f} "
            f"{made.hidden:8.3f} {made.update:7.3f} {speed:10,.0f} {efficiency(compute, network, spaced):10.0%} "
            f"{made.sent / MIB:9.0f} {made.memory / MIB:11.0f}"
        )
    return "\n".join([*lines, stops(compute, network, plan, counts, weak=weak)])


def parser() -> argparse.ArgumentParser:
    """Give the options, which the picture shares."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--model", choices=MODELS, default="gpt2")
    options.add_argument("--network", choices=NETWORKS, default="10g")
    options.add_argument("--machines", default="1,2,4,8,16,32,64,128,256,512,1024", help="by commas")
    options.add_argument("--rows", type=int, help="an update; 512, or with --weak 8 for each machine")
    options.add_argument(
        "--rows-per-pass", type=int, default=8, help="a machine takes at most so many at once"
    )
    options.add_argument("--weak", action="store_true", help="rows grow with the machines")
    options.add_argument("--cores", type=float, default=2, help="a machine's")
    options.add_argument("--zero-stage", type=int, choices=(0, 1), default=0)
    options.add_argument("--gradient-compression", choices=("none", "bf16"), default="none")
    options.add_argument("--bucket-megabytes", type=float, default=25)
    options.add_argument("--jitter", type=float, default=0.02, help="how steps vary, as a part of their time")
    return options


def main() -> None:
    given = parser().parse_args()
    plan = Plan(
        machines=1,
        rows=given.rows or (8 if given.weak else 512),
        rows_per_pass=given.rows_per_pass,
        cores=given.cores,
        zero_stage=given.zero_stage,
        compressed=given.gradient_compression == "bf16",
        bucket_bytes=int(given.bucket_megabytes * MIB),
        jitter=given.jitter,
    )
    counts = [int(count) for count in given.machines.split(",")]
    print(table(MODELS[given.model], NETWORKS[given.network], plan, counts, weak=given.weak))


if __name__ == "__main__":
    main()
