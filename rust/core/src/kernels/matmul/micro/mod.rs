//! The innermost loops: one tile of sums, held in registers, over a block of depth.
//!
//! `c (rows, columns) = or += sum over k of a[k, row] * b[k, column]`, with `a` and `b` packed ([`super::pack`]), then
//! `+ bias + residual` where they are due. Every element is one chain of (fused) multiply-adds over ascending `k`,
//! starting at zero, whatever the width of the vectors and the place of the element in its tile. The pairs of bfloat16
//! numbers in a unit are multiplied and added second before first, as the instruction `vdpbf16ps` does.

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512bf16;
#[cfg(target_arch = "x86_64")]
pub mod dot;
mod interleave;
mod portable;
#[cfg(target_arch = "x86_64")]
mod transpose;

use super::blocking::STRIPE;
use super::matrix::Precision;
use super::operand::Operand;
use crate::simd::{Element, Isa, bf16};
pub use interleave::interleave;

/// Rows and columns of a block that [`transpose()`] turns at a time.
pub const BLOCK: usize = 8;

/// The innermost loops for one instruction set and precision.
pub struct Micro {
    /// The instruction set.
    pub isa: Isa,
    /// What a unit of the packed operands is.
    pub precision: Precision,
    /// Rows of the largest tile.
    pub mr: usize,
    /// Columns of the largest tile.
    pub nr: usize,
    /// Columns of a vector.
    pub lanes: usize,
    /// Whether it writes tiles of bfloat16 numbers ([`Tile::half`]).
    pub rounds: bool,
    /// Computes a tile; [`Micro::run`] says what it asks for.
    tile: unsafe fn(&Tile<'_>),
}

impl Micro {
    /// The microkernel of `isa` (the portable one where the processor lacks it).
    pub fn of(isa: Isa, precision: Precision) -> &'static Micro {
        #[cfg(target_arch = "x86_64")]
        if isa.is_available() {
            match (isa, precision) {
                (Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, Precision::Float32) => return &avx512::FLOATS,
                (Isa::Avx512, Precision::Bfloat16) => return &avx512::PAIRS,
                (Isa::Avx512Bf16 | Isa::Amx, Precision::Bfloat16) => return &avx512bf16::PAIRS,
                (Isa::Avx2, Precision::Float32) => return &avx2::FLOATS,
                (Isa::Avx2, Precision::Bfloat16) => return &avx2::PAIRS,
                (Isa::Portable, _) => {}
            }
        }
        let _ = isa;
        match precision {
            Precision::Float32 => &portable::FLOATS,
            Precision::Bfloat16 => &portable::PAIRS,
        }
    }

    /// Computes a tile.
    ///
    /// # Safety
    /// `tile.c` must be valid for reads and writes of `rows` rows of `columns` floats, `c_stride` apart, which nobody
    /// else uses during the call; where there is a `tile.half`, that must be, and `tile.c` only if `tile.add`.
    #[inline(always)]
    pub unsafe fn run(&self, tile: &Tile<'_>) {
        // SAFETY: passed on from the caller; `of` has asked the processor for the instruction set.
        unsafe { (self.tile)(tile) }
    }
}

/// Whether `isa` has vectors for [`transpose()`] and [`dot`].
#[cfg(target_arch = "x86_64")]
pub fn has_transpose(isa: Isa) -> bool {
    isa != Isa::Portable && Isa::Avx2.is_available()
}

/// Writes unit `u` of the eight runs next to each other at `out[u * width..]`: of float32 numbers each is a unit, of
/// bfloat16 numbers, whose count must be even, two are.
pub fn transpose<E: Element>(isa: Isa, runs: &[&[E]; BLOCK], width: usize, out: &mut [u32]) {
    #[cfg(target_arch = "x86_64")]
    if has_transpose(isa) {
        // SAFETY: the processor was just asked for AVX2.
        return unsafe { transpose::transpose(runs, width, out) };
    }
    let _ = isa;
    let per_unit = size_of::<u32>() / size_of::<E>();
    for (i, run) in runs.iter().enumerate() {
        for (u, numbers) in run.chunks_exact(per_unit).enumerate() {
            out[u * width + i] = unit(numbers);
        }
    }
}

/// The numbers of a unit as they lie in memory.
#[inline(always)]
fn unit<E: Element>(numbers: &[E]) -> u32 {
    bytemuck::pod_read_unaligned(bytemuck::cast_slice(numbers))
}

/// A tile of sums, what goes into it and what is added to it.
pub struct Tile<'a> {
    /// Depth of the block in units.
    pub units: usize,
    /// Rows of the tile, `1..=mr`.
    pub rows: usize,
    /// Columns of the tile, `1..=nr`.
    pub columns: usize,
    /// `units` times `rows` units.
    pub a: &'a [u32],
    /// `units` times `columns` units, each row of them filled up to a multiple of `lanes`.
    pub b: &'a [u32],
    /// The first element of the tile.
    pub c: *mut f32,
    /// From one row of the tile to the next.
    pub c_stride: isize,
    /// Whether the sums are added to what the tile holds; if not, it is not read.
    pub add: bool,
    /// Added to every row: one for each column.
    pub bias: Option<&'a [f32]>,
    /// Added element by element: the whole matrix, the tile's part of it begins at `(row, column)`.
    pub residual: Option<&'a Operand<'a, f32>>,
    /// Where the finished sums go instead of `c`, rounded; only for microkernels that round.
    pub half: Option<HalfTile>,
    /// The tile's first row in the output.
    pub row: usize,
    /// The tile's first column in the output.
    pub column: usize,
}

/// A tile of bfloat16 numbers.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // portable microkernels do not round
pub struct HalfTile {
    /// The first element.
    pub start: *mut bf16,
    /// From one row to the next.
    pub stride: isize,
}

#[cfg(target_arch = "x86_64")]
impl HalfTile {
    /// The first element of row `i`.
    #[inline(always)]
    fn row(&self, i: usize) -> *mut bf16 {
        self.start.wrapping_offset(i as isize * self.stride)
    }
}

impl<'a> Tile<'a> {
    /// A tile that is written from column `j` of a strip on.
    #[inline(always)]
    pub fn of_strip(
        strip: &mut [f32],
        j: usize,
        rows: usize,
        columns: usize,
        units: usize,
        a: &'a [u32],
        b: &'a [u32],
    ) -> Tile<'a> {
        assert!(j + columns <= STRIPE && strip.len() >= rows * STRIPE);
        let (c, c_stride) = (strip[j..].as_mut_ptr(), STRIPE as isize);
        Tile {
            units,
            rows,
            columns,
            a,
            b,
            c,
            c_stride,
            add: false,
            bias: None,
            residual: None,
            half: None,
            row: 0,
            column: 0,
        }
    }
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
    /// As for [`Micro::run`].
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
            && self.a.len() >= self.units * rows
            && self.b.len() >= self.units * padded_columns
            && self.bias.is_none_or(|bias| bias.len() >= self.columns)
    }
}
