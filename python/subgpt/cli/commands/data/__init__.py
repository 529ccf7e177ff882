"""`subgpt data`: look at what a model would learn from, before it does; one module a command."""

import importlib

import typer

from subgpt.cli.options import examples, new_app

COMMANDS = ("inspect",)

app = new_app(help="Look at what a model would learn from.")


@app.callback(invoke_without_command=True)
def show_help(ctx: typer.Context) -> None:
    """Look at what a model would learn from."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


for name in COMMANDS:
    module = importlib.import_module(f"{__name__}.{name}")
    app.command(name, epilog=examples(*module.EXAMPLES))(module.command)
