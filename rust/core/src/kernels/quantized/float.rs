//! float16 and bfloat16, each number on its own, rounded to nearest with ties to even.
//!
//! Unlike the bfloat16 of products ([`crate::simd::round_to_bf16`]) subnormal numbers are kept, as ggml keeps them.

use half::{bf16, f16};

#[inline(always)]
pub fn f16_encode([x]: &[f32; 1], bytes: &mut [u8; 2]) {
    *bytes = f16::from_f32(*x).to_le_bytes();
}

#[inline(always)]
pub fn f16_decode(bytes: &[u8; 2], x: &mut [f32; 1]) {
    *x = [f16::from_le_bytes(*bytes).to_f32()];
}

#[inline(always)]
pub fn bf16_encode([x]: &[f32; 1], bytes: &mut [u8; 2]) {
    *bytes = bf16::from_f32(*x).to_le_bytes();
}

#[inline(always)]
pub fn bf16_decode(bytes: &[u8; 2], x: &mut [f32; 1]) {
    // A NaN keeps its bits: the numbers of a file are widened and nothing else.
    *x = [f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16)];
}
