"""`Team`: several processes make the updates of a run, and compute what one process would."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from subgpt import _core
from subgpt.distributed.alive import Watch
from subgpt.distributed.cores import share_cores
from subgpt.distributed.courier import Courier
from subgpt.distributed.exchange import Exchange
from subgpt.distributed.group import F32, Group
from subgpt.distributed.launch import is_common, told_by
from subgpt.distributed.moments import bring_together, copy_to_all, deal_out
from subgpt.distributed.ownership import divide, snap
from subgpt.distributed.split import Split
from subgpt.errors import DataError, LossError, SubgptError
from subgpt.evaluation.measure import Evaluation, HeldOut, measure
from subgpt.model.gpt import GPT
from subgpt.model.listener import GradientListener
from subgpt.training.objective import Loss, Objective
from subgpt.training.optimizers import Optimizer
from subgpt.training.workers import MakeOptimizer, Workers

if TYPE_CHECKING:
    from subgpt.training.config import TrainConfig

T = TypeVar("T")

_FLOATS = (1 << 20) // 4
"""Numbers in a megabyte."""


class Team(Workers):
    """The processes of `group`.

    timeout: seconds without a sign of life after which a process counts as gone. hint: what is said then.
    """

    def __init__(self, group: Group, timeout: float, hint: Callable[[], str]) -> None:
        self.group = group
        self.is_main = group.rank == 0
        self._hint = hint
        self._signs = group.apart()
        self._watch = Watch(self._signs, timeout, group.abort, hint)
        self._threads = [int(n) for n in group.numbers([share_cores(group)])[:, 0]]
        self._courier: Courier | None = None
        self._exchange: Exchange | None = None
        self._sharded = False

    # --- beginning and end ---

    @contextmanager
    def at_work(self) -> Iterator["Team"]:
        """Watch over each other; an error that only this process has ends them all."""
        self._watch.start()
        try:
            yield self
        except BaseException as error:
            if isinstance(error, LossError):  # it follows from numbers that all have
                error.common, error.told = True, not self.is_main  # type: ignore[attr-defined]
            if not is_common(error):
                self.group.abort(self._last_words(error))
            raise
        finally:
            self._close()

    def _last_words(self, error: BaseException) -> str:
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        if not isinstance(error, SubgptError | KeyboardInterrupt):
            what = f"{what}\n{traceback.format_exc()}"
        return f"{self.group.me}: {what}; the job ends; {self._hint()}"

    def _close(self) -> None:
        self.group.gather(None)  # nobody stops to give signs of life before all are done
        self._watch.stop()
        self._signs.close()
        if self._courier is not None:
            self._courier.close()

    @contextmanager
    def together(self, doing: str) -> Iterator[None]:
        """Learn at the end whether something failed in another process."""
        try:
            yield
        except Exception as error:
            failed = self._failures(str(error) or type(error).__name__)
            error.common, error.told = True, min(failed) < self.group.rank  # type: ignore[attr-defined]
            raise
        failed = self._failures(None)
        if failed:
            first = min(failed)
            raise told_by(self.group.members[first], f"{failed[first]} (while {doing})")

    def _failures(self, mine: str | None) -> dict[int, str]:
        said = self.group.gather(mine)
        return {rank: message for rank, message in enumerate(said) if message is not None}

    def describe(self, config: "TrainConfig") -> list[str]:
        """Say who is there, so that the words of a launcher about a process can be understood."""
        del config
        group = self.group
        hosts: dict[str, list[str]] = {}
        for member, threads in zip(group.members, self._threads, strict=True):
            hosts.setdefault(member.host, []).append(f"{member.rank} ({member.pid}, {threads} threads)")
        places = "1 host" if len(hosts) == 1 else f"{len(hosts)} hosts"
        lines = [f"{group.size} processes on {places}; each update is divided among them"]
        if group.size <= 64:
            lines += [f"{host}: rank (process) {', '.join(ranks)}" for host, ranks in hosts.items()]
        return [*lines, f"should one be lost, the job ends: {self._hint()}"]

    # --- what all must have alike ---

    def from_main(self, value: Callable[[], T]) -> T:
        """Give what `value` is for rank 0."""
        return self.group.from_main(value() if self.is_main else None)  # type: ignore[no-any-return]

    def check_same(self, what: str, value: Callable[[], str]) -> None:
        """Raise DataError naming the process that has another `what` than rank 0."""
        said, members = self.group.gather(value()), self.group.members
        for member, theirs in zip(members, said, strict=True):
            if theirs != said[0]:
                error = DataError(
                    f"{what}: {member} has {theirs}, {members[0]} has {said[0]}; all need the same"
                )
                error.common, error.told = True, not self.is_main  # type: ignore[attr-defined]
                raise error

    def any(self, flag: bool) -> bool:
        """Ask all."""
        return bool(self.group.numbers([flag]).any())

    def adopt(self, model: GPT, optimizer: Optimizer, restored: Optimizer | None = None) -> None:
        """Take weights, dropout and moments of rank 0; where moments are divided, keep the own part."""
        exchange, first = self._ready, optimizer if restored is None else restored
        self.share_weights(model)
        steps = int(self.from_main(lambda: first.steps))
        seed, passes = self.from_main(lambda: list(model.native.dropout_state))
        model.native.dropout_state = (seed, passes)
        source = first.native
        own = sorted(exchange.own(number) for number in range(len(exchange.buckets)))
        optimizer.restrict(own if self._sharded else None)  # with fresh moments, which those of step 0 are
        if steps and self._sharded:
            deal_out(source if self.is_main else None, optimizer, exchange)
        elif steps:
            if self.is_main:
                optimizer.native = source
            copy_to_all(optimizer, exchange)
        optimizer.native.steps = steps
        exchange.forget()

    def whole(self, optimizer: Optimizer, make: MakeOptimizer) -> Optimizer | None:
        """Bring moments together, where each process has a part."""
        self._ready.forget()  # so that a run goes on from a checkpoint as the one did that wrote it
        if self._sharded:
            return bring_together(optimizer, self._ready, make)
        return optimizer if self.is_main else None

    def share_weights(self, model: GPT) -> None:
        """Send what is trained, in pieces."""
        for start, stop in self._ready.buckets:
            values = _core.trained(model.native, start, stop)
            _core.set_trained(model.native, start, self.group.broadcast(values))

    # --- updates ---

    def prepare(self, model: GPT, config: "TrainConfig") -> None:
        """Decide who has which rows and owns which gradients; ConfigError if rows cannot be divided equally."""
        group, passes = self.group, config.gradient_accumulation_steps
        self._split = Split.of(rank=group.rank, size=group.size, batch_size=config.batch_size, passes=passes)
        self._sharded = config.zero_stage == 1
        floats = max(1, int(config.bucket_megabytes * _FLOATS))
        buckets = _core.gradient_buckets(model.native, floats)
        # Muon's matrices stay whole. So they do where moments are not divided: pieces decide the last bit of the norm.
        starts = _core.gradient_starts(model.native) if config.optimizer == "muon" else None
        if starts is not None:
            buckets = snap(buckets, starts)
        counts = [divide(bucket, group.size, starts) for bucket in buckets]
        self._exchange = Exchange(group, buckets, counts, config.gradient_compression)
        if self._courier is None:
            self._courier = Courier(self._sum)

    def _sum(self, number: int, gradients: F32) -> F32:
        piece = self._ready.reduce(number, gradients)
        return piece if self._sharded else self._ready.spread(number, piece)

    @property
    def _ready(self) -> Exchange:
        if self._exchange is None:
            raise ValueError("a team without a model has no gradients")
        return self._exchange

    def backward(self, model: GPT, objective: Objective, batches: Sequence[Any]) -> Loss:
        """Compute the own rows, and sum the gradients of all while the last of them is on its way."""
        exchange, courier, split = self._ready, self._courier, self._split
        assert courier is not None
        whole = [batches[i] for i in split.batches]
        rows = [split.rows(objective.size(batch)) for batch in whole]
        mine = [objective.rows(batch, *part) for batch, part in zip(whole, rows, strict=True)]
        counts = self._counts([objective.count(batch) for batch in mine], len(batches))
        total = sum(map(sum, counts))
        if total == 0:
            return Loss(0.0, 0)
        native, (seed, before) = model.native, model.native.dropout_state
        live = [i for i in range(len(mine)) if counts[split.batches[i]][split.part]]
        loss = 0.0
        for i in live:
            number = split.batches[i]
            passes, native.rows_before = objective.masks(counts, number, split.part, rows[i][0])
            native.dropout_state = (seed, before + passes)
            listener = GradientListener(exchange.buckets, courier.take) if i == live[-1] else None
            loss += objective.add_gradient(model, mine[i], total, listener)
        if not live:
            for number, bucket in enumerate(exchange.buckets):
                courier.take(number, _core.gradients(native, *bucket))
        native.rows_before = 0
        native.dropout_state = (seed, before + objective.masks(counts, len(counts), 0, 0)[0])
        for number, values in courier.finish():
            start = exchange.own(number)[0] if self._sharded else exchange.buckets[number][0]
            _core.set_gradients(native, start, values)
        return Loss(float(self.group.numbers([loss]).sum()), total)

    def _counts(self, mine: Sequence[int], batches: int) -> list[list[int]]:
        """Give how many targets each part of each batch has."""
        split = self._split
        every = self.group.numbers(mine).astype(np.int64)  # (size, batches of a process)
        parted = every.reshape(-1, split.parts, len(mine)).transpose(0, 2, 1).reshape(batches, split.parts)
        return [[int(count) for count in parts] for parts in parted]

    def clip(self, model: GPT, max_norm: float) -> float:
        """Measure the own pieces, add up what all measured, and scale."""
        exchange = self._ready
        own = (exchange.own(number) for number in range(len(exchange.buckets)))
        squares = sum(_core.gradient_squares(model.native, *piece) for piece in own)
        norm = float(np.sqrt(self.group.numbers([squares]).sum()))
        if max_norm:
            _core.clip_from_norm(model.native, norm, max_norm)
        return norm

    def complete(self, model: GPT) -> None:
        """Send the pieces to all, where each has its own."""
        if self._sharded:
            for number, (start, _) in enumerate(self._ready.buckets):
                piece = _core.gradients(model.native, *self._ready.own(number))
                whole = self.group.collect(piece, self._ready.counts[number])
                _core.set_gradients(model.native, start, whole)

    def step(self, model: GPT, optimizer: Optimizer, rate: float) -> None:
        """Update what is the own part, and take the rest from the others."""
        optimizer.step(rate)
        if self._sharded:
            for number, (start, _) in enumerate(self._ready.buckets):
                piece = _core.trained(model.native, *self._ready.own(number))
                weights = self.group.collect(piece, self._ready.counts[number])
                _core.set_trained(model.native, start, weights)

    def measure(self, model: GPT, held_out: HeldOut) -> Evaluation:
        """Measure every n-th batch, and add up what all measured."""
        group = self.group
        mine = replace(held_out, batches=held_out.batches[group.rank :: group.size])
        return measure(model, mine, lambda sums: group.numbers(sums).sum(0))
