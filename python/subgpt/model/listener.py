"""Who hears of gradients while a backward pass goes on."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bucket = tuple[int, int]
"""A piece of the gradients of all that is trained, laid out one behind the other: where it begins and ends."""


class GradientListener(NamedTuple):
    """Is told of each bucket once a backward pass adds nothing more to it.

    buckets: as `_core.gradient_buckets` gives them, from the end of the gradients to the beginning. tell: called with
    the number of a bucket and a copy of its gradients, from a thread of the pass.
    """

    buckets: list[Bucket]
    tell: Callable[[int, npt.NDArray[np.float32]], None]
