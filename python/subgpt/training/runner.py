"""What pretraining and fine-tuning share: open the run directory, start or resume, train, write the result.

`pretrain` and `finetune` differ in their data, their default settings and what they watch; they say so in
their call.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.checkpoint.run_directory import RunDirectory, save_words, write_json
from subgpt.errors import CheckpointError, ConfigError, MissingExtraError
from subgpt.evaluation.measure import Evaluation, HeldOut, measure
from subgpt.finite import finite
from subgpt.generation.config import GenerationConfig
from subgpt.generation.generate import generate
from subgpt.model.fit import check_fit
from subgpt.model.gpt import GPT
from subgpt.training.callbacks import Callback, RunStart, default_callbacks
from subgpt.training.config import TrainConfig
from subgpt.training.data import TrainingData
from subgpt.training.find_workers import find_workers
from subgpt.training.keeper import Keeper
from subgpt.training.loop import Job, train
from subgpt.training.metrics import MetricsFile, read_metrics
from subgpt.training.probing import probe_after, probe_before
from subgpt.training.recorder import Recorder
from subgpt.training.reporting import reporters
from subgpt.training.run import Run
from subgpt.training.start import Start
from subgpt.training.workers import Workers

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

Watch = Callable[[TrainingData, TrainConfig], Mapping[str, HeldOut]]
"""What to measure before and after the run, by name."""


def run_training(
    model: GPT,
    tokenizer: "Tokenizer",
    make_data: Callable[[TrainConfig], TrainingData],
    config: TrainConfig | None,
    *,
    verb: str,
    output_dir: str | Path | None,
    resume: bool,
    callbacks: Sequence[Callback] | None,
    defaults: Mapping[str, Any],
    watch: Watch,
) -> Run:
    """Train `model` on what `make_data` gives. `defaults` stand for settings that were not set."""
    given = _given(config, output_dir)
    if given.recipe is not None and verb != "finetune":
        raise ConfigError(f"{verb}: recipe = {given.recipe!r} names settings of finetune; leave it out")
    check_fit(model, tokenizer, verb)
    if given.output_dir is None and resume:
        raise ConfigError(f"{verb}: resume=True needs the output_dir of the run to go on with")
    reporters(given)  # refused, if it must be, before the data is read
    if given.output_dir is None and given.on_spike == "rollback":
        raise ConfigError(
            f"{verb}: on_spike = 'rollback' goes back to checkpoints; give an output_dir for them"
        )
    with ExitStack() as stack:
        workers = stack.enter_context(find_workers(given).at_work())
        directory = None
        if given.output_dir is not None and workers.is_main:
            directory = RunDirectory(given.output_dir)
        keeper = Keeper(directory, model, stack, workers)
        with workers.together("opening the run"):
            keeper.open(
                resume=resume,
                overwrite=given.overwrite_output_dir,
                adapts=given.with_defaults(**defaults).lora is not None,
            )
        start = Start(
            model,
            tokenizer,
            make_data,
            given,
            dict(defaults),
            keeper.directory if resume else None,
            stack,
            workers,
        )
        watchers: list[Callback] = []
        if workers.is_main:
            watchers = [*(default_callbacks() if callbacks is None else callbacks), *reporters(start.config)]
        keeper.begin(start.optimizer, start.state, start.config, discard=not resume)
        if directory is not None:
            write_settings(directory, verb, start.config, model, resumed=start.path is not None)
            # So that a checkpoint of a killed run opens with its tokenizer; one with a model beside it belongs to that.
            if not directory.weights.exists():
                save_words(model, directory.path, tokenizer)
        return _train(
            model, tokenizer, start, keeper, watchers, watch if workers.is_main else _nothing, verb, workers
        )


def _train(
    model: GPT,
    tokenizer: "Tokenizer",
    start: Start,
    keeper: Keeper,
    callbacks: Sequence[Callback],
    watch: Watch,
    verb: str,
    workers: Workers,
) -> Run:
    config, state, data, directory = start.config, start.state, start.data, keeper.directory
    run = Run(
        max_steps=config.max_steps,
        output_dir=None if directory is None else directory.path,
        unit=data.objective.unit,
    )
    metrics = samples = None
    if directory is not None:
        metrics = MetricsFile(directory.metrics, keep_to_step=state.step, rollbacks=len(state.rollbacks))
        keeper.stack.callback(metrics.close)
        if config.sample_steps:
            samples = MetricsFile(directory.samples, keep_to_step=state.step)
            keeper.stack.callback(samples.close)
        for record in read_metrics(directory.metrics):
            run.add(record)
    run.step, run.seconds, run.tokens, run.checkpoint = state.step, state.seconds, state.tokens, start.path
    run.best, run.best_step = state.best_loss, state.best_step
    recorder = Recorder(run, metrics, callbacks, config.logging_steps, samples, data.objective.unit)
    keeper.recorder = recorder
    held_out = None if data.held_out is None else data.held_out.limited(config.eval_batches)

    def sample() -> str:
        if not workers.is_main:
            return ""
        options = GenerationConfig(max_new_tokens=config.sample_tokens, seed=config.seed)
        return generate(model, tokenizer, config.sample_prompt, config=options, return_prompt=False)

    watched = watch(data, config)
    try:
        recorder.start(
            RunStart(
                step=state.step,
                max_steps=config.max_steps,
                parameters=model.num_params(),
                train_tokens=data.tokens,
                val_tokens=0 if data.held_out is None else data.held_out.targets,
                tokens_per_step=config.batch_size
                * data.objective.sequences
                * (config.block_size or 0)
                * config.gradient_accumulation_steps,
                output_dir=run.output_dir,
                notes=tuple(start.notes),
                unit=data.objective.unit,
                padded=data.padded,
            )
        )
        fresh = start.path is None
        run.before = _before(model, watched, directory, fresh)
        probes = data.probes if workers.is_main else {}
        run.probes = probe_before(model, tokenizer, probes, directory, recorder.note, fresh=fresh)
        train(
            Job(
                model,
                start.optimizer,
                data.loader,
                held_out,
                data.objective,
                config,
                state,
                recorder,
                workers,
                keeper.save,
                keeper.keep_best,
                sample,
                keeper.look,
                keeper.roll_back,
            )
        )
        keeper.finish(tokenizer)
        run.tokens = state.tokens
        if not run.interrupted:  # who ends a run has no time for all of the held-out data
            run.after = {name: measure(model, held) for name, held in watched.items()}
            run.probes = probe_after(model, tokenizer, probes, run.probes, recorder.note)
        _plot(run, recorder)
        _page(run, verb)
        if run.interrupted:
            recorder.note(f"stopped after step {state.step}; {_how_to_resume(run)}")
    except BaseException as error:
        run.error = error
        raise
    finally:
        try:
            keeper.close()
        finally:
            recorder.end()
    return run


def _nothing(_data: TrainingData, _config: TrainConfig) -> Mapping[str, HeldOut]:
    return {}


def _given(config: TrainConfig | None, output_dir: str | Path | None) -> TrainConfig:
    if config is None:
        config = TrainConfig()
    if not isinstance(config, TrainConfig):
        raise ConfigError(
            f"config is {type(config).__name__}; give a TrainConfig, such as TrainConfig(max_steps=1000)"
        )
    return config if output_dir is None else config.replace(output_dir=str(output_dir))


def _before(
    model: GPT, watched: Mapping[str, HeldOut], directory: RunDirectory | None, fresh: bool
) -> dict[str, Evaluation]:
    """Give the losses before the first update: measured now, or in the run that is resumed."""
    if not watched:
        return {}
    if not fresh and directory is not None and directory.before.exists():
        return read_before(directory.before)
    before = {name: measure(model, held) for name, held in watched.items()} if fresh else {}
    if directory is not None and fresh:
        written = {name: finite(dataclasses.asdict(seen)) for name, seen in before.items()}
        write_json(directory.before, written)
    return before


def read_before(path: Path) -> dict[str, Evaluation]:
    """Read what a run measured before its first update; CheckpointError for what is no such file any more."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = {str(name): Evaluation(**value) for name, value in values.items()}
        for seen in found.values():
            numbers = {**vars(seen), "unit": None}
            if not (
                isinstance(seen.unit, str)
                and isinstance(seen.loss, int | float)
                and all(isinstance(x, int | float | None) for x in numbers.values())
            ):
                raise TypeError("something is no number")
        return found
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: not the losses before the run ({error}); delete it to go on without them"
        ) from None


