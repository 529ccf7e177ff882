"""`subgpt dpo`: a saved model learns which of two answers people like better."""

from typing import Annotated, Any

import typer

from subgpt.cli.options import Config, Json, OutputDir, Resume, RunDir, examples, new_app, source_option
from subgpt.cli.origins import in_variable
from subgpt.cli.settings import default_note, with_settings
from subgpt.cli.training import tuning_settings
from subgpt.model.dtype import AUTO
from subgpt.preference.dpo import BETA, DEFAULTS, LABEL_SMOOTHING
from subgpt.training.config import TrainConfig

_KNOWN = ("data", "beta", "label_smoothing")

app = new_app()


@app.command(
    epilog=examples(
        "subgpt dpo runs/qa --data preferences.jsonl -o runs/liked",
        "subgpt dpo runs/qa --data preferences.jsonl -o runs/liked --beta 0.3 --max-steps 500",
        "subgpt dpo runs/qa --data preferences.jsonl -o runs/liked --lora-r 8",
    )
)
@with_settings(
    tuning_settings(
        DEFAULTS,
        leave_out=[
            "loss_on",
            "packing",
            "replay_ratio",
            "recall_tokens",
            "text_field",
            "recipe",
            "probe_match",
        ],
    )
)
def dpo(
    base: RunDir,
    output: OutputDir,
    data: Annotated[
        list[str] | None,
        source_option(
            "--data",
            "Rows with prompt, chosen and rejected, or with whole conversations as chosen and rejected.",
        ),
    ] = None,
    beta: Annotated[
        float | None,
        typer.Option(
            help="How far the model may leave what it was: smaller is farther." + default_note(BETA),
            show_default=False,
            **in_variable("beta"),
        ),
    ] = None,
    label_smoothing: Annotated[
        float | None,
        typer.Option(
            help="Share of preferences that may be wrong, below 0.5." + default_note(LABEL_SMOOTHING),
            show_default=False,
            **in_variable("label_smoothing"),
        ),
    ] = None,
    config: Config = None,
    resume: Resume = False,
    json: Json = False,
    **settings: Any,
) -> None:
    """Train a model on preferences (direct preference optimization)."""
    from subgpt.cli.loading import open_run
    from subgpt.cli.progress import watching
    from subgpt.cli.training import TRAIN_NAMES, gather, keep, print_run
    from subgpt.finetuning.chat import prepare_chat
    from subgpt.preference.dpo import dpo as train

    flags = {"data": data, "beta": beta, "label_smoothing": label_smoothing, **settings}
    inputs = gather(config, flags, output=output, resume=resume, known=_KNOWN)
    inputs.need("data", "give rows with prompt, chosen and rejected")
    sources = inputs.sources("data")
    training = TrainConfig(**inputs.part(TRAIN_NAMES))
    beta = inputs.number("beta", BETA)
    label_smoothing = inputs.number("label_smoothing", LABEL_SMOOTHING)
    model, tokenizer = open_run(base, training.dtype or AUTO)
    tokenizer = prepare_chat(model, tokenizer, training.chat_template)
    kept = {"data": inputs.values["data"], "beta": beta, "label_smoothing": label_smoothing}
    with watching(keep(kept)) as callbacks:
        run = train(
            model,
            tokenizer,
            sources,
            training,
            beta=beta,
            label_smoothing=label_smoothing,
            output_dir=output,
            resume=resume,
            callbacks=callbacks,
        )
    raise typer.Exit(print_run(run, json=json))
