//! Matrix multiplication in f32: `c (M, N) = or += a (M, K) b (K, N) [+ bias (N)] [+ residual (M, N)]`.
//!
//! | product | rows of `a` | what happens | file |
//! |---|---|---|---|
//! | matrix by vector | up to 4, `b` in rows or columns | `b` is read once where it lies | [`gemv`] |
//! | few rows | up to 48 | every task packs the panels of `b` it needs | [`skinny`] |
//! | any other | | `b` is packed once for all tasks, `a` panel by panel | [`schedule`] |
//!
//! The last two rest on [`pack`] (copies in the order of use, from any strides), [`micro`] (a tile of `c` in registers,
//! one type for each instruction set) and [`blocking`] (sizes, and the caches they are made for). Structure after
//! Goto and van de Geijn, *Anatomy of High-Performance Matrix Multiplication* (2008), and BLIS.
//!
//! Every element of `c` is a sum over blocks of at most 384 `k`, in ascending order, each block one chain of fused
//! multiply-adds over ascending `k`; then bias, then residual. Neither the number of threads, nor AVX2 or AVX-512, nor
//! the other rows and columns of the product change its bits: a row alone gives what it gives among others. (The
//! portable path rounds products and sums separately.)

mod blocking;
mod buffers;
mod gemv;
mod matrix;
mod micro;
mod shim;
pub use matrix::*;
pub use shim::*;
mod operand;
mod output;
mod pack;
mod schedule;
mod skinny;
//mod tests;

use crate::error::{Error, Result};
use crate::kernels::{Beta, check};
use crate::parallel;
use crate::simd::{Isa, isa};
use ndarray::{ArrayView2, ArrayViewMut2};
use operand::Operand;
use output::Output as Written;

/// What is done to the finished sums before they are written.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `(N,)`, added to every row.
    pub bias: Option<&'a [f32]>,
    /// `(M, N)`, added element by element; its last axis must be contiguous.
    pub residual: Option<ArrayView2<'a, f32>>,
}

/// Work below this many multiply-adds (some 50 us on one core) is not worth waking a thread for.
const PARALLEL_WORK: usize = 3 << 20;

/// Floats of `b` from which few rows are worth a second thread: 1 MiB, some 40 us of reading.
const PARALLEL_READING: usize = 1 << 18;

/// `c (M, N) = or += a (M, K) b (K, N) [+ bias] [+ residual]`
///
/// `a` and `b` may have any strides; a transposed view costs nothing but a slightly slower packing. The last axis of `c`
/// (and of the residual) must be contiguous, its rows may lie anywhere. Any of `M`, `N` and `K` may be 0. With
/// [`Beta::Overwrite`] `c` is never read.
///
/// # Errors
/// [`Error::Shape`] where the shapes do not fit each other, or rows of `c` or of the residual are not contiguous.
pub fn matmul(
    a: ArrayView2<'_, f32>,
    b: ArrayView2<'_, f32>,
    mut c: ArrayViewMut2<'_, f32>,
    beta: Beta,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let ((m, k), n) = (a.dim(), b.ncols());
    check::shape("matmul", "b", b.shape(), &[k, n])?;
    check::shape("matmul", "c", c.shape(), &[m, n])?;
    check_rows("c", c.strides()[1], (m, n))?;
    if let Some(bias) = epilogue.bias {
        check::len("matmul", "bias", bias.len(), n)?;
    }
    if let Some(residual) = epilogue.residual {
        check::shape("matmul", "residual", residual.shape(), &[m, n])?;
        check_rows("residual", residual.strides()[1], (m, n))?;
    }
    if m > 0 && n > 0 {
        let out = Written::new(c.view_mut(), beta, epilogue.bias, epilogue.residual.map(Operand::new));
        Product { a_t: Operand::new(a).t(), b: Operand::new(b), out, m, n, k }.run(isa::current());
    }
    Ok(())
}

fn check_rows(what: &'static str, stride: isize, (rows, columns): (usize, usize)) -> Result<()> {
    if stride == 1 || columns <= 1 || rows == 0 {
        return Ok(());
    }
    Err(Error::Shape {
        op: "matmul",
        what,
        got: format!("rows with {stride} elements from one column to the next"),
        expected: "contiguous rows (a column stride of 1)".into(),
    })
}

/// A product to be computed, its shapes checked.
struct Product<'a> {
    /// `a`, transposed: `(K, M)`.
    a_t: Operand<'a>,
    b: Operand<'a>,
    out: Written<'a>,
    m: usize,
    n: usize,
    k: usize,
}

impl Product<'_> {
    fn run(&self, isa: Isa) {
        let parallel = self.is_worth_threads();
        if self.m <= gemv::MAX_ROWS && self.b.has_runs() {
            return gemv::run(isa, self, parallel);
        }
        #[cfg(target_arch = "x86_64")]
        if gemv::takes_transposed(isa, self) {
            // SAFETY: it was just asked.
            return unsafe { gemv::run_transposed(self, parallel) };
        }
        micro::dispatch(isa, Ahead { product: self, parallel });
    }

    fn is_worth_threads(&self) -> bool {
        let reading = self.k.saturating_mul(self.n);
        reading >= PARALLEL_READING || reading.saturating_mul(self.m) >= PARALLEL_WORK
    }
}

/// A product from packed panels.
struct Ahead<'p> {
    product: &'p Product<'p>,
    parallel: bool,
}

impl micro::Work for Ahead<'_> {
    unsafe fn run<M: micro::MicroKernel>(self) {
        // SAFETY: passed on from the caller.
        unsafe {
            if self.product.m <= blocking::SKINNY_ROWS {
                skinny::run::<M>(self.product, self.parallel);
            } else {
                schedule::run::<M>(self.product, self.parallel);
            }
        }
    }
}

/// Runs the tasks of a product; which thread runs which does not matter to the result.
fn for_each_task(parallel: bool, tasks: usize, task: impl Fn(usize) + Sync) {
    if parallel { parallel::run(tasks, task) } else { (0..tasks).for_each(task) }
}
