"""Tokenizers at three levels: characters, words, and byte-level BPE."""

from subgpt.tokenizer.convert import convert
from subgpt.tokenizer.tokenizer import DecodeStream, Located, Tokenizer

__all__ = ["DecodeStream", "Located", "Tokenizer", "convert"]
