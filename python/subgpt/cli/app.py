"""The tree of commands: names and summaries here, each command's own module loaded when it is called.

`subgpt --help` therefore imports no command, and a command imports what it works with when it runs.
"""

import importlib
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from subgpt.cli.volume import Debug, Quiet, Verbose

VERBS = {
    "quickstart": "Train, fine-tune and sample a small GPT on text that this machine has, in minutes.",
    "tokenizer": "Train a tokenizer and look at what it does (train, encode, decode, show).",
    "data": "Look at what a model would learn from, and prepare it (inspect, prepare).",
    "pretrain": "Train a model from nothing on your own text.",
    "finetune": "Go on training a model on new text, or on questions and answers.",
    "dpo": "Train a model on preferences: of two answers, the one that people like better.",
    "generate": "Write text after a prompt.",
    "chat": "Talk with a model.",
    "serve": "Serve models over HTTP, as OpenAI's API, with a page to try them.",
    "probs": "Show what a model expects next, how sure it is, and what its layers would say.",
    "attention": "Draw where a model looks, as a picture of each head.",
    "explain-step": "Show one step of gradient descent with real numbers, on one sentence.",
    "evaluate": "Measure loss, perplexity and bits per byte on a text.",
    "merge": "Add adapters (LoRA, rsLoRA, DoRA) to a model's weights.",
    "export": "Write a model for other programs: GGUF for llama.cpp, or Hugging Face's files.",
    "estimate": "Foretell memory and time of a training run, before it is started.",
    "lr-find": "Find a learning rate in one short run, in which it rises until nothing is learnt.",
    "sweep": "Try settings in many runs, and rank them by their validation loss.",
    "bench": "Time training steps on this machine, and show where their time goes.",
    "info": "Show this installation, or what is in a run directory.",
}

_EPILOG = (
    "Start with [bold]subgpt quickstart[/bold]. "
    "Every command explains itself: [bold]subgpt pretrain --help[/bold]."
)


class _LazyGroup(TyperGroup):
    """Shows the summaries without loading anything, and loads a verb's module when it is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, found, rest = super().resolve_command(ctx, args)
        if name in VERBS:
            module = importlib.import_module(f"subgpt.cli.commands.{name.replace('-', '_')}")
            found = get_command(module.app)
        return name, found, rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from subgpt.cli.overview import show

        del formatter  # what is shown goes to the terminal at once, as with typer
        show(self, ctx)


def command() -> Any:
    """Build the command tree."""
    app = typer.Typer(
        cls=_LazyGroup,
        help="A GPT's whole life on the CPU you have: tokenize, pretrain, fine-tune, sample.",
        epilog=_EPILOG,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, summary in VERBS.items():
        app.command(name, help=summary)(_placeholder)
    app.callback(invoke_without_command=True)(_top)
    return get_command(app)


def _placeholder() -> None:
    """Stand for a command in the list; never called."""


def _top(
    ctx: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    del quiet, verbose, debug  # kept by `volume` when they are read
    if version:
        from subgpt import __version__

        print(f"subgpt {__version__}")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())
