"""`subgpt tokenizer encode`: text to ids, on the screen or as shards of a whole file."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from subgpt.cli.commands.tokenizer.arguments import AllowSpecial, TokenizerOption, one_text
from subgpt.cli.options import Json, OnInvalid, WrongUsage
from subgpt.errors import OutputError
from subgpt.places import expanded

if TYPE_CHECKING:
    from subgpt.tokenizer import Tokenizer

EXAMPLES = (
    "subgpt tokenizer encode -t tok/ 'write me a'",
    "subgpt tokenizer encode -t tok/ - --json < poem.txt",
    "subgpt tokenizer encode -t tok/ --file corpus.txt -o shards/",
)


def command(
    ctx: typer.Context,
    tokenizer: TokenizerOption,
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]", help="The text; - reads standard input.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Encode what is in a file.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output-dir",
            "--out",
            "-o",
            metavar="DIR",
            help="With --file: write shards of ids there. The file may be larger than memory.",
            show_default=False,
        ),
    ] = None,
    shard_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Ids in a shard, at most.")
    ] = 100_000_000,
    allow_special: AllowSpecial = False,
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Print the ids of a text, separated by spaces, or write those of a file as shards."""
    from subgpt.cli.ids import ids_of
    from subgpt.cli.terminal import print_json
    from subgpt.tokenizer import Tokenizer

    if output is not None and (file is None or text):
        raise WrongUsage(ctx, "--output-dir writes the ids of a --file; give that and no TEXT")
    if output is not None and file is not None:
        written = _write(Tokenizer.load(tokenizer), file, output, shard_tokens, allow_special, errors)
        if json:
            print_json(written._asdict())
        else:
            _print_facts(written)
        return
    given = one_text(ctx, text or [], file, errors)
    ids = ids_of(Tokenizer.load(tokenizer), given, allow_special).tolist()
    if json:
        print_json({"ids": ids})
    else:
        print(*ids)


class _Written(NamedTuple):
    """What there is to say about shards that were written."""

    shards: list[str]
    tokens: int
    bytes: int
    seconds: float


def _write(
    tokenizer: "Tokenizer", file: Path, output: Path, shard_tokens: int, allow_special: bool, errors: str
) -> _Written:
    """Write the shards, all or none."""
    from subgpt.cli.meter import metering
    from subgpt.data import read_shard
    from subgpt.units import in_bytes

    begin, output = time.monotonic(), expanded(output)
    with _all_or_nothing(output) as folder, metering() as show:
        shards = tokenizer.encode_file(
            file,
            folder,
            shard_tokens=shard_tokens,
            allowed_special="all" if allow_special else (),
            disallowed_special=(),
            errors=errors,  # type: ignore[arg-type]
            progress=lambda done, total: show("encoding", done, total, in_bytes),
        )
    seconds = round(time.monotonic() - begin, 3)
    names = [output / shard.name for shard in shards]
    tokens = sum(len(read_shard(name)) for name in names)
    return _Written([str(name) for name in names], tokens, file.stat().st_size, seconds)


@contextmanager
def _all_or_nothing(output: Path) -> Iterator[Path]:
    """Give a directory that takes the place of `output` at the end, or goes if the work is given up."""
    from subgpt import _core

    if not output.name:
        raise OutputError(f"{output}: no directory can take its place; name a directory that is new or empty")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputError(f"{output}: has something in it already; name a directory that is new or empty")
    folder = output.with_name(f".{output.name}.unfinished-{os.getpid()}")
    folder.mkdir(parents=True)
    try:
        yield folder
        _core.publish_directory(str(folder), str(output))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _print_facts(written: _Written) -> None:
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import out
    from subgpt.units import duration, in_bytes

    first, last = written.shards[0], Path(written.shards[-1]).name
    rate = f", {written.bytes / written.tokens:.2f} bytes per token" if written.tokens else ""
    out().print(
        facts_table(
            [
                ("shards", first if len(written.shards) == 1 else f"{first} … {last}"),
                ("tokens", f"{written.tokens:,}{rate}"),
                ("text", f"{in_bytes(written.bytes)} in {duration(written.seconds)}"),
            ]
        )
    )
