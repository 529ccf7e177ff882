"""`subgpt quickstart`: a small GPT's whole life on text that this machine has."""

from pathlib import Path
from typing import Annotated

import typer

from subgpt.cli.options import examples, new_app
from subgpt.quickstart.plan import DEFAULT_STEPS

app = new_app()


@app.command(epilog=examples("subgpt quickstart", "subgpt quickstart --steps 20 -o /tmp/first-look"))
def quickstart(
    steps: Annotated[
        int, typer.Option(min=1, help="Pretraining steps; everything else follows.")
    ] = DEFAULT_STEPS,
    out: Annotated[
        Path, typer.Option("--output-dir", "--out", "-o", metavar="DIR", help="Where to write.")
    ] = Path("subgpt-quickstart"),
    seed: Annotated[int, typer.Option(help="Same seed, same weights.")] = 0,
) -> None:
    """Train, fine-tune and sample a small GPT on text that this machine has.

    The text is Python's own library and language reference, so nothing is downloaded. The default takes a few
    minutes on two cores and ends with a one-page report.
    """
    from subgpt.cli.narrator import TerminalNarrator
    from subgpt.quickstart.run import quickstart as run

    run(out, steps=steps, seed=seed, narrator=TerminalNarrator())
