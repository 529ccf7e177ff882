//! Dropout whose mask is never stored.
//!
//! ```text
//! x[i] *= factor(i)        factor(i) = 0 with probability p, else 1 / (1 - p)
//! ```
//!
//! Element `i` is kept where the upper 24 bits of number `i` of Philox `(seed, Dropout, substream)` are at least
//! `p * 2^24`. The mask follows from `(seed, substream, i)` alone: the backward pass is the same call on the gradient,
//! and a resumed run replays it.
//!
//! Srivastava et al.: "Dropout", JMLR 2014; `torch.nn.functional.dropout`.

use super::rows;
use crate::error::{Error, Result};
use crate::rng::{Philox, Stream};
use crate::simd::{Element, Kernel, LANES, Simd, dispatch, isa};

/// A mask: which elements fall out, by their flat index.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// The share of elements that fall out, in `[0, 1)`.
    pub p: f32,
    /// The run's seed.
    pub seed: u64,
    /// What tells this mask from others: made of step, layer and place.
    pub substream: u64,
    /// The index of the first element: above 0 where a tensor is a part of a larger one that others compute, too.
    pub first: u64,
}

/// Factors made at once.
const GROUP: usize = 2 * LANES;

impl Dropout {
    /// What element `index` is multiplied with: 0 or `1 / (1 - p)`. Against it the vectors are held.
    #[cfg(test)]
    pub fn factor(&self, index: u64) -> f32 {
        if self.philox().bits(self.first.wrapping_add(index)) >= self.threshold() { self.kept() } else { 0.0 }
    }

    /// Writes what the elements from `start` on are multiplied with: 0 or `1 / (1 - p)`.
    #[inline(always)]
    pub fn fill_factors<S: Simd>(&self, s: S, start: u64, out: &mut [f32]) {
        let (source, start) = (Source::new(self), self.first.wrapping_add(start));
        let (mut counter, mut skip, mut rest) = (start / 4, (start % 4) as usize, out);
        while !rest.is_empty() {
            let (mut group, [low, high]) = ([0.0; GROUP], source.factors(s, counter));
            s.store_at(&mut group, 0, low);
            s.store_at(&mut group, LANES, high);
            let n = rest.len().min(GROUP - skip);
            let (head, tail) = rest.split_at_mut(n);
            head.copy_from_slice(&group[skip..skip + n]);
            (counter, skip, rest) = (counter.wrapping_add(GROUP as u64 / 4), 0, tail);
        }
    }

    fn philox(&self) -> Philox {
        Philox::new(self.seed, Stream::Dropout, self.substream)
    }

    /// The least number whose upper 24 bits keep its element.
    #[inline(always)]
    fn threshold(&self) -> u32 {
        ((f64::from(self.p) * f64::from(1 << 24)).ceil() as u32) << 8
    }

    #[inline(always)]
    fn kept(&self) -> f32 {
        1.0 / (1.0 - self.p)
    }

    /// `p` must be a probability below 1.
    pub fn check(&self, op: &'static str) -> Result<()> {
        if (0.0..1.0).contains(&self.p) { Ok(()) } else { Err(Error::value(op, "p", self.p, "p must be in [0, 1)")) }
    }
}

/// Drops elements of `x` and scales the others; on a gradient, the backward pass.
pub fn dropout<E: Element>(x: &mut [E], d: Dropout) -> Result<()> {
    d.check("dropout")?;
    if d.p == 0.0 {
        return Ok(());
    }
    let isa = isa::current();
    rows::each(x.len(), x.chunks_mut(rows::TASK), |i, x| {
        dispatch(isa, Apply { dropout: d, start: (i * rows::TASK) as u64, x });
    });
    Ok(())
}

/// What makes factors: everything that does not depend on the index.
#[derive(Clone, Copy)]
struct Source {
    philox: Philox,
    threshold: u32,
    kept: f32,
}

impl Source {
    #[inline(always)]
    fn new(d: &Dropout) -> Self {
        Source { philox: d.philox(), threshold: d.threshold(), kept: d.kept() }
    }

    /// The factors of the [`GROUP`] elements from `4 * counter` on.
    #[inline(always)]
    fn factors<S: Simd>(&self, s: S, counter: u64) -> [S::V; 2] {
        let (zero, kept) = (s.splat(0.0), s.splat(self.kept));
        let [low, high] = self.philox.blocks(s, counter);
        [
            s.select(s.wide_at_least(low, self.threshold), kept, zero),
            s.select(s.wide_at_least(high, self.threshold), kept, zero),
        ]
    }
}

/// `start` is a multiple of four.
struct Apply<'a, E> {
    dropout: Dropout,
    start: u64,
    x: &'a mut [E],
}

impl<E: Element> Kernel for Apply<'_, E> {
    type Output = ();
    const BF16: bool = E::HALF;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        if !self.dropout.first.is_multiple_of(4) {
            return self.unaligned(s);
        }
        let source = Source::new(&self.dropout);
        let mut counter = self.dropout.first.wrapping_add(self.start) / 4;
        for x in self.x.chunks_mut(GROUP) {
            let [low, high] = source.factors(s, counter);
            counter += GROUP as u64 / 4;
            let product = s.mul(E::load_at(s, x, 0, 0.0), low);
            E::store_at(s, x, 0, product);
            if x.len() > LANES {
                let product = s.mul(E::load_at(s, x, LANES, 0.0), high);
                E::store_at(s, x, LANES, product);
            }
        }
    }
}

