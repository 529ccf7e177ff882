"""`subgpt finetune`: a saved model learns a voice, a domain, or to answer."""

from typing import Annotated, Any

import typer

from subgpt.cli.options import Config, Json, OutputDir, Resume, RunDir, examples, new_app, source_option
from subgpt.cli.probing import Probes
from subgpt.cli.settings import Setting, with_settings
from subgpt.cli.training import tuning_settings
from subgpt.finetuning.finetune import DEFAULTS
from subgpt.finetuning.recipes import recipe_names
from subgpt.model.dtype import AUTO
from subgpt.training.config import TrainConfig

app = new_app()

RECIPE = Setting(
    "recipe",
    str,
    f"settings by intent, below all others: {', '.join(recipe_names())}",
    None,
    "Training",
    values=tuple(recipe_names()),
)


@app.command(
    epilog=examples(
        "subgpt finetune runs/base --data qa.jsonl -o runs/qa",
        "subgpt finetune runs/base --data facts.jsonl --recipe knowledge --probe facts.jsonl -o runs/facts",
        "subgpt finetune runs/base --data qa.jsonl --old-data corpus/ -o runs/qa --max-steps 500",
        "subgpt finetune runs/base --data qa.jsonl --replay corpus/ --replay-ratio 0.2 -o runs/qa",
        "subgpt finetune runs/base --data chats.jsonl --chat-template chatml --loss-on last -o runs/chat",
        "subgpt finetune runs/base --data qa.jsonl -o runs/qa --packing",
        "subgpt finetune runs/base --data qa.jsonl -o runs/qa --lora-r 8 --learning-rate 1e-3",
        "subgpt finetune runs/base --data qa.jsonl -o runs/qa --freeze embeddings,0-3",
        "subgpt finetune runs/base --data poems/ -o runs/poet --learning-rate 3e-4",
    )
)
@with_settings([RECIPE, *tuning_settings(DEFAULTS, leave_out=["recipe"])])
def finetune(
    base: RunDir,
    output: OutputDir,
    data: Annotated[
        list[str] | None,
        source_option(
            "--data",
            "Text, a directory of prepared data, or rows (.jsonl, .csv, .tsv, .json, .parquet) with question and "
            "answer, prompt and completion, or messages.",
        ),
    ] = None,
    eval_data: Annotated[
        list[str] | None,
        source_option("--eval-data", "Held-out data of the new kind."),
    ] = None,
    old_data: Annotated[
        list[str] | None,
        source_option("--old-data", "Earlier data, to see what is forgotten."),
    ] = None,
    replay: Annotated[
        list[str] | None,
        source_option(
            "--replay",
            "Old data to train on between the new (--replay-ratio of the batches), to forget less.",
        ),
    ] = None,
    probe: Probes = None,
    config: Config = None,
    resume: Resume = False,
    json: Json = False,
    **settings: Any,
) -> None:
    """Go on training a model on new text, or on questions and answers (the loss is on the answers only).

    `subgpt data inspect` shows what would be learnt. With --lora-r the run directory holds an adapter over the model,
    which all commands open with it; `subgpt merge` makes one model of both.
    """
    from subgpt.cli.loading import open_run
    from subgpt.cli.probing import named_files
    from subgpt.cli.progress import watching
    from subgpt.cli.training import TRAIN_NAMES, gather, keep, print_run
    from subgpt.finetuning.chat import prepare_chat
    from subgpt.finetuning.finetune import finetune as train

    sources = ("data", "eval_data", "old_data", "replay", "probe")
    flags = {
        "data": data,
        "eval_data": eval_data,
        "old_data": old_data,
        "replay": replay,
        "probe": probe,
        **settings,
    }
    inputs = gather(config, flags, output=output, resume=resume, known=sources)
    inputs.need("data", "give a text, or a .jsonl of questions and answers")
    named = {name: inputs.sources(name) for name in sources if name != "probe"}
    probes = named_files(inputs.values.get("probe"))
    training = TrainConfig(**inputs.part(TRAIN_NAMES))
    model, tokenizer = open_run(base, training.dtype or AUTO)
    tokenizer = prepare_chat(model, tokenizer, training.chat_template)
    with watching(keep({**inputs.part(sources), "probe": probes or None})) as callbacks:
        run = train(
            model,
            tokenizer,
            named["data"],
            training,
            old_source=named["old_data"] or None,
            eval_source=named["eval_data"] or None,
            replay_source=named["replay"] or None,
            probes=probes,
            output_dir=output,
            resume=resume,
            callbacks=callbacks,
        )
    raise typer.Exit(print_run(run, json=json))
