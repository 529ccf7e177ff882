"""How much the page takes and shows: enough to learn from, little enough for any browser and for the machine."""

MAX_TEXT = 8_000
"""Characters of a text that is typed."""
MAX_FORM = 4_000
"""Characters of a schema, an expression or stop texts."""
MAX_CHIPS = 500
"""Tokens of one tokenizer that are drawn."""
MAX_STOPS = 16
"""Texts that end a text."""
MAX_TOKENS = 2_048
"""New tokens of one text."""
MAX_TURNS = 200
"""Messages of a talk."""
MAX_INSIDE = 48
"""Tokens of a text that attention and the layers are drawn for."""
MAX_HEADS = 256
"""Heads of a model that are drawn side by side."""
MAX_POINTS = 400
"""Points of one curve."""
MAX_RUNS = 200
"""Runs and tokenizers of a folder that can be chosen."""


def cut(text: str | None, most: int = MAX_TEXT) -> str:
    """Keep the first `most` characters: a browser's own limit binds only who keeps to it."""
    return (text or "")[:most]
