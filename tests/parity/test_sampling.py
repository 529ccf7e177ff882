"""The sampling rules against transformers' own logits processors in float64."""

from __future__ import annotations

import json

import numpy as np
import pytest

from subgpt import sampling_probs

TIED = (4, 5, 7)  # rows with equal logits, of which transformers drops some by the order of its sort


@pytest.fixture(scope="module")
def reference(shared):
    folder = shared / "ref" / "sampling"
    if not folder.is_dir():
        pytest.skip("the reference results for sampling are not there")
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    with np.load(folder / "reference.npz") as arrays:
        return cases, dict(arrays)


@pytest.mark.parametrize("row", range(8))
def test_every_case_is_transformers_distribution(reference, row, within):
    cases, arrays = reference
    assert len(cases) == 30
    for number, options in enumerate(cases):
        probs = sampling_probs(arrays["logits"][row], context=arrays["context"][row], **options)
        expected = arrays[f"c{number}/probs"][row]
        if row in TIED:
            probs, expected = np.sort(probs), np.sort(expected)
        within("probability", np.abs(probs - expected).max(), 1e-6)
