"""Texts and bytes written so that everything in them is visible: blanks, control characters, parts of characters."""

import unicodedata

_BLANKS = str.maketrans({" ": "·", "\n": "⏎", "\t": "→", "\r": "␍"})


def visible(text: str) -> str:
    """Show spaces as ·, line ends as ⏎, tabs as →: what a token stands for, without guessing."""
    return text.translate(_BLANKS)


def show_text(text: str) -> str:
    r"""Write text on one line so that everything in it is visible; a mark without its letter stands on ◌.

    >>> show_text(" a\n"), show_text("\x1b[\u202e"), show_text("\u0301")
    ('·a⏎', '\\x1b[\\u202e', '◌́')
    """
    stand = "◌" if text and unicodedata.category(text[0]).startswith("M") else ""
    return stand + "".join(_sign(character) for character in text)


def show_lines(text: str) -> str:
    r"""Make everything visible as `show_text` does, and keep the line ends.

    >>> show_lines("a \nb")
    'a·⏎\nb'
    """
    return "\n".join(map(show_text, text.replace("\n", "⏎\n").split("\n")))


def show_bytes(raw: bytes) -> str:
    r"""Write bytes so that everything in them is visible; what is no character as \xe2.

    >>> show_bytes(b" a\n"), show_bytes(b"\xe2\x82"), show_bytes(b"\x1b[")
    ('·a⏎', '\\xe2\\x82', '\\x1b[')
    """
    return show_text(raw.decode("utf-8", errors="backslashreplace"))


def _sign(character: str) -> str:
    sign = visible(character)
    if sign.isprintable():
        return sign
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