impl<E: Element> Apply<'_, E> {
    /// The same where four numbers that are made at once do not begin with an element.
    #[inline(always)]
    fn unaligned<S: Simd>(self, s: S) {
        let mut factors = [0.0; GROUP];
        for (i, x) in self.x.chunks_mut(GROUP).enumerate() {
            let start = self.start + (i * GROUP) as u64;
            self.dropout.fill_factors(s, start, &mut factors[..x.len()]);
            for at in (0..x.len()).step_by(LANES) {
                let product = s.mul(E::load_at(s, x, at, 0.0), s.load_at(&factors, at, 0.0));
                E::store_at(s, x, at, product);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rows::testing::{assert_same_bits, on_each_isa};
    use super::*;
    use crate::simd::{bf16, round_to_bf16};
    use subgpt_testkit::noise::Noise;

    const D: Dropout = Dropout { p: 0.3, seed: 11, substream: 1 << 33 | 5, first: 0 };

    /// [`Dropout::fill_factors`] outside of a kernel.
    fn fill(dropout: Dropout, start: u64, out: &mut [f32]) {
        struct Fill<'a>(Dropout, u64, &'a mut [f32]);
        impl Kernel for Fill<'_> {
            type Output = ();
            #[inline(always)]
            fn run<S: Simd>(self, s: S) {
                self.0.fill_factors(s, self.1, self.2);
            }
        }
        dispatch(isa::current(), Fill(dropout, start, out));
    }

    #[test]
    fn a_part_of_a_tensor_has_the_mask_of_its_place() {
        on_each_isa(|| {
            let whole: Vec<f32> = (0..900).map(|i| D.factor(i)).collect();
            for first in [0usize, 1, 2, 3, 4, 16, 37, 402] {
                let part = Dropout { first: first as u64, ..D };
                for n in [1, 5, 31, 33, 300] {
                    let (mut x, mut factors) = (vec![1.0f32; n], vec![0.0; n]);
                    dropout(&mut x, part).unwrap();
                    fill(part, 0, &mut factors);
                    let want = &whole[first..first + n];
                    assert!(x == want && factors == want, "{first} {n}");
                    assert!((0..n).all(|i| part.factor(i as u64) == want[i]));
                    let mut half = vec![bf16::from_f32(1.0); n];
                    dropout(&mut half, part).unwrap();
                    assert!(half.iter().zip(want).all(|(x, &f)| *x == round_to_bf16(f)));
                }
            }
        });
    }

    #[test]
    fn every_way_gives_the_same_mask() {
        on_each_isa(|| {
            for (start, n) in [(0, 0), (0, 1), (0, 200), (1, 131), (6, 64), (7, 3), (u64::from(u32::MAX) * 4 - 9, 70)] {
                let mut out = vec![f32::NAN; n];
                fill(D, start, &mut out);
                assert!(out.iter().enumerate().all(|(i, &f)| f == D.factor(start + i as u64)), "{start} {n}");
            }
            let x = Noise::new(1).normal(40_013, 1.0);
            let mut y = x.clone();
            dropout(&mut y, D).unwrap();
            assert!(y.iter().enumerate().all(|(i, &y)| y == x[i] * D.factor(i as u64)));
            let half: Vec<bf16> = x.iter().map(|&x| round_to_bf16(x)).collect();
            let mut narrow = half.clone();
            dropout(&mut narrow, D).unwrap();
            let want = |i: usize| round_to_bf16(half[i].to_f32() * D.factor(i as u64));
            assert!(narrow.iter().enumerate().all(|(i, &y)| y == want(i)));
        });
    }

    #[test]
    fn the_share_and_the_mean_are_right() {
        for p in [0.0, 1e-3, 0.1, 0.5, 0.9] {
            let n = 400_000;
            let mut x = vec![1.0; n];
            dropout(&mut x, Dropout { p, ..D }).unwrap();
            let dropped = x.iter().filter(|&&v| v == 0.0).count() as f64 / n as f64;
            let sigma = (f64::from(p) * (1.0 - f64::from(p)) / n as f64).sqrt();
            assert!((dropped - f64::from(p)).abs() <= 4.0 * sigma, "{p}: {dropped}");
            assert!(x.iter().all(|&v| v == 0.0 || v == 1.0 / (1.0 - p)));
        }
    }

    #[test]
    fn masks_of_other_seeds_and_substreams_are_others() {
        let mask = |d: Dropout| (0..1000).map(|i| d.factor(i) == 0.0).collect::<Vec<_>>();
        let masks =
            [D, Dropout { seed: 12, ..D }, Dropout { substream: 5, ..D }, Dropout { substream: 1 << 33 | 6, ..D }];
        for i in 0..4 {
            for j in 0..i {
                let both = mask(masks[i]).iter().zip(mask(masks[j])).filter(|(a, b)| **a && *b).count();
                assert!((50..130).contains(&both), "{both} of about 90 fall out in both");
            }
        }
    }

    #[test]
    fn p_outside_its_range_is_an_error() {
        for p in [-0.1, 1.0, 1.5, f32::NAN, f32::INFINITY] {
            assert!(dropout(&mut [1.0], Dropout { p, ..D }).is_err());
        }
        let mut x = [1.0; 5];
        dropout(&mut x, Dropout { p: 0.0, ..D }).unwrap();
        assert_eq!(x, [1.0; 5]);
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        assert_same_bits(|| {
            let mut x = Noise::new(2).normal(100_001, 1.0);
            dropout(&mut x, D).unwrap();
            x
        });
    }
}
