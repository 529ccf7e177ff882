"""`subgpt info`: what is installed, or what is in a run directory."""

from pathlib import Path
from typing import Annotated

import typer

from subgpt.cli.options import Json, examples, new_app

app = new_app()


@app.command(epilog=examples("subgpt info", "subgpt info runs/base", "subgpt info runs/base --json"))
def info(
    run: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN]", help="A run directory, or any saved model.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Show this installation, or what is in a run directory.

    A report of a problem should have all of the first; nothing in it is secret.
    """
    from subgpt.cli.facts import environment, run_facts
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import out, print_json

    facts = environment() if run is None else run_facts(run)
    if json:
        print_json(facts)
    else:
        out().print(facts_table(facts.items()))
