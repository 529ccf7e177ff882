//! Where the numbers of a matrix in few bits lie: in panels of 16 rows side by side, each one run of memory.
//!
//! | format | a panel, along its columns | beside it |
//! |---|---|---|
//! | BF16 | for every two columns those of 16 rows, one row after the other: 64 bytes; filled up to 32 columns | |
//! | Q8_0 | for every four columns those of 16 rows, one row after the other: 64 bytes; 128 more than `q` | a scale for each row and 32 columns |
//! | Q4_0 | for every four columns of the first half of a block of 32, with those 16 behind them in the upper bits: 64 bytes | the same |
//!
//! A vector of 64 bytes therefore meets four numbers (or two) of the other side that are the same for all rows, and its
//! products add up to one sum a row without any move between lanes (as in ik_llama.cpp's interleaved rows). Sixteen
//! vectors of BF16, or eight of Q8_0, are a tile as the processor's tile registers take it. Scales have a stream
//! of their own, so that vectors lie on cache lines. Rows beyond the last, and columns beyond it, are zeros.

use super::{Format, q4_0, q8_0};
use crate::kernels::matmul::micro::{BLOCK as TURNED, transpose};
use crate::simd::{Element, Isa, Kernel, LANES, Simd, bf16, dispatch};
use std::ops::Range;

/// Rows of a panel.
pub const PANEL: usize = 16;

/// Columns of a block of integers, and those that BF16 is filled up to.
pub const BLOCK: usize = 32;

/// What integers of 8 bits are stored with, so that they have no sign.
pub const BIAS_8: u8 = 128;

/// The sizes of a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How numbers are stored.
    pub format: Format,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix.
    pub columns: usize,
}

impl Layout {
    /// Panels of all rows.
    pub fn panels(self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Blocks of a row; without scales a column is one.
    pub fn blocks(self) -> usize {
        self.columns.div_ceil(self.format.values())
    }

    /// Whether blocks have scales.
    pub fn has_scales(self) -> bool {
        self.format.values() > 1
    }

    /// Bytes of a block without its scale, for one row.
    fn block_bytes(self) -> usize {
        if self.has_scales() { self.format.bytes() - size_of::<u16>() } else { self.format.bytes() }
    }

    /// Bytes of a panel without its scales.
    pub fn panel_bytes(self) -> usize {
        match self.has_scales() {
            true => PANEL * self.blocks() * self.block_bytes(),
            false => PANEL * self.columns.next_multiple_of(BLOCK) * self.block_bytes(),
        }
    }

    /// Scales of a panel.
    pub fn panel_scales(self) -> usize {
        if self.has_scales() { PANEL * self.blocks() } else { 0 }
    }

    /// Puts `row` into place `lane` of a panel of zeros, of a format with scales.
    #[inline(always)]
    pub fn put<S: Simd>(self, s: S, row: &[f32], lane: usize, panel: &mut [u8], scales: &mut [u16]) {
        let (size, mut block) = (self.block_bytes(), [0; 34]);
        let block = &mut block[..self.format.bytes()];
        for (b, row) in row.chunks(BLOCK).enumerate() {
            let mut filled = [0.0; BLOCK];
            filled[..row.len()].copy_from_slice(row);
            // Without closures: those are calls, and so would be every instruction in them.
            match self.format {
                Format::Q4_0 => q4_0::encode_closest(s, &filled, block.first_chunk_mut().expect("18 bytes")),
                _ => q8_0::encode(&filled, block.first_chunk_mut().expect("34 bytes")),
            }
            let (scale, numbers) = block.split_at(2);
            scales[b * PANEL + lane] = u16::from_le_bytes([scale[0], scale[1]]);
            for (g, numbers) in numbers.chunks_exact(4).enumerate() {
                let to = &mut panel[b * PANEL * size + (g * PANEL + lane) * 4..][..4];
                to.iter_mut().zip(numbers).for_each(|(to, &from)| *to = from ^ self.flip());
            }
        }
    }

    /// The blocks of the row in place `lane` of a panel, one after the other.
    #[inline(always)]
    pub fn take(self, lane: usize, panel: &[u8], scales: &[u16], blocks: Range<usize>, bytes: &mut [u8]) {
        let size = self.block_bytes();
        for (b, block) in blocks.zip(bytes.chunks_exact_mut(self.format.bytes())) {
            let mut numbers = block;
            if self.has_scales() {
                let (scale, rest) = numbers.split_at_mut(2);
                scale.copy_from_slice(&scales[b * PANEL + lane].to_le_bytes());
                numbers = rest;
            }
            if !self.has_scales() {
                numbers.copy_from_slice(&panel[(b / 2 * PANEL + lane) * 4 + b % 2 * 2..][..2]);
                continue;
            }
            for (g, numbers) in numbers.chunks_exact_mut(4).enumerate() {
                let from = &panel[b * PANEL * size + (g * PANEL + lane) * 4..][..4];
                numbers.iter_mut().zip(from).for_each(|(to, &from)| *to = from ^ self.flip());
            }
        }
    }

    /// Bits that are stored turned over: adding 128 to 8 bits.
    fn flip(self) -> u8 {
        if self.format == Format::Q8_0 { BIAS_8 } else { 0 }
    }
}

/// Columns that are rounded at a time.
const RUN: usize = 64;

/// Writes up to 16 rows of so many columns to a panel of BF16 that holds zeros.
pub fn put_words(isa: Isa, rows: &[f32], columns: usize, panel: &mut [u8]) {
    let panel: &mut [u32] = bytemuck::cast_slice_mut(panel);
    for (block, rows) in rows.chunks(TURNED * columns.max(1)).enumerate() {
        for at in (0..columns).step_by(RUN) {
            let mut half = [[bf16::ZERO; RUN]; TURNED];
            dispatch(isa, Round { rows, columns, at, half: &mut half });
            let len = RUN.min(columns - at).next_multiple_of(2);
            let to = &mut panel[at / 2 * PANEL + block * TURNED..];
            transpose(isa, &half.each_ref().map(|run| &run[..len]), PANEL, to);
        }
    }
}

/// A few columns of some rows as bfloat16.
struct Round<'a> {
    rows: &'a [f32],
    columns: usize,
    at: usize,
    half: &'a mut [[bf16; RUN]; TURNED],
}

impl Kernel for Round<'_> {
    type Output = ();
    const BF16: bool = true;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (row, half) in self.rows.chunks_exact(self.columns).zip(self.half) {
            let run = &row[self.at..self.columns.min(self.at + RUN)];
            for at in (0..run.len()).step_by(LANES) {
                bf16::store_at(s, half, at, s.load_at(run, at, 0.0));
            }
        }
    }
}
