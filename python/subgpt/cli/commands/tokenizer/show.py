"""`subgpt tokenizer show`: the pieces of a text in colour, in the terminal or as a page."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.commands.tokenizer.arguments import AllowSpecial, TokenizerOptions, load_all, one_text
from subgpt.cli.options import Json, OnInvalid

if TYPE_CHECKING:
    from subgpt.report import TokenView

EXAMPLES = (
    "subgpt tokenizer show -t tok/ 'this is a bruh moment'",
    "subgpt tokenizer show -t tok/ -t gpt2/ --bytes 'naïve 🙂'",
    "subgpt tokenizer show -t tok/ --file poem.txt --html poem.html",
)


def command(
    ctx: typer.Context,
    tokenizer: TokenizerOptions,
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]", help="The text; - reads standard input.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show what is in a file.", show_default=False)
    ] = None,
    bytes: Annotated[bool, typer.Option("--bytes", help="Show the bytes of each token as well.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a page that needs no other file, instead.", show_default=False
        ),
    ] = None,
    allow_special: AllowSpecial = False,
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Show the pieces of a text in colour, their ids beneath; of several tokenizers one under the other.

    Tokens that share a character have one piece together, with their ids joined by +.
    """
    from subgpt import _core
    from subgpt.cli.terminal import out, print_json
    from subgpt.report import render_tokens, view_tokens

    given = one_text(ctx, text or [], file, errors)
    allowed = "all" if allow_special else ()
    views = [
        view_tokens(name, opened, given, allowed_special=allowed) for name, opened in load_all(tokenizer)
    ]
    if html is not None:
        _core.write_atomic(str(html), render_tokens(views).encode())
    if json:
        print_json({"tokenizers": [_as_json(view) for view in views]})
    elif html is not None:
        out().print(f"{html}: open it in a browser")
    else:
        for view in views:
            _print(view, len(views) > 1, bytes)


def _print(view: "TokenView", named: bool, with_bytes: bool) -> None:
    from rich.text import Text

    from subgpt.cli.pieces import cells_of, coloured_rows
    from subgpt.cli.terminal import harmless, out

    if named:
        out().print(Text.assemble((harmless(view.name), "bold"), (f"  {view.about}", "dim")))
    for row in coloured_rows(cells_of(view.segments, with_bytes=with_bytes), out().width):
        out().print(row)
    out().print(view.summary)
    if named:
        out().print()


def _as_json(view: "TokenView") -> dict[str, Any]:
    tokens = [
        {"id": token.id, "bytes": token.bytes.hex(), "kind": token.kind}
        for segment in view.segments
        for token in segment.tokens
    ]
    segments = [{"text": segment.text, "tokens": len(segment.tokens)} for segment in view.segments]
    return {
        "tokenizer": view.name,
        "count": view.count,
        "bytes": view.size,
        "bytes_per_token": view.size / view.count if view.count else None,
        "tokens": tokens,
        "segments": segments,
    }
