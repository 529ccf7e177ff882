"""The name a person probably meant: used wherever an unknown name is refused."""

import difflib
from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of `names` most like `name`, or None when nothing is near.

    >>> nearest("learnig_rate", ["learning_rate", "max_steps"])
    'learning_rate'
    >>> nearest("zzz", ["learning_rate"]) is None
    True
    """
    known = {known.lower(): known for known in names}
    close = difflib.get_close_matches(str(name).lower(), known, n=1, cutoff=0.55)
    return known[close[0]] if close else None


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """A sentence part for an error: the nearest name, or every name when none is near.

    >>> did_you_mean("nan", ["nano", "gpt2"])
    "did you mean 'nano'?"
    >>> did_you_mean("xxxxxx", ["nano", "gpt2"])
    'known: nano, gpt2'
    """
    names = list(names)
    close = nearest(name, names)
    return f"did you mean {close!r}?" if close else f"known: {', '.join(names)}"
