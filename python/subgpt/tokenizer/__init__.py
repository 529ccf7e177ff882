"""Tokenizers at three levels: characters, words, and byte-level BPE."""

from subgpt.tokenizer.convert import convert
from subgpt.tokenizer.results import DecodeStream, Located
from subgpt.tokenizer.segments import Segment, Token, segment, shared_spans
from subgpt.tokenizer.special import add_special_tokens
from subgpt.tokenizer.tokenizer import Tokenizer

__all__ = [
    "DecodeStream",
    "Located",
    "Segment",
    "Token",
    "Tokenizer",
    "add_special_tokens",
    "convert",
    "segment",
    "shared_spans",
]
