"""`subgpt merge`: a base and adapters become one model."""

from pathlib import Path
from typing import Annotated

import typer

from subgpt.cli.options import Json, OutputDir, RunDir, examples, new_app
from subgpt.errors import ConfigError

app = new_app()


@app.command(
    epilog=examples(
        "subgpt merge runs/base adapters/poet -o runs/poet",
        "subgpt merge runs/base adapters/poet adapters/maths -o runs/both",
        "subgpt merge runs/poet-adapter -o runs/poet",
    )
)
def merge(
    base: RunDir,
    output: OutputDir,
    adapters: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[ADAPTER]…",
            help="Directories of adapters, in PEFT's layout; that of RUN if it has one over its base.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Add adapters (LoRA, rsLoRA, DoRA) to the weights of a model, and save it as a model like any other."""
    from subgpt.adapters.attach import adapter_of
    from subgpt.adapters.files import load_adapter
    from subgpt.adapters.merge import merge_adapter
    from subgpt.checkpoint.load import load
    from subgpt.cli.terminal import out, print_json

    loaded = [load_adapter(path) for path in adapters or []]
    model, tokenizer = load(base)
    over = [adapter_of(model, name) for name in model.adapters]
    if not over and not loaded:
        raise ConfigError(f"{base}: has no adapter over it, and none is given; name the directory of one")
    for name in model.adapters:
        model.delete_adapter(name)
    for adapter in (merged := [*over, *loaded]):
        merge_adapter(model, adapter)
    model.save(output, tokenizer=tokenizer)
    layers = sum(len(adapter.layers) for adapter in merged)
    if json:
        print_json({"output_dir": str(output), "adapters": len(merged), "layers": layers})
    else:
        out().print(f"{layers} layers of {len(merged)} adapters merged into {output}")
