"""`subgpt export`: a model as a file for other programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from subgpt.cli.choices import one_of
from subgpt.cli.options import Json, RunDir, examples, new_app

app = new_app()


@app.command(
    epilog=examples(
        "subgpt export runs/qa -o qa.gguf --quantize q8_0",
        "subgpt export model.gguf --format hf -o folder/",
        "subgpt export runs/tiny -o tiny.gguf --no-tokenizer",
    )
)
def export(
    run: RunDir,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="The file to write.", show_default=False)
    ],
    format: Annotated[
        str,
        one_of(("gguf", "hf"), help="gguf: one file for llama.cpp; hf: a directory for transformers."),
    ] = "gguf",
    quantize: Annotated[
        str, one_of(("f32", "f16", "bf16", "q8_0", "q4_0"), help="How matrices are stored in a GGUF file.")
    ] = "f16",
    tokenizer: Annotated[
        bool, typer.Option("--tokenizer/--no-tokenizer", help="Whether the tokenizer goes with it.")
    ] = True,
    json: Json = False,
) -> None:
    """Write a model for other programs; what was written is read again and compared."""
    from subgpt.checkpoint.load import load
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import out, print_json
    from subgpt.gguf.model import save_gguf
    from subgpt.units import in_bytes

    model, found = load(run)
    kept = found if tokenizer else None
    facts: dict[str, Any] = {"file": str(output), "format": format}
    if format == "hf":
        model.save(output, tokenizer=kept)
    else:
        done = save_gguf(model, output, tokenizer=kept, quantize=quantize)
        facts |= {key: value for key, value in done._asdict().items() if key != "path"}
    if json:
        print_json(facts)
        return
    write: dict[str, Callable[[Any], str]] = {
        "bytes": in_bytes,
        "divergence": lambda nats: f"{nats:.2g} nats a token from the model",
        "agreement": lambda share: f"{share:.1%} of the most probable tokens",
    }
    out().print(facts_table((name, write.get(name, str)(value)) for name, value in facts.items()))
