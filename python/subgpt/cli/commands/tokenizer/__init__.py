"""`subgpt tokenizer`: train one, turn text into ids and back, look at what it does; one module a command."""

import importlib

import typer

from subgpt.cli.options import examples, new_app

COMMANDS = ("train", "encode", "decode", "count", "show", "stats", "convert")

app = new_app(help="Train a tokenizer and look at what it does.")


@app.callback(invoke_without_command=True)
def show_help(ctx: typer.Context) -> None:
    """Train a tokenizer and look at what it does."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


for name in COMMANDS:
    module = importlib.import_module(f"{__name__}.{name}")
    app.command(name, epilog=examples(*module.EXAMPLES))(module.command)
