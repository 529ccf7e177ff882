"""`subgpt pretrain`: a model from nothing, on text."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from subgpt.cli.options import Config, OutputDir, Resume, examples, new_app
from subgpt.cli.settings import Setting, default_note, settings_of, with_settings
from subgpt.model.config import GPTConfig
from subgpt.training.config import TrainConfig

app = new_app()

_PANEL = "Model (over the preset)"
_SHAPE = [
    Setting("n_layer", int, "blocks", None, _PANEL),
    Setting("n_head", int, "attention heads in each block", None, _PANEL),
    Setting("n_embd", int, "width; a multiple of n_head", None, _PANEL),
    Setting("block_size", int, "longest text seen at once, in tokens", None, _PANEL),
    Setting("n_inner", int, "width inside the MLP; 4 n_embd if not given", None, _PANEL),
    Setting("dropout", float, "share of values dropped in training", 0.0, _PANEL),
    Setting("activation", str, "gelu (exact) or gelu_new (GPT-2's)", None, _PANEL),
    Setting("bias", bool, "biases in linear layers and norms", True, _PANEL),
    Setting("tie_embeddings", bool, "the output layer is the token embedding", True, _PANEL),
]
_MODEL_NAMES = tuple(field.name for field in fields(GPTConfig))


@app.command(
    epilog=examples(
        "subgpt pretrain --data corpus/ --tokenizer tok/ --preset nano -o runs/base",
        "subgpt pretrain --data a.txt --data b/ --tokenizer tok/ -o runs/b --max-steps 2000 --n-layer 6",
        "subgpt pretrain --config mine.yaml -o runs/c --learning-rate 5e-4",
        "subgpt pretrain -o runs/base --resume",
    )
)
@with_settings([*_SHAPE, *settings_of(TrainConfig, "Training", leave_out=["output_dir", "block_size"])])
def pretrain(
    output: OutputDir,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data", metavar="SRC", help="File, directory or glob; may be repeated.", show_default=False
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A trained tokenizer.", show_default=False)
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Size of the model: nano, micro, mini, small … gpt2." + default_note("nano")),
    ] = None,
    config: Config = None,
    resume: Resume = False,
    **settings: Any,
) -> None:
    """Train a model from nothing on your own text, and save it as a run directory."""
    from subgpt.cli.progress import watching
    from subgpt.cli.training import TRAIN_NAMES, carry_out, gather, keep
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.pretrain import pretrain as train

    flags = {"data": data, "tokenizer": tokenizer and str(tokenizer), "preset": preset, **settings}
    known = ("data", "tokenizer", "preset", *_MODEL_NAMES)
    sections = ("train", "model", "inputs")
    inputs = gather(config, flags, output=output, resume=resume, known=known, sections=sections)
    words = Tokenizer.load(inputs.need("tokenizer", "give a directory made by: subgpt tokenizer train"))
    shape = {"vocab_size": words.vocab_size, **inputs.part(_MODEL_NAMES)}
    training = TrainConfig(**inputs.part(name for name in TRAIN_NAMES if name != "block_size"))
    inputs.need("data", "give a file, directory or glob of text")
    model = GPT(GPTConfig.preset(inputs.values.get("preset", "nano"), **shape), seed=training.seed)
    with watching(keep(inputs.part(("data", "tokenizer")))) as callbacks:
        run = train(
            model,
            words,
            inputs.sources("data"),
            training,
            output_dir=output,
            resume=resume,
            callbacks=callbacks,
        )
    raise typer.Exit(carry_out(run))
