"""The native half of subgpt. Everything here is wrapped by the public package; see there for the explanations."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__version__: str

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.integer[Any]] | Sequence[int] | Sequence[Sequence[int]]
Listener = Callable[[int, int], None]

# --- runtime ---------------------------------------------------------------------------------------------------------

def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def set_isa(name: str) -> None: ...
def build_info() -> dict[str, str]: ...

# --- tokenizer -------------------------------------------------------------------------------------------------------

# --- kernels ---------------------------------------------------------------------------------------------------------

# --- model, optimizers, sampling -------------------------------------------------------------------------------------

# --- files -----------------------------------------------------------------------------------------------------------
