"""Measures what the model of scaling is fed with, and what it is compared to.

    python benches/scaling/measure.py compute --preset d6                 # seconds of a core; no MPI
    mpirun -n 4 python benches/scaling/measure.py network                 # latency, alltoallv, allgatherv
    mpirun -n 4 python benches/scaling/measure.py training --network 1g    # steps of real runs

compute counts processor seconds of one thread, which neighbours on a shared machine hardly change, and fits
pass + rows x row over the rows. network takes the median of repeated collectives, the slowest rank of each, and the
processor seconds that they cost. training runs `subgpt.pretrain` on random text, takes the median step, and says what
the model gives for ranks with as much of a core as these had while each computed for itself.
`on_hosts.py` starts the last two on hosts that are network namespaces, with links of a chosen rate.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

MIB = 1 << 20
SIZES = [1 << 10, 1 << 14, 1 << 18, 1 << 20, 4 << 20, 16 << 20, 25 << 20]


def compute(given: argparse.Namespace) -> None:
    """Print one core's figures for a preset, in the shape of `figures.py`."""
    import subgpt
    from subgpt.performance.memory import native_memory
    from subgpt.performance.steps import Steps, gflop

    subgpt.set_num_threads(1)
    shape = subgpt.GPTConfig.preset(given.preset)
    counts = [int(rows) for rows in given.counts.split(",")]
    passes, forwards, updates, sizes = [], [], [], []
    for rows in counts:
        config = subgpt.TrainConfig(batch_size=rows, dtype=given.dtype, val_fraction=0.0).resolved(
            shape.block_size
        )
        steps = Steps(shape, config)
        steps.step()
        passes.append(least(steps.backward, given.repeat))
        forwards.append(least(steps.loss, given.repeat))
        updates.append(least(steps.update, given.repeat))
        memory = native_memory(shape, config)
        sizes.append(sum(memory.values()) - memory["optimizer"])
    row, fixed = (float(number) for number in np.polyfit(counts, passes, 1))
    row_bytes, fixed_bytes = (int(number) for number in np.polyfit(counts, sizes, 1))
    head = 6 * shape.block_size * shape.vocab_size * shape.n_embd / 1e9
    tables = shape.vocab_size + (shape.block_size if shape.position == "learned" else 0)
    for rows, seconds, forward in zip(counts, passes, forwards, strict=True):
        print(f"# {rows} rows: {seconds:.4f} s, forward {forward:.4f} s, fitted {fixed + rows * row:.4f} s")
    print(f'"{given.preset}": Compute(')
    print(f'    name="{given.preset}", parameters={shape.num_params()},')
    print(
        f"    embedding_parameters={tables * shape.n_embd}, layers={shape.n_layer}, context={shape.block_size},"
    )
    print(
        f"    head_share={head / gflop(shape, 1, shape.block_size):.3f}, pass_seconds={max(0.0, fixed):.4f},"
    )
    print(
        f"    row_seconds={row:.4f}, backward_share={1 - statistics.median(np.divide(forwards, passes)):.2f},"
    )
    print(f"    update_seconds={min(updates):.4f}, sum_speed={summing(given.repeat):.1e},")
    print(f"    fixed_bytes={fixed_bytes}, row_bytes={row_bytes},\n),")


def least(call: Callable[[], object], repeat: int) -> float:
    """Give the processor seconds of a call, the least of several."""
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        call()
        times.append(time.process_time() - begin)
    return min(times)


def summing(repeat: int) -> float:
    """Give the bytes a second at which one core adds slices of gradients together."""
    slices = np.ones((4, 4 * MIB), np.float32)
    total = np.empty(4 * MIB, np.float32)
    return float(slices.nbytes / least(lambda: np.add.reduce(slices, axis=0, out=total), repeat))


