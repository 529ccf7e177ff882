//! The innermost loops: one tile of the output, held in registers, over a block of depth.
//!
//! `c (rows, columns) = or += sum over k of a[k, row] * b[k, column]`, with `a` and `b` packed ([`super::pack`]), then
//! `+ bias + residual` where they are due. Every element is one chain of (fused) multiply-adds over ascending `k`,
//! starting at zero, whatever the width of the vectors and the place of the element in its tile.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
pub mod dot;
mod portable;
#[cfg(target_arch = "x86_64")]
mod transpose;

#[cfg(test)]
pub use portable::Portable;

use super::operand::Operand;
use crate::simd::Isa;
use std::ops::Range;

/// Work that is compiled once for each microkernel.
pub trait Work {
    /// The work.
    ///
    /// # Safety
    /// The processor must have the instruction set of `M`.
    unsafe fn run<M: MicroKernel>(self);
}

/// Runs `work` with the microkernel of `isa` (the portable one where the processor lacks it).
pub fn dispatch(isa: Isa, work: impl Work) {
    #[cfg(target_arch = "x86_64")]
    if isa.is_available() {
        match isa {
            // SAFETY: the processor was just asked for the instruction set.
            Isa::Avx512 | Isa::Avx512Bf16 => return unsafe { work.run::<avx512::Avx512>() },
            // SAFETY: the processor was just asked for the instruction set.
            Isa::Avx2 => return unsafe { work.run::<avx2::Avx2>() },
            Isa::Portable => {}
        }
    }
    let _ = isa;
    // SAFETY: portable code needs no instruction set.
    unsafe { work.run::<portable::Portable>() }
}

/// Whether `isa` has [`mod@transpose`] and [`dot`].
#[cfg(target_arch = "x86_64")]
pub fn has_transpose(isa: Isa) -> bool {
    isa != Isa::Portable && Isa::Avx2.is_available()
}

/// Packs rows `ks` and columns `js` of the transpose of `src` into a panel of `width` columns with the vectors of `isa`;
/// columns beyond `js` are left as they are. `false` if it has none for this: nothing is done then.
pub fn transpose(
    isa: Isa,
    src: &Operand<'_>,
    ks: Range<usize>,
    js: Range<usize>,
    width: usize,
    panel: &mut [f32],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if has_transpose(isa) {
        // SAFETY: the processor was just asked for AVX2.
        unsafe { transpose::transpose(src, ks, js, width, panel) };
        return true;
    }
    let _ = (isa, src, ks, js, width, panel);
    false
}

/// A tile of the output, what goes into it and what is added to it.
pub struct Tile<'a> {
    /// Depth of the block.
    pub k: usize,
    /// Rows of the tile, `1..=MR`.
    pub rows: usize,
    /// Columns of the tile, `1..=NR`.
    pub columns: usize,
    /// `k` times `rows` floats.
    pub a: &'a [f32],
    /// `k` times `columns` floats, each row of them filled up to a multiple of `LANES`.
    pub b: &'a [f32],
    /// The first element of the tile.
    pub c: *mut f32,
    /// From one row of the tile to the next.
    pub c_stride: isize,
    /// Whether the sums are added to what the tile holds; if not, it is not read.
    pub add: bool,
    /// Added to every row: one for each column.
    pub bias: Option<&'a [f32]>,
    /// Added element by element: the whole matrix, the tile's part of it begins at `(row, column)`.
    pub residual: Option<&'a Operand<'a>>,
    /// The tile's first row in the output.
    pub row: usize,
    /// The tile's first column in the output.
    pub column: usize,
}

impl Tile<'_> {
    /// The tile's part of row `i` of the residual.
    #[inline(always)]
    fn residual_row(&self, i: usize) -> Option<&[f32]> {
        self.residual.map(|r| r.run(self.row + i, self.column..self.column + self.columns))
    }

    /// The first element of row `i`.
    #[inline(always)]
    fn c_row(&self, i: usize) -> *mut f32 {
        self.c.wrapping_offset(i as isize * self.c_stride)
    }

    /// Writes row `i` from its `sums`, one element after the other: for tiles whose columns do not fill their vectors.
    ///
    /// # Safety
    /// As for [`MicroKernel::run`].
    #[inline(always)]
    unsafe fn write_row(&self, i: usize, sums: &[f32]) {
        let residual = self.residual_row(i);
        for (j, &sum) in sums[..self.columns].iter().enumerate() {
            // SAFETY: row and column lie within the tile, which is this call's alone.
            let c = unsafe { &mut *self.c_row(i).add(j) };
            let mut x = if self.add { *c + sum } else { sum };
            if let Some(bias) = self.bias {
                x += bias[j];
            }
            if let Some(residual) = residual {
                x += residual[j];
            }
            *c = x;
        }
    }

    /// Whether the packed operands are as long as the kernels read; every kernel asserts it.
    #[inline(always)]
    fn operands_fit(&self, rows: usize, padded_columns: usize) -> bool {
        self.rows == rows
            && self.columns <= padded_columns
            && self.a.len() >= self.k * rows
            && self.b.len() >= self.k * padded_columns
    }
}

/// The innermost loops for one instruction set.
pub trait MicroKernel: 'static {
    /// The instruction set.
    const ISA: Isa;
    /// Rows of the largest tile.
    const MR: usize;
    /// Columns of the largest tile.
    const NR: usize;
    /// Columns of a vector.
    const LANES: usize;

    /// Computes a tile.
    ///
    /// # Safety
    /// The processor must have the instruction set. `tile.c` must be valid for reads and writes of `rows` rows of
    /// `columns` floats, `c_stride` apart, which nobody else uses during the call.
    unsafe fn run(tile: &Tile<'_>);
}
