"""`subgpt probs`: what a model expects next."""

from typing import Annotated

import typer

from subgpt.cli.options import Json, RunDir, examples, new_app

app = new_app()


@app.command(
    epilog=examples("subgpt probs runs/base 'write me a'", "subgpt probs runs/base 'write me a' -k 3 --json")
)
def probs(
    run: RunDir,
    prompt: Annotated[
        str,
        typer.Argument(metavar="PROMPT", help="The text so far; - reads standard input.", show_default=False),
    ] = "",
    count: Annotated[int, typer.Option("--count", "-k", help="How many tokens to show.")] = 10,
    json: Json = False,
) -> None:
    """Show the most probable next tokens after a prompt, with their probabilities."""
    from subgpt.cli.loading import load_with_tokenizer
    from subgpt.cli.tables import probability_table
    from subgpt.cli.terminal import out, print_json, read_argument
    from subgpt.evaluation.next_tokens import next_tokens

    model, tokenizer = load_with_tokenizer(run)
    found = next_tokens(model, tokenizer, read_argument(prompt), count)
    if json:
        print_json([token._asdict() for token in found])
    else:
        out().print(probability_table(found))
