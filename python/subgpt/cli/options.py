"""What several commands share: how an application is made, and the options that mean the same everywhere."""

import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from subgpt.cli.choices import completing, one_of
from subgpt.cli.volume import with_volume

F = TypeVar("F", bound=Callable[..., Any])


class _App(typer.Typer):
    """An application whose commands all have the flags of `volume`."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[F], F]:
        register = super().command(name, **settings)
        return lambda function: register(with_volume(function))


def new_app(**settings: Any) -> typer.Typer:
    """Make a command's application: `-h` for help, `-q` and `-v`, exceptions left to `main`."""
    return _App(
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def new_group(package: str, commands: Iterable[str], summary: str) -> typer.Typer:
    """Make an application of several commands, each a module of `package` with `command` and `EXAMPLES`."""
    app = new_app(help=summary)

    @app.callback(invoke_without_command=True)
    def show_help(ctx: typer.Context) -> None:
        if ctx.invoked_subcommand is None:
            print(ctx.get_help())

    show_help.__doc__ = summary
    for name in commands:
        module = importlib.import_module(f"{package}.{name}")
        app.command(name, epilog=examples(*module.EXAMPLES))(module.command)
    return app


def examples(*lines: str) -> str:
    """Lay out example commands for the end of a help text, one a line."""
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"  {line}" for line in lines)


class WrongUsage(typer.BadParameter):
    """Arguments that make no sense, alone or together: exit code 2, and the line says where help is."""

    def __init__(self, ctx: typer.Context, message: str) -> None:
        super().__init__(message, ctx=ctx)

    def format_message(self) -> str:
        """Give the message alone: it names the argument itself."""
        return self.message


def source_option(flag: str, help: str, *, metavar: str = "SRC") -> Any:
    """Make an option that names files, directories or globs of data."""
    return typer.Option(flag, metavar=metavar, help=help, show_default=False)


def quantize_option(**settings: Any) -> Any:
    """Make the option that says how weights are kept."""
    return one_of(
        ("bfloat16", "int8", "int4"),
        "--quantize",
        help="Keep the weights in fewer bits: less memory, faster, less exact.",
        show_default=False,
        **settings,
    )


RunDir = Annotated[
    Path, typer.Argument(metavar="RUN", help="A run directory, or any saved model.", show_default=False)
]
TokenizerDir = Annotated[
    Path, typer.Argument(metavar="DIR", help="A tokenizer, or a run directory with one.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
TextField = Annotated[str, typer.Option(help="Key of the text in a .jsonl line.")]
OnInvalid = Annotated[str, one_of(("strict", "replace"), help="Bytes that are not UTF-8: refuse or replace.")]
OutputDir = Annotated[
    Path,
    typer.Option("--output-dir", "-o", metavar="DIR", help="The run directory to write.", show_default=False),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file of settings; SUBGPT_MAX_STEPS and its like win over it, flags over both.",
        show_default=False,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Work on the machines of a Ray cluster: auto, HOST:PORT, ray://HOST:10001, or local for a new one. They "
        "must see the files at the same paths. Needs subgpt\\[ray].",
        show_default=False,
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the newest checkpoint in the run directory.")
]
ChatTemplateOption = Annotated[
    str,
    typer.Option(
        "--chat-template",
        metavar="auto|chatml|plain|FILE",
        autocompletion=completing(("auto", "chatml", "plain")),
        help="How conversations are written; auto: the model's own template, else chatml where the tokenizer has its "
        "tokens, else plain.",
    ),
]
QuantizeOption = Annotated[str | None, quantize_option()]
LossOnOption = Annotated[
    str,
    one_of(("answers", "all", "last"), help="What is learnt: answers, all text, or the last answer."),
]
