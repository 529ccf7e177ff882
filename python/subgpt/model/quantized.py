"""Models whose blocks have weights in few bits: which there are, and what they are not for.

"int8" is 8 bits for each weight, "int4" 4, and in both a float16 scale for 32 of them (GGUF's Q8_0 and Q4_0). It is the
weights of the blocks' linear layers that are so kept; all others stay float32. Adapters can be trained over such a base
(QLoRA: Dettmers et al., "QLoRA: efficient finetuning of quantized LLMs", 2023), its own weights cannot.
"""

from typing import TYPE_CHECKING

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT

QUANTIZATIONS = ("int8", "int4")


def check_quantization(kind: str, doing: str) -> None:
    """Raise ConfigError for what is none of `QUANTIZATIONS`."""
    if kind not in QUANTIZATIONS:
        raise ConfigError(f"{doing}: {kind!r} is not known; {did_you_mean(str(kind), QUANTIZATIONS)}")


def refuse_quantized(model: "GPT", doing: str, remedy: str) -> None:
    """Raise ConfigError where something is done to a quantized model that needs float32 weights."""
    if model.quantization is not None:
        raise ConfigError(f"{doing}: the weights of this model are {model.quantization}; {remedy}")
