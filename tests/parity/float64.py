"""What transformers computes, in float64 throughout."""

from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import patch

import torch


@contextmanager
def float64():
    """Let casts to float32 be casts to float64: norms, positions, softmax and loss have some in every model."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with (
            patch.multiple(torch, float32=torch.float64, float=torch.float64),
            patch.object(torch.Tensor, "float", torch.Tensor.double),
        ):
            yield
    finally:
        torch.set_default_dtype(before)


def in_float64(model):
    """Make the same model with weights in float64, to be used inside `float64` as it is made there.

    A model that was only cast would keep the frequencies of its positions rounded to float32.
    """
    twin = type(model)(model.config).eval()
    twin.load_state_dict(model.state_dict())
    return twin
