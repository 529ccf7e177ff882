"""`subgpt evaluate`: how well a model predicts a text."""

from typing import Annotated

import typer

from subgpt.cli.options import Json, RunDir, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        "subgpt evaluate runs/base --data held-out.txt", "subgpt evaluate runs/qa --data qa.jsonl --json"
    )
)
def evaluate(
    run: RunDir,
    data: Annotated[
        list[str],
        typer.Option(
            "--data", metavar="SRC", help="Text to measure on; may be repeated.", show_default=False
        ),
    ],
    json: Json = False,
) -> None:
    """Measure loss, perplexity and bits per byte on a text."""
