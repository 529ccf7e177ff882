"""`subgpt bench`: how fast training is on this machine, and where its time goes."""

from typing import Annotated, Any

import typer

from subgpt.cli.options import Config, Json, examples, new_app
from subgpt.cli.settings import with_settings
from subgpt.cli.shape import SHAPE, VOCAB_SIZE, Preset, run_settings

app = new_app()


@app.command(
    epilog=examples(
        "subgpt bench --preset d4 --batch-size 8",
        "subgpt bench --preset nanogpt-cpu --batch-size 12 --dtype float32 --profile",
        "subgpt bench --preset d6 --profile --json > bench.json",
    )
)
@with_settings([*SHAPE, VOCAB_SIZE, *run_settings(leave_out=["max_steps"])])
def bench(
    preset: Preset = None,
    config: Config = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long to make steps.")] = 5.0,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time each operation too, for as long again.")
    ] = False,
    json: Json = False,
    **settings: Any,
) -> None:
    """Time training steps on random ids: speed, and the share of what this machine can do.

    The peak is measured beside them: multiplications from registers, and a copy through memory. With --profile
    each operation is held against its own limit: products against the peak, everything else against memory.
    """
    from subgpt.cli.performance import bench_facts, bench_json, operations_table
    from subgpt.cli.shape import model_and_training
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import out, print_json
    from subgpt.performance.bench import bench as measure

    model, training = model_and_training(config, preset, settings)
    seen = measure(model, training, seconds=seconds, profile=profile)
    if json:
        print_json(bench_json(seen))
        return
    out().print(facts_table(bench_facts(seen)))
    if profile:
        out().print()
        out().print(operations_table(seen))
