"""The loss of direct preference optimization against the stored numbers of TRL's formula (../shared/ref/dpo)."""

from __future__ import annotations

import numpy as np
import pytest

from subgpt.preference.loss import dpo_loss


@pytest.fixture(scope="module")
def reference(shared):
    with np.load(shared / "ref" / "dpo" / "reference.npz") as arrays:
        return dict(arrays)


def arguments(reference):
    return [reference[name] for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")]


def close(got, expected):
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


def test_losses_rewards_and_gradients(reference):
    seen = dpo_loss(*arguments(reference), beta=float(reference["beta"]))
    close(seen.losses, reference["loss"])
    close(seen.losses.mean(), reference["mean_loss"])
    close(seen.grad_chosen / len(seen.losses), reference["grad_chosen"])
    close(-seen.grad_chosen / len(seen.losses), reference["grad_rejected"])
    close(seen.reward_chosen, reference["reward_chosen"])
    close(seen.reward_rejected, reference["reward_rejected"])
    assert seen.losses[-1] == pytest.approx(np.log(2))


def test_smoothed_labels(reference):
    smoothing = float(reference["label_smoothing"])
    seen = dpo_loss(*arguments(reference), beta=float(reference["beta"]), label_smoothing=smoothing)
    close(seen.losses, reference["smoothed_loss"])
    close(seen.grad_chosen / len(seen.losses), reference["smoothed_grad_chosen"])


def test_answers_from_their_logits(reference):
    logits, labels = reference["answers/logits"], reference["answers/labels"]
    logs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    kept = labels[:, 1:] != -100
    picked = np.take_along_axis(logs[:, :-1], np.where(kept, labels[:, 1:], 0)[..., None], -1)[..., 0]
    logp = (picked * kept).sum(1)
    close(logp, reference["answers/logp"])
    beta = float(reference["beta"])
    seen = dpo_loss(*logp.reshape(2, -1), *reference["answers/ref_logp"].reshape(2, -1), beta=beta)
    close(seen.losses.mean(), reference["answers/mean_loss"])
