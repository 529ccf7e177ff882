"""subgpt: a GPT's whole life on the CPU you have."""

from subgpt._core import __version__

__all__ = ["__version__"]
