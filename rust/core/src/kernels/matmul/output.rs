//! The matrix that is written, and what is added at the end; shared by the tasks of a product.

use super::micro::Tile;
use super::operand::Operand;
use crate::kernels::Beta;
use ndarray::ArrayViewMut2;
use std::marker::PhantomData;
use std::ops::Range;

/// The output of a product with its epilogue.
///
/// Tasks on several threads write to it, each to rows and columns of its own; that no two tasks share an element is what
/// [`Output::tile`] and [`Output::row`] ask of their callers.
#[derive(Clone, Copy)]
pub struct Output<'a> {
    c: *mut f32,
    rows: usize,
    columns: usize,
    row_stride: isize,
    beta: Beta,
    bias: Option<&'a [f32]>,
    residual: Option<Operand<'a>>,
    borrowed: PhantomData<&'a mut f32>,
}

// SAFETY: the pointer stands for an exclusive borrow of `c`, whose elements may be written from any thread; the unsafe
// methods that give access to elements require that no two threads take the same ones.
unsafe impl Send for Output<'_> {}
// SAFETY: as for Send.
unsafe impl Sync for Output<'_> {}

/// A block of depth: whether it is the first of a product, and whether it is the last.
#[derive(Clone, Copy)]
pub struct Step {
    /// Nothing has been written yet.
    pub first: bool,
    /// The epilogue is due.
    pub last: bool,
}

impl<'a> Output<'a> {
    /// The output of a product into `c`, whose rows must be contiguous.
    pub fn new(
        mut c: ArrayViewMut2<'a, f32>,
        beta: Beta,
        bias: Option<&'a [f32]>,
        residual: Option<Operand<'a>>,
    ) -> Output<'a> {
        let (rows, columns) = c.dim();
        let row_stride = c.strides()[0];
        let c = c.as_mut_ptr();
        Output { c, rows, columns, row_stride, beta, bias, residual, borrowed: PhantomData }
    }

    /// Whether a block's sums are added to what `c` holds; if not, `c` must not be read.
    fn adds(&self, step: Step) -> bool {
        !step.first || self.beta == Beta::Accumulate
    }

    /// What the microkernel does with the sums of `a` (packed, `k` by rows) and `b` (packed, `k` by columns).
    ///
    /// # Safety
    /// While the tile is in use nobody else may use these rows and columns of the output.
    #[inline(always)]
    pub unsafe fn tile<'t>(
        &'t self,
        rows: Range<usize>,
        columns: Range<usize>,
        step: Step,
        k: usize,
        a: &'t [f32],
        b: &'t [f32],
    ) -> Tile<'t> {
        assert!(rows.end <= self.rows && columns.end <= self.columns);
        let offset = rows.start as isize * self.row_stride + columns.start as isize;
        Tile {
            k,
            rows: rows.len(),
            columns: columns.len(),
            a,
            b,
            c: self.c.wrapping_offset(offset),
            c_stride: self.row_stride,
            add: self.adds(step),
            bias: self.bias.filter(|_| step.last).map(|bias| &bias[columns.clone()]),
            residual: self.residual.as_ref().filter(|_| step.last),
            row: rows.start,
            column: columns.start,
        }
    }

    /// Writes finished `sums` to row `i` from column `j` on, as the microkernels do.
    ///
    /// # Safety
    /// While the call runs nobody else may use these elements of the output.
    #[inline(always)]
    pub unsafe fn write(&self, i: usize, j: usize, step: Step, sums: &[f32]) {
        let columns = j..j + sums.len();
        assert!(i < self.rows && columns.end <= self.columns);
        // SAFETY: the elements lie within `c`, as asserted, its rows are contiguous, and nobody else uses them.
        let c = unsafe {
            let start = self.c.wrapping_offset(i as isize * self.row_stride).wrapping_add(j);
            std::slice::from_raw_parts_mut(start, sums.len())
        };
        if self.adds(step) {
            c.iter_mut().zip(sums).for_each(|(c, x)| *c += x);
        } else {
            c.copy_from_slice(sums);
        }
        if let (true, Some(bias)) = (step.last, self.bias) {
            c.iter_mut().zip(&bias[columns.clone()]).for_each(|(c, x)| *c += x);
        }
        if let (true, Some(residual)) = (step.last, &self.residual) {
            c.iter_mut().zip(residual.run(i, columns)).for_each(|(c, x)| *c += x);
        }
    }
}
