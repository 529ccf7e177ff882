"""`subgpt evaluate`: how well a model predicts a text, and what it answers."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from subgpt.cli.choices import one_of
from subgpt.cli.options import (
    ChatTemplateOption,
    Json,
    OnInvalid,
    QuantizeOption,
    RunDir,
    TextField,
    examples,
    new_app,
    source_option,
)
from subgpt.cli.probing import Probes

app = new_app()


@app.command(
    epilog=examples(
        "subgpt evaluate runs/base --data held-out.txt",
        "subgpt evaluate runs/qa --data qa.jsonl --json",
        "subgpt evaluate runs/base --data data/corpus --side val",
        "subgpt evaluate runs/base --data held-out.txt --quantize int8",
        "subgpt evaluate runs/facts --probe seen=facts.jsonl --probe paraphrased=others.jsonl",
    )
)
def evaluate(
    run: RunDir,
    data: Annotated[
        list[str] | None,
        source_option("--data", "Text to measure on, or a directory of prepared data; may be repeated."),
    ] = None,
    probe: Probes = None,
    probe_match: Annotated[
        str,
        one_of(
            ("exact", "number", "tokens"),
            help="How answers are compared: as texts, by the number they come to, or token by token.",
        ),
    ] = "exact",
    side: Annotated[
        str,
        one_of(("val", "train"), help="Of prepared data: what is held out, or what is trained on."),
    ] = "val",
    batch_size: Annotated[int, typer.Option(help="Windows at a time.")] = 16,
    text_field: TextField = "text",
    chat_template: ChatTemplateOption = "auto",
    quantize: QuantizeOption = None,
    errors: OnInvalid = "strict",
    json: Json = False,
) -> None:
    """Measure loss, perplexity and bits per byte on a text, or on the answers of examples; ask questions."""
    from subgpt.cli.loading import open_run, source_paths
    from subgpt.cli.probing import as_json, named_files, print_answers
    from subgpt.cli.terminal import out, print_json
    from subgpt.data.chat import choose_template
    from subgpt.errors import ConfigError
    from subgpt.evaluation.evaluate import evaluate as measure
    from subgpt.evaluation.probes import probe as ask

    if not data and not probe:
        raise ConfigError("nothing to measure: give --data, a text or examples, or --probe, questions")
    questions = named_files(probe)
    model, tokenizer = open_run(run, quantize=quantize)
    how: dict[str, Any] = {
        "errors": errors,
        "chat_template": choose_template(chat_template, tokenizer, model.chat_template) or "plain",
    }
    seen = None
    if data:
        paths = source_paths(data)
        own = {"batch_size": batch_size, "text_field": text_field, "side": side}
        seen = measure(model, tokenizer, paths, **own, **how)  # type: ignore[arg-type]
    results = {
        name: ask(model, tokenizer, file, match=probe_match, **how)  # type: ignore[arg-type]
        for name, file in questions.items()
    }
    if json:
        values = {} if seen is None else asdict(seen)
        print_json({**values, "probes": as_json(results)} if results else values)
        return
    if seen is not None:
        out().print(str(seen))
    print_answers(results)
