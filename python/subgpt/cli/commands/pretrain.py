"""`subgpt pretrain`: a model from nothing, on text."""

from pathlib import Path
from typing import Annotated, Any

import typer

from subgpt.cli.options import Config, Json, OutputDir, Resume, examples, new_app, source_option
from subgpt.cli.settings import settings_of, with_settings
from subgpt.cli.shape import MODEL_NAMES, SHAPE, Preset, model_config
from subgpt.cli.training import METHOD, TEAM, team_settings
from subgpt.model.dtype import AUTO
from subgpt.training.config import TrainConfig

app = new_app()


@app.command(
    epilog=examples(
        "subgpt pretrain --data corpus/ --tokenizer tok/ --preset nano -o runs/base",
        "subgpt pretrain --data a.txt --data b/ --tokenizer tok/ -o runs/b --max-steps 2000 --n-layer 6",
        "subgpt pretrain --data corpus/ --tokenizer tok/ --preset d6 --dtype bfloat16 -o runs/d6",
        "subgpt pretrain --data data/web:0.7 --data data/books:0.3 --tokenizer tok/ -o runs/mixed",
        "subgpt pretrain --config mine.yaml -o runs/c --learning-rate 5e-4",
        "subgpt pretrain -o runs/base --resume",
        "mpirun -n 4 subgpt pretrain --data data/web --tokenizer tok/ --preset d12 -o runs/d12",
    )
)
@with_settings(
    [
        *SHAPE,
        *settings_of(
            TrainConfig,
            "Training",
            leave_out=[
                "output_dir",
                "block_size",
                "chat_template",
                "loss_on",
                "replay_ratio",
                "recall_tokens",
                *METHOD,
                *TEAM,
                "recipe",
                "probe_match",
            ],
            defaults={"dtype": AUTO},
        ),
        *team_settings(),
    ]
)
def pretrain(
    output: OutputDir,
    data: Annotated[
        list[str] | None,
        source_option(
            "--data",
            "File, directory or glob of text; or what subgpt data prepare made, or nanoGPT's or llm.c's .bin "
            "files, by WEIGHT. May be repeated.",
            metavar="SRC[:WEIGHT]",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A trained tokenizer.", show_default=False)
    ] = None,
    preset: Preset = None,
    config: Config = None,
    resume: Resume = False,
    json: Json = False,
    **settings: Any,
) -> None:
    """Train a model from nothing on your own text, and save it as a run directory."""
    from subgpt.cli.progress import watching
    from subgpt.cli.training import TRAIN_NAMES, gather, keep, print_run
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.pretrain import pretrain as train

    flags = {"data": data, "tokenizer": tokenizer and str(tokenizer), "preset": preset, **settings}
    known = ("data", "tokenizer", "preset", *MODEL_NAMES)
    sections = ("train", "model", "inputs")
    inputs = gather(config, flags, output=output, resume=resume, known=known, sections=sections)
    words = Tokenizer.load(inputs.path("tokenizer", "give a directory made by: subgpt tokenizer train"))
    training = TrainConfig(**inputs.part(name for name in TRAIN_NAMES if name != "block_size"))
    inputs.need("data", "give a file, directory or glob of text")
    sources = inputs.sources("data")
    shape = model_config(inputs, {"vocab_size": words.vocab_size})
    model = GPT(shape, seed=training.seed, dtype=training.dtype or AUTO)
    with watching(keep(inputs.part(("data", "tokenizer")))) as callbacks:
        run = train(
            model,
            words,
            sources,
            training,
            output_dir=output,
            resume=resume,
            callbacks=callbacks,
        )
    raise typer.Exit(print_run(run, json=json))