def write_settings(
    directory: RunDirectory, verb: str, config: TrainConfig, model: GPT, *, resumed: bool
) -> None:
    """Write `config.yaml`: what this run was really made with; sections of others stay when it is resumed."""
    import yaml

    before: Any = None
    if resumed and directory.settings.is_file():
        with suppress(yaml.YAMLError, ValueError, RecursionError):  # damaged: what others said is lost
            before = yaml.safe_load(directory.settings.read_text(encoding="utf-8"))
    values = before if isinstance(before, dict) else {}
    values |= {"verb": verb, "subgpt_version": _core.__version__}
    values |= {"train": config.to_dict(), "model": model.config.to_dict()}
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    _core.write_atomic(str(directory.settings), text.encode())


def _plot(run: Run, recorder: Recorder) -> None:
    """Draw `loss.png`; without matplotlib one line, and the run is as good."""
    if run.output_dir is None:
        return
    try:
        run.plot()
    except MissingExtraError as error:
        recorder.note(str(error))


def _page(run: Run, verb: str) -> None:
    """Write `report.html`."""
    if run.output_dir is not None:
        from subgpt.report.run import run_page

        page = run_page(run, f"subgpt {verb}: {run.output_dir.name}")
        _core.write_atomic(str(RunDirectory(run.output_dir).report), page.encode())


def _how_to_resume(run: Run) -> str:
    if run.output_dir is None:
        return "nothing was written, as no output_dir was given"
    return f"go on with resume=True and output_dir={str(run.output_dir)!r} (command line: --resume)"
