//! The kernels on arrays. Python (`python/subgpt/ops.py`) flattens leading dimensions and fills in defaults; here shapes
//! become views and results become arrays.

use crate::arrays::{self, Floats, to_numpy};
use crate::door;
use crate::errors::ShapeError;
use ndarray::{Array, ArrayView, Dimension, Ix2, Ix3, Ix4};
use numpy::PyArrayDyn;
use pyo3::prelude::*;
use subgpt_core::kernels::attention::Options;
use subgpt_core::kernels::dropout::Dropout;
use subgpt_core::kernels::gelu::Gelu;
use subgpt_core::kernels::matmul::Epilogue;
use subgpt_core::kernels::{self, Beta};

type Out<'py> = Bound<'py, PyArrayDyn<f32>>;

/// `value` as a view with `D`'s number of dimensions.
fn view<'a, D: Dimension>(value: &'a Floats<'_>, name: &str) -> PyResult<ArrayView<'a, f32, D>> {
    let shape = value.shape().to_vec();
    value.view().into_dimensionality::<D>().map_err(|_| {
        let expected = D::NDIM.unwrap_or_default();
        ShapeError::new_err(format!("{name} has shape {shape:?}, expected {expected} dimensions"))
    })
}

fn array<'py, D: Dimension>(py: Python<'py>, value: Array<f32, D>) -> PyResult<Out<'py>> {
    let shape = value.shape().to_vec();
    to_numpy(py, value.into_raw_vec_and_offset().0, &shape)
}

fn vector<'py>(py: Python<'py>, value: Vec<f32>) -> PyResult<Out<'py>> {
    let len = value.len();
    to_numpy(py, value, &[len])
}

/// a (M, K) b (K, N).
#[pyfunction]
fn matmul<'py>(py: Python<'py>, a: &Bound<'py, PyAny>, b: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    let (a, b) = (Floats::strided(a, "a")?, Floats::strided(b, "b")?);
    let (a, b) = (view::<Ix2>(&a, "a")?, view::<Ix2>(&b, "b")?);
    let mut c = Array::zeros((a.nrows(), b.ncols()));
    door::enter(py, || kernels::matmul::matmul(a, b, c.view_mut(), Beta::Overwrite, Epilogue::default()))?;
    array(py, c)
}

/// Softmax of the rows of x (N, C), or its logarithm.
#[pyfunction]
fn softmax<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, log: bool) -> PyResult<Out<'py>> {
    let x = Floats::new(x, "x")?;
    let x = view::<Ix2>(&x, "x")?;
    let mut y = Array::zeros(x.raw_dim());
    door::enter(py, || {
        if log { kernels::softmax::log_softmax(x, y.view_mut()) } else { kernels::softmax::softmax(x, y.view_mut()) }
    })?;
    array(py, y)
}

/// Gradient of x from the result y and its gradient.
#[pyfunction]
fn softmax_backward<'py>(
    py: Python<'py>,
    y: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    log: bool,
) -> PyResult<Out<'py>> {
    let (y, dy) = (Floats::new(y, "y")?, Floats::new(dy, "dy")?);
    let (y, dy) = (view::<Ix2>(&y, "y")?, view::<Ix2>(&dy, "dy")?);
    let mut dx = Array::zeros(y.raw_dim());
    door::enter(py, || match log {
        true => kernels::softmax::log_softmax_backward(y, dy, dx.view_mut()),
        false => kernels::softmax::softmax_backward(y, dy, dx.view_mut()),
    })?;
    array(py, dx)
}

/// y, mean and reciprocal deviation of the rows of x (N, C).
#[pyfunction]
fn layer_norm<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    bias: Option<&Bound<'py, PyAny>>,
    eps: f32,
) -> PyResult<(Out<'py>, Out<'py>, Out<'py>)> {
    let (x, weight) = (Floats::new(x, "x")?, Floats::new(weight, "weight")?);
    let bias = bias.map(|b| Floats::new(b, "bias")).transpose()?;
    let (x, weight) = (view::<Ix2>(&x, "x")?, weight.slice()?);
    let bias = bias.as_ref().map(Floats::slice).transpose()?;
    let mut y = Array::zeros(x.raw_dim());
    let (mut mean, mut rstd) = (vec![0.0; x.nrows()], vec![0.0; x.nrows()]);
    door::enter(py, || kernels::layer_norm::layer_norm(x, weight, bias, eps, y.view_mut(), &mut mean, &mut rstd))?;
    Ok((array(py, y)?, vector(py, mean)?, vector(py, rstd)?))
}

