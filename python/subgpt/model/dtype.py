"""The number formats of matrix products, by PyTorch's names, and which one "auto" is on this processor.

"float32": everything in float32. "bfloat16": the factors of matrix products are rounded to bfloat16 and
their sums kept in float32; weights, gradients, norms, softmax, the residual stream, the loss and the
optimizer's moments stay float32, as in PyTorch's autocast. Where a processor lacks the instructions the same
numbers are computed in software, slowly and with the same bits.
"""

from subgpt import _core
from subgpt.errors import ConfigError
from subgpt.spelling import did_you_mean

DTYPES = ("float32", "bfloat16")
AUTO = "auto"


def resolve_dtype(name: str, owner: str = "GPT") -> str:
    """Give "float32" or "bfloat16"; "auto" is bfloat16 where this processor multiplies faster in it.

    >>> resolve_dtype("float32")
    'float32'
    >>> resolve_dtype("auto") in ("float32", "bfloat16")
    True
    >>> resolve_dtype("bfloat")
    Traceback (most recent call last):
    subgpt.errors.ConfigError: GPT: dtype = 'bfloat' is not known; did you mean 'bfloat16'?
    """
    if name == AUTO:
        return "bfloat16" if _core.prefers_bf16() else "float32"
    if name not in DTYPES:
        raise ConfigError(
            f"{owner}: dtype = {name!r} is not known; {did_you_mean(str(name), (*DTYPES, AUTO))}"
        )
    return name
