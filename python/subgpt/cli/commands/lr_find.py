"""`subgpt lr-find`: which learning rates learn, found in one short run."""

from pathlib import Path
from typing import Annotated, Any

import typer

from subgpt.cli.options import Config, Json, examples, new_app
from subgpt.cli.search import Data, StartModel, TokenizerOption, test_settings
from subgpt.cli.settings import with_settings
from subgpt.cli.shape import Preset

app = new_app()


@app.command(
    epilog=examples(
        "subgpt lr-find --data corpus/ --tokenizer tok/ --preset nano",
        "subgpt lr-find --data corpus/ --tokenizer tok/ --preset d4 --optimizer muon --batch-size 32",
        "subgpt lr-find --model runs/base --data qa.jsonl --lora-r 8",
        "subgpt lr-find --config mine.yaml --min 1e-5 --max 0.1 --steps 200 --plot rates.svg",
    )
)
@with_settings(test_settings())
def lr_find(
    data: Data = None,
    tokenizer: TokenizerOption = None,
    preset: Preset = None,
    model: StartModel = None,
    minimum: Annotated[float, typer.Option("--min", help="Lowest learning rate.")] = 1e-6,
    maximum: Annotated[
        float | None,
        typer.Option("--max", help="Highest learning rate; 1, or 10 for sgd.", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(help="Updates, each at a higher rate.")] = 100,
    divergence: Annotated[
        float, typer.Option(help="End where the smoothed loss is so many times its lowest.")
    ] = 4.0,
    plot: Annotated[
        Path, typer.Option(metavar="FILE", help="The picture to write: .png, .svg or .pdf.")
    ] = Path("lr-find.png"),
    results: Annotated[Path, typer.Option(metavar="FILE", help="The numbers to write, as JSON.")] = Path(
        "lr-find.json"
    ),
    config: Config = None,
    json: Json = False,
    **settings: Any,
) -> None:
    """Find a learning rate: train with one that rises from step to step, and see where the loss falls.

    The options are those of the run to come. The model is thrown away afterwards, a saved one stays as it is; a
    picture and a file of numbers are left.
    """
    from subgpt.checkpoint.run_directory import write_json
    from subgpt.cli.search import base_of, given_of, print_rates, test_bar
    from subgpt.cli.terminal import note, print_json, warn
    from subgpt.errors import MissingExtraError
    from subgpt.search.lr_find import lr_find as find
    from subgpt.search.lr_plot import WHAT
    from subgpt.training.plot import check_picture

    try:
        check_picture(plot, WHAT)
        drawable = True
    except MissingExtraError as error:
        warn(str(error))
        drawable = False
    flags = {"data": data, "tokenizer": tokenizer, "preset": preset, "model": model, **settings}
    base = base_of(given_of(config, flags))
    net, words, training = base.open()
    with test_bar(steps) as on_step:
        found = find(
            net,
            words,
            [Path(source) for source in base.data],
            training,
            min_lr=minimum,
            max_lr=maximum,
            steps=steps,
            divergence=divergence,
            on_step=on_step,
        )
    if json:
        print_json(found.to_dict())
    else:
        print_rates(found)
    # Behind what is shown: a place that cannot be written does not lose it.
    write_json(results, found.to_dict())
    if drawable:
        found.plot(plot)
    note(f"written: {f'{plot}, ' if drawable else ''}{results}")
