"""What all trials of a sweep share, and how one of them is opened: data, tokenizer, model, settings."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from subgpt.errors import ConfigError
from subgpt.model.config import GPTConfig
from subgpt.model.dtype import AUTO
from subgpt.spelling import did_you_mean
from subgpt.training.config import TrainConfig

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT
    from subgpt.tokenizer import Tokenizer

SHAPE = tuple(field.name for field in dataclasses.fields(GPTConfig))
TRAIN = tuple(TrainConfig.model_fields)
NOT_SWEPT = {
    "data": "losses on other texts cannot be compared",
    "tokenizer": "losses in other tokens cannot be compared",
    "vocab_size": "it is the tokenizer's",
    "output_dir": "each trial has a directory of its own",
    "overwrite_output_dir": "each trial has a directory of its own",
}


@dataclasses.dataclass(frozen=True)
class Base:
    """Plain values, so that another process can read them from a file.

    data: files, directories and globs. start: a saved model that is fine-tuned, with its own tokenizer; without one a
    fresh model of `preset` and `shape` is pretrained. train: the settings that were given.
    """

    data: tuple[str, ...]
    tokenizer: str | None = None
    start: str | None = None
    preset: str | None = None
    shape: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    train: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.start is not None and (named := [name for name in self.shape if name not in TRAIN]):
            raise ConfigError(
                f"{named[0]} is fixed by the model that is fine-tuned, {self.start}; leave it out"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Base":
        """Undo `to_dict`."""
        return cls(**{**values, "data": tuple(values["data"])})

    def to_dict(self) -> dict[str, Any]:
        """Give every field as plain values."""
        return {**dataclasses.asdict(self), "data": list(self.data)}

    def flat(self) -> dict[str, Any]:
        """Give all of it by the names of the settings; `model` is the saved one."""
        named = {
            "data": list(self.data),
            "tokenizer": self.tokenizer,
            "model": self.start,
            "preset": self.preset,
        }
        return {**{n: v for n, v in named.items() if v is not None}, **self.shape, **self.train}

    def canonical(self, name: str) -> str:
        """Give the name of a setting that may be swept; ConfigError for one that is unknown, or cannot be."""
        target = TrainConfig.ALIASES.get(name, name)
        if target in NOT_SWEPT:
            raise ConfigError(f"sweep: {target} cannot be swept: {NOT_SWEPT[target]}; leave it out")
        if self.start is not None and (target == "preset" or (target in SHAPE and target not in TRAIN)):
            raise ConfigError(f"sweep: {target} is fixed by the model that is fine-tuned, {self.start}")
        if target == "preset" and self.preset is None:  # each trial would be of the same shape
            raise ConfigError(
                "sweep: preset cannot be swept beside a whole GPTConfig, which stands above it; sweep fields of the "
                "config (n_layer, n_head, n_embd), or presets with: subgpt sweep preset=nano,micro"
            )
        known = [*TRAIN, *SHAPE, "preset"]
        if target not in known:
            raise ConfigError(f"sweep: there is no setting {name!r}; {did_you_mean(name, known)}")
        return target

    @property
    def seed(self) -> int:
        """What decides chance where a trial does not; ConfigError if it is no seed."""
        return TrainConfig(**{name: value for name, value in self.train.items() if name == "seed"}).seed

    def training(self, values: Mapping[str, Any] | None = None) -> TrainConfig:
        """Make the training settings of a trial. The window of a fresh model is the model's."""
        merged = {**self.train, **(values or {})}
        hidden = (*SHAPE, "preset") if self.start is None else ("preset",)
        return TrainConfig(**{name: value for name, value in merged.items() if name not in hidden})

    def model(self, values: Mapping[str, Any], vocab_size: int) -> GPTConfig:
        """Make the shape of a trial's fresh model."""
        given = {"vocab_size": vocab_size, **self.shape, **{n: v for n, v in values.items() if n in SHAPE}}
        preset = values.get("preset", self.preset)
        return GPTConfig.from_dict(given) if preset is None else GPTConfig.preset(preset, **given)

    def open(self, values: Mapping[str, Any] | None = None) -> "tuple[GPT, Tokenizer, TrainConfig]":
        """Make or load the model of a trial, with its tokenizer and settings."""
        from subgpt.model.gpt import GPT
        from subgpt.tokenizer import Tokenizer

        values = values or {}
        training = self.training(values)
        if self.start is not None:
            return (*self._load(self.start, training), training)
        if self.tokenizer is None:
            raise ConfigError(
                "a fresh model needs a tokenizer; give a directory made by: subgpt tokenizer train"
            )
        words = Tokenizer.load(self.tokenizer)
        shape = self.model(values, words.vocab_size)
        return GPT(shape, seed=training.seed, dtype=training.dtype or AUTO), words, training

    def _load(self, start: str, training: TrainConfig) -> "tuple[GPT, Tokenizer]":
        from subgpt.checkpoint.load import load_with_tokenizer
        from subgpt.finetuning.chat import prepare_chat

        model, words = load_with_tokenizer(start, dtype=training.dtype or AUTO)
        return model, prepare_chat(model, words, training.chat_template)
