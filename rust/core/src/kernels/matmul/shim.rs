//! shim
use super::*;
use super::matrix::*;
use crate::kernels::activation::{Activation, activation, activation_backward};
use ndarray::{Array2, ArrayView2};
use crate::simd::{bf16, Element};

pub struct Packed { w: Array2<f32> }
impl Packed {
    pub fn new(_p: Precision, k: usize, n: usize) -> Result<Self> { Ok(Packed { w: Array2::zeros((k, n)) }) }
    pub fn pack(&mut self, b: Matrix<'_>) { self.w = wide(b); }
    pub fn bytes(_p: Precision, k: usize, n: usize) -> usize { 4 * k * n }
}
pub enum Right<'a> { Matrix(Matrix<'a>), Packed(&'a Packed) }
impl<'a> From<Matrix<'a>> for Right<'a> { fn from(m: Matrix<'a>) -> Self { Right::Matrix(m) } }
pub enum Output<'a> {
    Sums { c: MatrixMut<'a>, beta: Beta, bias: Option<&'a [f32]>, residual: Option<ArrayView2<'a, f32>> },
    Activated { pre: MatrixMut<'a>, act: MatrixMut<'a>, activation: Activation, bias: Option<&'a [f32]> },
    ActivatedBackward { pre: Matrix<'a>, d_pre: MatrixMut<'a>, act: MatrixMut<'a>, activation: Activation },
}
fn wide(m: Matrix<'_>) -> Array2<f32> { match m { Matrix::Float(v) => v.to_owned(), Matrix::Half(v) => v.map(|x| x.to_f32()) } }
fn rounded(m: Array2<f32>, p: Precision) -> Array2<f32> { if p == Precision::Bfloat16 { m.map(|&x| bf16::from_f32(x).to_f32()) } else { m } }
fn put(c: MatrixMut<'_>, x: &Array2<f32>) { match c { MatrixMut::Float(mut v) => v.assign(x), MatrixMut::Half(mut v) => v.zip_mut_with(x, |c, &x| *c = <bf16 as Element>::from_f32(x)) } }
pub fn product<'a>(p: Precision, a: Matrix<'_>, b: impl Into<Right<'a>>, out: Output<'_>) -> Result<()> {
    let a = rounded(wide(a), p);
    let b = rounded(match b.into() { Right::Matrix(m) => wide(m), Right::Packed(p) => p.w.clone() }, p);
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    match out {
        Output::Sums { c: out, beta, bias, residual } => match out {
            MatrixMut::Float(mut v) => matmul(a.view(), b.view(), v.view_mut(), beta, Epilogue { bias, residual })?,
            out => { matmul(a.view(), b.view(), c.view_mut(), Beta::Overwrite, Epilogue { bias, residual })?; put(out, &c); }
        },
        Output::Activated { pre, act, activation: kind, bias } => {
            matmul(a.view(), b.view(), c.view_mut(), Beta::Overwrite, Epilogue { bias, residual: None })?;
            put(pre, &c);
            let mut y = c.clone();
            activation(kind, c.as_slice().unwrap(), y.as_slice_mut().unwrap())?;
            put(act, &y);
        }
        Output::ActivatedBackward { pre, d_pre, act, activation: kind } => {
            matmul(a.view(), b.view(), c.view_mut(), Beta::Overwrite, Epilogue::default())?;
            let pre = wide(pre);
            let mut y = c.clone();
            activation(kind, pre.as_slice().unwrap(), y.as_slice_mut().unwrap())?;
            put(act, &y);
            activation_backward(kind, pre.as_slice().unwrap(), c.as_slice().unwrap(), y.as_slice_mut().unwrap())?;
            put(d_pre, &y);
        }
    }
    Ok(())
}
