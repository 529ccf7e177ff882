//! A matrix that is read, whatever its strides.

use super::matrix::Matrix;
use crate::simd::bf16;
use ndarray::ArrayView2;
use std::marker::PhantomData;
use std::ops::Range;

/// A view of a matrix that hands out runs of adjacent elements.
///
/// ndarray does so only through new views; packing asks too often for that.
/// (It keeps the pointer instead of the view because a view's lifetime cannot be shortened inside a larger type.)
#[derive(Clone, Copy)]
pub struct Operand<'a, E> {
    start: *const E,
    rows: usize,
    columns: usize,
    row_stride: isize,
    column_stride: isize,
    borrowed: PhantomData<&'a E>,
}

// SAFETY: the pointer stands for a shared borrow of numbers, which may go to any thread.
unsafe impl<E: Sync> Send for Operand<'_, E> {}
// SAFETY: as for Send.
unsafe impl<E: Sync> Sync for Operand<'_, E> {}

impl<'a, E: Copy> Operand<'a, E> {
    /// The matrix of `view`.
    pub fn new(view: ArrayView2<'a, E>) -> Self {
        let (rows, columns) = view.dim();
        let [row_stride, column_stride] = [view.strides()[0], view.strides()[1]];
        Operand { start: view.as_ptr(), rows, columns, row_stride, column_stride, borrowed: PhantomData }
    }

    /// Its transpose; nothing is moved.
    pub fn t(self) -> Self {
        Operand {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Whether the elements of a row are adjacent.
    pub fn has_runs(&self) -> bool {
        self.column_stride == 1 || self.columns <= 1
    }

    /// The element in row `i` and column `j`.
    ///
    /// # Panics
    /// Where there is none.
    #[inline(always)]
    pub fn at(&self, i: usize, j: usize) -> E {
        assert!(i < self.rows && j < self.columns);
        // SAFETY: the view was valid for every index below its dimensions, as asserted.
        unsafe { *self.start.offset(i as isize * self.row_stride + j as isize * self.column_stride) }
    }

    /// Where the runs of all rows begin from column `j` on, and how far one is from the next; nothing where rows are no runs,
    /// or lie backwards.
    #[cfg(target_arch = "x86_64")]
    pub fn start_of_runs(&self, j: usize) -> Option<(*const E, usize)> {
        let fits = self.has_runs() && j <= self.columns && self.rows > 0;
        let pitch = usize::try_from(self.row_stride).ok().filter(|_| fits)?;
        Some((self.start.wrapping_add(j), pitch))
    }

    /// The elements of row `i` in `columns`.
    ///
    /// # Panics
    /// Where there are none, or they are not adjacent ([`Operand::has_runs`]).
    #[inline(always)]
    pub fn run(&self, i: usize, columns: Range<usize>) -> &'a [E] {
        assert!(i < self.rows && columns.start <= columns.end && columns.end <= self.columns && self.has_runs());
        // SAFETY: the view was valid for 'a and for every index below its dimensions, as asserted, and these elements
        // are adjacent (an empty run or a run of one always is).
        unsafe {
            let start = self.start.wrapping_offset(i as isize * self.row_stride).wrapping_add(columns.start);
            std::slice::from_raw_parts(start, columns.len())
        }
    }
}

/// An operand of either type.
#[derive(Clone, Copy)]
pub enum Source<'a> {
    /// Of float32.
    Float(Operand<'a, f32>),
    /// Of bfloat16.
    Half(Operand<'a, bf16>),
}

/// An operand whose rows are its depth, with what extends it: rows of another matrix behind its own.
#[derive(Clone, Copy)]
pub struct Deep<'a> {
    /// Its own rows.
    pub own: Source<'a>,
    /// Units of depth that they fill; the rows of the extension begin behind them.
    pub units: usize,
    /// The rows of the extension.
    pub extension: Option<Source<'a>>,
}

impl Source<'_> {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Source::Float(x) => x.rows(),
            Source::Half(x) => x.rows(),
        }
    }
}

impl<'a> From<Matrix<'a>> for Source<'a> {
    fn from(matrix: Matrix<'a>) -> Self {
        match matrix {
            Matrix::Float(x) => Source::Float(Operand::new(x)),
            Matrix::Half(x) => Source::Half(Operand::new(x)),
        }
    }
}
