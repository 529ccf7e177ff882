"""Attention maps as small pictures, so that all heads of a model can be seen at once."""

import base64
import struct
import zlib

import numpy as np
import numpy.typing as npt

_SHADES = 32


def thumbnail(weights: npt.NDArray[np.float32], low: str, high: str) -> str:
    """Draw weights (T, T) in [0, 1] as a `data:` address of a picture of T x T pixels, from colour `low` to `high`.

    It is a PNG with a palette, the simplest picture that every browser shows. Colours are "#rrggbb".
    """
    rows, columns = weights.shape
    shades = np.clip(weights * (_SHADES - 1) + 0.5, 0, _SHADES - 1).astype(np.uint8)
    lines = np.zeros((rows, columns + 1), np.uint8)  # each row begins with the number of its filter: none
    lines[:, 1:] = shades
    ends = np.array([list(bytes.fromhex(colour[1:])) for colour in (low, high)], np.float64)
    palette = np.linspace(ends[0], ends[1], _SHADES).round().astype(np.uint8).tobytes()
    picture = b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(lines.tobytes())),
            _chunk(b"IEND", b""),
        ]
    )
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
