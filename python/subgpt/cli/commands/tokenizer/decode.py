"""`subgpt tokenizer decode`: ids to text."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.commands.tokenizer.arguments import TokenizerOption
from subgpt.cli.options import Json, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from subgpt.tokenizer import Tokenizer

EXAMPLES = (
    "subgpt tokenizer decode -t tok/ 518 257 1049",
    "subgpt tokenizer encode -t tok/ - < poem.txt | subgpt tokenizer decode -t tok/ -",
    "subgpt tokenizer decode -t tok/ --file shards/00000.bin",
)


def command(
    ctx: typer.Context,
    tokenizer: TokenizerOption,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="IDS…", help="Ids; - reads them from standard input.", show_default=False),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Ids as text, or a shard of them (.bin).", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """Print the text of ids and nothing else, not even a line end of its own."""
    from subgpt.cli.ids import parse_ids
    from subgpt.cli.terminal import print_json
    from subgpt.tokenizer import Tokenizer

    if bool(ids) == (file is not None):
        raise WrongUsage(ctx, "give IDS (or - for standard input), or a --file of them")
    opened = Tokenizer.load(tokenizer)
    given = parse_ids(ids or []) if file is None else _ids_in(file, opened)
    text = opened.decode_bytes(given)
    if json:
        print_json({"text": text.decode("utf-8", "replace"), "bytes": text.hex()})
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def _ids_in(file: Path, tokenizer: "Tokenizer") -> "npt.NDArray[np.unsignedinteger[Any]] | Sequence[int]":
    """Read a shard, which has to be of this tokenizer, or ids that are written out."""
    from subgpt.cli.ids import parse_ids
    from subgpt.data import read_shard
    from subgpt.data.reading import read_text

    if file.suffix.lower() == ".bin":
        return read_shard(file, fingerprint=tokenizer.fingerprint)
    return parse_ids([read_text(file, "strict").text])
