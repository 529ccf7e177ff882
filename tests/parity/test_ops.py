"""Every kernel against PyTorch's results in float64 (`../shared/ref/ops`), on every instruction set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from subgpt import ops

TOLERANCE = 1e-5  # of the largest element, as the references' README says for float32 code

Arrays = dict[str, np.ndarray]


def cases(shared: Path, op: str) -> dict[str, Arrays]:
    """The file's arrays by case; float inputs as float32, which holds them exactly."""
    out: dict[str, Arrays] = {}
    with np.load(shared / "ref" / "ops" / f"{op}.npz") as file:
        for key in file.files:
            name, rest = key.split("/", 1)
            value = file[key]
            out.setdefault(name, {})[rest] = value
    return out


def softmax_f64(x: np.ndarray) -> np.ndarray:
    y = np.exp(x.astype(np.float64) - x.max(-1, keepdims=True))
    return y / y.sum(-1, keepdims=True)


def f32(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float32)


def close(got: np.ndarray, want: np.ndarray, what: str) -> None:
    assert got.shape == want.shape, what
    scale = np.abs(want[np.isfinite(want)]).max(
        initial=0.1
    )  # a true zero has the rounding noise of its terms
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE * scale, err_msg=what)


def check(case: Arrays, out: np.ndarray, grads: dict[str, np.ndarray], name: str) -> None:
    close(out, case["out"], f"{name}: out")
    wanted = {key.removeprefix("grad/") for key in case if key.startswith("grad/")}
    assert wanted == set(grads), name
    for key, grad in grads.items():
        close(grad, case[f"grad/{key}"], f"{name}: gradient of {key}")


def run(
    shared: Path, op: str, each: Callable[[str, Arrays, Arrays], tuple[np.ndarray, dict[str, np.ndarray]]]
) -> None:
    found = cases(shared, op)
    assert found
    for name, case in found.items():
        floats = {k: f32(v) if np.asarray(v).dtype == np.float64 else v for k, v in case.items()}
        out, grads = each(name, floats, case)
        check(case, out, grads, f"{op}/{name}")


