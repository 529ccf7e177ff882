"""`subgpt data inspect`: what of some examples is trained and what is masked; or what is in running text."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from subgpt.cli.options import ChatTemplateOption, Json, LossOnOption, OnInvalid, TextField, source_option

if TYPE_CHECKING:
    from subgpt.checkpoint.load import Outline
    from subgpt.data.inspection import Inspection
    from subgpt.data.survey import Survey
    from subgpt.report.examples import ExampleView
    from subgpt.tokenizer import Tokenizer

EXAMPLES = (
    "subgpt data inspect --data qa.jsonl --model runs/base",
    "subgpt data inspect --data chats.parquet --model runs/base --chat-template chatml -n 5",
    "subgpt data inspect --data corpus/ --tokenizer tok/",
    "subgpt data inspect --data qa.csv --tokenizer tok/ --block-size 256 --html qa.html",
)
_TRAINED, _MASKED = "black on color(158)", "dim"


def command(
    data: Annotated[
        list[str],
        source_option("--data", "Files with examples, or running text; may be repeated."),
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
    text_field: TextField = "text",
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Show what of some examples would be trained, and what only read; of running text what is in it and what to mend.

    What is trained stands on a ground of colour, or in «» where there are no colours; what is masked is dim.
    """
    from subgpt import _core
    from subgpt.checkpoint.load import outline
    from subgpt.cli.loading import source_paths
    from subgpt.cli.terminal import out, print_json, warn
    from subgpt.data.chat import CHATML, choose_template, missing_special_tokens
    from subgpt.data.inspection import inspect_examples
    from subgpt.data.survey import is_running_text, survey_text
    from subgpt.report.examples import render_examples, view_examples
    from subgpt.tokenizer import add_special_tokens

    paths, known = source_paths(data), None if model is None else outline(model)
    if is_running_text(paths, text_field=text_field):
        _refuse_for_text(", ".join(data), html, errors)
        words = None if tokenizer is None and model is None else _open(tokenizer, model, known)
        survey = survey_text(paths, words, text_field=text_field)
        if json:
            print_json(_survey_json(survey))
        else:
            _print_survey(survey)
        return
    opened = _open(tokenizer, model, known)
    own = None
    if known is not None:
        block_size, own = block_size or known.config.block_size, known.chat_template
    template = choose_template(chat_template, opened, own)
    added = missing_special_tokens(CHATML, opened) if template == CHATML else []
    if added:
        warn(f"the tokenizer has no special tokens {', '.join(added)}; shown as if they had been added to it")
        opened = add_special_tokens(opened, added)
    seen = inspect_examples(
        paths,
        opened,
        template=template,
        loss_on=loss_on,  # type: ignore[arg-type]
        block_size=block_size,
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


def _refuse_for_text(data: str, html: Path | None, errors: str) -> None:
    """Raise ConfigError for options of examples that would change nothing about running text."""
    from subgpt.errors import ConfigError

    if html is not None:
        raise ConfigError(f"--html shows examples, and {data} is running text; leave it out")
    if errors != "strict":
        raise ConfigError(
            f"--errors {errors}: what is no UTF-8 in running text, such as {data}, is counted; leave it out"
        )


def _open(tokenizer: Path | None, model: Path | None, known: "Outline | None") -> "Tokenizer":
    """Open the tokenizer that was named, else take that of the model."""
    from subgpt.errors import ConfigError, MissingFileError
    from subgpt.tokenizer import Tokenizer

    if tokenizer is not None:
        return Tokenizer.load(tokenizer)
    if known is None:
        raise ConfigError("--model is missing: give the model that would learn, or a --tokenizer")
    if known.tokenizer is None:
        raise MissingFileError(f"{model}: has no tokenizer; name one with --tokenizer")
    return known.tokenizer


def _print(seen: "Inspection", views: "list[ExampleView]") -> None:
    from rich.text import Text

    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import harmless, out
    from subgpt.report.examples import facts
    from subgpt.visible import show_lines

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


def _survey_json(survey: "Survey") -> dict[str, Any]:
    from dataclasses import fields

    return {**{one.name: getattr(survey, one.name) for one in fields(survey)}, "to_fix": survey.to_fix()}


def _print_survey(survey: "Survey") -> None:
    from subgpt.cli.tables import facts_table
    from subgpt.cli.terminal import out
    from subgpt.data.survey import shares
    from subgpt.units import in_bytes

    mean = survey.text_bytes / survey.documents
    facts = [
        ("files", f"{survey.files}, {in_bytes(survey.file_bytes)}"),
        (
            "encodings",
            ", ".join(f"{name} {count:,}" for name, count in survey.encodings.most_common()) or "binary",
        ),
        (
            "documents",
            f"{survey.documents:,}, {in_bytes(mean)} on average; {survey.empty:,} empty ones passed over",
        ),
        ("text", in_bytes(survey.text_bytes)),
        ("of which", ", ".join(f"{name} {100 * share:.3g} %" for name, share in shares(survey.scripts))),
    ]
    if survey.tokens is not None:
        rate = survey.text_bytes / max(1, survey.tokens)
        facts.append(("tokens", f"{survey.tokens:,}, {rate:.2f} bytes per token"))
    facts += [("longest", f"{in_bytes(size)}  {place}") for size, place in survey.longest]
    facts += [("twice", f"{place} is {before}") for place, before in survey.twins]
    facts += [("bad row", why) for why in survey.bad]
    facts += [("no text", why) for why in survey.damage]
    facts += [("to mend", line) for line in survey.to_fix() or ["nothing was found"]]
    out().print(facts_table(facts))


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
