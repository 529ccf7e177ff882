//! The vector trait: what a kernel may do with sixteen floats.

use half::bf16;

/// Floats in a vector, on every instruction set.
pub const LANES: usize = 16;

/// Sixteen floats and what can be done with them.
///
/// A value of an implementing type proves that the processor has the instructions, so the methods are safe; see
/// [`super::dispatch`].
pub trait Simd: Copy + Send + Sync {
    /// Sixteen floats.
    type V: Copy;
    /// The answer of a comparison, one bit a lane.
    type M: Copy;
    /// Sixteen pairs of bfloat16 numbers: the first of a pair in the lower half of a 32-bit lane.
    type P: Copy;
    /// The same register as eight 64-bit lanes, or sixteen 32-bit ones: what a random generator needs.
    type W: Copy;

    /// Whether the registers hold 32 vectors, for large tiles of sums; if not, 8 at most. A branch on it costs no code.
    const WIDE: bool;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::V;
    /// The sixteen floats of `x`.
    fn load(self, x: &[f32; LANES]) -> Self::V;
    /// Writes the sixteen floats.
    fn store(self, out: &mut [f32; LANES], v: Self::V);

    /// The sixteen bfloat16 numbers of `x`, exactly.
    fn load_half(self, x: &[bf16; LANES]) -> Self::V;
    /// Writes the lanes rounded to bfloat16: to nearest, ties to even, subnormal floats as zero, NaN as NaN.
    fn store_half(self, out: &mut [bf16; LANES], v: Self::V);
    /// Sixteen pairs from memory.
    fn load_pairs(self, x: &[u32; LANES]) -> Self::P;
    /// Writes sixteen pairs.
    fn store_pairs(self, out: &mut [u32; LANES], p: Self::P);
    /// All lanes the pair `x`.
    fn splat_pair(self, x: u32) -> Self::P;
    /// Lane by lane the pair of `first` and `second`, rounded as [`Simd::store_half`] does.
    fn round_pairs(self, first: Self::V, second: Self::V) -> Self::P;
    /// Lane by lane the first and the second number of a pair.
    fn halves(self, p: Self::P) -> [Self::V; 2];
    /// `acc + a.first * b.first + a.second * b.second`, lane by lane, in an order and with roundings that depend on the
    /// instruction set; subnormal numbers may count as zero.
    fn dot(self, a: Self::P, b: Self::P, acc: Self::V) -> Self::V;