@pytest.mark.usefixtures("every_isa")
class TestOps:
    def test_matmul(self, shared):
        def each(name, x, _):
            if name == "linear":
                dx, dw, db = ops.linear_backward(x["x"], x["weight"], x["up"])
                return ops.linear(x["x"], x["weight"], x["bias"]), {"x": dx, "weight": dw, "bias": db}
            da, db = ops.matmul_backward(x["a"], x["b"], x["up"])
            return ops.matmul(x["a"], x["b"]), {"a": da, "b": db}

        run(shared, "matmul", each)

    def test_softmax(self, shared):
        def each(name, x, case):
            if (
                name == "rows"
            ):  # offsets of 1e4 are rounded to float32: the reference starts from the rounded numbers
                case["out"] = y = softmax_f64(x["x"])
                case["grad/x"] = y * (case["up"] - (y * case["up"]).sum(-1, keepdims=True))
            if name == "log":
                y = ops.log_softmax(x["x"])
                return y, {"x": ops.log_softmax_backward(y, x["up"])}
            masked = name == "masked"
            inner = (
                np.where(np.triu(np.ones((9, 9), bool), 1), np.float32(-np.inf), x["x"]) if masked else x["x"]
            )
            y = ops.softmax(inner)
            return y, {"x": ops.softmax_backward(y, x["up"])}

        run(shared, "softmax", each)

    def test_layer_norm(self, shared):
        def each(_, x, __):
            bias = x.get("bias")
            dx, dw, db = ops.layer_norm_backward(x["x"], x["weight"], x["up"])
            grads = {"x": dx, "weight": dw} | ({} if bias is None else {"bias": db})
            return ops.layer_norm(x["x"], x["weight"], bias), grads

        run(shared, "layer_norm", each)

    def test_rms_norm(self, shared):
        def each(name, x, case):
            eps, offset = float(case["eps"]), 1.0 if name == "gemma" else 0.0
            dx, dw = ops.rms_norm_backward(x["x"], x["weight"], x["up"], eps, offset)
            return ops.rms_norm(x["x"], x["weight"], eps, offset), {"x": dx, "weight": dw}

        run(shared, "rms_norm", each)

    def test_gelu(self, shared):
        def each(name, x, _):
            kind = "tanh" if name == "tanh" else "none"
            return ops.gelu(x["x"], kind), {"x": ops.gelu_backward(x["x"], x["up"], kind)}

        run(shared, "gelu", each)

    def test_swiglu(self, shared):
        def mlp(x):
            gate, up = ops.linear(x["x"], x["w_gate"]), ops.linear(x["x"], x["w_up"])
            inner = ops.swiglu(gate, up)
            dinner, dw_down, _ = ops.linear_backward(inner, x["w_down"], x["up"])
            dgate, dup = ops.swiglu_backward(gate, up, dinner)
            dx1, dw_gate, _ = ops.linear_backward(x["x"], x["w_gate"], dgate)
            dx2, dw_up, _ = ops.linear_backward(x["x"], x["w_up"], dup)
            grads = {"x": dx1 + dx2, "w_gate": dw_gate, "w_up": dw_up, "w_down": dw_down}
            return ops.linear(inner, x["w_down"]), grads

        def each(name, x, _):
            if name == "silu":
                return ops.silu(x["x"]), {"x": ops.silu_backward(x["x"], x["up"])}
            if name == "mlp":
                return mlp(x)
            gelu = name == "geglu_tanh"
            forward, backward = (ops.geglu, ops.geglu_backward) if gelu else (ops.swiglu, ops.swiglu_backward)
            dgate, dup = backward(x["gate"], x["up_proj"], x["up"])
            return forward(x["gate"], x["up_proj"]), {"gate": dgate, "up_proj": dup}

        run(shared, "swiglu", each)

    def test_rope(self, shared):
        def each(name, x, case):
            options = {"theta": float(case["theta"]), "interleaved": name.startswith("interleaved")}
            y = ops.rope(x["x"], case["positions"], **options)
            return y, {"x": ops.rope_backward(x["up"], case["positions"], **options)}

        run(shared, "rope", each)

    def test_attention(self, shared):
        def each(_, x, case):
            options = {k: float(case[k]) for k in ("softcap", "scale") if k in case}
            if "window" in case:
                options["window"] = int(case["window"])
            dq, dk, dv = ops.attention_backward(x["q"], x["k"], x["v"], x["up"], **options)
            return ops.attention(x["q"], x["k"], x["v"], **options), {"q": dq, "k": dk, "v": dv}

        run(shared, "attention", each)

    def test_cross_entropy(self, shared):
        def each(name, x, case):
            smoothing = 0.1 if name == "smoothed" else 0.0
            losses = ops.cross_entropy(x["logits"], case["labels"], label_smoothing=smoothing)
            kept = max(int((case["labels"] != -100).sum()), 1)
            if name in ("mean", "sum", "none"):  # one offset of 3e3 is rounded to float32, as above
                onehot = case["labels"][..., None] == np.arange(x["logits"].shape[-1])
                keep = (case["labels"] != -100)[..., None]
                weight = 1 / kept if name == "mean" else 1.0
                weight = case["up"].reshape(*losses.shape, 1) if name == "none" else weight
                case["grad/logits"] = (softmax_f64(x["logits"]) - onehot) * keep * weight
            if name == "none":
                unit = ops.cross_entropy_backward(x["logits"], case["labels"])
                return losses.reshape(-1), {"logits": unit * x["up"].reshape(*unit.shape[:-1], 1)}
            scale = 1.0 if name == "sum" else 1.0 / kept
            grad = ops.cross_entropy_backward(
                x["logits"], case["labels"], label_smoothing=smoothing, scale=scale * float(x["up"])
            )
            return np.asarray(losses.sum(dtype=np.float64) * scale), {"logits": grad}

        run(shared, "cross_entropy", each)

    def test_embedding(self, shared):
        def each(_, x, case):
            grad = ops.embedding_backward(case["ids"], x["up"], x["weight"].shape[0])
            return ops.embedding(x["weight"], case["ids"]), {"weight": grad}

        run(shared, "embedding", each)
