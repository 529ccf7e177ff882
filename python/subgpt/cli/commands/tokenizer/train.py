"""`subgpt tokenizer train`: learn a vocabulary, or several of different sizes at once."""

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from subgpt.cli.choices import completing, one_of
from subgpt.cli.commands.tokenizer.arguments import FORMATS, PATTERNS, read_option
from subgpt.cli.options import Json, OnInvalid, TextField, WrongUsage
from subgpt.cli.settings import default_note
from subgpt.cli.sizes import parse_bytes, parse_sizes
from subgpt.errors import OutputError
from subgpt.units import duration, in_bytes

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

EXAMPLES = (
    "subgpt tokenizer train corpus/ --vocab-size 8192 -o tok/",
    "subgpt tokenizer train corpus/ --vocab-size 4096,8192,32768 -o toks/",
    "subgpt tokenizer train poems.txt --level char -o tok-char/",
    "subgpt tokenizer train 'src/**/*.py' --pattern gpt2 --special-token '<|user|>' -o tok-code/",
    "subgpt tokenizer train huge.jsonl --max-memory 2GiB -o tok/",
)
END_OF_TEXT = "<|endoftext|>"


def command(
    ctx: typer.Context,
    source: Annotated[
        list[str],
        typer.Argument(metavar="SRC…", help="Files, directories or globs of text.", show_default=False),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output-dir",
            "--output",
            "--out",
            "-o",
            metavar="DIR",
            help="Where to save it; of several sizes, each in a directory of its own there.",
            show_default=False,
        ),
    ],
    level: Annotated[
        str, one_of(("char", "word", "subword"), help="What a token is; subword fits any text.")
    ] = "subword",
    vocab_size: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N…]",
            help="Number of tokens, the special ones included, or several: 8192,32768 takes the time of the "
            "largest. For char as many as there are." + default_note(8192),
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str,
        typer.Option(
            metavar="gpt2|gpt4|o200k|REGEX",
            help="How text is cut before subwords are learned.",
            autocompletion=completing(PATTERNS),
        ),
    ] = "gpt4",
    special_token: Annotated[
        list[str] | None,
        typer.Option(help="One more token that plain text never gives; may be repeated.", show_default=False),
    ] = None,
    min_frequency: Annotated[int, typer.Option(help="Leave out what is seen less often.")] = 1,
    max_token_length: Annotated[
        int | None, typer.Option(help="Longest subword in bytes.", show_default=False)
    ] = None,
    limit_alphabet: Annotated[
        int | None,
        typer.Option(help="For char and word: know the most frequent characters only.", show_default=False),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Memory to keep to, about, such as 500MB or 2GiB.", show_default=False
        ),
    ] = None,
    format: Annotated[
        str | None,
        one_of(
            FORMATS,
            help="The format; by default the ending of DIR says, and tokenizer.json for a directory.",
            show_default=False,
        ),
    ] = None,
    text_field: TextField = "text",
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Train a tokenizer on text and save it."""
    from subgpt.cli.loading import source_paths
    from subgpt.cli.terminal import note, print_json
    from subgpt.data.sources import find_files
    from subgpt.tokenizer.saving import format_of

    sizes = None if vocab_size is None else read_option(ctx, "--vocab-size", parse_sizes, vocab_size)
    memory = None if max_memory is None else read_option(ctx, "--max-memory", parse_bytes, max_memory)
    targets = _targets(ctx, output, sizes)
    chosen = format or format_of(targets[0])
    if level != "subword" and chosen != "tokenizer.json":
        raise WrongUsage(
            ctx, f"--format: {chosen} holds subwords only; use tokenizer.json for --level {level}"
        )
    options: dict[str, Any] = {
        "vocab_size": sizes if sizes else [None],
        "level": level,
        "pattern": pattern,
        "special_tokens": (END_OF_TEXT, *(special_token or ())),
        "min_frequency": min_frequency,
        "max_token_length": max_token_length,
        "limit_alphabet": limit_alphabet,
        "max_memory": memory,
        "text_field": text_field,
        "errors": errors,
    }
    paths = source_paths(source)
    found = find_files(paths)
    size = sum(file.stat().st_size for file in found.files)
    if chosen != "tokenizer.json":
        _check_targets(targets, chosen, options)
    begin = time.monotonic()
    tokenizers = _train(paths, size, options)
    seconds = time.monotonic() - begin
    for target, tokenizer in zip(targets, tokenizers, strict=True):
        tokenizer.save(target, format=chosen)  # type: ignore[arg-type]
    if json:
        rows = [
            {"path": str(target), "level": made.level, "vocab_size": made.vocab_size, "format": chosen}
            for target, made in zip(targets, tokenizers, strict=True)
        ]
        print_json({"tokenizers": rows, "bytes": size, "seconds": round(seconds, 3)})
        return
    _print_facts(targets, tokenizers, sizes, f"{found.describe()}, {in_bytes(size)}, in {duration(seconds)}")
    if chosen == "tokenizer.json":  # files that say everything about the tokenizer
        shown = " ".join(f"-t {target}" for target in targets)
        note(f"look at it: subgpt tokenizer show {shown} 'this is a bruh moment'")


def _targets(ctx: typer.Context, output: Path, sizes: Sequence[int] | None) -> list[Path]:
    """Say where each tokenizer goes; what cannot be written there is better known before the training."""
    from subgpt.tokenizer.saving import ENDINGS

    several = sizes is not None and len(sizes) > 1
    is_file = output.suffix.lower() in ENDINGS
    if several and is_file:
        raise WrongUsage(ctx, f"--output-dir: several sizes need a directory, and {output} names a file")
    if not is_file and output.exists() and not output.is_dir():
        raise OutputError(f"{output}: is a file; name a directory to save the tokenizer in")
    return [output / str(size) for size in sizes or ()] if several else [output]


def _check_targets(targets: Sequence[Path], format: str, options: dict[str, Any]) -> None:
    """Refuse before the training what could not be saved behind it, by a vocabulary that is trained on one letter."""
    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer.saving import check_target

    alike = {name: options[name] for name in ("level", "pattern", "special_tokens")}
    small = Tokenizer.train(iter(["a"]), vocab_size=256 + len(alike["special_tokens"]), **alike)
    for target in targets:
        check_target(small, target, format)  # type: ignore[arg-type]


def _train(source: Sequence[Path], size: int, options: dict[str, Any]) -> "list[Tokenizer]":
    """Train with a bar over files of `size` bytes; what the training warns of becomes a line of its own."""
    from subgpt.cli.meter import metering
    from subgpt.cli.terminal import warn
    from subgpt.tokenizer import Tokenizer

    with warnings.catch_warnings(record=True) as caught, metering() as show:
        warnings.simplefilter("always")

        def progress(done: int, total: int) -> None:
            if total:
                show("merging", done, total)
            else:  # the text of compressed files and of .jsonl has another size than the files
                show("reading", done, size if done <= size else None, in_bytes)

        tokenizers = cast("list[Tokenizer]", Tokenizer.train(list(source), progress=progress, **options))
    for warning in caught:
        warn(str(warning.message))
    return tokenizers


def _print_facts(
    targets: Sequence[Path], tokenizers: "Sequence[Tokenizer]", sizes: Sequence[int] | None, text: str
) -> None:
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import out

    first = tokenizers[0]
    facts = [
        ("level", f"subword, split by {first.pattern}" if first.level == "subword" else first.level),
        ("special tokens", ", ".join(f"{name} {id}" for name, id in tokenizers[-1].special_tokens.items())),
        ("text", text),
    ]
    out().print(facts_table(facts))
    for i, (target, tokenizer) in enumerate(zip(targets, tokenizers, strict=True)):
        fewer = sizes is not None and tokenizer.vocab_size < sizes[i]
        note = f" (asked for {sizes[i]}: the text supports no more)" if fewer and sizes else ""
        out().print(f"{tokenizer.vocab_size} tokens in {target}{note}")
