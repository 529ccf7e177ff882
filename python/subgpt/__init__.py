"""subgpt: a GPT's whole life on the CPU you have.

Names are loaded when they are first used, so that `import subgpt` costs next to nothing.

>>> import subgpt
>>> subgpt.GPTConfig.preset("nano").n_layer
4
"""

from typing import TYPE_CHECKING

from subgpt._core import (
    __version__,
    available_isas,
    build_info,
    get_num_threads,
    isa,
    set_isa,
    set_num_threads,
)
from subgpt.errors import (
    BusyError,
    CheckpointError,
    ConfigError,
    DataError,
    DistributedError,
    DtypeError,
    InternalError,
    InvalidValueError,
    LossError,
    MissingExtraError,
    MissingFileError,
    OutOfMemoryError,
    OutputError,
    ShapeError,
    SubgptError,
    TokenizerError,
)
from subgpt.lazy import attributes

if TYPE_CHECKING:
    from subgpt import ops
    from subgpt.checkpoint.load import load
    from subgpt.data.prepare.prepare import Prepared, prepare_data
    from subgpt.evaluation.evaluate import evaluate
    from subgpt.evaluation.measure import Evaluation
    from subgpt.evaluation.next_tokens import Distribution, next_distribution, next_tokens
    from subgpt.evaluation.positions import position_distributions
    from subgpt.evaluation.probes import probe
    from subgpt.evaluation.results import ProbeChange, ProbeResult
    from subgpt.finetuning.finetune import finetune
    from subgpt.finetuning.recipes import Recipe, recipe, recipe_names
    from subgpt.generation.chat import chat, stream_chat
    from subgpt.generation.complete import Completion, TokenLogprob, complete
    from subgpt.generation.config import GenerationConfig
    from subgpt.generation.engine import Engine, EngineStats
    from subgpt.generation.generate import generate, sampling_probs
    from subgpt.generation.job import Job, Piece
    from subgpt.generation.stream import stream
    from subgpt.inside.attention import save_attention_plot
    from subgpt.inside.lens import lens_on
    from subgpt.inside.step import StepExplanation, explain_step
    from subgpt.inside.tiny import tiny_model
    from subgpt.model.config import GPTConfig
    from subgpt.model.gpt import GPT
    from subgpt.performance.bench import Bench, bench
    from subgpt.performance.estimate import Estimate, estimate
    from subgpt.preference.dpo import dpo
    from subgpt.preference.loss import dpo_loss
    from subgpt.search.lr_find import lr_find
    from subgpt.search.outcomes import Outcome, Sweep
    from subgpt.search.rates import LrFind
    from subgpt.search.space import Range
    from subgpt.search.sweep import sweep
    from subgpt.tokenizer import Tokenizer
    from subgpt.training.callbacks import Callback
    from subgpt.training.config import TrainConfig
    from subgpt.training.optimizers import SGD, AdamW, Lion, Muon
    from subgpt.training.pretrain import pretrain
    from subgpt.training.run import Run

