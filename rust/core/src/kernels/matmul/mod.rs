//! Matrix multiplication in float32 and bfloat16: sums `a (M, K) b (K, N)`, and what is made of them ([`Output`]).
//!
//! | product | rows of `a` | what happens | file |
//! |---|---|---|---|
//! | float32, matrix by vector | up to 8, `b` in rows or columns | `b` is read once where it lies | [`gemv`] |
//! | `b` in few bits | any | a panel of `b` meets eight rows at a time, in integers, or tiles of rows in bfloat16 | [`quantized`], [`floats`] |
//! | bfloat16 with tile registers | any | a stripe of `b`, packed, meets rows of `a` where they lie | [`tiled`] |
//! | few rows | up to 48 | every task packs the panels of `b` it needs | [`skinny`] |
//! | any other | | `b` is packed once for all tasks, or was ([`Packed`]), `a` panel by panel | [`schedule`] |
//!
//! The last two rest on [`pack`] (copies in the order of use, from any strides), [`micro`] (a tile of sums in registers,
//! for each instruction set), [`target`] (where sums go) and [`blocking`] (sizes, and the caches they are made for).
//! Structure after Goto and van de Geijn, *Anatomy of High-Performance Matrix Multiplication* (2008), and BLIS.
//!
//! Both precisions are one code: depth is counted in units of four bytes, one float32 or a pair of bfloat16 numbers, and
//! only packing and the innermost operation know which. Sums are float32 always.
//!
//! Every sum is made of blocks of at most 384 units (1024 in tile registers), in ascending order, each block one chain of
//! fused multiply-adds over ascending depth; then bias, then residual. Neither the number of threads, nor AVX2 or AVX-512,
//! nor packing ahead, nor the other rows and columns of the product change its bits: a row alone gives what it gives among
//! others. (The portable path rounds products and sums separately.)

mod blocking;
mod buffers;
mod floats;
mod gemv;
mod grid;
mod matrix;
pub(in crate::kernels) mod micro;
mod operand;
mod output;
mod pack;
mod packed;
mod quantized;
mod schedule;
mod skinny;
mod target;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod tiled;

pub use matrix::{Matrix, MatrixMut, Precision, Scalar};
pub use output::Output;
pub use packed::Packed;

use crate::error::{Error, Result};
use crate::kernels::quantized::QuantizedMatrix;
use crate::kernels::{Beta, check};
use crate::parallel;
use crate::simd::{Isa, isa};
use blocking::Depth;
use buffers::Buffer;
use grid::Grid;
use micro::Micro;
use ndarray::{ArrayView2, ArrayViewMut2};
use operand::{Deep, Source};
use target::Target;

/// The right operand of a product.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// As it lies in memory.
    Matrix(Matrix<'a>),
    /// Packed ahead.
    Packed(&'a Packed),
    /// In few bits: the matrix whose transpose is the operand, as weights are kept. Where those are integers the rows of
    /// the left operand are rounded to 8 bits and a sign.
    Quantized(&'a QuantizedMatrix),
}

impl<'a, M: Into<Matrix<'a>>> From<M> for Right<'a> {
    fn from(b: M) -> Self {
        Right::Matrix(b.into())
    }
}

impl<'a> From<&'a Packed> for Right<'a> {
    fn from(b: &'a Packed) -> Self {
        Right::Packed(b)
    }
}

impl<'a> From<&'a QuantizedMatrix> for Right<'a> {
    fn from(b: &'a QuantizedMatrix) -> Self {
        Right::Quantized(b)
    }
}

/// Work below this many multiply-adds (some 50 us on one core) is not worth waking a thread for.
const PARALLEL_WORK: usize = 3 << 20;

/// Units of `b` from which few rows are worth a second thread: 1 MiB, some 40 us of reading.
const PARALLEL_READING: usize = 1 << 18;

/// `c (M, N) = or += a (M, K) b (K, N)`, all in float32: [`product`] for plain arrays.
///
/// # Errors
/// As for [`product`].
pub fn matmul(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>, c: ArrayViewMut2<'_, f32>, beta: Beta) -> Result<()> {
    product(Precision::Float32, a.into(), b, Output::Sums { c: c.into(), beta, bias: None, residual: None })
}

/// A second pair of operands of a product, whose depth lies behind that of the first: the sums are those of
/// `[a | left] (M, K + R)` and `[b; right] (K + R, N)`.
///
/// So a product of low rank beside another costs what its depth costs, no pass over the output.
#[derive(Clone, Copy)]
pub struct Extension<'a> {
    /// `(M, R)`
    pub left: Matrix<'a>,
    /// `(R, N)`
    pub right: Matrix<'a>,
}

/// `out = a (M, K) b (K, N)`, multiplied in `precision`.
///
/// `a` and `b` may have any strides; a transposed view costs nothing but a slightly slower packing. Rows of what is
/// written (and of the residual) must be contiguous, they may lie anywhere. Any of `M`, `N` and `K` may be 0. What is
/// overwritten is never read.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit each other, or rows are not contiguous; [`Error::Value`] where types do
/// not fit each other or the precision.
pub fn product<'b>(precision: Precision, a: Matrix<'_>, b: impl Into<Right<'b>>, out: Output<'_>) -> Result<()> {
    run(precision, a, b.into(), None, out)
}

