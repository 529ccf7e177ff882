//! A matrix that many tasks write, each to elements of its own.

use crate::simd::prefetch_at;
use ndarray::ArrayViewMut2;
use std::marker::PhantomData;
use std::ops::Range;

/// An exclusively borrowed matrix with contiguous rows, to be shared by tasks.
///
/// That no two tasks share an element is what [`Grid::run_mut`] and [`Grid::start`] ask of their callers.
#[derive(Clone, Copy)]
pub struct Grid<'a, E> {
    start: *mut E,
    rows: usize,
    columns: usize,
    row_stride: isize,
    borrowed: PhantomData<&'a mut E>,
}

// SAFETY: the pointer stands for an exclusive borrow, whose elements may be written from any thread; the methods that
// give access to elements require that no two threads take the same ones.
unsafe impl<E: Send> Send for Grid<'_, E> {}
// SAFETY: as for Send.
unsafe impl<E: Send> Sync for Grid<'_, E> {}

impl<'a, E> Grid<'a, E> {
    /// The matrix of `view`, whose rows must be contiguous.
    pub fn new(mut view: ArrayViewMut2<'a, E>) -> Self {
        let (rows, columns) = view.dim();
        let row_stride = view.strides()[0];
        Grid { start: view.as_mut_ptr(), rows, columns, row_stride, borrowed: PhantomData }
    }

    /// A matrix of `columns` columns that fills `data`.
    pub fn from_slice(data: &'a mut [E], columns: usize) -> Self {
        let rows = data.len() / columns.max(1);
        Grid { start: data.as_mut_ptr(), rows, columns, row_stride: columns as isize, borrowed: PhantomData }
    }

    /// From one row to the next.
    pub fn row_stride(&self) -> isize {
        self.row_stride
    }

    /// The first of the elements in `rows` and `columns`, which lie within the matrix.
    #[inline(always)]
    pub fn start(&self, rows: &Range<usize>, columns: &Range<usize>) -> *mut E {
        assert!(rows.end <= self.rows && columns.end <= self.columns);
        self.start.wrapping_offset(rows.start as isize * self.row_stride).wrapping_add(columns.start)
    }

    /// Asks for the elements in `rows` and `columns` to come into the cache.
    pub fn fetch(&self, rows: &Range<usize>, columns: &Range<usize>) {
        for i in rows.clone() {
            prefetch_at(self.start(&(i..i + 1), columns).cast_const(), columns.len());
        }
    }

    /// The elements of row `i` in `columns`.
    ///
    /// # Safety
    /// Nobody else may use these elements while the slice lives.
    #[inline(always)]
    pub unsafe fn run_mut(&self, i: usize, columns: Range<usize>) -> &'a mut [E] {
        let start = self.start(&(i..i + 1), &columns);
        // SAFETY: the elements lie within the borrowed matrix, as `start` asserts; its rows are contiguous, and nobody
        // else uses them.
        unsafe { std::slice::from_raw_parts_mut(start, columns.len()) }
    }
}
