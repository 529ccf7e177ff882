//! Two rows of bfloat16 numbers as one row of pairs, with the vectors that every x86-64 processor has.
//!
//! LLVM makes of a panel's twelve columns one vector of eight and four columns one by one, which takes three times as long.

use crate::kernels::matmul::pack::Packable;
use crate::simd::pair_of;

/// Writes the pair of `first[i]` and `second[i]` to `out[i]`.
#[inline(always)]
pub fn interleave<E: Packable, const W: usize>(first: &[E; W], second: &[E; W], out: &mut [u32; W]) {
    assert!(E::HALF);
    let whole = if cfg!(target_arch = "x86_64") { W / 4 * 4 } else { 0 };
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{
            __m128i, _mm_loadl_epi64, _mm_loadu_si128, _mm_storeu_si128, _mm_unpackhi_epi16, _mm_unpacklo_epi16,
        };
        let mut at = 0;
        while at < whole {
            let (x, y) = (first[at..].as_ptr().cast::<__m128i>(), second[at..].as_ptr().cast::<__m128i>());
            let out = out[at..].as_mut_ptr().cast::<__m128i>();
            if at + 8 <= whole {
                // SAFETY: SSE2 is part of every x86-64 processor; eight columns from `at` on are within the rows.
                unsafe {
                    let (x, y) = (_mm_loadu_si128(x), _mm_loadu_si128(y));
                    _mm_storeu_si128(out, _mm_unpacklo_epi16(x, y));
                    _mm_storeu_si128(out.add(1), _mm_unpackhi_epi16(x, y));
                }
                at += 8;
            } else {
                // SAFETY: as above, with four columns.
                unsafe {
                    _mm_storeu_si128(out, _mm_unpacklo_epi16(_mm_loadl_epi64(x), _mm_loadl_epi64(y)));
                }
                at += 4;
            }
        }
    }
    for i in whole..W {
        out[i] = pair_of(first[i].to_half(), second[i].to_half());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn pairs_are_pairs_whatever_the_width() {
        fn check<const W: usize>() {
            let [first, second]: [[bf16; W]; 2] =
                [1, 1000].map(|n| std::array::from_fn(|i| bf16::from_bits(n + i as u16)));
            let mut out = [0; W];
            interleave(&first, &second, &mut out);
            for i in 0..W {
                assert_eq!(out[i], pair_of(first[i], second[i]), "{i} of {W}");
            }
        }
        check::<1>();
        check::<4>();
        check::<6>();
        check::<8>();
        check::<12>();
        check::<15>();
        check::<32>();
    }
}
