"""Values for JSON, which has no number that is not finite."""

import math
from typing import Any


def finite(value: Any) -> Any:
    """Put None in the place of numbers that JSON does not have, also within dictionaries and lists.

    >>> finite({"val_loss": 800.0, "val_perplexity": math.inf, "losses": (1.0, math.nan)})
    {'val_loss': 800.0, 'val_perplexity': None, 'losses': [1.0, None]}
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: finite(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [finite(entry) for entry in value]
    return value
