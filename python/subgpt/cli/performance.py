"""What `estimate` and `bench` show: the same facts for people and for scripts."""

import dataclasses
from typing import TYPE_CHECKING, Any

from subgpt.units import duration, in_memory

if TYPE_CHECKING:
    from rich.table import Table

    from subgpt.performance.bench import Bench
    from subgpt.performance.estimate import Estimate


def estimate_json(seen: "Estimate") -> dict[str, Any]:
    """Give everything, the totals too."""
    return {
        **dataclasses.asdict(seen),
        "total_bytes": seen.total_bytes,
        "tokens_per_second": seen.tokens_per_second,
        "warning": seen.warning,
    }


def estimate_facts(seen: "Estimate") -> list[tuple[str, str]]:
    """Give names and values in reading order."""
    facts = [("parameters", f"{seen.parameters:,}"), ("dtype", seen.dtype)]
    facts += [(f"memory, {name}", in_memory(size)) for name, size in seen.memory.items() if size]
    limit = "" if seen.memory_limit is None else f" of {in_memory(seen.memory_limit)}"
    facts.append(("memory, total", f"{in_memory(seen.total_bytes)}{limit}"))
    if seen.step_seconds is not None and seen.total_seconds is not None:
        facts += [
            ("time of a step", f"{duration(seen.step_seconds)}, {seen.tokens_per_second:,.0f} tokens/s"),
            ("time of the run", f"{duration(seen.total_seconds)} for {seen.max_steps:,} steps"),
            ("how it was timed", seen.method),
        ]
    return facts


def bench_json(seen: "Bench") -> dict[str, Any]:
    """Give everything."""
    return dataclasses.asdict(seen)


def bench_facts(seen: "Bench") -> list[tuple[str, str]]:
    """Give names and values in reading order."""
    step, fastest = duration(seen.step_seconds), duration(seen.fastest_seconds)
    return [
        ("parameters", f"{seen.parameters:,}"),
        ("batch", f"{seen.batch_size} windows of {seen.block_size} tokens"),
        ("machine", f"{seen.isa}, {seen.threads} threads, {seen.dtype}"),
        ("time of a step", f"{step} (fastest {fastest}, {seen.steps} steps)"),
        ("speed", f"{seen.tokens_per_second:,.0f} tokens/s"),
        ("arithmetic", f"{seen.gflops:,.0f} GFLOP/s, {seen.of_peak:.0%} of the measured {seen.peak:,.0f}"),
        ("memory bandwidth", f"{seen.bandwidth:,.1f} GB/s"),
    ]


def operations_table(seen: "Bench") -> "Table":
    """Lay out where the time of a step went, longest first, and what is left over."""
    from rich.table import Table

    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("operation", no_wrap=True)
    for name in ("calls", "ms", "of the step", "speed", "of its limit"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in seen.operations:
        table.add_row(
            row.name,
            f"{row.calls:,.0f}",
            f"{1e3 * row.seconds:.3f}",
            f"{row.share:.1%}",
            f"{row.rate:,.1f} {row.unit}",
            f"{row.of_limit:.0%}",
        )
    if seen.rest is not None:
        table.add_row(
            "(everything else)", "", f"{1e3 * seen.rest * seen.step_seconds:.3f}", f"{seen.rest:.1%}"
        )
    return table
