"""Moments of an optimizer that each process has a part of: brought together for a file, and dealt out from one."""

from collections.abc import Callable

from subgpt import _core
from subgpt.distributed.exchange import Exchange
from subgpt.training.optimizers import Optimizer


def bring_together(part: Optimizer, exchange: Exchange, make: Callable[[], Optimizer]) -> Optimizer | None:
    """Give rank 0 an optimizer with all moments, made by `make`; None to others."""
    group = exchange.group
    whole = make() if group.rank == 0 else None
    for name in part.native.moment_names():
        for number, (start, _) in enumerate(exchange.buckets):
            values = group.to_main(part.native.moment(name, *exchange.own(number)), exchange.counts[number])
            if whole is not None and values is not None:
                whole.native.set_moment(name, start, values)
    if whole is not None:
        whole.native.steps = part.steps
    return whole


def deal_out(whole: _core.Optimizer | None, part: Optimizer, exchange: Exchange) -> None:
    """Give each process its part of the moments of `whole`, which rank 0 has."""
    group = exchange.group
    for name in part.native.moment_names():
        for number, bucket in enumerate(exchange.buckets):
            values = None if whole is None else whole.moment(name, *bucket)
            piece = group.pieces_of_main(values, exchange.counts[number])
            part.native.set_moment(name, exchange.own(number)[0], piece)


def copy_to_all(optimizer: Optimizer, exchange: Exchange) -> None:
    """Give all the moments of rank 0, where each process has all."""
    native, group = optimizer.native, exchange.group
    for name in native.moment_names():
        for start, stop in exchange.buckets:
            native.set_moment(name, start, group.broadcast(native.moment(name, start, stop)))
