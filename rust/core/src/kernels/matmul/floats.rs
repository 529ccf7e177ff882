//! Sums of weights in bfloat16, in panels, and rows that were rounded to bfloat16.
//!
//! A sum is a chain over pairs of columns, of which the second is added first: two fused multiply-adds ([`Chains`]), or the
//! dot product of AVX512-BF16, which gives the same bits on AMD's processors, where it is used ([`Dots`]). Tile
//! registers ([`crate::simd::amx`]) make a chain of the even columns and one of the odd ones for every 32 of them, whose sum
//! is added; where there are any, the few rows that are not worth a tile are added up so too ([`AsTiles`]). So a row has
//! the same bits alone and among others, as long as no sum is subnormal.
//!
//! Arrays are filled in loops, not by closures: those may be compiled for no instruction set and called, twenty times slower.

use super::blocking::STRIPE;
use crate::kernels::quantized::layout::{BLOCK, PANEL};
use crate::simd::{Kernel, LANES, Simd};
use bytemuck::Pod;

/// Pairs of columns that are taken together.
const PAIRS: usize = BLOCK / 2;

/// How pairs of columns come into the sums.
pub trait Way {
    /// A pair of numbers of a row.
    type X: Pod + Sync;
    /// Whether it is made for instructions for bfloat16.
    const BF16: bool;
    /// Registers that a sum takes.
    const CHAINS: usize;

    /// Adds the products of a block of columns of `M` rows and `P` panels to their sums.
    fn add<S: Simd, const M: usize, const P: usize>(
        s: S,
        x: [&[Self::X; PAIRS]; M],
        w: [&[[u32; PANEL]; PAIRS]; P],
        sums: &mut [[S::V; P]; M],
    );
}

/// A dot product for a pair.
pub struct Dots;

impl Way for Dots {
    type X = u32;
    const BF16: bool = true;
    const CHAINS: usize = 1;

    #[inline(always)]
    fn add<S: Simd, const M: usize, const P: usize>(
        s: S,
        x: [&[u32; PAIRS]; M],
        w: [&[[u32; PANEL]; PAIRS]; P],
        sums: &mut [[S::V; P]; M],
    ) {
        for pair in 0..PAIRS {
            let mut pairs = [s.splat_pair(0); P];
            for j in 0..P {
                pairs[j] = s.load_pairs(&w[j][pair]);
            }
            for m in 0..M {
                let x = s.splat_pair(x[m][pair]);
                for j in 0..P {
                    sums[m][j] = s.dot(x, pairs[j], sums[m][j]);
                }
            }
        }
    }
}

/// Two multiply-adds for a pair.
pub struct Chains;

impl Way for Chains {
    type X = [f32; 2];
    const BF16: bool = false;
    const CHAINS: usize = 1;

    #[inline(always)]
    fn add<S: Simd, const M: usize, const P: usize>(
        s: S,
        x: [&[[f32; 2]; PAIRS]; M],
        w: [&[[u32; PANEL]; PAIRS]; P],
        sums: &mut [[S::V; P]; M],
    ) {
        for pair in 0..PAIRS {
            let mut halves = [[s.splat(0.0); 2]; P];
            for j in 0..P {
                halves[j] = s.halves(s.load_pairs(&w[j][pair]));
            }
            for m in 0..M {
                let (first, second) = (s.splat(x[m][pair][0]), s.splat(x[m][pair][1]));
                for j in 0..P {
                    sums[m][j] = s.fma(first, halves[j][0], s.fma(second, halves[j][1], sums[m][j]));
                }
            }
        }
    }
}

/// A chain for each half of the pairs of a block.
pub struct AsTiles;

impl Way for AsTiles {
    type X = [f32; 2];
    const BF16: bool = false;
    const CHAINS: usize = 2;

