"""`subgpt merge`: a base and adapters become one model."""

from pathlib import Path
from typing import Annotated

import typer

from subgpt.cli.options import OutputDir, RunDir, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        "subgpt merge runs/base adapters/poet -o runs/poet",
        "subgpt merge runs/base adapters/poet adapters/maths -o runs/both",
    )
)
def merge(
    base: RunDir,
    adapters: Annotated[
        list[Path],
        typer.Argument(
            metavar="ADAPTER…", help="Directories of adapters, in PEFT's layout.", show_default=False
        ),
    ],
    output: OutputDir,
) -> None:
    """Add adapters (LoRA, rsLoRA, DoRA) to the weights of a model, and save it as a model like any other."""
    from subgpt.adapters.files import load_adapter
    from subgpt.adapters.merge import merge_adapter
    from subgpt.checkpoint.load import load
    from subgpt.cli.terminal import out

    loaded = [load_adapter(path) for path in adapters]
    model, tokenizer = load(base)
    for adapter in loaded:
        merge_adapter(model, adapter)
    model.save(output, tokenizer=tokenizer)
    layers = sum(len(adapter.layers) for adapter in loaded)
    out().print(f"{layers} layers of {len(loaded)} adapters merged into {output}")
