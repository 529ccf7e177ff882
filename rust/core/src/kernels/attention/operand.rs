//! What the two precisions do differently: what a 32-bit word of an operand holds, and how two words are multiplied.
//!
//! A word is one float32 number ([`Single`]) or a pair of bfloat16 numbers that follow each other along the contraction
//! ([`Pair`]). Layouts and loops are the same for both, with half as many steps for pairs; sums are float32 in both.

use super::tile::{Row, WordRow};
use crate::simd::math;
use crate::simd::{LANES, Simd, bf16};

/// A precision of the products.
pub(super) trait Operand: Copy + Send + Sync + 'static {
    /// Numbers in a word.
    const PER: usize;
    /// Sixteen words in a register.
    type Words<S: Simd>: Copy;

    /// Sixteen words from memory.
    fn load<S: Simd>(s: S, words: &[u32; LANES]) -> Self::Words<S>;
    /// One word in all lanes.
    fn splat<S: Simd>(s: S, word: u32) -> Self::Words<S>;
    /// `acc + a * b`, all numbers of a word.
    fn fma<S: Simd>(s: S, a: Self::Words<S>, b: Self::Words<S>, acc: S::V) -> S::V;
    /// `2^x` as exactly as the precision needs, 0 below -126.5.
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V;
    /// The words of a query times the factor of the scores, where the precision leaves room for that.
    fn scale_query(word: u32, factor: f32) -> u32;
    /// A sum times the factor of the scores, where the queries were not.
    fn scale_score<S: Simd>(s: S, score: S::V, factor: S::V) -> S::V;
    /// Writes half `half` of a key's row as words along the queries.
    fn store_queries<S: Simd>(s: S, out: &mut WordRow, half: usize, x: S::V);
}

/// Float32 numbers.
#[derive(Clone, Copy)]
pub(super) struct Single;

impl Operand for Single {
    const PER: usize = 1;
    type Words<S: Simd> = S::V;

    #[inline(always)]
    fn load<S: Simd>(s: S, words: &[u32; LANES]) -> S::V {
        s.load(bytemuck::must_cast_ref(words))
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, word: u32) -> S::V {
        s.splat(f32::from_bits(word))
    }
    #[inline(always)]
    fn fma<S: Simd>(s: S, a: S::V, b: S::V, acc: S::V) -> S::V {
        s.fma(a, b, acc)
    }
    #[inline(always)]
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
        math::exp2(s, x)
    }
    #[inline(always)]
    fn scale_query(word: u32, factor: f32) -> u32 {
        (f32::from_bits(word) * factor).to_bits()
    }
    #[inline(always)]
    fn scale_score<S: Simd>(_: S, score: S::V, _: S::V) -> S::V {
        score
    }
    #[inline(always)]
    fn store_queries<S: Simd>(s: S, out: &mut WordRow, half: usize, x: S::V) {
        let out: &mut Row = bytemuck::must_cast_mut(out);
        s.store(out.half_mut(half), x);
    }
}

/// Pairs of bfloat16 numbers.
#[derive(Clone, Copy)]
pub(super) struct Pair;

impl Operand for Pair {
    const PER: usize = 2;
    type Words<S: Simd> = S::P;

    #[inline(always)]
    fn load<S: Simd>(s: S, words: &[u32; LANES]) -> S::P {
        s.load_pairs(words)
    }
    #[inline(always)]
    fn splat<S: Simd>(s: S, word: u32) -> S::P {
        s.splat_pair(word)
    }
    #[inline(always)]
    fn fma<S: Simd>(s: S, a: S::P, b: S::P, acc: S::V) -> S::V {
        s.dot(a, b, acc)
    }
    #[inline(always)]
    fn exp2<S: Simd>(s: S, x: S::V) -> S::V {
        math::exp2_rounded(s, x)
    }
    #[inline(always)]
    fn scale_query(word: u32, _: f32) -> u32 {
        word
    }
    #[inline(always)]
    fn scale_score<S: Simd>(s: S, score: S::V, factor: S::V) -> S::V {
        s.mul(score, factor)
    }
    #[inline(always)]
    fn store_queries<S: Simd>(s: S, out: &mut WordRow, half: usize, x: S::V) {
        let halves: &mut [[bf16; LANES]; 4] = bytemuck::must_cast_mut(&mut out.0);
        s.store_half(&mut halves[half], x);
    }
}
