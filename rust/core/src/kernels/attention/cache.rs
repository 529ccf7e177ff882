//! Keys and values of a head in the order in which a decoding step reads them: what was read once is never turned again.
//!
//! ```text
//! keys    (T / 16, words of a row, 16)    of 16 positions the first word of each, then the second, ...
//! values  (T / PER, vectors of a row, 16) words along the positions, row after row
//! ```
//!
//! A word is one float32 number or a pair of bfloat16 numbers ([`super::operand`]): a pair of keys lies along the row, one of
//! values along the positions. Rows of values are filled up with zeros to whole vectors.

use super::operand::Operand;
use super::pack;
use super::tile::Words;
use crate::simd::{Element, LANES};
use ndarray::{ArrayView2, s};

/// Positions whose keys lie together.
pub const POSITIONS: usize = LANES;

/// The floats of memory that a position of a head takes: those of its key, and of its value.
pub fn floats_of_position<E: Element>(dim: usize) -> [usize; 2] {
    let per = size_of::<f32>() / size_of::<E>();
    [dim.div_ceil(per), dim.next_multiple_of(LANES) / per]
}

/// Keys and values of all heads of a sequence.
pub struct Cache<'a> {
    /// Of each head room for so many positions, a multiple of [`POSITIONS`], each of so many floats as
    /// [`floats_of_position`] says; on a cache line, and zeros at first.
    pub keys: &'a mut [f32],
    /// The same for values.
    pub values: &'a mut [f32],
    /// Positions that there is room for.
    pub room: usize,
    /// Positions that are there.
    pub len: usize,
}

/// Keys and values of one head.
pub(super) struct Head<'a> {
    pub keys: &'a mut [Words],
    pub values: &'a mut [Words],
}

impl<'a> Cache<'a> {
    /// The heads, one after the other.
    pub(super) fn heads(self, kv_heads: usize) -> impl Iterator<Item = Head<'a>> {
        let keys = bytemuck::cast_slice_mut::<f32, Words>(self.keys);
        let values = bytemuck::cast_slice_mut::<f32, Words>(self.values);
        let sizes = [keys.len(), values.len()].map(|len| (len / kv_heads).max(1));
        keys.chunks_exact_mut(sizes[0])
            .zip(values.chunks_exact_mut(sizes[1]))
            .map(|(keys, values)| Head { keys, values })
    }
}

impl Head<'_> {
    /// Writes the rows of `k` and `v` (T, D) behind the first `len` positions; `room` is for what is turned.
    #[inline(always)]
    pub fn append<E: Element, P: Operand>(
        &mut self,
        len: usize,
        k: ArrayView2<'_, E>,
        v: ArrayView2<'_, E>,
        room: &mut Vec<Words>,
    ) {
        let (t, dim) = k.dim();
        let (words, blocks) = (dim.div_ceil(P::PER), pack::word_vectors::<P>(dim));
        let (rows, turned) = pack::reserve(room, 2 * blocks * LANES, Words::ZERO).split_at_mut(blocks * LANES);
        let mut i = 0;
        while i < t {
            let (block, lane) = ((len + i) / POSITIONS, (len + i) % POSITIONS);
            let out = &mut self.keys[block * words..][..words];
            if lane == 0 && t - i >= POSITIONS {
                pack::words(k, i..i + POSITIONS, blocks, rows);
                pack::turn(rows, blocks, turned);
                out.copy_from_slice(&turned[..words]);
                i += POSITIONS;
                continue;
            }
            pack::words(k, i..i + 1, blocks, &mut rows[..blocks]);
            for (out, word) in out.iter_mut().zip(rows.iter().flat_map(|words| words.0)) {
                out.0[lane] = word;
            }
            i += 1;
        }
        self.append_values::<E, P>(len, v);
    }

    #[inline(always)]
    fn append_values<E: Element, P: Operand>(&mut self, len: usize, v: ArrayView2<'_, E>) {
        let (t, width) = (v.nrows(), pack::vectors(v.ncols()));
        let mut first = 0;
        if P::PER == 2 && len % 2 == 1 && t > 0 {
            // The other half of a pair that was begun.
            let row = pack::row(v, 0);
            let halves: &mut [[u16; 2]] = bytemuck::cast_slice_mut(&mut self.values[len / 2 * width..][..width]);
            let row: &[u16] = bytemuck::cast_slice(row);
            halves.iter_mut().zip(row).for_each(|(pair, &half)| pair[1] = half);
            first = 1;
        }
        let out = &mut self.values[(len + first) / P::PER * width..];
        let rows = t - first;
        pack::rows::<E, P>(v, first..t, width, &mut out[..rows.div_ceil(P::PER) * width]);
    }

    /// Writes the keys and values of the first positions to the rows of `k` and `v`, each of `dim` numbers.
    pub fn read<E: Element, P: Operand>(&self, dim: usize, k: &mut [E], v: &mut [E]) {
        let (words, width) = (dim.div_ceil(P::PER), pack::vectors(dim));
        let mut turned = [Words::ZERO; LANES];
        for (rows, block) in k.chunks_mut(POSITIONS * dim).zip(self.keys.chunks_exact(words)) {
            for (column, from) in block.chunks(LANES).enumerate() {
                let mut square = [Words::ZERO; LANES];
                square[..from.len()].copy_from_slice(from);
                pack::turn(&square, 1, &mut turned);
                let numbers = column * LANES * P::PER..dim.min((column + 1) * LANES * P::PER);
                for (row, turned) in rows.chunks_exact_mut(dim).zip(&turned) {
                    let from: &[E] = bytemuck::cast_slice(&turned.0);
                    row[numbers.clone()].copy_from_slice(&from[..numbers.len()]);
                }
            }
        }
        for (rows, from) in v.chunks_mut(P::PER * dim).zip(self.values.chunks_exact(width)) {
            let numbers: &[E] = bytemuck::cast_slice(from);
            for (half, row) in rows.chunks_exact_mut(dim).enumerate() {
                row.iter_mut().zip(numbers.iter().skip(half).step_by(P::PER)).for_each(|(to, &from)| *to = from);
            }
        }
    }
}

/// The rows of some positions, with the keys and values of those alone: for a step without a cache.
#[inline(always)]
pub(super) fn packed<'a, E: Element, P: Operand>(
    k: ArrayView2<'_, E>,
    v: ArrayView2<'_, E>,
    positions: std::ops::Range<usize>,
    keys: &'a mut Vec<Words>,
    values: &'a mut Vec<Words>,
    room: &mut Vec<Words>,
) -> Head<'a> {
    let (dim, length) = (k.ncols(), positions.len().div_ceil(POSITIONS));
    let keys = pack::reserve(keys, length * dim.div_ceil(P::PER), Words::ZERO);
    let values = pack::reserve(values, length * POSITIONS / P::PER * pack::vectors(dim), Words::ZERO);
    let mut head = Head { keys, values };
    let [k, v] = [k, v].map(|x| x.slice_move(s![positions.clone(), ..]));
    head.append::<E, P>(0, k, v, room);
    head
}
