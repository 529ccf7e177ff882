//! Operations element by element: activations and dropout.

use super::{Out, copy, floats};
use crate::arrays::{Floats, to_numpy_flat};
use crate::door;
use ndarray::{ArrayView1, ArrayView2, ArrayViewMut1, ArrayViewMut2, Axis};
use pyo3::prelude::*;
use subgpt_core::kernels;
use subgpt_core::kernels::activation::{Activation, activation, activation_backward};
use subgpt_core::kernels::dropout::Dropout;

fn gelu_kind(tanh: bool) -> Activation {
    if tanh { Activation::GeluTanh } else { Activation::Gelu }
}

/// A matrix of one row.
fn row(x: &[f32]) -> ArrayView2<'_, f32> {
    ArrayView1::from(x).insert_axis(Axis(0))
}

fn row_mut(x: &mut [f32]) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut1::from(x).insert_axis(Axis(0))
}

/// GELU of x (N,).
#[pyfunction]
fn gelu<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, tanh: bool) -> PyResult<Out<'py>> {
    let x = Floats::new(x, "x")?;
    let x = x.slice()?;
    let mut y = floats(x.len())?;
    door::enter(py, || activation(gelu_kind(tanh), x, &mut y))?;
    to_numpy_flat(py, y)
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
    let mut dx = floats(x.len())?;
    door::enter(py, || activation_backward(gelu_kind(tanh), x, dy, &mut dx))?;
    to_numpy_flat(py, dx)
}

/// x sigmoid(x) of x (N,).
#[pyfunction]
fn silu<'py>(py: Python<'py>, x: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    let x = Floats::new(x, "x")?;
    let x = x.slice()?;
    let mut y = floats(x.len())?;
    door::enter(py, || kernels::activation::activation(Activation::Silu, x, &mut y))?;
    to_numpy_flat(py, y)
}

/// Gradient of x (N,).
#[pyfunction]
fn silu_backward<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, dy: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    let (x, dy) = (Floats::new(x, "x")?, Floats::new(dy, "dy")?);
    let (x, dy) = (x.slice()?, dy.slice()?);
    let mut dx = floats(x.len())?;
    door::enter(py, || kernels::activation::activation_backward(Activation::Silu, x, dy, &mut dx))?;
    to_numpy_flat(py, dx)
}

/// silu(gate) up, both (N,).
#[pyfunction]
fn swiglu<'py>(py: Python<'py>, gate: &Bound<'py, PyAny>, up: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    gated(py, Activation::Silu, gate, up)
}

/// Gradients of gate and up (N,).
#[pyfunction]
fn swiglu_backward<'py>(
    py: Python<'py>,
    gate: &Bound<'py, PyAny>,
    up: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
) -> PyResult<(Out<'py>, Out<'py>)> {
    gated_backward(py, Activation::Silu, gate, up, dy)
}

/// gelu(gate), by tanh, times up, both (N,).
#[pyfunction]
fn geglu<'py>(py: Python<'py>, gate: &Bound<'py, PyAny>, up: &Bound<'py, PyAny>) -> PyResult<Out<'py>> {
    gated(py, Activation::GeluTanh, gate, up)
}

/// Gradients of gate and up (N,).
#[pyfunction]
fn geglu_backward<'py>(
    py: Python<'py>,
    gate: &Bound<'py, PyAny>,
    up: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
) -> PyResult<(Out<'py>, Out<'py>)> {
    gated_backward(py, Activation::GeluTanh, gate, up, dy)
}

fn gated<'py>(
    py: Python<'py>,
    activation: Activation,
    gate: &Bound<'py, PyAny>,
    up: &Bound<'py, PyAny>,
) -> PyResult<Out<'py>> {
    let (gate, up) = (Floats::new(gate, "gate")?, Floats::new(up, "up")?);
    let (gate, up) = (gate.slice()?, up.slice()?);
    let mut y = floats(gate.len())?;
    door::enter(py, || kernels::glu::glu(activation, row(gate), row(up), row_mut(&mut y)))?;
    to_numpy_flat(py, y)
}

fn gated_backward<'py>(
    py: Python<'py>,
    activation: Activation,
    gate: &Bound<'py, PyAny>,
    up: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
) -> PyResult<(Out<'py>, Out<'py>)> {
    let (gate, up, dy) = (Floats::new(gate, "gate")?, Floats::new(up, "up")?, Floats::new(dy, "dy")?);
    let (gate, up, dy) = (gate.slice()?, up.slice()?, dy.slice()?);
    let (mut dgate, mut dup) = (floats(gate.len())?, floats(gate.len())?);
    let (d_gate, d_up) = (row_mut(&mut dgate), row_mut(&mut dup));
    door::enter(py, || kernels::glu::glu_backward(activation, row(gate), row(up), row(dy), d_gate, d_up))?;
    Ok((to_numpy_flat(py, dgate)?, to_numpy_flat(py, dup)?))
}

/// x (N,) with elements dropped; its own backward.
#[pyfunction]
fn dropout<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, p: f32, seed: u64, step: u64) -> PyResult<Out<'py>> {
    let x = Floats::new(x, "x")?;
    let mut y = copy(&x)?;
    door::enter(py, || kernels::dropout::dropout(&mut y, Dropout { p, seed, substream: step, first: 0 }))?;
    to_numpy_flat(py, y)
}

/// Adds this file's names to `ops`.
pub fn init(ops: &Bound<'_, PyModule>) -> PyResult<()> {
    ops.add_function(wrap_pyfunction!(gelu, ops)?)?;
    ops.add_function(wrap_pyfunction!(gelu_backward, ops)?)?;
    ops.add_function(wrap_pyfunction!(silu, ops)?)?;
    ops.add_function(wrap_pyfunction!(silu_backward, ops)?)?;
    ops.add_function(wrap_pyfunction!(swiglu, ops)?)?;
    ops.add_function(wrap_pyfunction!(swiglu_backward, ops)?)?;
    ops.add_function(wrap_pyfunction!(geglu, ops)?)?;
    ops.add_function(wrap_pyfunction!(geglu_backward, ops)?)?;
    ops.add_function(wrap_pyfunction!(dropout, ops)?)
}
