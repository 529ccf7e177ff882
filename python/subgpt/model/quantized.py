"""Models with weights in few bits: which there are, and what they are not for.

"bfloat16" is 16 bits for each weight, "int8" 8 and "int4" 4, these two with a float16 scale for 32 of them (GGUF's Q8_0
and Q4_0). It is the weights of linear layers that are so kept, and the token embeddings where the output projection
shares them; norms, biases and position embeddings stay float32. Reading the weights is what writing a token costs, so
fewer bits are faster. Products with integers round the activations to 8 bits too, 32 numbers at a time.

Adapters can be trained over a quantized base (QLoRA: Dettmers et al., "QLoRA: efficient finetuning of quantized LLMs",
2023), its own weights cannot.
"""

from typing import TYPE_CHECKING

from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

if TYPE_CHECKING:
    from subgpt.model.gpt import GPT

QUANTIZATIONS = ("bfloat16", "int8", "int4")


def check_quantization(kind: str, doing: str) -> None:
    """Raise ConfigError for what is none of `QUANTIZATIONS`."""
    if kind not in QUANTIZATIONS:
        raise ConfigError(f"{doing}: {kind!r} is not known; {did_you_mean(str(kind), QUANTIZATIONS)}")


def refuse_quantized(model: "GPT", doing: str, remedy: str) -> None:
    """Raise ConfigError where something is done to a quantized model that needs float32 weights."""
    if model.quantization is not None:
        raise ConfigError(f"{doing}: the weights of this model are {model.quantization}; {remedy}")