def network(given: argparse.Namespace) -> None:
    """Print a line for each size of a bucket."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    size, rank = world.size, world.rank
    one = np.zeros(1)

    def ping() -> None:
        if rank == 0:
            world.Send(one, 1)
            world.Recv(one, 1)
        elif rank == 1:
            world.Recv(one, 0)
            world.Send(one, 0)

    trip, _ = collective(world, ping, given.repeat * 20)
    say(world, f"{size} ranks, {MPI.Get_library_version().splitlines()[0]}")
    say(world, f"latency {1e6 * trip / 2:.0f} us")
    say(
        world,
        f"{'bytes':>10} {'alltoallv, ms':>14} {'allgatherv, ms':>14} {'MB/s':>7} {'MB/s':>7} {'core s/GB':>10}",
    )
    for total in SIZES:
        exchange, gather, busy = bucket(world, total, given.repeat)
        moved = total * (size - 1) / size
        say(
            world,
            f"{total:10} {1e3 * exchange:14.3f} {1e3 * gather:14.3f} {moved / exchange / 1e6:7.0f} "
            f"{moved / gather / 1e6:7.0f} {busy / (4 * moved) * 1e9:10.2f}",
        )


def bucket(world: Any, total: int, repeat: int) -> tuple[float, float, float]:
    """Give the seconds in which `total` bytes are exchanged and gathered, and the processor's for both."""
    from mpi4py import MPI

    counts = [total // world.size // 4] * world.size
    starts = [rank * counts[0] for rank in range(world.size)]
    sent, taken = (np.ones(sum(counts), np.float32) for _ in range(2))
    whole = [taken, counts, starts, MPI.FLOAT]
    exchange, busy = collective(
        world, lambda: world.Alltoallv([sent, counts, starts, MPI.FLOAT], whole), repeat
    )
    gather, more = collective(world, lambda: world.Allgatherv(sent[: counts[0]], whole), repeat)
    return exchange, gather, busy + more


def collective(world: Any, call: Callable[[], object], repeat: int) -> tuple[float, float]:
    """Give the median time of a call, the slowest rank's, and the least processor seconds (user and system) of it."""
    times, busy = [], []
    call()
    for _ in range(repeat):
        world.Barrier()
        begin, worked = time.perf_counter(), time.process_time()
        call()
        took, spent = time.perf_counter() - begin, time.process_time() - worked
        times.append(max(world.allgather(took)))
        busy.append(spent)
    return statistics.median(times), min(busy)


def say(world: Any, line: str) -> None:
    if world.rank == 0:
        print(line, flush=True)


def training(given: argparse.Namespace) -> None:
    """Train on random text on all ranks; print the time of a step, and what the model says that it takes."""
    from figures import MODELS, NETWORKS
    from model import Plan, step

    import subgpt
    from subgpt.distributed.launch import find_group

    group = find_group()
    machines = 1 if group is None else group.size
    shape = subgpt.GPTConfig.preset(given.preset)
    known = MODELS[given.preset]
    alone = pass_seconds(shape, given.rows // machines)
    if group is not None:
        alone = max(group.gather(alone))
    cores = (known.pass_seconds + given.rows / machines * known.row_seconds) / alone
    config = subgpt.TrainConfig(
        max_steps=given.steps, batch_size=given.rows, eval_steps=0, val_fraction=0.0, dtype="bfloat16",
        zero_stage=given.zero_stage, gradient_compression=given.gradient_compression,
    )  # fmt: skip
    gaps = step_seconds(shape, config)
    if group is not None and group.rank > 0:
        return
    plan = Plan(
        machines,
        given.rows,
        given.rows,
        cores,
        given.zero_stage,
        given.gradient_compression == "bf16",
        jitter=0,
    )
    said = step(known, NETWORKS[given.network], plan)
    print(
        f"{given.preset}, {machines} ranks, {given.rows} rows, stage {given.zero_stage}, {given.gradient_compression}: "
        f"{statistics.median(gaps):.3f} s a step, fastest {min(gaps):.3f} s; by the model on {given.network} "
        f"{said.seconds:.3f} s, {said.exposed:.3f} s of it exposed; ranks had {cores:.2f} of a core",
        flush=True,
    )


def pass_seconds(shape: Any, rows: int) -> float:
    """Give the time of a forward and backward pass, while all ranks make theirs: what a rank has of the processors."""
    import subgpt
    from subgpt.performance.steps import Steps, timed

    steps = Steps(shape, subgpt.TrainConfig(batch_size=rows, dtype="bfloat16").resolved(shape.block_size))
    steps.backward()
    return timed(steps.backward, 2.0, least=5).median


def step_seconds(shape: Any, config: Any) -> list[float]:
    """Train on random text; give the times between steps."""
    import subgpt

    text = "".join(chr(97 + number) for number in np.random.default_rng(0).integers(0, 26, 400_000))
    tokenizer = subgpt.Tokenizer.train(iter([text]), level="char")
    times: list[float] = []

    class Clock(subgpt.Callback):
        def on_step(self, event: object) -> None:  # noqa: ARG002
            times.append(time.perf_counter())

    model = subgpt.GPT(shape, seed=1, dtype=config.dtype)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text.txt"
        path.write_text(text, encoding="utf-8")
        subgpt.pretrain(model, tokenizer, str(path), config, callbacks=[Clock()])
    return list(np.diff(times)[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = parser.add_subparsers(required=True)
    for name, call in (("compute", compute), ("network", network), ("training", training)):
        kind = kinds.add_parser(name)
        kind.set_defaults(call=call)
        if name != "network":
            kind.add_argument("--preset", default="nano")
        if name != "training":
            kind.add_argument("--repeat", type=int, default=7)
        if name == "compute":
            kind.add_argument("--counts", default="1,2,4,8", help="rows of a pass, by commas")
            kind.add_argument("--dtype", default="bfloat16")
        if name == "training":
            kind.add_argument("--network", default="1g", help="that of figures.py which the ranks have")
            kind.add_argument("--rows", type=int, default=32, help="of an update, over all ranks")
            kind.add_argument("--steps", type=int, default=12)
            kind.add_argument("--zero-stage", type=int, default=0)
            kind.add_argument("--gradient-compression", default="none")
    given = parser.parse_args()
    given.call(given)


if __name__ == "__main__":
    main()