# Where each name that is loaded on first use lives.
_HOMES = {
    "AdamW": "subgpt.training.optimizers",
    "Bench": "subgpt.performance.bench",
    "Callback": "subgpt.training.callbacks",
    "Completion": "subgpt.generation.complete",
    "Distribution": "subgpt.evaluation.next_tokens",
    "Engine": "subgpt.generation.engine",
    "EngineStats": "subgpt.generation.engine",
    "Estimate": "subgpt.performance.estimate",
    "Evaluation": "subgpt.evaluation.measure",
    "GPT": "subgpt.model.gpt",
    "GPTConfig": "subgpt.model.config",
    "GenerationConfig": "subgpt.generation.config",
    "Job": "subgpt.generation.job",
    "Lion": "subgpt.training.optimizers",
    "LrFind": "subgpt.search.rates",
    "Muon": "subgpt.training.optimizers",
    "Outcome": "subgpt.search.outcomes",
    "Piece": "subgpt.generation.job",
    "Prepared": "subgpt.data.prepare.prepare",
    "ProbeChange": "subgpt.evaluation.results",
    "ProbeResult": "subgpt.evaluation.results",
    "Range": "subgpt.search.space",
    "Recipe": "subgpt.finetuning.recipes",
    "Run": "subgpt.training.run",
    "SGD": "subgpt.training.optimizers",
    "StepExplanation": "subgpt.inside.step",
    "Sweep": "subgpt.search.outcomes",
    "TokenLogprob": "subgpt.generation.complete",
    "Tokenizer": "subgpt.tokenizer",
    "TrainConfig": "subgpt.training.config",
    "bench": "subgpt.performance.bench",
    "chat": "subgpt.generation.chat",
    "complete": "subgpt.generation.complete",
    "dpo": "subgpt.preference.dpo",
    "dpo_loss": "subgpt.preference.loss",
    "estimate": "subgpt.performance.estimate",
    "evaluate": "subgpt.evaluation.evaluate",
    "explain_step": "subgpt.inside.step",
    "finetune": "subgpt.finetuning.finetune",
    "generate": "subgpt.generation.generate",
    "lens_on": "subgpt.inside.lens",
    "load": "subgpt.checkpoint.load",
    "lr_find": "subgpt.search.lr_find",
    "next_distribution": "subgpt.evaluation.next_tokens",
    "next_tokens": "subgpt.evaluation.next_tokens",
    "ops": "subgpt.ops",
    "position_distributions": "subgpt.evaluation.positions",
    "prepare_data": "subgpt.data.prepare.prepare",
    "pretrain": "subgpt.training.pretrain",
    "probe": "subgpt.evaluation.probes",
    "recipe": "subgpt.finetuning.recipes",
    "recipe_names": "subgpt.finetuning.recipes",
    "sampling_probs": "subgpt.generation.generate",
    "save_attention_plot": "subgpt.inside.attention",
    "stream": "subgpt.generation.stream",
    "stream_chat": "subgpt.generation.chat",
    "sweep": "subgpt.search.sweep",
    "tiny_model": "subgpt.inside.tiny",
}

__all__ = [
    "GPT",
    "SGD",
    "AdamW",
    "Bench",
    "BusyError",
    "Callback",
    "CheckpointError",
    "Completion",
    "ConfigError",
    "DataError",
    "DistributedError",
    "Distribution",
    "DtypeError",
    "Engine",
    "EngineStats",
    "Estimate",
    "Evaluation",
    "GPTConfig",
    "GenerationConfig",
    "InternalError",
    "InvalidValueError",
    "Job",
    "Lion",
    "LossError",
    "LrFind",
    "MissingExtraError",
    "MissingFileError",
    "Muon",
    "OutOfMemoryError",
    "Outcome",
    "OutputError",
    "Piece",
    "Prepared",
    "ProbeChange",
    "ProbeResult",
    "Range",
    "Recipe",
    "Run",
    "ShapeError",
    "StepExplanation",
    "SubgptError",
    "Sweep",
    "TokenLogprob",
    "Tokenizer",
    "TokenizerError",
    "TrainConfig",
    "__version__",
    "available_isas",
    "bench",
    "build_info",
    "chat",
    "complete",
    "dpo",
    "dpo_loss",
    "estimate",
    "evaluate",
    "explain_step",
    "finetune",
    "generate",
    "get_num_threads",
    "isa",
    "lens_on",
    "load",
    "lr_find",
    "next_distribution",
    "next_tokens",
    "ops",
    "position_distributions",
    "prepare_data",
    "pretrain",
    "probe",
    "recipe",
    "recipe_names",
    "sampling_probs",
    "save_attention_plot",
    "set_isa",
    "set_num_threads",
    "stream",
    "stream_chat",
    "sweep",
    "tiny_model",
]

__getattr__, __dir__ = attributes(globals(), _HOMES)
