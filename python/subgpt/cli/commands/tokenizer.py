"""`subgpt tokenizer`: train one, turn text into ids and back, look at the pieces."""

import sys
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from subgpt.cli.options import Json, OnInvalid, TextField, TokenizerDir, examples, new_app
from subgpt.cli.settings import default_note

app = new_app(help="Train a tokenizer and look at what it does.")

END_OF_TEXT = "<|endoftext|>"

Text = Annotated[
    str, typer.Argument(metavar="TEXT", help="The text; - reads standard input.", show_default=False)
]
AllowSpecial = Annotated[
    bool, typer.Option("--allow-special", help="Read special tokens in the text as such, not as plain text.")
]


@app.callback(invoke_without_command=True)
def show_help(ctx: typer.Context) -> None:
    """Train a tokenizer and look at what it does."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


@app.command(
    epilog=examples(
        "subgpt tokenizer train corpus/ --vocab-size 8192 -o tok/",
        "subgpt tokenizer train poems.txt --level char -o tok-char/",
        "subgpt tokenizer train 'src/**/*.py' --pattern gpt2 --special-token '<|user|>' -o tok-code/",
    )
)
def train(
    source: Annotated[
        list[str],
        typer.Argument(metavar="SRC…", help="Files, directories or globs of text.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Where to save it.", show_default=False)
    ],
    level: Annotated[
        str, typer.Option(metavar="char|word|subword", help="What a token is; subword fits any text.")
    ] = "subword",
    vocab_size: Annotated[
        int | None,
        typer.Option(
            help="Number of tokens, the special ones included; for char as many as there are."
            + default_note(8192),
            show_default=False,
        ),
    ] = None,
    pattern: Annotated[
        str, typer.Option(metavar="gpt2|gpt4|o200k", help="How text is cut before subwords are learned.")
    ] = "gpt4",
    special_token: Annotated[
        list[str] | None,
        typer.Option(help="One more token that plain text never gives; may be repeated.", show_default=False),
    ] = None,
    min_frequency: Annotated[int, typer.Option(help="Leave out what is seen less often.")] = 1,
    text_field: TextField = "text",
    errors: OnInvalid = "strict",
) -> None:
    """Train a tokenizer on text and save it as a Hugging Face tokenizer.json."""
    from subgpt.cli.loading import source_paths
    from subgpt.cli.progress import counting
    from subgpt.cli.terminal import out
    from subgpt.data.documents import read_documents
    from subgpt.tokenizer import Tokenizer

    documents = read_documents(source_paths(source), text_field=text_field, errors=errors)  # type: ignore[arg-type]
    with counting() as progress:
        tokenizer = Tokenizer.train(
            (document.text for document in documents),
            level=cast(Literal["char", "word", "subword"], level),
            vocab_size=vocab_size,
            pattern=pattern,
            special_tokens=(END_OF_TEXT, *(special_token or ())),
            min_frequency=min_frequency,
            progress=progress,
        )
    tokenizer.save(output)
    fewer = vocab_size is not None and tokenizer.vocab_size < vocab_size
    out().print(
        f"{tokenizer.vocab_size} tokens in {output}"
        + (f" (asked for {vocab_size}: the text supports no more)" if fewer else "")
    )
    out().print(f"look at it: subgpt tokenizer show {output} 'this is a bruh moment'")


@app.command(
    epilog=examples(
        "subgpt tokenizer encode tok/ 'write me a'",
        "subgpt tokenizer encode tok/ - --json < poem.txt",
    )
)
def encode(
    directory: TokenizerDir, text: Text, allow_special: AllowSpecial = False, json: Json = False
) -> None:
    """Print the ids of a text, separated by spaces."""
    from subgpt.cli.ids import ids_of
    from subgpt.cli.terminal import print_json, read_argument
    from subgpt.tokenizer import Tokenizer

    ids = ids_of(Tokenizer.load(directory), read_argument(text), allow_special).tolist()
    if json:
        print_json({"ids": ids})
    else:
        print(*ids)


@app.command(
    epilog=examples(
        "subgpt tokenizer decode tok/ 518 257 1049",
        "subgpt tokenizer encode tok/ - < poem.txt | subgpt tokenizer decode tok/ -",
    )
)
def decode(
    directory: TokenizerDir,
    ids: Annotated[
        list[str],
        typer.Argument(metavar="IDS…", help="Ids; - reads them from standard input.", show_default=False),
    ],
) -> None:
    """Print the text of ids and nothing else, not even a line end of its own."""
    from subgpt.cli.ids import parse_ids
    from subgpt.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(directory)
    sys.stdout.flush()
    sys.stdout.buffer.write(tokenizer.decode_bytes(parse_ids(ids)))
    sys.stdout.buffer.flush()


@app.command(epilog=examples("subgpt tokenizer show tok/ 'this is a bruh moment'"))
def show(directory: TokenizerDir, text: Text, allow_special: AllowSpecial = False) -> None:
    """Show the pieces of a text in colour, their ids beneath."""
    from subgpt.cli.ids import ids_of
    from subgpt.cli.pieces import coloured_rows, count_line, spell
    from subgpt.cli.terminal import out, read_argument
    from subgpt.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(directory)
    given = read_argument(text)
    ids = ids_of(tokenizer, given, allow_special).tolist()
    for row in coloured_rows([spell(tokenizer, token) for token in ids], ids, out().width):
        out().print(row)
    out().print(count_line(len(ids), given))


@app.command(
    epilog=examples(
        "subgpt tokenizer convert tok/ -o ranks.tiktoken",
        "subgpt tokenizer convert tok/ -o vocabulary/ --format vocab-merges",
        "subgpt tokenizer convert o200k_base.tiktoken -o tok/",
        "subgpt tokenizer convert tok/ -o tokenizer.gguf",
    )
)
def convert(
    directory: TokenizerDir,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="PATH", help="File or directory to write.", show_default=False
        ),
    ],
    format: Annotated[
        str | None,
        typer.Option(
            metavar="tokenizer.json|tiktoken|vocab-merges|gguf",
            help="The format; by default the ending of PATH says, and tokenizer.json for a directory.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a tokenizer in another format, read it back, and make sure that it gives the same ids."""
    from subgpt.cli.terminal import out
    from subgpt.tokenizer import Tokenizer
    from subgpt.tokenizer import convert as write

    chosen = cast('Literal["tokenizer.json", "tiktoken", "vocab-merges", "gguf"] | None', format)
    written = write(Tokenizer.load(directory), output, format=chosen)
    out().print(f"{written}: read back, the same ids")
