"""Real text and hard text for tokenizers that are compared."""

from __future__ import annotations

import unicodedata

from hypothesis import strategies as st

ATOMS = [
    *"aZéßſ中ㅎª19½٣ \n\r\t'!/_-’\u01c5\u02b0\u0301\u0903\u2167\u00a0\u0085\u3000\u200d\u200b\0",
    *["  ", "   ", "\r\n", "\n\n", "'s", "'S", "'ſ", "'ll", "'LL", "'re", "'vE", "'d", "//", "123", "12345"],
    *["😀", "👨‍👩‍👧", "🇩🇪", "hello", " World", "don't", "HTTPServer", "naïve", "\U0010ffff"],
    *["<|endoftext|>", "<|endof"],
]
BORDERS = st.lists(st.one_of(st.sampled_from(ATOMS), st.characters(codec="utf-8")), max_size=30).map("".join)


def every_text(shared):
    """Every text among the reference data, by its name."""
    folder = shared / "data"
    paths = [
        p for part in ("corpora", "unicode", "code", "finetune") for p in sorted((folder / part).rglob("*.*"))
    ]
    return {str(p.relative_to(folder)): p.read_bytes().decode("utf-8", "replace") for p in paths}


def differing(ours, theirs, texts):
    """Names of the texts that two encoders disagree about."""
    return [name for name, text in texts.items() if ours(text).tolist() != theirs(text)]


def known(text):
    """Drop special tokens, and what the libraries' Unicode versions may differ about."""
    text = text.replace("<|endoftext|>", "")
    return "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs", "Co"))
