//! A block transposed in registers, in the processor's own words.

/// A block of 4 x 4 words transposed. In shuffles that every x86-64 has: left to itself the compiler makes scatters of the
/// loop, which take a cycle or more an element.
#[inline(always)]
pub(super) fn transposed(rows: [[u32; 4]; 4]) -> [[u32; 4]; 4] {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{__m128, _mm_movehl_ps, _mm_movelh_ps, _mm_unpackhi_ps, _mm_unpacklo_ps};
        let [a, b, c, d]: [__m128; 4] = bytemuck::must_cast(rows);
        // SAFETY: SSE is part of every x86-64 processor.
        bytemuck::must_cast(unsafe {
            let (ab_low, ab_high) = (_mm_unpacklo_ps(a, b), _mm_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm_unpacklo_ps(c, d), _mm_unpackhi_ps(c, d));
            [
                _mm_movelh_ps(ab_low, cd_low),
                _mm_movehl_ps(cd_low, ab_low),
                _mm_movelh_ps(ab_high, cd_high),
                _mm_movehl_ps(cd_high, ab_high),
            ]
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let mut columns = rows;
        for i in 0..4 {
            for j in 0..4 {
                columns[i][j] = rows[j][i];
            }
        }
        columns
    }
}