/// The same with more depth; with none the bits are those of [`product`], as they are where the extension holds zeros.
///
/// # Errors
/// As for [`product`].
pub fn extended_product(
    precision: Precision,
    a: Matrix<'_>,
    b: Right<'_>,
    extension: Option<Extension<'_>>,
    out: Output<'_>,
) -> Result<()> {
    run(precision, a, b, extension, out)
}

fn run(
    precision: Precision,
    a: Matrix<'_>,
    b: Right<'_>,
    extension: Option<Extension<'_>>,
    out: Output<'_>,
) -> Result<()> {
    let (m, k) = a.dim();
    packed::check_precision("matmul", "a", &a, precision)?;
    let n = match b {
        Right::Matrix(b) => {
            let (rows, n) = b.dim();
            check::shape("matmul", "b", &[rows, n], &[k, n])?;
            packed::check_precision("matmul", "b", &b, precision)?;
            n
        }
        Right::Packed(b) => {
            check::shape("matmul", "b", &[b.k, b.n], &[k, b.n])?;
            if extension.is_some() {
                return Err(Error::value("matmul", "b", "packed", "what extends a product needs b as it lies"));
            }
            if b.micro.precision != precision {
                return Err(Error::value("matmul", "b", "packed for another precision", "pack it for this one"));
            }
            b.n
        }
        Right::Quantized(b) => {
            check::shape("matmul", "b", &[b.dim().1, b.dim().0], &[k, b.dim().0])?;
            b.dim().0
        }
    };
    if let Some(Extension { left, right }) = &extension {
        let ((rows, r), (depth, columns)) = (left.dim(), right.dim());
        check::shape("matmul", "left", &[rows, r], &[m, r])?;
        check::shape("matmul", "right", &[depth, columns], &[r, n])?;
        packed::check_precision("matmul", "left", left, precision)?;
        packed::check_precision("matmul", "right", right, precision)?;
    }
    out.check(m, n)?;
    if m == 0 || n == 0 {
        return Ok(());
    }
    let target = Target::new(out);
    let (units, isa) = (precision.units(k), isa::current());
    let more = extension.as_ref().map_or(0, |more| precision.units(more.left.dim().1));
    let tiled = match b {
        Right::Matrix(_) => packed::serves_tiles(isa, precision),
        Right::Packed(b) => b.tiled,
        Right::Quantized(_) => false,
    };
    #[cfg(target_arch = "x86_64")]
    let depth = if tiled { Depth::tiled(units, more) } else { Depth::new(units, more) };
    #[cfg(not(target_arch = "x86_64"))]
    let depth = Depth::new(units, more);
    let left = Deep { own: a.t().into(), units, extension: extension.as_ref().map(|more| more.left.t().into()) };
    let product = Product { precision, tiled, isa, left, target, m, n, k, depth };
    let right = extension.map(|more| more.right);
    if product.target.lacks_sums() && depth.count() > 1 && !matches!(b, Right::Quantized(_)) {
        // An output of bfloat16 numbers: sums of several blocks of depth wait elsewhere.
        buffers::with(Buffer::Sums, m * n, |sums| {
            let sums = Grid::from_slice(bytemuck::must_cast_slice_mut(sums), n);
            Product { target: product.target.with_sums(sums), ..product }.run(b, right);
        });
    } else {
        product.run(b, right);
    }
    Ok(())
}

/// A product to be computed, its shapes checked.
struct Product<'a> {
    precision: Precision,
    isa: Isa,
    /// Whether it goes through tile registers.
    tiled: bool,
    /// `a`, transposed: `(K, M)`.
    left: Deep<'a>,
    target: Target<'a>,
    m: usize,
    n: usize,
    /// Without what extends it.
    k: usize,
    /// The depth in units, by block.
    depth: Depth,
}

impl Product<'_> {
    /// Runs with `b` and what extends it.
    fn run(&self, b: Right<'_>, extension: Option<Matrix<'_>>) {
        let parallel = self.is_worth_threads();
        let own = match b {
            #[cfg(target_arch = "x86_64")]
            Right::Packed(b) if self.tiled => return tiled::run_packed(self, b, parallel),
            Right::Packed(b) => return schedule::run_packed(self, b, parallel),
            Right::Quantized(b) => return quantized::run(self, b, extension, parallel),
            Right::Matrix(b) => b.into(),
        };
        let b = Deep { own, units: self.left.units, extension: extension.map(Source::from) };
        #[cfg(target_arch = "x86_64")]
        if self.tiled {
            return tiled::run(self, &b, parallel);
        }
        if gemv::run(self.isa, self, &b, parallel) {
            return;
        }
        let micro = Micro::of(self.isa, self.precision);
        if self.m <= blocking::SKINNY_ROWS {
            skinny::run(micro, self, &b, parallel);
        } else {
            schedule::run(micro, self, &b, parallel);
        }
    }

    fn is_worth_threads(&self) -> bool {
        let reading = self.precision.units(self.k).saturating_mul(self.n);
        reading >= PARALLEL_READING || reading.saturating_mul(self.m) >= PARALLEL_WORK
    }
}

/// Runs the tasks of a product; which thread runs which does not matter to the result.
fn for_each_task(parallel: bool, tasks: usize, task: impl Fn(usize) + Sync) {
    if parallel { parallel::run(tasks, task) } else { (0..tasks).for_each(task) }
}
