"""`subgpt explain-step`: one step of gradient descent, with its numbers."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from subgpt.cli.options import Json, WrongUsage, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        "subgpt explain-step 'the cat sat on the mat'",
        "subgpt explain-step 'the cat sat on the mat' --lr 0.5 --steps 20",
        "subgpt explain-step runs/base 'the cat sat on the mat' --json",
    )
)
def explain_step(
    ctx: typer.Context,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] TEXT",
            help="A sentence (- reads standard input), behind the run directory of a model, or any saved one; "
            "without it a fresh tiny model of characters.",
            show_default=False,
        ),
    ],
    lr: Annotated[float, typer.Option("--lr", help="The learning rate alpha.")] = 0.1,
    steps: Annotated[int, typer.Option(help="How many steps to make, for a table of the loss falling.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the fresh model's weights.")] = 0,
    json: Json = False,
) -> None:
    """Show one step of gradient descent on a sentence, as a worked example with real numbers.

    new_w = old_w - alpha * d: every weight goes against the slope d of the loss, by the learning rate alpha. No file is
    changed.
    """
    from subgpt.cli.loading import open_run
    from subgpt.cli.terminal import harmless, print_json, read_argument
    from subgpt.inside.step import explain_step as explain
    from subgpt.inside.tiny import tiny_model

    if len(words) > 2:
        raise WrongUsage(ctx, f"{len(words)} arguments; give [RUN] TEXT, the text in quotes")
    text = read_argument(words[-1])
    if len(words) == 2:
        model, tokenizer = open_run(Path(words[0]))
    else:
        model, tokenizer = tiny_model(text, seed=seed)
    told = explain(model, tokenizer, text, lr=lr, steps=steps)
    if json:
        print_json({**asdict(told), "loss_before": told.loss_before, "loss_after": told.loss_after})
    else:
        print(harmless(str(told)))
