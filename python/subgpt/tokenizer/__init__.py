"""Tokenizers at three levels: characters, words, and byte-level BPE."""

from subgpt.tokenizer.tokenizer import DecodeStream, Tokenizer

__all__ = ["DecodeStream", "Tokenizer"]
