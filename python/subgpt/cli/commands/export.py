"""`subgpt export`: a model as a file for other programs."""

from pathlib import Path
from typing import Annotated

import typer

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
        typer.Option(
            metavar="gguf|hf", help="gguf: one file for llama.cpp; hf: a directory for transformers."
        ),
    ] = "gguf",
    quantize: Annotated[
        str, typer.Option(metavar="f32|f16|bf16|q8_0|q4_0", help="How matrices are stored in a GGUF file.")
    ] = "f16",
    tokenizer: Annotated[
        bool, typer.Option("--tokenizer/--no-tokenizer", help="Whether the tokenizer goes with it.")
    ] = True,
    json: Json = False,
) -> None:
    """Write a model for other programs; what was written is read again and compared."""
    from subgpt.checkpoint.load import load
    from subgpt.cli.sizes import in_bytes
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import out, print_json
    from subgpt.errors import ConfigError
    from subgpt.gguf.model import save_gguf
    from subgpt.spelling import did_you_mean

    if format not in ("gguf", "hf"):
        raise ConfigError(f"export: format = {format!r} is not known; {did_you_mean(format, ('gguf', 'hf'))}")
    model, found = load(run)
    kept = found if tokenizer else None
    if format == "hf":
        model.save(output, tokenizer=kept)
        facts = {"file": str(output), "format": "hf"}
    else:
        done = save_gguf(model, output, tokenizer=kept, quantize=quantize)
        facts = {
            "file": str(done.path),
            "architecture": done.architecture,
            "bytes": done.bytes,
            "divergence": done.divergence,
            "agreement": done.agreement,
        }
    if json:
        print_json(facts)
        return
    shown = {
        **facts,
        **({"bytes": in_bytes(facts["bytes"])} if "bytes" in facts else {}),  # type: ignore[arg-type]
        **({"divergence": f"{facts['divergence']:.2g} nats a token"} if "divergence" in facts else {}),
        **({"agreement": f"{facts['agreement']:.1%} of most probable tokens"} if "agreement" in facts else {}),
    }
    out().print(facts_table(shown.items()))