    #[inline(always)]
    fn add<S: Simd, const M: usize, const P: usize>(
        s: S,
        x: [&[[f32; 2]; PAIRS]; M],
        w: [&[[u32; PANEL]; PAIRS]; P],
        sums: &mut [[S::V; P]; M],
    ) {
        let mut chains = [[[s.splat(0.0); 2]; P]; M];
        for pair in 0..PAIRS {
            let mut halves = [[s.splat(0.0); 2]; P];
            for j in 0..P {
                halves[j] = s.halves(s.load_pairs(&w[j][pair]));
            }
            for m in 0..M {
                for half in 0..2 {
                    let x = s.splat(x[m][pair][half]);
                    for j in 0..P {
                        chains[m][j][half] = s.fma(x, halves[j][half], chains[m][j][half]);
                    }
                }
            }
        }
        for m in 0..M {
            for j in 0..P {
                sums[m][j] = s.add(sums[m][j], s.add(chains[m][j][0], chains[m][j][1]));
            }
        }
    }
}

/// The sums of some rows and panels.
pub struct Floats<'a, W: Way> {
    /// The rows, one after the other.
    pub x: &'a [W::X],
    /// Pairs of columns, a multiple of 16.
    pub pairs: usize,
    /// Of each panel for every pair of columns the numbers of its rows.
    pub panels: &'a [&'a [[u32; PANEL]]],
    /// Where the sums go, [`STRIPE`] from one row to the next.
    pub strip: &'a mut [f32],
}

impl<W: Way> Kernel for Floats<'_, W> {
    type Output = ();
    const BF16: bool = W::BF16;

    /// Tiles of as many sums as the registers hold; with a row alone there are several streams of weights.
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let (rows, mut i) = (self.strip.len() / STRIPE, 0);
        if S::WIDE && W::CHAINS == 1 {
            while rows - i >= 12 {
                i += self.tiles::<S, 12, 2>(s, i);
            }
            while rows - i >= 8 {
                i += self.tiles::<S, 8, 2>(s, i);
            }
            while rows - i >= 4 {
                i += self.tiles::<S, 4, 4>(s, i);
            }
        } else if S::WIDE {
            while rows - i >= 6 {
                i += self.tiles::<S, 6, 2>(s, i);
            }
        }
        while rows - i >= 2 {
            i += if S::WIDE { self.tiles::<S, 2, 4>(s, i) } else { self.tiles::<S, 2, 1>(s, i) };
        }
        while i < rows {
            i += if S::WIDE { self.tiles::<S, 1, 4>(s, i) } else { self.tiles::<S, 1, 1>(s, i) };
        }
    }
}

impl<W: Way> Floats<'_, W> {
    /// The sums of `M` rows from `i` on, `P` panels at a time; gives back `M`.
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const P: usize>(&mut self, s: S, i: usize) -> usize {
        let whole = self.panels.len() / P * P;
        for p in (0..whole).step_by(P) {
            self.tile::<S, M, P>(s, i, p);
        }
        for p in whole..self.panels.len() {
            self.tile::<S, M, 1>(s, i, p);
        }
        M
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const P: usize>(&mut self, s: S, i: usize, p: usize) {
        let mut x: [&[[W::X; PAIRS]]; M] = [&[]; M];
        for m in 0..M {
            x[m] = self.x[(i + m) * self.pairs..][..self.pairs].as_chunks().0;
        }
        let mut w: [&[[[u32; PANEL]; PAIRS]]; P] = [&[]; P];
        for j in 0..P {
            w[j] = self.panels[p + j].as_chunks().0;
        }
        let mut sums = [[s.splat(0.0); P]; M];
        for block in 0..self.pairs / PAIRS {
            let mut row = [&x[0][block]; M];
            for m in 0..M {
                row[m] = &x[m][block];
            }
            let mut panel = [&w[0][block]; P];
            for j in 0..P {
                panel[j] = &w[j][block];
            }
            W::add(s, row, panel, &mut sums);
        }
        for m in 0..M {
            for j in 0..P {
                let out = &mut self.strip[(i + m) * STRIPE + (p + j) * PANEL..];
                s.store(out.first_chunk_mut::<LANES>().expect("a panel of the strip"), sums[m][j]);
            }
        }
    }
}
