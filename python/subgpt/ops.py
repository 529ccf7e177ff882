"""The kernels on NumPy arrays, each forward beside its backward.

Arrays are float32; other dtypes raise :class:`~subgpt.DtypeError`, wrong shapes :class:`~subgpt.ShapeError`.
Strided arrays are copied to contiguous ones (``matmul`` reads any positive strides as they are). The GIL is released,
and work is split over the threads of :func:`subgpt.set_num_threads`. Results have the same bits for any number of
threads.

A backward takes the forward's inputs (or its result, where that is enough) and the gradient of the result, and
returns the gradients of the inputs in order.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from subgpt import _core
from subgpt.errors import DtypeError, InvalidValueError, ShapeError

if TYPE_CHECKING:
    import numpy.typing as npt

    from subgpt._core import F32, Ints

_ops = _core.ops

__all__ = [
    "attention",
    "attention_backward",
    "cross_entropy",
    "cross_entropy_backward",
    "dropout",
    "dropout_backward",
    "embedding",
    "embedding_backward",
    "geglu",
    "geglu_backward",
    "gelu",
    "gelu_backward",
    "layer_norm",
    "layer_norm_backward",
    "linear",
    "linear_backward",
    "log_softmax",
    "log_softmax_backward",
    "matmul",
    "matmul_backward",
    "rms_norm",
    "rms_norm_backward",
    "rope",
    "rope_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "swiglu",
    "swiglu_backward",
]


def _check_array(x: object, name: str) -> None:
    """Refuse what is no array, in the words of the native module, which sees only what has a shape."""
    if not isinstance(x, np.ndarray):
        raise DtypeError(
            f"{name} must be a NumPy array of dtype float32, not {type(x).__name__}; use np.asarray(x, np.float32)"
        )


def _check_same_shape(op: str, **arrays: F32) -> None:
    """Refuse what is no array, and arrays that differ in shape from the first."""
    for name, x in arrays.items():
        _check_array(x, name)
    first, shape = next((name, x.shape) for name, x in arrays.items())
    for name, x in arrays.items():
        if x.shape != shape:
            raise ShapeError(f"{op}: {name} has shape {x.shape}, expected {shape} as {first}")


def _rows(x: F32, name: str) -> F32:
    """``x`` (..., C) as (N, C)."""
    _check_array(x, name)
    if np.ndim(x) == 0:
        raise ShapeError(f"{name} has no dimensions, expected at least one")
    return x.reshape(-1, x.shape[-1]) if x.shape[-1] else x.reshape(0, 0)


def matmul(a: F32, b: F32) -> F32:
    """The matrix product ``a @ b``.

    Args:
        a: (..., M, K).
        b: (..., K, N), with the same leading dimensions.

    Returns:
        (..., M, N).

    >>> import numpy as np
    >>> matmul(np.eye(2, dtype=np.float32), np.full((2, 3), 2, np.float32))
    array([[2., 2., 2.],
           [2., 2., 2.]], dtype=float32)

    """
    _check_array(a, "a")
    _check_array(b, "b")
    if np.ndim(a) < 2 or np.ndim(b) < 2 or a.shape[:-2] != b.shape[:-2]:
        raise ShapeError(
            f"matmul: a has shape {np.shape(a)} and b {np.shape(b)}; expected (..., M, K) and (..., K, N)"
        )
    if a.ndim == 2:
        return _ops.matmul(a, b)
    out = np.empty((*a.shape[:-1], b.shape[-1]), np.float32)
    for i in np.ndindex(a.shape[:-2]):
        out[i] = _ops.matmul(a[i], b[i])
    return out


def matmul_backward(a: F32, b: F32, dc: F32) -> tuple[F32, F32]:
    """Gradients of ``a`` and ``b``: ``dc @ b.T`` and ``a.T @ dc``; ``dc`` is (..., M, N)."""
    return matmul(dc, np.swapaxes(b, -1, -2)), matmul(np.swapaxes(a, -1, -2), dc)


def linear(x: F32, weight: F32, bias: F32 | None = None) -> F32:
    """``x @ weight.T + bias``, as ``torch.nn.functional.linear``.

    Args:
        x: (..., K).
        weight: (N, K).
        bias: (N,).

    Returns:
        (..., N).

    """
    _check_array(weight, "weight")
    y = matmul(_rows(x, "x"), weight.T)
    if bias is not None:
        _check_array(bias, "bias")
        if bias.dtype != np.float32:  # NumPy adds it, to which every dtype is one
            raise DtypeError(
                f"bias must be a NumPy array of dtype float32, not an array of dtype {bias.dtype} and shape "
                f"{bias.shape}; use np.asarray(bias, np.float32)"
            )
        if bias.shape != (weight.shape[0],):
            raise ShapeError(f"linear: bias has shape {bias.shape}, expected ({weight.shape[0]},)")
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[0])


def linear_backward(x: F32, weight: F32, dy: F32) -> tuple[F32, F32, F32]:
    """Gradients of ``x`` (..., K), ``weight`` (N, K) and ``bias`` (N,); ``dy`` is (..., N)."""
    columns, rows = _rows(x, "x"), _rows(dy, "dy")
    _check_array(weight, "weight")
    if weight.ndim != 2:
        raise ShapeError(f"linear_backward: weight has shape {weight.shape}, expected (N, K)")
    if dy.shape != (*x.shape[:-1], weight.shape[0]):
        raise ShapeError(
            f"linear_backward: dy has shape {dy.shape}, expected {(*x.shape[:-1], weight.shape[0])}"
        )
    dx = matmul(rows, weight).reshape(x.shape)
    ones = np.ones((1, rows.shape[0]), np.float32)
    return dx, matmul(rows.T, columns), matmul(ones, rows)[0]


def softmax(x: F32) -> F32:
    """Softmax over the last axis of ``x`` (..., C). A row may hold ``-inf``."""
    return _ops.softmax(_rows(x, "x"), False).reshape(x.shape)


def softmax_backward(y: F32, dy: F32) -> F32:
    """Gradient of ``x`` from the result ``y`` and its gradient ``dy``, both (..., C)."""
    _check_same_shape("softmax_backward", y=y, dy=dy)
    return _ops.softmax_backward(_rows(y, "y"), _rows(dy, "dy"), False).reshape(y.shape)


def log_softmax(x: F32) -> F32:
    """Logarithm of the softmax over the last axis of ``x`` (..., C), in nats."""
    return _ops.softmax(_rows(x, "x"), True).reshape(x.shape)


def log_softmax_backward(y: F32, dy: F32) -> F32:
    """Gradient of ``x`` from the result ``y`` and its gradient ``dy``, both (..., C)."""
    _check_same_shape("log_softmax_backward", y=y, dy=dy)
    return _ops.softmax_backward(_rows(y, "y"), _rows(dy, "dy"), True).reshape(y.shape)


def layer_norm(x: F32, weight: F32, bias: F32 | None = None, eps: float = 1e-5) -> F32:
    """Layer normalisation over the last axis (Ba et al. 2016).

    Args:
        x: (..., C).
        weight: (C,), the gain.
        bias: (C,) or None.
        eps: Added to the variance.

    Returns:
        (..., C).

    """
    return _ops.layer_norm(_rows(x, "x"), weight, bias, eps)[0].reshape(x.shape)


def layer_norm_backward(x: F32, weight: F32, dy: F32, eps: float = 1e-5) -> tuple[F32, F32, F32]:
    """Gradients of ``x`` (..., C), ``weight`` (C,) and ``bias`` (C,); ``dy`` is (..., C)."""
    _check_same_shape("layer_norm_backward", x=x, dy=dy)
    rows = _rows(x, "x")
    _, mean, rstd = _ops.layer_norm(rows, weight, None, eps)
    dx, dweight, dbias = _ops.layer_norm_backward(rows, weight, mean, rstd, _rows(dy, "dy"))
    return dx.reshape(x.shape), dweight, dbias


def rms_norm(x: F32, weight: F32, eps: float = 1e-5, offset: float = 0.0) -> F32:
    """Root mean square normalisation over the last axis (Zhang and Sennrich 2019).

    Args:
        x: (..., C).
        weight: (C,), the gain less ``offset``.
        eps: Added to the mean square.
        offset: Added to ``weight``: 0 for Llama, 1 for Gemma.

    Returns:
        (..., C).

    """
    return _ops.rms_norm(_rows(x, "x"), weight, eps, offset)[0].reshape(x.shape)


def rms_norm_backward(
    x: F32, weight: F32, dy: F32, eps: float = 1e-5, offset: float = 0.0
) -> tuple[F32, F32]:
    """Gradients of ``x`` (..., C) and ``weight`` (C,); ``dy`` is (..., C)."""
    _check_same_shape("rms_norm_backward", x=x, dy=dy)
    rows = _rows(x, "x")
    _, rstd = _ops.rms_norm(rows, weight, eps, offset)
    dx, dweight = _ops.rms_norm_backward(rows, weight, rstd, _rows(dy, "dy"), offset)
    return dx.reshape(x.shape), dweight


def _is_tanh(approximate: str) -> bool:
    if approximate not in ("none", "tanh"):
        raise InvalidValueError(f'gelu: approximate is {approximate!r}; it must be "none" or "tanh"')
    return approximate == "tanh"


def gelu(x: F32, approximate: str = "none") -> F32:
    """GELU (Hendrycks and Gimpel 2016) of every element; ``approximate`` is "none" (erf) or "tanh"."""
    return _ops.gelu(x, _is_tanh(approximate)).reshape(x.shape)


def gelu_backward(x: F32, dy: F32, approximate: str = "none") -> F32:
    """Gradient of ``x``; ``dy`` has its shape."""
    _check_same_shape("gelu_backward", x=x, dy=dy)
    return _ops.gelu_backward(x, dy, _is_tanh(approximate)).reshape(x.shape)


def silu(x: F32) -> F32:
    """``x * sigmoid(x)`` of every element."""
    return _ops.silu(x).reshape(x.shape)


def silu_backward(x: F32, dy: F32) -> F32:
    """Gradient of ``x``; ``dy`` has its shape."""
    _check_same_shape("silu_backward", x=x, dy=dy)
    return _ops.silu_backward(x, dy).reshape(x.shape)


def swiglu(gate: F32, up: F32) -> F32:
    """``silu(gate) * up`` (Shazeer 2020); both have the same shape."""
    _check_same_shape("swiglu", gate=gate, up=up)
    return _ops.swiglu(gate, up).reshape(gate.shape)


def swiglu_backward(gate: F32, up: F32, dy: F32) -> tuple[F32, F32]:
    """Gradients of ``gate`` and ``up``; ``dy`` has their shape."""
    _check_same_shape("swiglu_backward", gate=gate, up=up, dy=dy)
    dgate, dup = _ops.swiglu_backward(gate, up, dy)
    return dgate.reshape(gate.shape), dup.reshape(up.shape)


def geglu(gate: F32, up: F32) -> F32:
    """``gelu(gate) * up``, GELU by tanh, as Gemma has it (Shazeer 2020); both have the same shape."""
    _check_same_shape("geglu", gate=gate, up=up)
    return _ops.geglu(gate, up).reshape(gate.shape)


def geglu_backward(gate: F32, up: F32, dy: F32) -> tuple[F32, F32]:
    """Gradients of ``gate`` and ``up``; ``dy`` has their shape."""
    _check_same_shape("geglu_backward", gate=gate, up=up, dy=dy)
    dgate, dup = _ops.geglu_backward(gate, up, dy)
    return dgate.reshape(gate.shape), dup.reshape(up.shape)


def rope(x: F32, positions: Ints, theta: float = 10000.0, interleaved: bool = False) -> F32:
    """Rotary position embedding (Su et al. 2021).

    Args:
        x: (..., T, D) with even D.
        positions: (T,).
        theta: Base of the frequencies.
        interleaved: Rotate neighbours (2i, 2i + 1) as llama2.c does; otherwise (i, i + D/2) as Hugging Face does.

    Returns:
        (..., T, D).

    """
    return _rotate(x, positions, theta, interleaved, False)


def rope_backward(dy: F32, positions: Ints, theta: float = 10000.0, interleaved: bool = False) -> F32:
    """Gradient of ``x``: the rotation by the opposite angles; ``dy`` is (..., T, D)."""
    return _rotate(dy, positions, theta, interleaved, True)


def _rotate(x: F32, positions: Ints, theta: float, interleaved: bool, backward: bool) -> F32:
    _check_array(x, "x")
    if np.ndim(x) < 2:
        raise ShapeError(f"rope: x has shape {np.shape(x)}, expected (..., T, D)")
    heads = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    return _ops.rope(heads, positions, theta, interleaved, backward).reshape(x.shape)


def attention(
    q: F32,
    k: F32,
    v: F32,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> F32:
    """Causal attention (Vaswani et al. 2017), tiled so that no T x T matrix is ever in memory.

    Args:
        q: (B, H, Tq, D). Query ``i`` sits at position ``Tk - Tq + i``.
        k: (B, Hkv, Tk, D) with H a multiple of Hkv: query head h reads key head ``h // (H // Hkv)``.
        v: As k.
        scale: Factor of the scores; 1 / sqrt(D) by default.
        window: How many keys a query sees, its own included; all by default.
        softcap: Scores become ``softcap * tanh(score / softcap)``; not by default.

    Returns:
        (B, H, Tq, D).

    """
    return _ops.attention(q, k, v, scale, window, softcap)[0]


def attention_backward(
    q: F32,
    k: F32,
    v: F32,
    dout: F32,
    *,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
) -> tuple[F32, F32, F32]:
    """Gradients of ``q``, ``k`` and ``v``; ``dout`` has q's shape."""
    out, lse = _ops.attention(q, k, v, scale, window, softcap)
    return _ops.attention_backward(q, k, v, out, lse, dout, scale, window, softcap)


