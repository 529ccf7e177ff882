"""A run directory is a Hugging Face model directory with a folder `training/` beside the model.

    config.json  model.safetensors  generation_config.json  tokenizer.json  tokenizer_config.json
    chat_template.jinja   where the model has one
    (adapter_config.json  adapter_model.safetensors  instead of the first two where an adapter was trained)
    training/    config.yaml  metrics.jsonl  samples.jsonl  loss.png  report.html  lock
                 before.json  probes.json  recalled.json  reference.json   of fine-tuning and of preferences
                 metrics.csv  tensorboard/  wandb/  wandb-id   where `report_to` asks for them
                 checkpoints/step-000500/   model.safetensors  optimizer.safetensors  state.json  config.json
                 checkpoints/best-000400/   the same without optimizer.safetensors

Every file is written under another name, synced and renamed, so that a reader sees the old or the new one,
never half.
"""

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subgpt import _core
from subgpt.adapters.attach import refuse_adapters
from subgpt.data.atomic import sync_directory
from subgpt.errors import OutputError, SubgptError
from subgpt.model.quantized import refuse_quantized
from subgpt.places import TOKENIZERS, expanded

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

INDEX = "model.safetensors.index.json"
"""The list of a model's shards."""


class RunDirectory:
    """The names inside a run directory. Making one touches nothing."""

    def __init__(self, path: str | Path) -> None:
        self.path = expanded(path)
        self.config = self.path / "config.json"
        self.weights = self.path / "model.safetensors"
        self.adapter_config = self.path / "adapter_config.json"
        self.adapter = self.path / "adapter_model.safetensors"
        self.training = self.path / "training"
        self.settings = self.training / "config.yaml"
        self.metrics = self.training / "metrics.jsonl"
        self.table = self.training / "metrics.csv"
        self.tensorboard = self.training / "tensorboard"
        self.wandb_id = self.training / "wandb-id"
        self.samples = self.training / "samples.jsonl"
        self.plot = self.training / "loss.png"
        self.before = self.training / "before.json"
        self.reference = self.training / "reference.json"
        self.recalled = self.training / "recalled.json"
        self.probes = self.training / "probes.json"
        self.report = self.training / "report.html"
        self.lock = self.training / "lock"
        self.checkpoints = self.training / "checkpoints"

    def create(self) -> None:
        """Make the folders; OutputError if that cannot be."""
        with naming(self.checkpoints):
            self.checkpoints.mkdir(parents=True, exist_ok=True)

    def holds_model(self) -> bool:
        """Tell whether there is a model, in one file or in shards, or an adapter."""
        return any(path.exists() for path in (self.config, self.weights, self.adapter))

    def remove_model(self, *, adapter: bool) -> None:
        """Remove the model, and the `adapter` as well: what is left of one would be opened in place of the next."""
        names = [self.config, self.path / "generation_config.json", self.weights, self.path / INDEX]
        names += sorted(self.path.glob("model-*-of-*.safetensors"))
        for name in names:
            name.unlink(missing_ok=True)
        if adapter:
            self.remove_adapter()

    def remove_adapter(self) -> None:
        """Remove the adapter, which other programs would put over a model that lies beside it."""
        for name in (self.adapter_config, self.adapter):
            name.unlink(missing_ok=True)


def save_model(
    model: "GPT", path: str | Path, tokenizer: "Tokenizer | None" = None, *, replace_adapter: bool = False
) -> None:
    """Write model and tokenizer as a Hugging Face directory.

    Everything is written beside the old files first and renamed only when all of it is on the disk: a model
    of another shape must not be left with half of its files. A chat template that is there goes if the model has none;
    a tokenizer that is there stays if none is given, and `load` opens it with the model. Raises OutputError if the
    directory cannot be written, and for one with an adapter, unless this is to be replaced; files already there stay as
    they were.
    """
    from subgpt.data.chat.files import TEMPLATE, keep_config

    refuse_adapters(model, f"{path}: saving the model")
    refuse_quantized(
        model,
        f"{path}: saving the model",
        "save the float32 model that it was made of (an adapter over it: save_adapter())",
    )
    run = RunDirectory(path)
    directory = run.path
    if run.adapter_config.exists() and not replace_adapter:
        raise OutputError(
            f"{directory}: holds an adapter, which other programs would put over the model; name another directory, or "
            f"remove {run.adapter_config.name} and its weights"
        )
    generation = _generation_config(model, tokenizer)
    bos, eot = generation["bos_token_id"], None if tokenizer is None else tokenizer.eot_id
    with _staged(directory) as staged:
        write_json(staged / "config.json", model.config.to_hf(bos_token_id=bos, eos_token_id=eot))
        write_json(staged / "generation_config.json", generation)
        if tokenizer is not None:
            _save_tokenizer(tokenizer, staged, generation)
        else:  # the template is written into what the tokenizer that stays says of itself
            keep_config(directory, staged)
        if model.chat_template is not None:
            model.chat_template.save(staged)
        model.native.save_safetensors(str(staged / "model.safetensors"), {"format": "pt"})
        written = _publish(staged, directory)
        (directory / INDEX).unlink(missing_ok=True)  # of another model's shards
        if replace_adapter:
            run.remove_adapter()
        if model.chat_template is None:
            (directory / TEMPLATE).unlink(missing_ok=True)
        if tokenizer is not None:
            _remove_other_tokenizer(directory, written)
        sync_directory(directory)


