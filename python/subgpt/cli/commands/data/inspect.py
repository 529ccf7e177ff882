"""`subgpt data inspect`: what of some examples is trained and what is masked, counted and shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.options import ChatTemplateOption, Json, LossOnOption, OnInvalid

if TYPE_CHECKING:
    from subgpt.data.inspection import Inspection
    from subgpt.report.examples import ExampleView
    from subgpt.tokenizer import Tokenizer

EXAMPLES = (
    "subgpt data inspect --data qa.jsonl --model runs/base",
    "subgpt data inspect --data chats.parquet --model runs/base --chat-template chatml -n 5",
    "subgpt data inspect --data qa.csv --tokenizer tok/ --block-size 256 --html qa.html",
)
_TRAINED, _MASKED = "black on color(158)", "dim"


def command(
    data: Annotated[
        list[str],
        typer.Option(
            "--data", metavar="SRC", help="Files with examples; may be repeated.", show_default=False
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            "--model",
            metavar="RUN",
            help="The model that would learn: a run directory, or any saved model.",
            show_default=False,
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            "-t",
            metavar="PATH",
            help="A tokenizer in place of the model's.",
            show_default=False,
        ),
    ] = None,
    block_size: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens that fit, to see what is cut; the model's if not given.", show_default=False
        ),
    ] = None,
    chat_template: ChatTemplateOption = "auto",
    loss_on: LossOnOption = "answers",
    number: Annotated[int, typer.Option("-n", min=0, help="How many examples to show.")] = 3,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page that needs no other file, too.", show_default=False),
    ] = None,
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Show what of some examples would be trained, and what only read.

    What is trained stands on a ground of colour, or in «» where there are no colours; what is masked is dim.
    """
    from subgpt import _core
    from subgpt.cli.loading import source_paths
    from subgpt.cli.terminal import out, print_json, warn
    from subgpt.data.chat import CHATML, ChatTemplate, choose_template, missing_special_tokens
    from subgpt.data.inspection import inspect_examples
    from subgpt.report.examples import render_examples, view_examples
    from subgpt.tokenizer import add_special_tokens

    opened, room = _open(model, tokenizer, block_size)
    template = choose_template(chat_template, opened, None if model is None else ChatTemplate.find(model))
    added = missing_special_tokens(CHATML, opened) if template == CHATML else []
    if added:
        warn(f"the tokenizer has no special tokens {', '.join(added)}; shown as if they had been added to it")
        opened = add_special_tokens(opened, added)
    seen = inspect_examples(
        source_paths(data),
        opened,
        template=template,
        loss_on=loss_on,  # type: ignore[arg-type]
        block_size=room,
        errors=errors,  # type: ignore[arg-type]
    )
    views = view_examples(seen.examples[:number], opened)
    if html is not None:
        _core.write_atomic(str(html), render_examples(seen, views).encode())
    if json:
        print_json(_as_json(seen, views, added))
        return
    _print(seen, views)
    if html is not None:
        out().print(f"{html}: open it in a browser")


def _open(
    model: Path | None, tokenizer: Path | None, block_size: int | None
) -> "tuple[Tokenizer, int | None]":
    """Open the tokenizer, and find how many tokens fit; the weights are not needed."""
    from subgpt.checkpoint.load import read_json
    from subgpt.errors import ConfigError
    from subgpt.model.config import GPTConfig
    from subgpt.tokenizer import Tokenizer

    place = tokenizer or model
    if place is None:
        raise ConfigError("--model is missing: give the model that would learn, or a --tokenizer")
    opened = Tokenizer.load(place)
    if model is not None and block_size is None:
        config = model / "config.json"
        block_size = GPTConfig.from_hf(read_json(config), str(config)).block_size
    return opened, block_size


def _print(seen: "Inspection", views: "list[ExampleView]") -> None:
    from rich.text import Text

    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import harmless, out
    from subgpt.report.examples import facts
    from subgpt.report.visible import show_lines

    out().print(facts_table(facts(seen)))
    for view in views:
        out().print()
        out().print(Text(f"{harmless(view.where)}  {view.summary}", style="bold"))
        line = Text()
        for part in view.parts:
            text = show_lines(part.text)
            if part.trained and not out().color_system:
                text = f"«{text}»"
            line.append(text, style=_TRAINED if part.trained else _MASKED)
        line.rstrip()
        out().print(line)


def _as_json(seen: "Inspection", views: "list[ExampleView]", added: list[str]) -> dict[str, Any]:
    return {
        "format": seen.kind.why,
        "form": seen.form,
        "examples": len(seen.examples),
        "verbatim": seen.verbatim,
        "trained_tokens": seen.trained,
        "masked_tokens": seen.masked,
        "longest": seen.longest,
        "block_size": seen.block_size,
        "cut_prompts": seen.cut_prompts,
        "cut_answers": seen.cut_answers,
        "added_special_tokens": added,
        "shown": [
            {
                "where": view.where,
                "parts": [
                    {"text": part.text, "tokens": part.tokens, "trained": part.trained} for part in view.parts
                ],
            }
            for view in views
        ],
    }