/// Gradients of x, weight and bias.
#[pyfunction]
fn layer_norm_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    mean: &Bound<'py, PyAny>,
    rstd: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
) -> PyResult<(Out<'py>, Out<'py>, Out<'py>)> {
    let (x, dy) = (Floats::new(x, "x")?, Floats::new(dy, "dy")?);
    let (weight, mean, rstd) = (Floats::new(weight, "weight")?, Floats::new(mean, "mean")?, Floats::new(rstd, "rstd")?);
    let (x, dy) = (view::<Ix2>(&x, "x")?, view::<Ix2>(&dy, "dy")?);
    let (weight, mean, rstd) = (weight.slice()?, mean.slice()?, rstd.slice()?);
    let mut dx = Array::zeros(x.raw_dim());
    let (mut dw, mut db) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
    door::enter(py, || {
        kernels::layer_norm::layer_norm_backward(
            x,
            weight,
            mean,
            rstd,
            dy,
            dx.view_mut(),
            Beta::Overwrite,
            &mut dw,
            Some(&mut db),
        )
    })?;
    Ok((array(py, dx)?, vector(py, dw)?, vector(py, db)?))
}

fn gelu_kind(tanh: bool) -> Gelu {
    if tanh { Gelu::Tanh } else { Gelu::Erf }
}

/// GELU of x (N,).
#[pyfunction]
fn gelu<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, tanh: bool) -> PyResult<Out<'py>> {
    let x = Floats::new(x, "x")?;
    let x = x.slice()?;
    let mut y = vec![0.0; x.len()];
    door::enter(py, || kernels::gelu::gelu(gelu_kind(tanh), x, &mut y))?;
    vector(py, y)
}

/// Gradient of x (N,).
#[pyfunction]
fn gelu_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    tanh: bool,
) -> PyResult<Out<'py>> {
    let (x, dy) = (Floats::new(x, "x")?, Floats::new(dy, "dy")?);
    let (x, dy) = (x.slice()?, dy.slice()?);
    let mut dx = vec![0.0; x.len()];
    door::enter(py, || kernels::gelu::gelu_backward(gelu_kind(tanh), x, dy, &mut dx))?;
    vector(py, dx)
}

/// x (N,) with elements dropped; its own backward.
#[pyfunction]
fn dropout<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, p: f32, seed: u64, step: u64) -> PyResult<Out<'py>> {
    let x = Floats::new(x, "x")?;
    let mut y = x.slice()?.to_vec();
    door::enter(py, || kernels::dropout::dropout(&mut y, Dropout { p, seed, substream: step }))?;
    vector(py, y)
}

/// Rows of weight (V, C) by ids (N,).
#[pyfunction]
fn embedding<'py>(py: Python<'py>, weight: &Bound<'py, PyAny>, ids: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    let (weight, ids) = (Floats::new(weight, "weight")?, arrays::ids_1d(ids, "ids")?);
    let weight = view::<Ix2>(&weight, "weight")?;
    let mut out = Array::zeros((ids.len(), weight.ncols()));
    door::enter(py, || kernels::embedding::embedding(weight, &ids, out.view_mut()))?;
    array(py, out)
}

/// Gradient (V, C) of the weight.
#[pyfunction]
fn embedding_backward<'py>(
    py: Python<'py>,
    ids: &Bound<'py, PyAny>,
    dout: &Bound<'py, PyAny>,
    vocab_size: usize,
) -> PyResult<Out<'py>> {
    let (ids, dout) = (arrays::ids_1d(ids, "ids")?, Floats::new(dout, "dout")?);
    let dout = view::<Ix2>(&dout, "dout")?;
    let mut dweight = Array::zeros((vocab_size, dout.ncols()));
    door::enter(py, || kernels::embedding::embedding_backward(&ids, dout, dweight.view_mut()))?;
    array(py, dweight)
}

/// Loss (N,) of each row of logits (N, V).
#[pyfunction]
fn cross_entropy<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    ignore_index: i64,
    label_smoothing: f32,
) -> PyResult<Out<'py>> {
    let logits = Floats::new(logits, "logits")?;
    let targets: Vec<i64> = arrays::integers(targets, "targets")?.into_iter().collect();
    let logits = view::<Ix2>(&logits, "logits")?;
    let mut losses = vec![0.0; logits.nrows()];
    door::enter(py, || {
        kernels::cross_entropy::cross_entropy(logits, &targets, ignore_index, label_smoothing, &mut losses)
    })?;
    vector(py, losses)
}

