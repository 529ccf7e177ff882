"""`subgpt sweep`: many runs that differ in some settings, compared by their validation loss."""

from typing import Annotated, Any

import typer

from subgpt.cli.options import Config, Json, OutputDir, Ray, examples, new_app
from subgpt.cli.search import Data, StartModel, TokenizerOption, sweep_settings
from subgpt.cli.settings import with_settings
from subgpt.cli.shape import Preset

app = new_app()


@app.command(
    epilog=examples(
        "subgpt sweep --data corpus/ --tokenizer tok/ -o sweeps/a learning_rate=1e-3,3e-3 weight_decay=0,0.1",
        "subgpt sweep --data corpus/ --tokenizer tok/ -o sweeps/b learning_rate=1e-4..1e-2 --random 20 --jobs 2",
        "subgpt sweep --data corpus/ --tokenizer tok/ -o sweeps/c learning_rate=1e-4..1e-2:5 n_layer=2,4",
        "subgpt sweep --model runs/base --data qa.jsonl -o sweeps/d learning_rate=1e-4,3e-4 lora_r=4,8,16",
        "subgpt sweep -o sweeps/a --resume",
    )
)
@with_settings(sweep_settings())
def sweep(
    output: OutputDir,
    axes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=VALUES]…",
            help="What is varied: values by commas, a range (1e-4..1e-2), or a range's points (1e-4..1e-2:5). "
            "Any setting below, and preset.",
            show_default=False,
        ),
    ] = None,
    data: Data = None,
    tokenizer: TokenizerOption = None,
    preset: Preset = None,
    model: StartModel = None,
    random: Annotated[
        int | None,
        typer.Option(min=1, help="Draw so many trials (by --seed) in place of a grid.", show_default=False),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Trials at a time, which share the threads; 1, or with --ray one a machine.",
            show_default=False,
        ),
    ] = None,
    ray: Ray = None,
    config: Config = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the sweep in the output directory; axes may add trials."),
    ] = False,
    json: Json = False,
    **settings: Any,
) -> None:
    """Try settings in many runs, each in a process of its own, and rank them by their validation loss.

    Without --random every combination is tried. A trial that fails is shown with its reason and ends nothing. Ctrl-C
    stops the trials with a checkpoint; --resume goes on. The output directory has a run directory for each trial,
    results.json, results.csv and report.html.
    """
    from subgpt.cli.outcome import INTERRUPTED
    from subgpt.cli.search import base_of, given_of, print_trials
    from subgpt.cli.terminal import note, print_json
    from subgpt.search.plan import SweepDirectory
    from subgpt.search.sweep import run_sweep

    flags = {"data": data, "tokenizer": tokenizer, "preset": preset, "model": model, **settings}
    directory = SweepDirectory(output)
    given = given_of(config, flags)
    result = run_sweep(
        None if resume else base_of(given),
        axes or [],
        directory=directory,
        random=random,
        seed=None,
        jobs=jobs,
        resume=resume,
        note=note,
        given=given,
        ray=ray,
    )
    if json:
        print_json(
            {
                "best": result.best and result.best.trial,
                "trials": [s.to_dict(directory.path) for s in result.outcomes],
            }
        )
    else:
        print_trials(result)
    if result.interrupted:
        note(f"go on with: subgpt sweep -o {output} --resume")
        raise typer.Exit(INTERRUPTED)
    if result.best is None:
        raise typer.Exit(1)
