//! The nearest orthogonal matrix, roughly: `U V^T` for `X = U S V^T`, by five steps of a quintic Newton-Schulz iteration
//! (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024).
//!
//! ```text
//! X = X / ||X||_F
//! five times: A = X X^T,  Q = 3.4445 I - 4.7750 A + 2.0315 A^2,  X = Q X
//! ```
//!
//! The coefficients make small singular values grow fastest instead of making any converge: those that began above two
//! thousandths of the norm end between 0.68 and 1.14 (a few just arriving, up to 1.21). A matrix with more rows than
//! columns is taken from its other side, `X = X Q` with `A = X^T X`.
//!
//! `A` and `Q` are symmetric, so half of each of their products is computed and mirrored. Where one side is at least
//! twice the other, the iteration is moved to the short side ("Gram" form): every `Q` is a polynomial in the first `A`,
//! all of them commute, and with `P` for their product
//!
//! ```text
//! A = X X^T,  P = I;  five times: Q = as above,  P = Q P,  A = Q A Q;  X = P X
//! ```
//!
//! reads the long side twice instead of ten times. In float32 this needs no restart: rounding moves an eigenvalue of `A`
//! by some 1e-7 of the largest, which is far below what five steps lift to 1.

use super::clip;
use crate::buffer::{Carver, padded};
use crate::error::Result;
use crate::kernels::Beta;
use crate::kernels::matmul::matmul;
use crate::parallel;
use crate::simd::Isa;
use ndarray::{ArrayView2, ArrayViewMut2, s};

/// Of `X`, `X X^T X` and `(X X^T)^2 X` in a step.
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Odd, so that [`Shape::directly`] ends in the right one of its two buffers.
const STEPS: usize = 5;

/// The norm that a smaller one is taken for, as PyTorch does.
const LEAST_NORM: f64 = 1e-7;

/// Rows of a symmetric product that are computed at once, up to the diagonal.
const STRIPE: usize = 48;

/// The size of symmetric products from which half of them is worth computing.
const HALVED: usize = 96;

/// The size of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

impl Shape {
    fn short(self) -> usize {
        self.rows.min(self.cols)
    }

    fn long(self) -> usize {
        self.rows.max(self.cols)
    }

    /// Multiply-adds of one product with the long side.
    pub fn work(self) -> usize {
        self.short() * self.short() * self.long()
    }

    fn in_gram_form(self) -> bool {
        self.long() >= 2 * self.short()
    }

    /// Floats of working space that [`orthogonalize`] needs.
    pub fn room(self) -> usize {
        let squares = if self.in_gram_form() { 5 } else { 2 };
        squares * padded(self.short() * self.short())
    }

    fn view(self, x: &[f32]) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape((self.rows, self.cols), x).expect("a slice of rows * cols floats")
    }

    /// `a = X X^T`, or `X^T X` if that is smaller.
    fn gram(self, x: &[f32], a: &mut [f32]) -> Result<()> {
        let x = self.view(x);
        if self.rows <= self.cols { symmetric(x, x.t(), a) } else { symmetric(x.t(), x, a) }
    }

    /// `y = Q X`, or `X Q`.
    fn apply(self, q: &[f32], x: &[f32], y: &mut [f32]) -> Result<()> {
        let y = ArrayViewMut2::from_shape((self.rows, self.cols), y).expect("a slice of rows * cols floats");
        let (x, q) = (self.view(x), square(q, self.short()));
        let (left, right) = if self.rows <= self.cols { (q, x) } else { (x, q) };
        matmul(left, right, y, Beta::Overwrite)
    }

    /// The iteration as it is written; `x` and `y` take turns.
    fn directly<'x>(self, mut x: &'x mut [f32], mut y: &'x mut [f32], room: &mut [f32]) -> Result<()> {
        let m = self.short();
        let mut carver = Carver::new(room);
        let [a, q] = [(); 2].map(|()| carver.take(m * m));
        for _ in 0..STEPS {
            self.gram(x, a)?;
            polynomial(a, q, m)?;
            self.apply(q, x, y)?;
            std::mem::swap(&mut x, &mut y);
        }
        Ok(())
    }

    /// The iteration on the short side.
    fn in_squares(self, x: &[f32], y: &mut [f32], room: &mut [f32]) -> Result<()> {
        let m = self.short();
        let mut carver = Carver::new(room);
        let [mut a, q, t, mut p, mut next] = [(); 5].map(|()| carver.take(m * m));
        self.gram(x, a)?;
        for step in 0..STEPS {
            polynomial(a, q, m)?;
            if step == 0 {
                p.copy_from_slice(q);
            } else {
                symmetric(square(q, m), square(p, m), next)?;
                std::mem::swap(&mut p, &mut next);
            }
            if step + 1 < STEPS {
                symmetric(square(q, m), square(a, m), t)?;
                symmetric(square(t, m), square(q, m), next)?;
                std::mem::swap(&mut a, &mut next);
            }
        }
        self.apply(p, x, y)
    }
}

/// `y = U S' V^T` for `x = U S V^T`, all `S'` near 1; `x` is lost. `room` has [`Shape::room`] floats.
pub fn orthogonalize(isa: Isa, shape: Shape, x: &mut [f32], y: &mut [f32], room: &mut [f32]) -> Result<()> {
    let scale = (1.0 / clip::norm_on(isa, x).max(LEAST_NORM)) as f32;
    parallel::for_each_chunk(x, 1 << 15, |_, chunk| chunk.iter_mut().for_each(|x| *x *= scale));
    if shape.in_gram_form() { shape.in_squares(x, y, room) } else { shape.directly(x, y, room) }
}

fn square(x: &[f32], m: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((m, m), x).expect("a slice of m * m floats")
}

/// `q = c_0 I + c_1 A + c_2 A^2` for a symmetric `A`.
fn polynomial(a: &[f32], q: &mut [f32], m: usize) -> Result<()> {
    symmetric(square(a, m), square(a, m), q)?;
    let [c0, c1, c2] = COEFFICIENTS;
    q.iter_mut().zip(a).for_each(|(q, a)| *q = c2 * *q + c1 * a);
    q.iter_mut().step_by(m + 1).for_each(|q| *q += c0);
    Ok(())
}

/// `c (M, M) = a (M, K) b (K, M)`, which the caller knows to be symmetric: below the diagonal it is computed, above it
/// is a mirror image.
fn symmetric(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, c: &mut [f32]) -> Result<()> {
    let m = a.nrows();
    let mut out = ArrayViewMut2::from_shape((m, m), &mut *c).expect("a slice of m * m floats");
    if m < HALVED {
        return matmul(a, b, out, Beta::Overwrite);
    }
    for start in (0..m).step_by(STRIPE) {
        let end = (start + STRIPE).min(m);
        let (a, b) = (a.slice(s![start..end, ..]), b.slice(s![.., ..end]));
        matmul(a, b, out.slice_mut(s![start..end, ..end]), Beta::Overwrite)?;
    }
    mirror(c, m);
    Ok(())
}

/// Copies what is below the diagonal to above it, in tiles that stay in the cache.
fn mirror(c: &mut [f32], m: usize) {
    const TILE: usize = 16;
    for row in (0..m).step_by(TILE) {
        let end = (row + TILE).min(m);
        let (above, below) = c.split_at_mut(row * m);
        for col in (0..row).step_by(TILE) {
            for i in row..end {
                for j in col..col + TILE {
                    above[j * m + i] = below[(i - row) * m + j];
                }
            }
        }
        for i in row..end {
            for j in row..i {
                below[(j - row) * m + i] = below[(i - row) * m + j];
            }
        }
    }
}