    /// `a + b`
    fn add(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a - b`
    fn sub(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b`
    fn mul(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a / b`
    fn div(self, a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the instruction set can.
    fn fma(self, a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger of both; `b` where either is NaN (as `maxps`).
    fn max(self, a: Self::V, b: Self::V) -> Self::V;
    /// The smaller of both; `b` where either is NaN (as `minps`).
    fn min(self, a: Self::V, b: Self::V) -> Self::V;
    /// The square root, correctly rounded.
    fn sqrt(self, a: Self::V) -> Self::V;
    /// `a` without its sign.
    fn abs(self, a: Self::V) -> Self::V;
    /// `magnitude` with the sign of `sign`; `magnitude` must not be negative.
    fn copysign(self, magnitude: Self::V, sign: Self::V) -> Self::V;
    /// The nearest whole number, ties to even; `|a|` below 2^22 (others give nonsense, but no fault).
    fn round(self, a: Self::V) -> Self::V;
    /// `2^n` for whole `n` in `-127..=127`, where `2^-127` comes out as 0 (others give nonsense: clamp before).
    fn exp2i(self, n: Self::V) -> Self::V;
    /// `a * 2^n` for whole `n`, by adding to the exponent's bits: `a` and the result must be normal numbers, what comes
    /// out for others is nonsense (but no fault).
    fn add_exponent(self, a: Self::V, n: Self::V) -> Self::V;

    /// `a < b`, lane by lane; false where either is NaN.
    fn lt(self, a: Self::V, b: Self::V) -> Self::M;
    /// `a` where the mask is set, `b` elsewhere.
    fn select(self, m: Self::M, a: Self::V, b: Self::V) -> Self::V;

    /// Eight 64-bit lanes `x`.
    fn wide_splat(self, x: u64) -> Self::W;
    /// Eight 64-bit lanes `x, x + 1, .., x + 7`, wrapping around.
    fn wide_count(self, x: u64) -> Self::W;
    /// The 64-bit products of the lower halves.
    fn wide_mul(self, a: Self::W, b: Self::W) -> Self::W;
    /// `a ^ b`
    fn wide_xor(self, a: Self::W, b: Self::W) -> Self::W;
    /// The upper halves, with zeros above them.
    fn wide_high(self, a: Self::W) -> Self::W;
    /// The lower halves of both: `a`'s below, `b`'s above.
    fn wide_join(self, a: Self::W, b: Self::W) -> Self::W;
    /// The lanes of both in turns: `a0 b0 a1 b1 ..`.
    fn wide_interleave(self, a: Self::W, b: Self::W) -> [Self::W; 2];
    /// Which of the sixteen 32-bit lanes (lower halves first) are at least `threshold`.
    fn wide_at_least(self, a: Self::W, threshold: u32) -> Self::M;

    /// The sixteen floats as an array.
    #[inline(always)]
    fn to_array(self, v: Self::V) -> [f32; LANES] {
        let mut out = [0.0; LANES];
        self.store(&mut out, v);
        out
    }

    /// The floats of `x` (at most sixteen of them are read), the rest of the lanes `fill`.
    #[inline(always)]
    fn load_tail(self, x: &[f32], fill: f32) -> Self::V {
        let mut lanes = [fill; LANES];
        let n = x.len().min(LANES);
        lanes[..n].copy_from_slice(&x[..n]);
        self.load(&lanes)
    }

    /// The bfloat16 numbers of `x` (at most sixteen of them are read), the rest of the lanes `fill`, which is one too.
    #[inline(always)]
    fn load_half_tail(self, x: &[bf16], fill: bf16) -> Self::V {
        let mut lanes = [fill; LANES];
        let n = x.len().min(LANES);
        lanes[..n].copy_from_slice(&x[..n]);
        self.load_half(&lanes)
    }

    /// Writes as many lanes as `out` has room for, rounded to bfloat16.
    #[inline(always)]
    fn store_half_tail(self, out: &mut [bf16], v: Self::V) {
        let mut lanes = [bf16::ZERO; LANES];
        self.store_half(&mut lanes, v);
        let n = out.len().min(LANES);
        out[..n].copy_from_slice(&lanes[..n]);
    }

    /// Writes as many lanes as `out` has room for.
    #[inline(always)]
    fn store_tail(self, out: &mut [f32], v: Self::V) {
        let n = out.len().min(LANES);
        out[..n].copy_from_slice(&self.to_array(v)[..n]);
    }

    /// The sixteen floats from `x[at]` on; the lanes behind the end are `fill`. `at` must be within `x`.
    #[inline(always)]
    fn load_at(self, x: &[f32], at: usize, fill: f32) -> Self::V {
        match x[at..].first_chunk() {
            Some(chunk) => self.load(chunk),
            None => self.load_tail(&x[at..], fill),
        }
    }

    /// Writes the lanes to `out[at..]`, as many as there is room for. `at` must be within `out`.
    #[inline(always)]
    fn store_at(self, out: &mut [f32], at: usize, v: Self::V) {
        match out[at..].first_chunk_mut() {
            Some(chunk) => self.store(chunk, v),
            None => self.store_tail(&mut out[at..], v),
        }
    }

    /// The lanes added up in a fixed tree: 8 + 8, 4 + 4, 2 + 2, 1 + 1.
    #[inline(always)]
    fn reduce_add(self, v: Self::V) -> f32 {
        let mut x = self.to_array(v);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] += x[i + half];
            }
        }
        x[0]
    }

    /// The largest lane; NaN lanes may be passed over (the answer is then unspecified, but no fault).
    #[inline(always)]
    fn reduce_max(self, v: Self::V) -> f32 {
        let mut x = self.to_array(v);
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                x[i] = x[i].max(x[i + half]);
            }
        }
        x[0]
    }
}
