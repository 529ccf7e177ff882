"""The help of `subgpt` itself, drawn as typer draws that of a command, with as little of rich as that takes.

What typer draws with reads Markdown and colours source code too; loading that is a third of the time of `--help`.
"""

import functools
from collections.abc import Iterable
from typing import Any


def show(group: Any, ctx: Any) -> None:
    """Print usage, options and commands of `group`, whose help texts are plain but for the epilog's markup."""
    from rich.padding import Padding
    from rich.text import Text

    from subgpt.cli.terminal import out

    draw = functools.partial(out().print, soft_wrap=False)
    draw(Padding(Text(group.get_usage(ctx), style="bold"), 1))
    draw(Padding(Text(group.help), (0, 1, 1, 1)))
    panels: dict[str, list[Any]] = {"Options": []}
    for option in group.get_params(ctx):
        panels.setdefault(getattr(option, "rich_help_panel", None) or "Options", []).append(option)
    for title, options in panels.items():
        rows = [
            (_names(option, is_long=True), _names(option, is_long=False), option.help) for option in options
        ]
        draw(_panel(title, rows, ["bold cyan", "bold green"]))
    commands = (group.get_command(ctx, name) for name in group.list_commands(ctx))
    draw(_panel("Commands", ((command.name, command.help) for command in commands), ["bold cyan"]))
    draw(Padding(Text.from_markup(group.epilog), 1))


def _names(option: Any, is_long: bool) -> str:
    return " ".join(name for name in option.opts if name.startswith("--") == is_long)


def _panel(title: str, rows: Iterable[tuple[str, ...]], styles: list[str]) -> Any:
    """Frame rows of names, in as many styles, and what each is."""
    from rich.panel import Panel
    from rich.table import Table

    table = Table(box=None, show_header=False, expand=True, padding=(0, 1), pad_edge=False)
    for style in styles:
        table.add_column(style=style, no_wrap=True)
    table.add_column(ratio=1)
    for row in rows:
        table.add_row(*row)
    return Panel(table, title=title, title_align="left", border_style="dim")
