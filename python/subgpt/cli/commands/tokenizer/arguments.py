"""What the commands of `subgpt tokenizer` share: their options, and where the text comes from."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from subgpt.cli.options import WrongUsage

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

T = TypeVar("T")

FORMATS = ("tokenizer.json", "tiktoken", "vocab-merges", "gguf")
PATTERNS = ("gpt2", "gpt4", "o200k")

TokenizerOption = Annotated[
    Path,
    typer.Option(
        "--tokenizer",
        "-t",
        metavar="PATH",
        help="A tokenizer: a directory, a file, or a run directory.",
        show_default=False,
    ),
]
TokenizerOptions = Annotated[
    list[Path],
    typer.Option(
        "--tokenizer",
        "-t",
        metavar="PATH",
        help="A tokenizer: a directory, a file, or a run directory. May be repeated to compare several.",
        show_default=False,
    ),
]
AllowSpecial = Annotated[
    bool, typer.Option("--allow-special", help="Read special tokens in the text as such, not as plain text.")
]


def read_option(ctx: typer.Context, name: str, parse: Callable[[str], T], value: str) -> T:
    """Parse the value of an option; what it cannot be is wrong usage."""
    try:
        return parse(value)
    except ValueError as error:
        raise WrongUsage(ctx, f"{name}: {error}") from None


def one_text(ctx: typer.Context, texts: Sequence[str], file: Path | None, errors: str = "strict") -> str:
    """Give the text that was typed, that of standard input for -, or that of the file."""
    from subgpt.cli.terminal import read_argument
    from subgpt.data.reading import read_text

    if len(texts) + (file is not None) != 1:
        raise WrongUsage(ctx, "give one TEXT (in quotes, or - for standard input), or a --file")
    if file is not None:
        return read_text(file, errors).text  # type: ignore[arg-type]
    return read_argument(texts[0])


def load_all(paths: Sequence[Path]) -> "list[tuple[str, Tokenizer]]":
    """Load tokenizers, each with the name that it was given by."""
    from subgpt.tokenizer import Tokenizer

    return [(str(path), Tokenizer.load(path)) for path in paths]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Name each path by as many of its last parts as tell it from the others.

    >>> short_names([Path("a/tok"), Path("b/tok"), Path("/far/away/gpt2")])
    ['a/tok', 'b/tok', 'gpt2']
    """
    names = []
    for path in paths:
        parts = path.resolve().parts if path.name in ("", "..") else path.parts
        others = [other.parts for other in paths if other != path]
        count = next(
            (n for n in range(1, len(parts)) if all(other[-n:] != parts[-n:] for other in others)), len(parts)
        )
        names.append(str(Path(*parts[-count:])))
    return names