def _flat_targets(logits: F32, targets: Ints) -> npt.NDArray[np.int64]:
    """Give ``targets`` (...) as (N,), which belong to ``logits`` (..., V)."""
    found: npt.NDArray[np.int64] = np.asarray(targets)
    if found.shape != logits.shape[:-1]:
        raise ShapeError(f"cross_entropy: targets has shape {found.shape}, expected {logits.shape[:-1]}")
    return found.reshape(-1)


def cross_entropy(
    logits: F32, targets: Ints, *, ignore_index: int = -100, label_smoothing: float = 0.0
) -> F32:
    """The loss of each position in nats, 0 where its target is ``ignore_index``.

    Args:
        logits: (..., V).
        targets: (...), integers in [0, V) or ``ignore_index``.
        ignore_index: Positions with this target do not count.
        label_smoothing: Share of the target spread evenly over the vocabulary.

    Returns:
        (...).

    """
    rows, flat = _rows(logits, "logits"), _flat_targets(logits, targets)
    return _ops.cross_entropy(rows, flat, ignore_index, label_smoothing).reshape(logits.shape[:-1])


def cross_entropy_backward(
    logits: F32,
    targets: Ints,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    scale: float = 1.0,
) -> F32:
    """``scale`` times the gradient of the sum of the losses; ``scale = 1 / kept`` gives that of the mean."""
    rows, flat = _rows(logits, "logits"), _flat_targets(logits, targets)
    return _ops.cross_entropy_backward(rows, flat, ignore_index, label_smoothing, scale).reshape(logits.shape)


