"""Sizes from the command line: `500MB`, `2GiB`, and lists such as `8192,32768`."""

import re

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", re.IGNORECASE | re.ASCII)


def parse_bytes(text: str) -> int:
    """Read a number of bytes; MB is a million of them, MiB 2^20.

    >>> parse_bytes("500MB"), parse_bytes("2GiB"), parse_bytes("1.5 k"), parse_bytes("16777216")
    (500000000, 2147483648, 1500, 16777216)
    """
    found = _SIZE.fullmatch(text)
    scale = (_UNITS | _BINARY).get(found[2].lower()) if found else None
    if found is None or scale is None:
        raise ValueError(f"{text!r} is no amount of memory; write it as 500MB, 2GiB or in bytes")
    return int(float(found[1]) * scale) if "." in found[1] else int(found[1]) * scale


def parse_sizes(text: str) -> list[int]:
    """Read one whole number or several, separated by commas.

    >>> parse_sizes("8192"), parse_sizes("8192, 32768")
    ([8192], [8192, 32768])
    """
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,18}", word) for word in words):
        raise ValueError(f"{text!r} is no size; write a whole number such as 8192, or several: 8192,32768")
    sizes = [int(word) for word in words]
    if len(set(sizes)) < len(sizes):
        raise ValueError(f"{text!r} names a size twice")
    return sizes
