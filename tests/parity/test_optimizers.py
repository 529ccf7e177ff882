"""Updates against torch.optim's, from the same weights and gradients."""

from __future__ import annotations

import numpy as np
import pytest

from subgpt import GPT, AdamW, GPTConfig, Muon

torch = pytest.importorskip("torch")

STEPS = 5


@pytest.fixture
def model():
    shape = {"vocab_size": 31, "block_size": 12, "n_layer": 2, "n_head": 3, "n_embd": 24}
    return GPT(GPTConfig(**shape), seed=4)


def is_hidden(name, weight):
    return ".h." in name and weight.ndim == 2


def split(name, value):
    """The matrices of a tensor as torch has them: (out, in), query, key and value apart."""
    return [part.T.copy() for part in np.split(value, 3 if "c_attn" in name else 1, axis=1)]


def run(model, optimizer, theirs, max_norm):
    """Takes some steps here and there; `theirs` maps each name to torch's parameters for it."""
    rng = np.random.default_rng(0)
    for step in range(STEPS):
        ids = rng.integers(0, model.config.vocab_size, (3, 13))
        model.backward(ids[:, :-1], ids[:, 1:], scale=10.0)
        for name, grad in model.grads().items():
            parts = split(name, grad) if is_hidden(name, grad) else [grad]
            for parameter, part in zip(theirs[name], parts, strict=True):
                parameter.grad = torch.from_numpy(part)
        parameters = [p for group in theirs.values() for p in group]
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_norm)
        assert model.clip_grad_norm(max_norm) == pytest.approx(float(norm), rel=1e-5)
        optimizer.step()
        yield step
        model.zero_grad()


def parameters(model):
    return {
        name: [
            torch.nn.Parameter(torch.from_numpy(part))
            for part in (split(name, weight) if is_hidden(name, weight) else [weight.copy()])
        ]
        for name, weight in model.state_dict().items()
    }


def difference(model, theirs, names):
    """The largest difference between any of our weights and torch's."""
    worst = 0.0
    for name in names:
        weight = model.native.tensor(name, "param")
        parts = split(name, weight) if is_hidden(name, weight) else [weight]
        for part, parameter in zip(parts, theirs[name], strict=True):
            worst = max(worst, float(np.abs(part - parameter.detach().numpy()).max()))
    return worst


def test_clipping_and_adamw(model):
    theirs = parameters(model)
    flat = [p for group in theirs.values() for p in group]
    adamw = torch.optim.AdamW(flat, lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    for _ in run(model, AdamW(model, 0.01, decay="all"), theirs, 1.0):
        adamw.step()
    names = [
        name for name in theirs if not name.endswith("c_attn.bias")
    ]  # a third of which is rounding noise
    assert difference(model, theirs, names) < 2e-5


def in_float32(grad, coefficients, steps, eps):
    """What torch computes in bfloat16, in the precision of this package."""
    x = grad if grad.size(0) <= grad.size(1) else grad.T
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        a = x @ x.T
        x = coefficients[0] * x + (coefficients[1] * a + coefficients[2] * a @ a) @ x
    return x if grad.size(0) <= grad.size(1) else x.T


@pytest.mark.parametrize("adjust_lr", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("exact", [True, False])
def test_muon(model, adjust_lr, exact, monkeypatch):
    if not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    if exact:
        monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", in_float32)
    before, theirs = model.state_dict(), parameters(model)
    hidden = [name for name, weight in before.items() if is_hidden(name, weight)]
    matrices = [p for name in hidden for p in theirs[name]]
    rest = {name: group for name, group in theirs.items() if name not in hidden}
    muon = torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn=adjust_lr)
    decayed = [p for group in rest.values() for p in group if p.ndim >= 2]
    vectors = [p for group in rest.values() for p in group if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    adamw = torch.optim.AdamW(groups, lr=0.003, betas=(0.9, 0.95), eps=1e-8)
    ours = Muon(model, 0.02, adam_learning_rate=0.003, adjust_lr=adjust_lr)
    for _ in run(model, ours, theirs, 1.0):
        muon.step()
        adamw.step()
    if exact:
        assert difference(model, theirs, hidden) < 5e-5
        names = [name for name in rest if not name.endswith("c_attn.bias")]
        assert difference(model, theirs, names) < 2e-5
        return
    # In bfloat16 the same direction, but for its rounding.
    for name in hidden:
        start, end = split(name, before[name]), split(name, model.native.tensor(name, "param"))
        for first, last, parameter in zip(start, end, theirs[name], strict=True):
            here, there = (last - first).ravel(), (parameter.detach().numpy() - first).ravel()
            assert here @ there > 0.99 * np.linalg.norm(here) * np.linalg.norm(there), name
            assert np.linalg.norm(here) == pytest.approx(np.linalg.norm(there), rel=0.05), name
