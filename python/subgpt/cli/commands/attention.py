"""`subgpt attention`: a picture of where a model looks."""

from pathlib import Path
from typing import Annotated

import typer

from subgpt.cli.options import Json, RunDir, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        "subgpt attention runs/base 'write me a poem' -o maps.png",
        "subgpt attention runs/base 'write me a poem' -o maps.svg --layer 0 --head 0 --head 3",
    )
)
def attention(
    run: RunDir,
    prompt: Annotated[
        str, typer.Argument(metavar="TEXT", help="What is read; - reads standard input.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The picture to write: .png, .svg or .pdf."),
    ] = Path("attention.png"),
    layer: Annotated[
        list[int] | None,
        typer.Option(help="A layer to draw, counted from 0; may be repeated. All where none is named."),
    ] = None,
    head: Annotated[
        list[int] | None,
        typer.Option(help="A head to draw, counted from 0; may be repeated. All where none is named."),
    ] = None,
    json: Json = False,
) -> None:
    """Draw where each token of a text looks: a map for each head of each layer."""
    from subgpt.cli.loading import open_run
    from subgpt.cli.terminal import note, print_json, read_argument
    from subgpt.inside.attention import save_attention_plot

    model, tokenizer = open_run(run)
    picture = save_attention_plot(
        model, tokenizer, read_argument(prompt), output, layers=layer or None, heads=head or None
    )
    if json:
        print_json({"picture": str(picture)})
    note(f"attention: {picture}", style="")
