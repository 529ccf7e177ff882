"""`subgpt tokenizer convert`: a tokenizer in another format."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from subgpt.cli.choices import completing, one_of
from subgpt.cli.commands.tokenizer.arguments import FORMATS, PATTERNS
from subgpt.cli.options import Json, TokenizerDir

if TYPE_CHECKING:
    from subgpt.tokenizer.saving import Format

EXAMPLES = (
    "subgpt tokenizer convert tok/ -o ranks.tiktoken",
    "subgpt tokenizer convert tok/ -o vocabulary/ --format vocab-merges",
    "subgpt tokenizer convert o200k_base.tiktoken -o tok/",
    "subgpt tokenizer convert ranks.tiktoken --pattern gpt4 --special-token '<|endoftext|>' -o tok/",
    "subgpt tokenizer convert tok/ -o tokenizer.gguf",
)


def command(
    directory: TokenizerDir,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "--out", "-o", metavar="PATH", help="File or directory to write.", show_default=False
        ),
    ],
    format: Annotated[
        str | None,
        one_of(
            FORMATS,
            help="The format; by default the ending of PATH says, and tokenizer.json for a directory.",
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="gpt2|gpt4|o200k|REGEX",
            autocompletion=completing(PATTERNS),
            help="How text is cut, for ranks and merges, whose files do not say.",
            show_default=False,
        ),
    ] = None,
    special_token: Annotated[
        list[str] | None,
        typer.Option(
            help="A special token, for the same files: it gets the next id. May be repeated.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write a tokenizer in another format, read it back, and make sure that it gives the same ids."""
    from subgpt.cli.terminal import out, print_json
    from subgpt.tokenizer import Tokenizer, convert

    opened = Tokenizer.load(directory, pattern=pattern, special_tokens=special_token or None)
    written = convert(opened, output, format=cast("Format | None", format))
    if json:
        print_json({"file": str(written), "vocab_size": opened.vocab_size})
    else:
        out().print(f"{written}: read back, the same ids")
