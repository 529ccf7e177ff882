"""The name a person probably meant: used wherever an unknown name is refused."""

import difflib
from collections.abc import Iterable

_SHOWN = 12
"""Names listed where none is near: more would hide the message."""


def nearest(name: str, names: Iterable[str], *, cutoff: float = 0.55) -> str | None:
    """Find the one of `names` most like `name`, or None when nothing is near: 1 is the same, 0 nothing in common.

    >>> nearest("learnig_rate", ["learning_rate", "max_steps"])
    'learning_rate'
    >>> nearest("zzz", ["learning_rate"]) is None
    True
    """
    known = {known.lower(): known for known in names}
    close = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=cutoff)
    return known[close[0]] if close else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Make a sentence part for an error: the nearest name, or every name when none is near.

    >>> did_you_mean("nan", ["nano", "gpt2"])
    "did you mean 'nano'?"
    >>> did_you_mean("xxxxxx", ["nano", "gpt2"])
    'known: nano, gpt2'
    """
    names = list(names)
    close = nearest(name, names)
    if close:
        return f"did you mean {close!r}?"
    return f"known: {', '.join(names[:_SHOWN])}" + (", …" if len(names) > _SHOWN else "")