/// scale x the gradient (N, V) of the sum of losses.
#[pyfunction]
fn cross_entropy_backward<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    targets: &Bound<'py, PyAny>,
    ignore_index: i64,
    label_smoothing: f32,
    scale: f32,
) -> PyResult<Out<'py>> {
    let logits = Floats::new(logits, "logits")?;
    let targets: Vec<i64> = arrays::integers(targets, "targets")?.into_iter().collect();
    let logits = view::<Ix2>(&logits, "logits")?;
    let mut d = Array::zeros(logits.raw_dim());
    door::enter(py, || {
        kernels::cross_entropy::cross_entropy_backward(
            logits,
            &targets,
            ignore_index,
            label_smoothing,
            scale,
            d.view_mut(),
        )
    })?;
    array(py, d)
}

fn options(scale: Option<f32>, window: Option<usize>, softcap: Option<f32>) -> Options {
    Options { scale, window, softcap, dropout: None }
}

/// out (B, H, Tq, D) and the log-sum-exp (B, H, Tq) of the scores.
#[pyfunction]
fn attention<'py>(
    py: Python<'py>,
    q: &Bound<'py, PyAny>,
    k: &Bound<'py, PyAny>,
    v: &Bound<'py, PyAny>,
    scale: Option<f32>,
    window: Option<usize>,
    softcap: Option<f32>,
) -> PyResult<(Out<'py>, Out<'py>)> {
    let (q, k, v) = (Floats::new(q, "q")?, Floats::new(k, "k")?, Floats::new(v, "v")?);
    let (q, k, v) = (view::<Ix4>(&q, "q")?, view::<Ix4>(&k, "k")?, view::<Ix4>(&v, "v")?);
    let (b, h, t, _) = q.dim();
    let (mut out, mut lse) = (Array::zeros(q.raw_dim()), Array::zeros((b, h, t)));
    let options = options(scale, window, softcap);
    door::enter(py, || kernels::attention::attention(q, k, v, &options, out.view_mut(), lse.view_mut()))?;
    Ok((array(py, out)?, array(py, lse)?))
}

/// Gradients of q, k and v.
#[pyfunction]
fn attention_backward<'py>(
    py: Python<'py>,
    q: &Bound<'py, PyAny>,
    k: &Bound<'py, PyAny>,
    v: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
    lse: &Bound<'py, PyAny>,
    dout: &Bound<'py, PyAny>,
    scale: Option<f32>,
    window: Option<usize>,
    softcap: Option<f32>,
) -> PyResult<(Out<'py>, Out<'py>, Out<'py>)> {
    let (q, k, v) = (Floats::new(q, "q")?, Floats::new(k, "k")?, Floats::new(v, "v")?);
    let (out, lse, dout) = (Floats::new(out, "out")?, Floats::new(lse, "lse")?, Floats::new(dout, "dout")?);
    let (q, k, v) = (view::<Ix4>(&q, "q")?, view::<Ix4>(&k, "k")?, view::<Ix4>(&v, "v")?);
    let (out, lse, dout) = (view::<Ix4>(&out, "out")?, view::<Ix3>(&lse, "lse")?, view::<Ix4>(&dout, "dout")?);
    let (mut dq, mut dk, mut dv) = (Array::zeros(q.raw_dim()), Array::zeros(k.raw_dim()), Array::zeros(v.raw_dim()));
    let options = options(scale, window, softcap);
    door::enter(py, || {
        let grads = (dq.view_mut(), dk.view_mut(), dv.view_mut());
        kernels::attention::attention_backward(q, k, v, out, lse, dout, &options, grads.0, grads.1, grads.2)
    })?;
    Ok((array(py, dq)?, array(py, dk)?, array(py, dv)?))
}

/// Adds this file's names to the submodule `ops`.
pub fn init(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let ops = PyModule::new(m.py(), "ops")?;
    ops.add_function(wrap_pyfunction!(matmul, &ops)?)?;
    ops.add_function(wrap_pyfunction!(softmax, &ops)?)?;
    ops.add_function(wrap_pyfunction!(softmax_backward, &ops)?)?;
    ops.add_function(wrap_pyfunction!(layer_norm, &ops)?)?;
    ops.add_function(wrap_pyfunction!(layer_norm_backward, &ops)?)?;
    ops.add_function(wrap_pyfunction!(gelu, &ops)?)?;
    ops.add_function(wrap_pyfunction!(gelu_backward, &ops)?)?;
    ops.add_function(wrap_pyfunction!(dropout, &ops)?)?;
    ops.add_function(wrap_pyfunction!(embedding, &ops)?)?;
    ops.add_function(wrap_pyfunction!(embedding_backward, &ops)?)?;
    ops.add_function(wrap_pyfunction!(cross_entropy, &ops)?)?;
    ops.add_function(wrap_pyfunction!(cross_entropy_backward, &ops)?)?;
    ops.add_function(wrap_pyfunction!(attention, &ops)?)?;
    ops.add_function(wrap_pyfunction!(attention_backward, &ops)?)?;
    m.add_submodule(&ops)
}
