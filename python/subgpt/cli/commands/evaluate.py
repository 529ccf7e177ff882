"""`subgpt evaluate`: how well a model predicts a text."""

from dataclasses import asdict
from typing import Annotated

import typer

from subgpt.cli.options import ChatTemplateOption, Json, OnInvalid, RunDir, TextField, examples, new_app

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
    batch_size: Annotated[int, typer.Option(help="Windows at a time.")] = 16,
    text_field: TextField = "text",
    chat_template: ChatTemplateOption = "auto",
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Measure loss, perplexity and bits per byte on a text, or on the answers of examples."""
    from subgpt.cli.loading import load_with_tokenizer, source_paths
    from subgpt.cli.terminal import out, print_json
    from subgpt.data.chat import ChatTemplate, choose_template
    from subgpt.evaluation.evaluate import evaluate as measure

    model, tokenizer = load_with_tokenizer(run)
    seen = measure(
        model,
        tokenizer,
        source_paths(data),
        batch_size=batch_size,
        text_field=text_field,
        errors=errors,  # type: ignore[arg-type]
        chat_template=choose_template(chat_template, tokenizer, ChatTemplate.find(run)) or "plain",
    )
    if json:
        print_json(asdict(seen))
    else:
        out().print(str(seen))
