//! Packing from rows that are runs in memory: a run of all columns at a time, so that memory is read in long pieces.

use super::super::matrix::Precision;
use super::super::micro;
use super::super::operand::Operand;
use super::{Packable, Panels, Place};
use crate::simd::{Kernel, LANES, Simd, dispatch, pair_of, prefetch};
use std::ops::Range;

/// Packs units `us` of depth and columns `js` of `src`, whose rows are runs, into their `place` in `out`.
pub fn pack<E: Packable>(
    panels: Panels,
    src: &Operand<'_, E>,
    us: Range<usize>,
    js: Range<usize>,
    place: Place,
    out: &mut [u32],
) {
    dispatch(panels.isa, Pack { panels, src, us, js, place, out });
}

/// Units of depth from what is packed to what is fetched: the processor does not foresee where the next run begins.
const AHEAD: usize = 8;

struct Pack<'a, E> {
    panels: Panels,
    src: &'a Operand<'a, E>,
    us: Range<usize>,
    js: Range<usize>,
    place: Place,
    out: &'a mut [u32],
}

/// What a row of units is made of: a row of numbers, or two of them of which the second may be missing.
#[derive(Clone, Copy)]
enum Rows<'a, E> {
    One(&'a [E]),
    Two(&'a [E], Option<&'a [E]>),
}

impl<E: Packable> Kernel for Pack<'_, E> {
    type Output = ();
    const BF16: bool = !E::HALF;

    /// Whole panels are packed by moves of a length that the compiler knows, for the widths that microkernels have.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.panels.width {
            32 => self.pack::<S, 32>(s),
            16 => self.pack::<S, 16>(s),
            12 => self.pack::<S, 12>(s),
            8 => self.pack::<S, 8>(s),
            6 => self.pack::<S, 6>(s),
            4 => self.pack::<S, 4>(s),
            _ => self.pack::<S, 1>(s),
        }
    }
}

impl<E: Packable> Pack<'_, E> {
    #[inline(always)]
    fn pack<S: Simd, const W: usize>(self, s: S) {
        let Place { units, first } = self.place;
        let whole = if self.panels.width == W { self.js.len() / W } else { 0 };
        let (panels, last) = self.out.split_at_mut(whole * W * units);
        let rest = self.js.len() - whole * W;
        let width = self.panels.padded(rest);
        for (i, u) in (first..).zip(self.us) {
            let run = |row| self.src.run(row, self.js.clone());
            let step = self.panels.precision.per_unit();
            for row in (u + AHEAD) * step..(u + AHEAD + 1) * step {
                if row < self.src.rows() {
                    prefetch(run(row));
                }
            }
            let rows = match self.panels.precision {
                Precision::Float32 => Rows::One(run(u)),
                Precision::Bfloat16 => Rows::Two(run(2 * u), (2 * u + 1 < self.src.rows()).then(|| run(2 * u + 1))),
            };
            for p in 0..whole {
                let out = first_of(panels, (p * units + i) * W);
                match rows {
                    Rows::One(row) => copy(s, at(row, p * W), out),
                    Rows::Two(first, Some(second)) => pairs(s, at(first, p * W), at(second, p * W), out),
                    Rows::Two(first, None) => pairs(s, at(first, p * W), &[E::zeroed(); W], out),
                }
            }
            if rest > 0 {
                tail(s, rows, whole * W, &mut last[i * width..][..width]);
            }
        }
    }
}

/// `N` numbers from `i` on.
#[inline(always)]
fn at<E, const N: usize>(row: &[E], i: usize) -> &[E; N] {
    row[i..].first_chunk().expect("columns of a whole panel")
}

/// `N` units from `i` on.
#[inline(always)]
fn first_of<const N: usize>(out: &mut [u32], i: usize) -> &mut [u32; N] {
    out[i..].first_chunk_mut().expect("a row of a whole panel")
}

/// A row of a panel that is not whole: the numbers from `at` on, then zeros.
#[inline(always)]
fn tail<E: Packable, S: Simd>(s: S, rows: Rows<'_, E>, at: usize, out: &mut [u32]) {
    for (i, out) in out.chunks_mut(LANES).enumerate() {
        let part = |row: &[E]| {
            let mut lanes = [E::zeroed(); LANES];
            let numbers = row.get(at + i * LANES..).unwrap_or_default();
            lanes.iter_mut().zip(numbers).for_each(|(lane, x)| *lane = *x);
            lanes
        };
        let mut units = [0; LANES];
        match rows {
            Rows::One(row) => copy(s, &part(row), &mut units),
            Rows::Two(first, second) => pairs(s, &part(first), &part(second.unwrap_or_default()), &mut units),
        }
        out.copy_from_slice(&units[..out.len()]);
    }
}

/// Units of one number each.
#[inline(always)]
fn copy<E: Packable, S: Simd, const W: usize>(s: S, row: &[E; W], out: &mut [u32; W]) {
    if W.is_multiple_of(LANES) {
        for i in (0..W).step_by(LANES) {
            s.store(bytemuck::must_cast_mut(first_of::<LANES>(out, i)), E::load(s, at(row, i)));
        }
    } else {
        by_parts(row, row, out, |x, _| x.to_f32().to_bits());
    }
}

/// Units of two numbers each: of bfloat16 numbers by moving bits, of others by rounding.
#[inline(always)]
fn pairs<E: Packable, S: Simd, const W: usize>(s: S, first: &[E; W], second: &[E; W], out: &mut [u32; W]) {
    if !E::HALF && W.is_multiple_of(LANES) {
        for i in (0..W).step_by(LANES) {
            s.store_pairs(first_of(out, i), s.round_pairs(E::load(s, at(first, i)), E::load(s, at(second, i))));
        }
    } else if E::HALF && W == 12 {
        micro::interleave(first, second, out);
    } else {
        // LLVM makes widening loads, shifts and ors of this.
        by_parts(first, second, out, |x, y| pair_of(x.to_half(), y.to_half()));
    }
}

/// Units made one by one, but written so that twelve become vectors of eight and four, not a masked one of sixteen.
#[inline(always)]
fn by_parts<E: Copy, const W: usize>(
    first: &[E; W],
    second: &[E; W],
    out: &mut [u32; W],
    unit: impl Fn(E, E) -> u32 + Copy,
) {
    let mut at = 0;
    while at + 8 <= W {
        for i in at..at + 8 {
            out[i] = unit(first[i], second[i]);
        }
        at += 8;
    }
    while at + 4 <= W {
        for i in at..at + 4 {
            out[i] = unit(first[i], second[i]);
        }
        at += 4;
    }
    for i in at..W {
        out[i] = unit(first[i], second[i]);
    }
}
