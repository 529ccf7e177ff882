//! Attention and rotary positions.

use super::{Out, array, copy, view, zeros};
use crate::arrays::{self, Floats, to_numpy};
use crate::door;
use crate::errors::ShapeError;
use ndarray::{ArrayViewMut2, Ix3, Ix4};
use pyo3::prelude::*;
use subgpt_core::Error;
use subgpt_core::kernels;
use subgpt_core::kernels::attention::Options;
use subgpt_core::kernels::rope::{Direction, Pairing, Rope, Waves};

fn options(scale: Option<f32>, window: Option<usize>, softcap: Option<f32>) -> Options<'static> {
    Options { scale, window, starts: None, softcap, dropout: None }
}

/// x (N, T, D) rotated by its positions (T,), or back.
#[pyfunction]
fn rope<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    positions: &Bound<'py, PyAny>,
    theta: f64,
    interleaved: bool,
    backward: bool,
) -> PyResult<Out<'py>> {
    let (x, positions) = (Floats::new(x, "x")?, arrays::ids_1d(positions, "positions")?);
    let (n, t, d) = view::<Ix3>(&x, "x")?.dim();
    if t != positions.len() {
        let len = positions.len();
        return Err(ShapeError::new_err(format!("rope: positions has {len} entries, x has {t} positions")));
    }
    let positions: Vec<usize> = positions.into_iter().map(|p| p as usize).collect();
    let pairing = if interleaved { Pairing::Interleaved } else { Pairing::Half };
    let direction = if backward { Direction::Backward } else { Direction::Forward };
    let mut y = copy(&x)?;
    door::enter(py, || {
        let rows = ArrayViewMut2::from_shape((n * t, d), &mut y[..])
            .map_err(|e| Error::shape("rope", "x", (n, t, d), e.to_string()))?;
        Rope::new(pairing, Waves::new(d, theta), &positions)?.apply(direction, rows)
    })?;
    to_numpy(py, y, &[n, t, d])
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
    let (mut out, mut lse) = (zeros(q.raw_dim())?, zeros((b, h, t))?);
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
    let (mut dq, mut dk, mut dv) = (zeros(q.raw_dim())?, zeros(k.raw_dim())?, zeros(v.raw_dim())?);
    let options = options(scale, window, softcap);
    door::enter(py, || {
        let grads = (dq.view_mut(), dk.view_mut(), dv.view_mut());
        kernels::attention::attention_backward(q, k, v, out, lse, dout, &options, grads.0, grads.1, grads.2)
    })?;
    Ok((array(py, dq)?, array(py, dk)?, array(py, dv)?))
}

/// Adds this file's names to `ops`.
pub fn init(ops: &Bound<'_, PyModule>) -> PyResult<()> {
    ops.add_function(wrap_pyfunction!(rope, ops)?)?;
    ops.add_function(wrap_pyfunction!(attention, ops)?)?;
    ops.add_function(wrap_pyfunction!(attention_backward, ops)?)
}
