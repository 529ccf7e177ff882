"""`subgpt tokenizer count`: how many tokens texts have."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from subgpt.cli.commands.tokenizer.arguments import AllowSpecial, TokenizerOption, one_text
from subgpt.cli.options import Json, OnInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

EXAMPLES = (
    "subgpt tokenizer count -t tok/ 'write me a'",
    "subgpt tokenizer count -t tok/ --file corpus/*.txt",
)


def command(
    ctx: typer.Context,
    tokenizer: TokenizerOption,
    text: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[TEXT]",
            help="The text; - reads standard input. After --file: further files.",
            show_default=False,
        ),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE…", help="Count what is in files instead.", show_default=False),
    ] = None,
    allow_special: AllowSpecial = False,
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Print how many tokens a text has, or each of several files and all of them together."""
    from subgpt.cli.meter import metering
    from subgpt.cli.terminal import print_json
    from subgpt.tokenizer import Tokenizer
    from subgpt.units import in_bytes

    opened = Tokenizer.load(tokenizer)
    allowed: Literal["all"] | tuple[()] = "all" if allow_special else ()
    counts = []
    if not file:
        given = one_text(ctx, text or [], None)
        counts.append(("", opened.count(given, allowed_special=allowed, disallowed_special=())))
    with metering() as show:
        for path in (*(file or ()), *(map(Path, text or ()) if file else ())):
            tokens = opened.count_file(
                path,
                allowed_special=allowed,
                disallowed_special=(),
                errors=errors,  # type: ignore[arg-type]
                progress=lambda done, total: show("counting", done, total, in_bytes),
            )
            counts.append((str(path), tokens))
    total = sum(tokens for _, tokens in counts)
    if json:
        files = {"files": [{"file": name, "tokens": tokens} for name, tokens in counts]} if file else {}
        print_json({"tokens": total, **files})
    elif len(counts) == 1:
        print(total)
    else:
        _print_lines([*counts, ("total", total)])


def _print_lines(counts: "Sequence[tuple[str, int]]") -> None:
    """Print numbers and names in two columns, as wc does."""
    from subgpt.cli.terminal import harmless

    width = len(str(counts[-1][1]))
    for name, tokens in counts:
        print(f"{tokens:>{width}} {harmless(name)}")
