//! Packing from rows that are runs in memory: a run of all columns at a time, so that memory is read in long pieces.

use super::super::operand::Operand;
use super::{Packable, Panels};
use crate::simd::{Kernel, LANES, Simd, bf16, dispatch, pair_of};
use std::ops::Range;

/// Packs float32 units.
pub fn copy<E: Packable>(panels: Panels, src: &Operand<'_, E>, us: Range<usize>, js: Range<usize>, out: &mut [u32]) {
    match panels.width {
        32 => copy_rows::<32, E>(panels, src, us, js, out),
        16 => copy_rows::<16, E>(panels, src, us, js, out),
        12 => copy_rows::<12, E>(panels, src, us, js, out),
        8 => copy_rows::<8, E>(panels, src, us, js, out),
        6 => copy_rows::<6, E>(panels, src, us, js, out),
        _ => copy_rows::<1, E>(panels, src, us, js, out),
    }
}

/// Whole panels of `W` columns are copied by moves of a length that the compiler knows. If that is not the width, there
/// must be one panel at most.
fn copy_rows<const W: usize, E: Packable>(
    panels: Panels,
    src: &Operand<'_, E>,
    us: Range<usize>,
    js: Range<usize>,
    out: &mut [u32],
) {
    debug_assert!(panels.width == W || js.len() <= panels.width);
    let units = us.len();
    let whole = if panels.width == W { js.len() / W } else { 0 };
    let (wide, last) = out.split_at_mut(whole * W * units);
    let rest = js.len() - whole * W;
    let width = rest.next_multiple_of(panels.lanes);
    for (i, row) in us.enumerate() {
        let (run, tail) = src.run(row, js.clone()).split_at(whole * W);
        for (p, x) in run.as_chunks::<W>().0.iter().enumerate() {
            wide[(p * units + i) * W..][..W].copy_from_slice(&x.map(|x| x.to_f32().to_bits()));
        }
        if rest > 0 {
            let (columns, padding) = last[i * width..][..width].split_at_mut(rest);
            columns.iter_mut().zip(tail).for_each(|(to, x)| *to = x.to_f32().to_bits());
            padding.fill(0);
        }
    }
}

/// Packs pairs: each row of a panel from two rows of `src`.
pub fn interleave<E: Packable>(
    panels: Panels,
    src: &Operand<'_, E>,
    us: Range<usize>,
    js: Range<usize>,
    out: &mut [u32],
) {
    dispatch(panels.isa, Interleave { panels, src, us, js, out });
}

struct Interleave<'a, E> {
    panels: Panels,
    src: &'a Operand<'a, E>,
    us: Range<usize>,
    js: Range<usize>,
    out: &'a mut [u32],
}

impl<E: Packable> Kernel for Interleave<'_, E> {
    type Output = ();
    const BF16: bool = !E::HALF;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let units = self.us.len();
        for (i, u) in self.us.enumerate() {
            let first = self.src.run(2 * u, self.js.clone());
            let second = if 2 * u + 1 < self.src.rows() { self.src.run(2 * u + 1, self.js.clone()) } else { &[] };
            for (j, n, width) in self.panels.iter(self.js.len()) {
                let row = &mut self.out[j * units + i * width..][..width];
                let (first, second) = (&first[j..j + n], second.get(j..j + n).unwrap_or_default());
                for at in (0..width).step_by(LANES) {
                    pairs_at(s, first, second, at, row);
                }
            }
        }
    }
}

/// Writes the pairs of elements `at..at + 16` of two runs; elements that are not there are 0.
#[inline(always)]
fn pairs_at<E: Packable, S: Simd>(s: S, first: &[E], second: &[E], at: usize, out: &mut [u32]) {
    match (first[at..].first_chunk(), second.get(at..).and_then(|x| x.first_chunk()), out[at..].first_chunk_mut()) {
        (Some(first), Some(second), Some(out)) => pairs(s, first, second, out),
        _ => {
            let part = |x: &[E]| {
                let mut lanes = [E::zeroed(); LANES];
                let x = x.get(at..).unwrap_or_default();
                lanes.iter_mut().zip(x).for_each(|(lane, x)| *lane = *x);
                lanes
            };
            let mut lanes = [0; LANES];
            pairs(s, &part(first), &part(second), &mut lanes);
            out[at..].iter_mut().zip(lanes).for_each(|(out, x)| *out = x);
        }
    }
}

/// Sixteen pairs: of numbers that are bfloat16 already by moving bits, of others by rounding.
#[inline(always)]
fn pairs<E: Packable, S: Simd>(s: S, first: &[E; LANES], second: &[E; LANES], out: &mut [u32; LANES]) {
    if E::HALF {
        *out = std::array::from_fn(|i| pair_of(first[i].to_half(), second[i].to_half()));
    } else {
        s.store_pairs(out, s.round_pairs(E::load(s, first), E::load(s, second)));
    }
}

const _: () = assert!(size_of::<bf16>() == 2);