def embedding(weight: F32, ids: Ints) -> F32:
    """Rows of ``weight`` (V, C) by ``ids`` (...): (..., C)."""
    shape = np.shape(ids)
    return _ops.embedding(weight, np.asarray(ids).reshape(-1)).reshape(*shape, weight.shape[-1])


def embedding_backward(ids: Ints, dout: F32, vocab_size: int) -> F32:
    """Gradient (V, C) of the weight; rows that occur several times are added in the order of ``ids``.

    ``dout`` is (..., C), with the shape of ``ids`` in front.
    """
    rows, found = _rows(dout, "dout"), np.asarray(ids)
    if dout.shape[:-1] != found.shape:
        expected = ", ".join(map(str, (*found.shape, "C")))
        raise ShapeError(f"embedding_backward: dout has shape {dout.shape}, expected ({expected})")
    return _ops.embedding_backward(found.reshape(-1), rows, vocab_size)


def dropout(x: F32, p: float, *, seed: int, step: int = 0) -> F32:
    """Each element kept with probability ``1 - p`` and scaled by ``1 / (1 - p)``, or 0 (Srivastava et al. 2014).

    The mask depends on ``(seed, step, index)`` alone, so the same call gives it again.
    """
    return _ops.dropout(x, p, seed, step).reshape(x.shape)


def dropout_backward(dy: F32, p: float, *, seed: int, step: int = 0) -> F32:
    """Gradient of ``x``: the same mask on ``dy``."""
    return dropout(dy, p, seed=seed, step=step)
