"""`subgpt estimate`: what a training run will take, before it is started."""

from typing import Annotated, Any

import typer

from subgpt.cli.options import Config, Json, examples, new_app
from subgpt.cli.settings import with_settings
from subgpt.cli.shape import SHAPE, VOCAB_SIZE, Preset, run_settings

app = new_app()


@app.command(
    epilog=examples(
        "subgpt estimate --preset d6 --batch-size 8 --max-steps 5000",
        "subgpt estimate --preset gpt2 --batch-size 4 --block-size 512 --dtype bfloat16",
        "subgpt estimate --config mine.yaml --gradient-checkpointing --json",
    )
)
@with_settings([*SHAPE, VOCAB_SIZE, *run_settings()])
def estimate(
    preset: Preset = None,
    config: Config = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long to time real steps; 0: memory only.")] = 2.0,
    json: Json = False,
    **settings: Any,
) -> None:
    """Show memory, time per step and time to the end of a training run, without starting it.

    Memory is counted from the shape and from what this process holds; the text and its ids come on top. Time
    comes from steps that are really made: of the model itself, or of a few of its blocks if it is large.
    """
    from subgpt.cli.performance import estimate_facts, estimate_json
    from subgpt.cli.shape import model_and_training
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import out, print_json, warn
    from subgpt.performance.estimate import estimate as foretell

    model, training = model_and_training(config, preset, settings)
    out()  # as a run's own command it has rich and a directory
    seen = foretell(model, training.replace(output_dir="run"), seconds=seconds)
    if json:
        print_json(estimate_json(seen))
    else:
        out().print(facts_table(estimate_facts(seen)))
    if seen.warning:
        warn(seen.warning)
