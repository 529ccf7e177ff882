"""subgpt: a GPT's whole life on the CPU you have."""

from subgpt._core import (
    __version__,
    available_isas,
    build_info,
    get_num_threads,
    isa,
    set_isa,
    set_num_threads,
)

__all__ = [
    "__version__",
    "available_isas",
    "build_info",
    "get_num_threads",
    "isa",
    "set_isa",
    "set_num_threads",
]
