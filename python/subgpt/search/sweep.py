"""`sweep`: many runs that differ in some settings, and which of them ends with the lowest validation loss."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.checkpoint.lock import DirectoryLock
from subgpt.checkpoint.run_directory import naming
from subgpt.cluster import Cluster
from subgpt.data.sources import find_files
from subgpt.data.token_sets import token_sources
from subgpt.errors import CheckpointError, ConfigError, DataError
from subgpt.model.config import GPTConfig
from subgpt.places import expanded
from subgpt.search.base import Base
from subgpt.search.cluster_pool import ClusterPool
from subgpt.search.outcomes import DIED, FAILED, FINAL, FINISHED, INTERRUPTED, WAITING, Outcome, Sweep
from subgpt.search.places import model_place, places_of, read_by_trials, tokenizer_place
from subgpt.search.plan import Plan, SweepDirectory
from subgpt.search.pool import Pool
from subgpt.search.results import write_results
from subgpt.search.space import Axis, Values, axes_of, describe, draw, grid
from subgpt.training.config import TrainConfig
from subgpt.training.interrupt import Interrupts
from subgpt.units import duration

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

Note = Callable[[str], None]
Space = Mapping[str, Any] | Sequence[str]
_POLL = 0.05


def sweep(
    model: GPTConfig | str | Path,
    tokenizer: "Tokenizer | str | Path | None",
    source: str | Path | Sequence[Path],
    space: Space,
    config: TrainConfig | None = None,
    *,
    output_dir: str | Path,
    random: int | None = None,
    seed: int | None = None,
    jobs: int | None = None,
    resume: bool = False,
    note: Note | None = None,
    ray: str | None = None,
) -> Sweep:
    """Run a trial for each combination in `space`, each in a process of its own, and compare their validation losses.

    model: the shape of a fresh model that each trial pretrains, or the place of a saved one that each fine-tunes with
    its own tokenizer (`tokenizer` is None then). source: files, directories or globs. config: the settings that all
    share.

    space: names of settings, of `TrainConfig` or `GPTConfig`, with their values: a list, a `Range(1e-4, 1e-2)`, or a
    text such as "1e-3,3e-3" or "1e-4..1e-2:5". All combinations are tried, or `random` of them drawn by `seed` (the
    config's if not given), from lists and ranges alike.

    output_dir: the sweep's directory, with a run directory for each trial. jobs: trials at a time, which share the
    threads; 1, or one a machine of a cluster, if not given. resume: go on with a sweep: what is finished stays, what
    was interrupted goes on from its last checkpoint, what failed or died is tried again; `space` may add trials. note:
    gets a line for what happens; None prints them.

    ray: the address of a Ray cluster to run the trials on: "auto", "HOST:PORT", "ray://HOST:10001", or "local" for one
    of this machine; where this process has joined one, that is used. Its machines must see `source`, the tokenizer or
    the saved model, and `output_dir` at the same paths, and have the same subgpt. A trial whose machine is lost goes on
    from its last checkpoint on another one.

    A trial that fails ends nothing. Ctrl-C stops the trials, each with a checkpoint, and reports what is done; a second
    one kills them. `results.json`, `results.csv` and `report.html` are written in any case.

    Raises ConfigError, CheckpointError, OutputError, MissingExtraError; of a trial's errors only where no trial can
    begin.
    """
    given = TrainConfig() if config is None else config
    if not isinstance(given, TrainConfig):
        raise ConfigError(f"sweep: config is {type(given).__name__}; give a TrainConfig")
    directory = SweepDirectory(output_dir)
    train = given.model_dump(mode="json", exclude_unset=True)
    train.pop("output_dir", None)
    data = tuple(str(expanded(place).resolve()) for place in places_of(source))
    if isinstance(model, GPTConfig):
        if tokenizer is None:
            raise ConfigError("sweep: a fresh model needs a tokenizer; give one, or the directory of one")
        if given.block_size not in (None, model.block_size):
            raise ConfigError(
                f"sweep: block_size is {given.block_size} in the TrainConfig and {model.block_size} in the GPTConfig, "
                "and trials have one for both; leave it out of the TrainConfig"
            )
        shape = {name: value for name, value in model.to_dict().items() if value is not None}
        words = tokenizer_place(tokenizer, directory)
        base = Base(data, tokenizer=str(words), shape=shape, train=train)
    elif isinstance(model, str | Path):
        base = Base(data, start=model_place(model), train=train)
    else:
        raise ConfigError(
            f"sweep: model is {type(model).__name__}; give a GPTConfig, or the place of a saved model"
        )
    return run_sweep(
        base,
        space,
        directory=directory,
        random=random,
        seed=seed,
        jobs=jobs,
        resume=resume,
        note=note,
        tokenizer=None if isinstance(tokenizer, str | Path) else tokenizer,
        ray=ray,
    )


def run_sweep(
    base: Base | None,
    space: Space,
    *,
    directory: SweepDirectory,
    random: int | None,
    seed: int | None,
    jobs: int | None,
    resume: bool,
    note: Note | None,
    given: Mapping[str, Any] | None = None,
    tokenizer: "Tokenizer | None" = None,
    ray: str | None = None,
) -> Sweep:
    """Do what `sweep` says with a `base` that is put together already.

    given: on resume the settings that must be those of the plan; all of `base` if None. base: None on resume for that
    of the plan. seed: decides what is drawn; None for that of the settings. tokenizer: is saved in the sweep's
    directory.
    """
    say = _print if note is None else note
    if jobs is not None and jobs < 1:
        raise ConfigError(f"sweep: jobs = {jobs}; give the number of trials at a time, 1 or more")
    if not resume and directory.plan.exists():
        raise CheckpointError(
            f"{directory.path}: holds a sweep already; go on with it (resume=True, --resume), or choose another "
            "output_dir"
        )
    before = Plan.read(directory) if resume else None
    if before is not None:
        wanted = given if given is not None else {} if base is None else base.flat()
        before.refuse_changes(wanted, directory.path)
        base = before.base
    if base is None:
        raise ConfigError("sweep: there is nothing to run; give data and a model")
    plan = _plan(base, space, before, random, seed)
    _check(plan, tokenizer)
    with ExitStack() as stack:
        cluster = None if ray is None else stack.enter_context(Cluster(ray))
        directory.create()
        stack.enter_context(DirectoryLock(directory.lock))
        if tokenizer is not None and not directory.tokenizer.exists():
            tokenizer.save(directory.tokenizer)
        plan.write(directory)
        if cluster is not None:
            cluster.check(directory.path, read_by_trials(plan.base))
        outcomes = {n: directory.read_outcome(n, values) for n, values in enumerate(plan.trials, 1)}
        interrupted = True
        try:
            interrupted = _run(plan, directory, outcomes, cluster, jobs, say)
        finally:
            ranked = tuple(sorted(outcomes.values(), key=lambda seen: seen.order))
            result = Sweep(ranked, directory.path, plan.axes, interrupted)
            write_results(result)
    say(str(result))
    return result


def _plan(base: Base, space: Space, before: Plan | None, random: int | None, seed: int | None) -> Plan:
    """List the trials: of the space, after those that were planned before."""
    axes: dict[str, Axis] = {}
    for name, axis in axes_of(space).items():
        target = base.canonical(name)
        if target in axes:
            raise ConfigError(
                f"sweep: {name} and another axis are the same setting, {target}; give one of them"
            )
        translated = (
            axis if not isinstance(axis, tuple) else tuple(TrainConfig.translated(name, v)[1] for v in axis)
        )
        axes[target] = translated
    if before is None and not axes:
        raise ConfigError("sweep: nothing is varied; give an axis, such as learning_rate=1e-3,3e-3")
    trials: list[Values] = []
    if axes:
        trials = grid(axes) if random is None else draw(axes, random, base.seed if seed is None else seed)
    plan = Plan(base, ()) if before is None else before
    return plan.extended(tuple(axes), trials)


def _check(plan: Plan, tokenizer: "Tokenizer | None") -> None:
    """Refuse a plan whose trials cannot be compared, or of which none can begin."""
    if plan.base.train.get("val_fraction") == 0:
        raise ConfigError("sweep: trials are compared by their validation loss; set val_fraction above 0")
    if token_sources(plan.base.data) is None:
        for place in plan.base.data:
            with suppress(DataError):  # a kind of file that only fine-tuning reads
                find_files(Path(place))
    if plan.base.start is None and tokenizer is None:
        from subgpt.tokenizer import Tokenizer

        if plan.base.tokenizer is None:
            raise ConfigError("sweep: a fresh model needs a tokenizer; give the directory of one")
        Tokenizer.load(plan.base.tokenizer)
    reasons = [_impossible(plan.base, values) for values in plan.trials]
    if all(reasons):
        raise ConfigError(f"sweep: no trial can begin; {describe(plan.trials[0])}: {reasons[0]}")


def _impossible(base: Base, values: Values) -> str:
    """Say why a trial cannot begin, as far as its settings tell; "" if they tell nothing."""
    try:
        base.training(values)
        if base.start is None:
            base.model(values, vocab_size=256)
    except ConfigError as error:
        return str(error)
    return ""


def _run(
    plan: Plan,
    directory: SweepDirectory,
    outcomes: dict[int, Outcome],
    cluster: Cluster | None,
    jobs: int | None,
    say: Note,
) -> bool:
    """Run what is not final; `outcomes` grows. Tells whether it was interrupted."""
    waiting: deque[int] = deque()
    for trial, seen in outcomes.items():
        if seen.status in FINAL:
            continue
        reason = _impossible(plan.base, dict(seen.values))
        outcomes[trial] = Outcome(trial, seen.values, FAILED, reason=reason) if reason else seen
        if reason:
            directory.write_outcome(outcomes[trial])
            say(f"trial {trial} of {len(outcomes)} cannot begin: {reason}")
        else:
            waiting.append(trial)
    kept = sum(seen.status in FINAL for seen in outcomes.values())
    jobs = jobs or (1 if cluster is None else len(cluster.cpus))
    side_by_side = min(jobs, max(1, len(waiting)))
    here = max(1, _core.get_num_threads() // side_by_side)
    threads = here if cluster is None else cluster.threads(side_by_side)
    after = f", {kept} done before" if kept else ""
    trials, share = _count(len(waiting), "trial"), _count(threads, "thread")
    say(f"{trials} to run{after}; {jobs} at a time, {share} each, in {directory.path}")
    trials_of = Pool(directory, threads) if cluster is None else ClusterPool(directory, cluster, threads)
    with Interrupts() as interrupts, trials_of as pool:
        while len(pool) or waiting:
            if interrupts.requested is not None:
                if not pool.asked:
                    say("stopping; trials save what they have (Ctrl-C again kills them)")
                waiting.clear()
                pool.stop()
            while waiting and len(pool) < jobs:
                trial = waiting.popleft()
                directory.outcome(trial).unlink(missing_ok=True)
                outcomes[trial] = Outcome(trial, outcomes[trial].values)  # what came of it before is past
                with naming(directory.log(trial)):
                    pool.start(trial)
                say(f"trial {trial} of {len(outcomes)} begins: {describe(outcomes[trial].values)}")
            for trial, how in pool.ended():
                seen = directory.read_outcome(trial, dict(outcomes[trial].values))
                if not how and seen.status == WAITING:
                    continue
                if seen.status not in (*FINAL, FAILED, INTERRUPTED):
                    seen = Outcome(trial, seen.values, DIED, reason=how, run=directory.run(trial))
                    directory.write_outcome(seen)
                say(f"trial {trial} of {len(outcomes)} {_told(seen, outcomes.values())}")
                outcomes[trial] = seen
            time.sleep(_POLL)
        return interrupts.requested is not None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _told(seen: Outcome, others: Iterable[Outcome]) -> str:
    """Say in a line what came of a trial."""
    if seen.status != FINISHED:
        return f"{seen.status}: {seen.reason}" if seen.reason else f"{seen.status} after step {seen.steps}"
    if seen.val_loss is None:
        return f"finished in {duration(seen.seconds)}, with nothing held out to compare it by"
    best = all(seen.order < other.order for other in others if other.trial != seen.trial)
    mark = " (best so far)" if best else ""
    return f"finished in {duration(seen.seconds)}: validation loss {seen.val_loss:.4f}{mark}"


def _print(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