def save_adapter_run(model: "GPT", path: str | Path, tokenizer: "Tokenizer") -> None:
    """Write the adapter in use as PEFT does, with the tokenizer and template of its training and where texts end."""
    directory = RunDirectory(path).path
    model.save_adapter(directory, model.active_adapter or "")
    with naming(directory):
        write_json(directory / "generation_config.json", _generation_config(model, tokenizer))
    save_words(model, directory, tokenizer)


def save_words(model: "GPT", path: str | Path, tokenizer: "Tokenizer") -> None:
    """Write tokenizer and template alone, in place of those that are there."""
    from subgpt.data.chat.files import TEMPLATE

    directory = RunDirectory(path).path
    with _staged(directory) as staged:
        _save_tokenizer(tokenizer, staged, _generation_config(model, tokenizer))
        if model.chat_template is not None:
            model.chat_template.save(staged)
        written = _publish(staged, directory)
        if model.chat_template is None:
            (directory / TEMPLATE).unlink(missing_ok=True)
        _remove_other_tokenizer(directory, written)
        sync_directory(directory)


@contextmanager
def _staged(directory: Path) -> Iterator[Path]:
    """Give a folder in `directory`, which is made, to write into before anything there is touched."""
    staged = directory / ".saving"
    with naming(directory):
        try:
            shutil.rmtree(staged, ignore_errors=True)  # what a killed process left
            staged.mkdir(parents=True)
            yield staged
        finally:
            shutil.rmtree(staged, ignore_errors=True)


def _publish(staged: Path, directory: Path) -> list[str]:
    """Put what was written in the place of what has its names; gives these."""
    written = sorted(file.name for file in staged.iterdir())
    for name in written:
        (staged / name).replace(directory / name)
    return written


def _generation_config(model: "GPT", tokenizer: "Tokenizer | None") -> dict[str, Any]:
    eot = None if tokenizer is None else tokenizer.eot_id
    before: Sequence[int] = () if tokenizer is None else tokenizer.template[0]
    bos = before[0] if before else eot
    fresh = {"bos_token_id": bos, "eos_token_id": eot, "do_sample": True, "temperature": 1.0}
    return {**fresh, **model.generation_config}


def _save_tokenizer(tokenizer: "Tokenizer", directory: Path, generation: dict[str, Any]) -> None:
    """Write the tokenizer, and by name what the model begins and ends texts with, as `transformers` looks for it."""
    tokenizer.save(directory)
    path = directory / "tokenizer_config.json"
    if not path.exists():  # a SentencePiece model that is kept as it is
        return
    config = json.loads(path.read_text(encoding="utf-8"))
    for role in ("bos", "eos"):
        ids = generation[f"{role}_token_id"]
        first = next(iter(ids), None) if isinstance(ids, Sequence) else ids
        if config[f"{role}_token"] is None and first is not None and first < tokenizer.vocab_size:
            config[f"{role}_token"] = tokenizer.id_to_token(first)
    write_json(path, config)


def _remove_other_tokenizer(directory: Path, written: Sequence[str]) -> None:
    """Remove what an earlier tokenizer left that would be read in place of the one just written, or beside it."""
    before = itertools.takewhile(lambda name: name not in written, TOKENIZERS)
    for name in (*before, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        if name not in written:
            (directory / name).unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, atomically."""
    _core.write_atomic(str(path), (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn the system's complaint about a place into an OutputError that names it."""
    try:
        yield
    except SubgptError:
        raise
    except (OSError, ValueError) as error:  # a NUL in a path is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise OutputError(
            f"{path}: cannot write there ({reason}); choose another directory or make room"
        ) from error
