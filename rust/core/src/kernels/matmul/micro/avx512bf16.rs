//! The tile of [`super::avx512`] with the dot product of AVX512-BF16: 24 of them a step, one a cycle on Zen 4, each for
//! 32 multiply-adds.

use super::avx512::{Multiply, by_shape, tile_of};
use super::{Micro, Tile};
use crate::kernels::matmul::matrix::Precision;
use crate::simd::{Isa, bf16};
use core::arch::x86_64::*;

/// Pairs of bfloat16 numbers with AVX512-BF16.
pub static PAIRS: Micro = Micro {
    isa: Isa::Avx512Bf16,
    precision: Precision::Bfloat16,
    mr: 12,
    nr: 32,
    lanes: 16,
    rounds: true,
    tile: pairs,
};

struct Pairs;

impl Multiply for Pairs {
    type Wide = __m512bh;

    #[inline(always)]
    unsafe fn widen(units: __m512i) -> __m512bh {
        // SAFETY: two types of the same register.
        unsafe { std::mem::transmute(units) }
    }
    #[inline(always)]
    unsafe fn add(a: __m512bh, b: __m512bh, sum: __m512) -> __m512 {
        // SAFETY: passed on from the caller.
        unsafe { _mm512_dpbf16_ps(sum, a, b) }
    }
    #[inline(always)]
    unsafe fn store_half(to: *mut bf16, lanes: __mmask16, sums: __m512) {
        // SAFETY: passed on from the caller; two types of the same register.
        unsafe {
            let half: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(sums));
            _mm256_mask_storeu_epi16(to.cast(), lanes, half);
        }
    }
}

/// # Safety
/// As for [`Micro::run`]; the processor must have AVX-512 F, BW and VL, and AVX512-BF16.
unsafe fn pairs(tile: &Tile<'_>) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    unsafe fn run<const M: usize, const V: usize>(tile: &Tile<'_>) {
        // SAFETY: passed on from the caller.
        unsafe { tile_of::<Pairs, M, V>(tile) }
    }
    // SAFETY: passed on from the caller.
    unsafe { by_shape!(run, tile) }
}
