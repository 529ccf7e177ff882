"""`subgpt data prepare`: text of any size to token shards that training maps into memory."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.choices import one_of
from subgpt.cli.commands.tokenizer.arguments import TokenizerOption
from subgpt.cli.options import Json, OnInvalid, Ray, TextField, WrongUsage
from subgpt.errors import OutputError
from subgpt.places import expanded

if TYPE_CHECKING:
    from subgpt.data.prepare.prepare import Prepared

EXAMPLES = (
    "subgpt data prepare corpus/ -t tok/ -o data/corpus",
    "subgpt data prepare 'dump/*.jsonl.zst' --text-field content -t tok/ -o data/dump --near-duplicates 0.8",
    "zcat dump.gz | subgpt data prepare - --stdin-name dump.jsonl -t tok/ -o data/dump",
    "subgpt pretrain --data data/corpus:0.7 --data data/dump:0.3 --tokenizer tok/ -o runs/both",
)
STDIN = "-"


def command(
    ctx: typer.Context,
    source: Annotated[
        list[str],
        typer.Argument(
            metavar="SRC…",
            help="Files, directories or globs: text, code, JSON Lines, CSV, TSV, Parquet, saved datasets, .gz, .zst; "
            "- reads standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output-dir",
            "--out",
            "-o",
            metavar="DIR",
            help="Where the shards go. What was begun there is gone on with.",
            show_default=False,
        ),
    ],
    tokenizer: TokenizerOption,
    val_fraction: Annotated[float, typer.Option(help="Part of the documents held out.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0, help="Decides which.")] = 0,
    shard_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Ids in a shard, at most; documents are not cut.")
    ] = 100_000_000,
    near_duplicates: Annotated[
        float | None,
        typer.Option(
            metavar="SIMILARITY",
            help="Remove documents that are so like an earlier one; 0.8 is usual. Needs subgpt\\[dedup].",
            show_default=False,
        ),
    ] = None,
    keep_duplicates: Annotated[
        bool, typer.Option("--keep-duplicates", help="Leave exact duplicates where they are.")
    ] = False,
    text_field: TextField = "text",
    separator: Annotated[
        str, typer.Option(help="Splits text files into documents; empty: never.")
    ] = "<|endoftext|>",
    bad_rows: Annotated[
        str, one_of(("refuse", "skip"), help="Rows that are broken or have no text.")
    ] = "refuse",
    errors: OnInvalid = "strict",
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes that read and encode; as many as threads, or as the cluster has processors.",
            show_default=False,
        ),
    ] = None,
    ray: Ray = None,
    stdin_name: Annotated[
        str,
        typer.Option(metavar="NAME", help="What - would be called as a file: its ending tells what it is."),
    ] = "stdin.txt",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Discard what was prepared there.")] = False,
    json: Json = False,
) -> None:
    """Turn text into token shards, without what is there twice; pretrain takes the directory as its --data.

    Broken off, it goes on where it was when the same command is given again, to the same bytes.
    """
    from subgpt import _core, prepare_data
    from subgpt.cli.meter import in_full, metering
    from subgpt.cli.terminal import print_json
    from subgpt.tokenizer import Tokenizer
    from subgpt.units import in_bytes

    if STDIN in source and len(source) > 1:
        raise WrongUsage(ctx, "- stands for standard input and cannot be given beside files")
    opened = Tokenizer.load(tokenizer)
    begin = time.monotonic()
    with (
        _told_how_to_go_on(output),
        _sources(source, output, stdin_name, overwrite) as paths,
        metering() as show,
    ):

        def progress(what: str, done: int, total: int) -> None:
            show(what, done, total, in_bytes if what == "reading" else in_full)

        made = prepare_data(
            paths,
            output,
            opened,
            val_fraction=val_fraction,
            seed=seed,
            shard_tokens=shard_tokens,
            exact_duplicates=not keep_duplicates,
            near_duplicates=near_duplicates,
            text_field=text_field,
            errors=errors,  # type: ignore[arg-type]
            bad_rows=bad_rows,  # type: ignore[arg-type]
            separator=separator or None,
            processes=processes or (_core.get_num_threads() if ray is None else None),
            overwrite=overwrite,
            progress=progress,
            ray=ray,
        )
    if json:
        print_json(made.manifest)
    else:
        _print(made, time.monotonic() - begin)


@contextmanager
def _told_how_to_go_on(output: Path) -> Iterator[None]:
    from subgpt.cli.terminal import note

    try:
        yield
    except KeyboardInterrupt:
        if output.exists():
            note(f"{output} has what was prepared so far; the same command goes on with it")
        raise


@contextmanager
def _sources(names: Sequence[str], output: Path, stdin_name: str, overwrite: bool) -> Iterator[list[Path]]:
    """Give the paths that were named; standard input becomes a file beside the output, gone when all is prepared.

    It stays where the work is broken off, which then goes on with it and does not read standard input again.
    """
    from subgpt.cli.loading import source_paths
    from subgpt.cli.terminal import note

    if list(names) != [STDIN]:
        yield source_paths(names)
        return
    place = expanded(output).resolve()  # of "." and ".." the name is elsewhere
    folder = place.parent / f".{place.name}.stdin"
    kept = folder / Path(stdin_name).name
    if overwrite:
        shutil.rmtree(folder, ignore_errors=True)
    if not kept.exists():
        other = next((path for path in folder.glob("*") if not path.name.startswith(".")), None)
        if other is not None:
            raise OutputError(
                f"{other}: standard input was kept there by work that was broken off; go on with --stdin-name "
                f"{other.name}, or discard it with --overwrite"
            )
        _keep_stdin(kept)
    else:
        note(f"going on with what standard input gave before, in {kept}")
    yield [kept]
    shutil.rmtree(folder, ignore_errors=True)


def _keep_stdin(path: Path) -> None:
    """Write standard input to a file, whole or not at all, in a little memory."""
    import sys

    from subgpt.data.atomic import atomic_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        shutil.copyfileobj(sys.stdin.buffer, file, 1 << 20)


def _print(made: "Prepared", seconds: float) -> None:
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import note, out
    from subgpt.units import duration, in_bytes

    said: dict[str, Any] = made.manifest
    first, second, *more = made.describe()
    size = said["train"]["text_bytes"] + said["val"]["text_bytes"]
    shards = sum(len(said[side]["shards"]) for side in ("train", "val"))
    facts = [
        ("documents", first),
        ("tokens", second),
        ("text", f"{in_bytes(size)} in {duration(seconds)}"),
        ("shards", f"{shards} of {said['dtype']}"),
    ]
    facts += [("damaged", line) for line in more]
    facts += [("bad row", why) for why in said["bad"][:5]]
    out().print(facts_table(facts))
    note(f"train on it: subgpt pretrain --data {made.path} --tokenizer {made.path} -o runs/new")
