//! Packing from rows that are runs in memory: a run of all columns at a time, so that memory is read in long pieces.
//!
//! Sixteen units are written at a time also where a panel is narrower: what is too much lies in the panel's next rows,
//! which are written later. (Copies of twelve would be two moves of odd lengths each.)

use super::super::matrix::Precision;
use super::super::operand::Operand;
use super::{Packable, Panels};
use crate::simd::{Kernel, LANES, Simd, dispatch, pair_of};
use std::ops::Range;

/// Packs units `us` of depth and columns `js` of `src`, whose rows are runs, into `out`.
pub fn pack<E: Packable>(panels: Panels, src: &Operand<'_, E>, us: Range<usize>, js: Range<usize>, out: &mut [u32]) {
    match panels.precision {
        Precision::Float32 => dispatch(panels.isa, Copy { panels, src, us, js, out }),
        Precision::Bfloat16 => dispatch(panels.isa, Interleave { panels, src, us, js, out }),
    }
}

/// A unit is a number.
struct Copy<'a, E> {
    panels: Panels,
    src: &'a Operand<'a, E>,
    us: Range<usize>,
    js: Range<usize>,
    out: &'a mut [u32],
}

impl<E: Packable> Kernel for Copy<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (panels, units) = (self.panels, self.us.len());
        for (i, u) in self.us.enumerate() {
            let run = self.src.run(u, self.js.clone());
            for (j, n, width) in panels.iter(self.js.len()) {
                let panel = &mut self.out[j * units..][..units * width];
                for at in (0..width).step_by(LANES) {
                    let to = &mut panel[i * width + at..];
                    match (run[j + at..].first_chunk(), to.first_chunk_mut()) {
                        (Some(from), Some(to)) if at + LANES <= n || n == width => {
                            let to: &mut [u32; LANES] = to;
                            s.store(bytemuck::must_cast_mut(to), E::load(s, from));
                        }
                        _ => {
                            let from = E::load_tail(s, &run[j + at..j + n], 0.0);
                            let most = (width - at).min(LANES);
                            s.store_tail(bytemuck::must_cast_slice_mut(&mut to[..most]), from);
                        }
                    }
                }
            }
        }
    }
}

/// A unit is a pair: each row of a panel comes from two rows.
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
        let (panels, units) = (self.panels, self.us.len());
        for (i, u) in self.us.enumerate() {
            let first = self.src.run(2 * u, self.js.clone());
            let is_pair = 2 * u + 1 < self.src.rows();
            let second = if is_pair { self.src.run(2 * u + 1, self.js.clone()) } else { &[] };
            for (j, n, width) in panels.iter(self.js.len()) {
                let panel = &mut self.out[j * units..][..units * width];
                for at in (0..width).step_by(LANES) {
                    let to = &mut panel[i * width + at..];
                    let from = (
                        first[j + at..].first_chunk(),
                        second.get(j + at..).and_then(|second| second.first_chunk()),
                    );
                    match (from, to.first_chunk_mut()) {
                        ((Some(first), Some(second)), Some(to)) if at + LANES <= n || n == width => {
                            pairs(s, first, second, to);
                        }
                        _ => {
                            let mut lanes = [[E::zeroed(); LANES]; 2];
                            for (lanes, run) in lanes.iter_mut().zip([first, second]) {
                                let run = run.get(j + at..run.len().min(j + n)).unwrap_or_default();
                                lanes.iter_mut().zip(run).for_each(|(lane, x)| *lane = *x);
                            }
                            let mut out = [0; LANES];
                            pairs(s, &lanes[0], &lanes[1], &mut out);
                            to.iter_mut().zip(out).take(width - at).for_each(|(to, x)| *to = x);
                        }
                    }
                }
            }
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
