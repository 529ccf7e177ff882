"""`subgpt tokenizer stats`: how far tokenizers compress a text, and what their vocabularies are made of."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.commands.tokenizer.arguments import TokenizerOptions, load_all, short_names
from subgpt.cli.options import Json, OnInvalid, TextField

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.table import Table

    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer.statistics import Entry, Part, Statistics

EXAMPLES = (
    "subgpt tokenizer stats -t tok/ corpus/",
    "subgpt tokenizer stats -t toks/4096 -t toks/8192 -t toks/32768 held.txt --plot sizes.png",
)
_WIDEST = 30


def command(
    tokenizer: TokenizerOptions,
    source: Annotated[
        list[str],
        typer.Argument(metavar="FILE…", help="Files, directories or globs of text.", show_default=False),
    ],
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Draw compression against vocabulary size, as .png, .svg or .pdf; needs the plot extra.",
            show_default=False,
        ),
    ] = None,
    most: Annotated[int, typer.Option(min=0, help="How many tokens and parts of words to list.")] = 10,
    text_field: TextField = "text",
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Measure tokenizers on a text: compression, unused entries, the longest ones, and parts of words."""
    from subgpt.cli.loading import source_paths
    from subgpt.cli.meter import metering
    from subgpt.cli.terminal import note, out, print_json
    from subgpt.tokenizer.statistics import statistics
    from subgpt.units import in_bytes

    if plot is not None:
        from subgpt.report.compression import WHAT
        from subgpt.training.plot import check_picture

        check_picture(plot, WHAT)  # before the work, not after it
    paths = source_paths(source)
    measured = []
    with metering() as show:
        for name, (_, opened) in zip(short_names(tokenizer), load_all(tokenizer), strict=True):
            seen = statistics(
                opened,
                paths,
                text_field=text_field,
                errors=errors,  # type: ignore[arg-type]
                most=most,
                progress=lambda done, _, name=name: show(name, done, None, in_bytes),  # type: ignore[misc]
            )
            measured.append((name, opened, seen))
    if json:
        print_json({"tokenizers": [_as_json(name, opened, seen) for name, opened, seen in measured]})
    else:
        out().print(_table(measured))
        for name, _, seen in measured:
            _print_vocabulary(name if len(measured) > 1 else "", seen)
    if plot is not None:
        _draw(measured, plot)
        if not json:
            note(f"{plot}: compression against vocabulary size")


def _table(measured: "Sequence[tuple[str, Tokenizer, Statistics]]") -> "Table":
    """Lay the figures out, a column for each tokenizer."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    for name, _, _ in measured:
        table.add_column(Text(name), justify="right")
    columns = [_figures(opened, seen) for _, opened, seen in measured]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def _figures(tokenizer: "Tokenizer", seen: "Statistics") -> dict[str, str]:
    """Write the figures for people."""
    if not seen.tokens:
        return {"tokens": "0"}
    return {
        "level": tokenizer.level,
        "vocabulary": f"{seen.vocab_size:,}",
        "bytes": f"{seen.bytes:,}",
        "tokens": f"{seen.tokens:,}",
        "bytes per token": f"{seen.bytes_per_token:.3f}",
        "characters per token": f"{seen.characters_per_token:.3f}",
        "single-byte tokens": f"{seen.single_byte_share:.1%}",
        "unknown": f"{seen.unknown:,} ({seen.unknown / seen.tokens:.2%})",
        "never used": f"{len(seen.dead):,} ({len(seen.dead) / seen.vocab_size:.1%})",
    }


def _print_vocabulary(name: str, seen: "Statistics") -> None:
    """Print what the vocabulary found."""
    from rich.text import Text

    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import harmless, out

    rows = [
        ("longest", "  ".join(_entry(entry) for entry in seen.longest)),
        ("prefixes", _parts(seen.prefixes, "{}-")),
        ("suffixes", _parts(seen.suffixes, "-{}")),
        ("roots", "\n".join(f"{part.text}: {', '.join(part.examples)}" for part in seen.roots)),
    ]
    found = [(what, text) for what, text in rows if text]
    if found:
        out().print()
        if name:
            out().print(Text(harmless(name), style="bold"))
        out().print(facts_table(found))


def _entry(entry: "Entry") -> str:
    from subgpt.visible import show_bytes

    shown = show_bytes(entry.bytes)
    return shown if len(shown) <= _WIDEST else f"{shown[:_WIDEST]}… ({len(entry.bytes)} bytes)"


def _parts(parts: "Iterable[Part]", form: str) -> str:
    return "\n".join(f"{form.format(part.text)} {part.words} ({', '.join(part.examples)})" for part in parts)


def _as_json(name: str, tokenizer: "Tokenizer", seen: "Statistics") -> dict[str, Any]:
    """Give everything; numbers that need tokens are null without them."""
    rates = ("bytes_per_token", "characters_per_token", "single_byte_share")
    return {
        "tokenizer": name,
        "level": tokenizer.level,
        "vocab_size": seen.vocab_size,
        "tokens": seen.tokens,
        "bytes": seen.bytes,
        "characters": seen.characters,
        **{rate: getattr(seen, rate) for rate in rates},
        "unknown": seen.unknown,
        "dead": seen.dead.tolist(),
        "longest": [{"id": e.id, "bytes": e.bytes.hex(), "uses": e.uses} for e in seen.longest],
        **{
            what: [{"text": p.text, "words": p.words, "examples": p.examples} for p in getattr(seen, what)]
            for what in ("prefixes", "suffixes", "roots")
        },
    }


def _draw(measured: "Sequence[tuple[str, Tokenizer, Statistics]]", path: Path) -> None:
    from subgpt.report.compression import Compression, save_compression_plot

    save_compression_plot(
        [
            Compression(name, opened.level, seen.vocab_size, seen.bytes_per_token)
            for name, opened, seen in measured
        ],
        path,
    )
