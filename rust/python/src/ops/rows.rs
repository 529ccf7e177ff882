//! Operations along rows: softmax and the norms.

use super::{Out, array, floats, view, zeros};
use crate::arrays::{Floats, to_numpy_flat};
use crate::door;
use ndarray::Ix2;
use pyo3::prelude::*;
use subgpt_core::kernels::{self, Beta};

/// Softmax of the rows of x (N, C), or its logarithm.
#[pyfunction]
fn softmax<'py>(py: Python<'py>, x: &Bound<'py, PyAny>, log: bool) -> PyResult<Out<'py>> {
    let x = Floats::new(x, "x")?;
    let x = view::<Ix2>(&x, "x")?;
    let mut y = zeros(x.raw_dim())?;
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
    let mut dx = zeros(y.raw_dim())?;
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
    let mut y = zeros(x.raw_dim())?;
    let (mut mean, mut rstd) = (floats(x.nrows())?, floats(x.nrows())?);
    door::enter(py, || kernels::layer_norm::layer_norm(x, weight, bias, eps, y.view_mut(), &mut mean, &mut rstd))?;
    Ok((array(py, y)?, to_numpy_flat(py, mean)?, to_numpy_flat(py, rstd)?))
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
    let mut dx = zeros(x.raw_dim())?;
    let (mut dw, mut db) = (floats(weight.len())?, floats(weight.len())?);
    door::enter(py, || {
        kernels::layer_norm::layer_norm_backward(
            x,
            weight,
            mean,
            rstd,
            dy,
            dx.view_mut(),
            Beta::Overwrite,
            Some(&mut dw),
            Some(&mut db),
        )
    })?;
    Ok((array(py, dx)?, to_numpy_flat(py, dw)?, to_numpy_flat(py, db)?))
}

/// y and the reciprocal root mean square of the rows of x (N, C).
#[pyfunction]
fn rms_norm<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    eps: f32,
    offset: f32,
) -> PyResult<(Out<'py>, Out<'py>)> {
    let (x, weight) = (Floats::new(x, "x")?, Floats::new(weight, "weight")?);
    let (x, weight) = (view::<Ix2>(&x, "x")?, weight.slice()?);
    let (mut y, mut rstd) = (zeros(x.raw_dim())?, floats(x.nrows())?);
    door::enter(py, || kernels::rms_norm::rms_norm(x, Some(weight), offset, eps, y.view_mut(), &mut rstd))?;
    Ok((array(py, y)?, to_numpy_flat(py, rstd)?))
}

/// Gradients of x and weight.
#[pyfunction]
fn rms_norm_backward<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    weight: &Bound<'py, PyAny>,
    rstd: &Bound<'py, PyAny>,
    dy: &Bound<'py, PyAny>,
    offset: f32,
) -> PyResult<(Out<'py>, Out<'py>)> {
    let (x, dy) = (Floats::new(x, "x")?, Floats::new(dy, "dy")?);
    let (weight, rstd) = (Floats::new(weight, "weight")?, Floats::new(rstd, "rstd")?);
    let (x, dy) = (view::<Ix2>(&x, "x")?, view::<Ix2>(&dy, "dy")?);
    let (weight, rstd) = (weight.slice()?, rstd.slice()?);
    let (mut dx, mut dw) = (zeros(x.raw_dim())?, floats(weight.len())?);
    door::enter(py, || {
        let (weight, dweight) = (Some(weight), Some(&mut dw[..]));
        kernels::rms_norm::rms_norm_backward(x, weight, offset, rstd, dy, dx.view_mut(), Beta::Overwrite, dweight)
    })?;
    Ok((array(py, dx)?, to_numpy_flat(py, dw)?))
}

/// Adds this file's names to `ops`.
pub fn init(ops: &Bound<'_, PyModule>) -> PyResult<()> {
    ops.add_function(wrap_pyfunction!(softmax, ops)?)?;
    ops.add_function(wrap_pyfunction!(softmax_backward, ops)?)?;
    ops.add_function(wrap_pyfunction!(layer_norm, ops)?)?;
    ops.add_function(wrap_pyfunction!(layer_norm_backward, ops)?)?;
    ops.add_function(wrap_pyfunction!(rms_norm, ops)?)?;
    ops.add_function(wrap_pyfunction!(rms_norm_backward, ops)?)
}
