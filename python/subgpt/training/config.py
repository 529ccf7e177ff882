"""`TrainConfig`: everything about a run that is not the model, the tokenizer or the data.

Names are Hugging Face's TrainingArguments'; nanoGPT's names are understood and echoed under these.
"""

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import Field, field_validator, model_validator

from subgpt.adapters.config import LoraConfig
from subgpt.data.segments import LossOn
from subgpt.errors import ConfigError
from subgpt.evaluation.matching import Match
from subgpt.model.dtype import resolve_dtype
from subgpt.settings import Settings
from subgpt.training.reporting import places
from subgpt.training.schedule import DecayType, learning_rate_at, muon_over_adam

Self = TypeVar("Self", bound="TrainConfig")


class TrainConfig(Settings):
    """Settings of `pretrain` and `finetune`, checked and immutable.

    A value out of range or an unknown name raises ConfigError naming the field.

    >>> TrainConfig(max_iters=500).max_steps
    500
    >>> TrainConfig(learnig_rate=1e-3)
    Traceback (most recent call last):
    subgpt.errors.ConfigError: TrainConfig: there is no setting 'learnig_rate'; did you mean 'learning_rate'?
    """

    ALIASES: ClassVar[dict[str, str]] = {
        "max_iters": "max_steps",
        "grad_clip": "max_grad_norm",
        "beta1": "adam_beta1",
        "beta2": "adam_beta2",
        "eps": "adam_epsilon",
        "warmup_iters": "warmup_steps",
        "lr_decay_iters": "lr_decay_steps",
        "min_lr": "min_learning_rate",
        "eval_interval": "eval_steps",
        "eval_iters": "eval_batches",
        "log_interval": "logging_steps",
        "out_dir": "output_dir",
        "per_device_train_batch_size": "batch_size",
        "lr": "learning_rate",
        "r": "lora_r",
        "lora_rank": "lora_r",
        "lora_target_modules": "target_modules",
        "optim": "optimizer",
        "bf16": "dtype",
    }
    # Hugging Face's `bf16` is a switch, our `dtype` a name.
    ALIAS_VALUES: ClassVar[dict[str, dict[Any, Any]]] = {"bf16": {True: "bfloat16", False: "float32"}}

    # How far, and with which batches.
    max_steps: int = Field(default=1000, ge=1, le=10**9, description="number of updates")
    batch_size: int = Field(default=16, ge=1, le=1 << 20, description="windows per forward and backward pass")
    gradient_accumulation_steps: int = Field(default=1, ge=1, le=1 << 20, description="passes per update")
    block_size: int | None = Field(
        default=None, ge=1, description="window length in tokens; the model's if not given"
    )
    seed: int = Field(default=0, ge=0, lt=1 << 64, description="order of the data, and dropout")

    replay_ratio: float = Field(
        default=0.1, gt=0, lt=1, description="share of batches of replay data, where finetune is given some"
    )

    recall_tokens: int = Field(
        default=512,
        ge=0,
        le=1 << 20,
        description="tokens that a model writes before finetune, to see what it forgets where no old data is held out",
    )

    # How it is computed.
    dtype: Literal["auto", "float32", "bfloat16"] | None = Field(
        default=None,
        description="of matrix products; auto: bfloat16 where it is faster; the model's if not given",
    )
    gradient_checkpointing: bool = Field(
        default=False, description="keep one input a block and compute it again: less memory, more time"
    )

    # The update. beta2 is nanoGPT's for small batches: with some thousand tokens a step, 0.95 is a noisy
    # average.
    optimizer: Literal["adamw", "sgd", "lion", "muon"] = Field(
        default="adamw", description="adamw, sgd, lion, or muon (with adamw for what is no matrix of a block)"
    )
    learning_rate: float = Field(
        default=1e-3,
        gt=0,
        le=100,
        description="highest rate; if not given the recipe's, or 1e-4 in finetune and 1e-5 in dpo; ten times that for "
        "adapters there",
    )
    lr_scheduler_type: Literal["cosine", "linear", "constant", "warmup_stable_decay"] = Field(
        default="cosine", description="course of the rate: cosine, linear, constant, warmup_stable_decay"
    )
    warmup_steps: int | None = Field(
        default=None, ge=0, description="updates of rising rate; a tenth of the run, at most 100"
    )
    lr_decay_steps: int | None = Field(
        default=None, ge=1, description="step of the lowest rate; max_steps if not given"
    )
    num_decay_steps: int | None = Field(
        default=None,
        ge=0,
        description="updates of falling rate, with warmup_stable_decay; two fifths of the run",
    )
    decay_type: DecayType = Field(
        default="linear", description="shape of that fall: linear, cosine or 1-sqrt"
    )
    min_learning_rate: float | None = Field(
        default=None, ge=0, description="lowest rate; a tenth of the highest if not given"
    )
    weight_decay: float = Field(default=0.1, ge=0, le=100, description="on matrices only, but for sgd")
    adam_beta1: float = Field(default=0.9, ge=0, lt=1, description="lion's, too")
    adam_beta2: float = Field(default=0.99, ge=0, lt=1, description="lion's, too")
    adam_epsilon: float = Field(default=1e-8, gt=0, lt=1)
    momentum: float = Field(default=0.0, ge=0, lt=1, description="for sgd")
    muon_learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="highest rate of muon's matrices; if not given 20 x learning_rate, which is the others', or "
        "learning_rate itself with match_rms_adamw",
    )
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    muon_adjust_lr: Literal["original", "match_rms_adamw"] = Field(
        default="original",
        description="how muon's rates follow from shapes, as torch.optim.Muon's adjust_lr_fn",
    )
    max_grad_norm: float = Field(
        default=1.0, ge=0, description="clip the global gradient norm to this; 0: never"
    )

    # Several processes.
    zero_stage: int = Field(
        default=0,
        ge=0,
        le=1,
        description="1: each process keeps a part of the optimizer's moments (ZeRO), less memory",
    )
    gradient_compression: Literal["none", "bf16"] = Field(
        default="none", description="bf16: send gradients in half as many bytes, with error feedback"
    )
    bucket_megabytes: float = Field(
        default=25.0, gt=0, le=4096, description="gradients that are sent together while others are computed"
    )
    peer_timeout: float = Field(
        default=20.0,
        ge=4,
        le=86400,
        description="seconds without a sign of life after which a process is gone",
    )

    # What to do when the loss leaves its course.
    on_spike: Literal["rollback", "stop", "ignore"] = Field(
        default="ignore",
        description="when the loss leaps: rollback (to a checkpoint, passing over the batches that led there), stop or "
        "ignore; what is not finite is rolled back or stops the run",
    )
    spike_z_score: float = Field(
        default=6.0, gt=0, description="what a leap is: deviations above the mean of the last 128 losses"
    )
    max_rollbacks: int = Field(
        default=3, ge=1, le=1000, description="rollbacks of a run, after which it stops"
    )

    # Looking: validation, samples, lines.
    eval_steps: int = Field(default=100, ge=0, description="updates between validations; 0: only at the end")
    eval_batches: int = Field(
        default=50, ge=0, description="batches per validation, spread evenly; 0: the whole validation set"
    )
    early_stopping_patience: int | None = Field(
        default=None, ge=1, description="stop after this many validations without gain"
    )
    load_best_model_at_end: bool | None = Field(
        default=None, description="keep the best weights; on with early stopping"
    )
    sample_steps: int = Field(default=0, ge=0, description="updates between samples; 0: none")
    sample_prompt: str = Field(default="", description="what a sample begins with")
    sample_tokens: int = Field(default=64, ge=1, le=1 << 20)
    logging_steps: int = Field(default=1, ge=1, description="updates between lines of metrics.jsonl")
    report_to: str = Field(
        default="",
        description="where else metrics go, by commas: csv, tensorboard, wandb; metrics.jsonl is written always",
    )

    # Keeping.
    output_dir: str | Path | None = Field(
        default=None, description="run directory; nothing is written if not given"
    )
    overwrite_output_dir: bool = Field(default=False, description="discard an earlier run in output_dir")
    save_steps: int = Field(default=500, ge=0, description="updates between checkpoints; 0: only at the end")
    save_total_limit: int = Field(
        default=2, ge=1, description="checkpoints kept; two, so that one bad disk block is survived"
    )

    # The data.
    val_fraction: float = Field(default=0.1, ge=0, lt=1, description="part of the documents held out")
    text_field: str = Field(default="text", min_length=1, description="key of the text in a jsonl line")
    errors: Literal["replace", "strict"] = Field(
        default="strict", description="bytes that are not UTF-8: replace or refuse"
    )

    # What it is for; `finetune` alone.
    recipe: str | None = Field(
        default=None, min_length=1, description="settings by intent, for where nothing else is given"
    )
    probe_match: Match = Field(
        default="exact",
        description="how answers to probes are compared: exact (as texts), number (what they come to), or tokens",
    )

    # What is trained: all weights, some of them, or an adapter over them.
    freeze: str = Field(
        default="",
        description="weights that stay as they are, by commas: blocks (0-5), embeddings, head, or names with *",
    )
    lora_r: int | None = Field(
        default=None, ge=1, le=1 << 16, description="train low-rank adapters of this rank, and no weights"
    )
    lora_alpha: float | None = Field(
        default=None, gt=0, description="numerator of their scale, over the rank; twice the rank if not given"
    )
    lora_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of their inputs that falls out in training"
    )
    target_modules: str = Field(
        default="all-linear",
        min_length=1,
        description="layers that have one, by commas: ends of names such as q_proj,v_proj, or all-linear",
    )
    use_rslora: bool = Field(default=False, description="scale by the root of the rank (rsLoRA)")
    use_dora: bool = Field(default=False, description="learn the lengths of rows as well (DoRA)")
    quantize_base: Literal["int8", "int4"] | None = Field(
        default=None,
        description="keep the linear weights under the adapters in this many bits: less memory (QLoRA)",
    )

    # How examples are written down and learnt from; `finetune` alone.
    chat_template: str = Field(
        default="auto",
        min_length=1,
        description="how conversations are written: auto (the model's own template, else chatml where the tokenizer "
        "has its tokens, else plain), chatml, plain, or a file or model directory with a Jinja template",
    )
    loss_on: LossOn = Field(
        default="answers", description="what is learnt of an example: answers, all of it, or the last answer"
    )
    packing: bool = Field(
        default=False,
        description="put several examples into a row, which see nothing of each other; so do documents of running text",
    )

    @field_validator("lr_scheduler_type", mode="before")
    @classmethod
    def _accept_constant_with_warmup(cls, value: Any) -> Any:
        # Ours always warms up as warmup_steps says, so both of Hugging Face's names mean the same.
        return "constant" if value == "constant_with_warmup" else value

    @field_validator("freeze", "target_modules", "report_to", mode="before")
    @classmethod
    def _accept_lists(cls, value: Any) -> Any:
        return ",".join(map(str, value)) if isinstance(value, list | tuple) else value

    @field_validator("report_to")
    @classmethod
    def _known_places(cls, value: str) -> str:
        return ",".join(places(value))

    @field_validator("eval_batches", mode="before")
    @classmethod
    def _accept_none_for_all(cls, value: Any) -> Any:
        return (
            0 if value is None else value
        )  # None is how Python says "no limit"; files and flags need a number

    @model_validator(mode="after")
    def _fits_together(self: Self) -> Self:
        if self.warmup > self.max_steps:
            raise ValueError(
                f"warmup_steps = {self.warmup_steps} is longer than max_steps = {self.max_steps}; shorten it"
            )
        if self.warmup + self.decay > self.max_steps:
            raise ValueError(
                f"num_decay_steps = {self.num_decay_steps} and {self.warmup} updates of warm-up are longer "
                f"than max_steps = {self.max_steps}; shorten them"
            )
        if self.min_learning_rate is not None and self.min_learning_rate > self.learning_rate:
            raise ValueError(
                f"min_learning_rate = {self.min_learning_rate:g} is above "
                f"learning_rate = {self.learning_rate:g}; lower it"
            )
        if self.early_stopping_patience is not None and not (self.eval_steps and self.val_fraction):
            raise ValueError(
                "early_stopping_patience needs validation: set eval_steps and val_fraction above 0"
            )
        of_adapters = {
            "lora_alpha": self.lora_alpha is not None,
            "lora_dropout": self.lora_dropout > 0,
            "target_modules": self.target_modules != "all-linear",
            "use_rslora": self.use_rslora,
            "use_dora": self.use_dora,
            "quantize_base": self.quantize_base is not None,
        }
        if self.lora_r is None and (set_one := next((name for name, on in of_adapters.items() if on), None)):
            raise ValueError(f"{set_one} is for adapters; set lora_r as well, 8 or 16 is usual")
        if self.lora_r is not None and self.freeze:
            raise ValueError("freeze is for runs without adapters; with lora_r all weights are frozen")
        return self

    @property
    def warmup(self) -> int:
        """Number of warm-up updates, with the default resolved."""
        return min(100, self.max_steps // 10) if self.warmup_steps is None else self.warmup_steps

    @property
    def decay(self) -> int:
        """Number of updates in which warmup_stable_decay falls, with the default resolved; else 0."""
        if self.lr_scheduler_type != "warmup_stable_decay":
            return 0
        return self.max_steps * 2 // 5 if self.num_decay_steps is None else self.num_decay_steps

    @property
    def lowest_rate(self) -> float:
        """`min_learning_rate` with the default resolved."""
        return self.learning_rate / 10 if self.min_learning_rate is None else self.min_learning_rate

    @property
    def muon_rate(self) -> float:
        """`muon_learning_rate` with the default resolved."""
        if self.muon_learning_rate is None:
            return self.learning_rate * muon_over_adam(self.muon_adjust_lr)
        return self.muon_learning_rate

    @property
    def frozen(self) -> list[str]:
        """`freeze` as patterns."""
        return _words(self.freeze)

    @property
    def lora(self) -> LoraConfig | None:
        """The adapter that is trained, or None."""
        if self.lora_r is None:
            return None
        return LoraConfig(
            r=self.lora_r,
            lora_alpha=2 * self.lora_r if self.lora_alpha is None else self.lora_alpha,
            lora_dropout=self.lora_dropout,
            target_modules=tuple(_words(self.target_modules)),
            use_rslora=self.use_rslora,
            use_dora=self.use_dora,
        )

    @property
    def keeps_best(self) -> bool:
        """Whether the run ends with the weights of the best validation."""
        if self.load_best_model_at_end is None:
            return self.early_stopping_patience is not None
        return self.load_best_model_at_end

    def learning_rate_at(self, step: int) -> float:
        """Give the learning rate of update `step`, counted from 0.

        >>> TrainConfig(learning_rate=1e-3, warmup_steps=1, lr_scheduler_type="constant").learning_rate_at(0)
        0.0005
        """
        return learning_rate_at(
            step,
            kind=self.lr_scheduler_type,
            peak=self.learning_rate,
            minimum=self.lowest_rate,
            warmup_steps=self.warmup,
            decay_steps=self.max_steps if self.lr_decay_steps is None else self.lr_decay_steps,
            num_decay_steps=self.decay,
            decay_type=self.decay_type,
        )

    def to_dict(self) -> dict[str, Any]:
        """Give every field as a plain value, for config.yaml and JSON."""
        return self.model_dump(mode="json")

    def resolved(self: Self, block_size: int, dtype: str = "float32") -> Self:
        """Turn every default that depends on another value into that value.

        block_size, dtype: the model's, for where none is given here.

        Raises ConfigError if the windows are longer than the model's.
        """
        if self.block_size is not None and self.block_size > block_size:
            raise ConfigError(
                f"TrainConfig: block_size = {self.block_size} is beyond the model's {block_size}; lower it"
            )
        return self.replace(
            warmup_steps=self.warmup,
            dtype=resolve_dtype(self.dtype or dtype, "TrainConfig"),
            num_decay_steps=self.decay if self.lr_scheduler_type == "warmup_stable_decay" else None,
            min_learning_rate=self.lowest_rate,
            muon_learning_rate=self.muon_rate if self.optimizer == "muon" else self.muon_learning_rate,
            lora_alpha=None if self.lora is None else float(self.lora.lora_alpha),
            block_size=block_size if self.block_size is None else self.block_size,
        )


def _words(text: str) -> list[str]:
    """Split a list that is written with commas."""
    return [word.strip() for word in text.split(",") if word.strip()]
