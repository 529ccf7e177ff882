//! float16 and bfloat16, rounded to nearest with ties to even.
//!
//! Unlike the bfloat16 of products ([`crate::simd::round_to_bf16`]) subnormal numbers are kept, as ggml keeps them.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// Numbers that are converted at a time, so that the processor's instructions for many are used.
const RUN: usize = 64;

/// `bytes` = `x`, two bytes for each.
pub fn f16_encode(x: &[f32], bytes: &mut [u8]) {
    let mut halves = [f16::ZERO; RUN];
    for (x, bytes) in x.chunks(RUN).zip(bytes.chunks_mut(2 * RUN)) {
        halves[..x.len()].convert_from_f32_slice(x);
        for (half, bytes) in halves.iter().zip(bytes.as_chunks_mut().0) {
            *bytes = half.to_le_bytes();
        }
    }
}

/// `x` = the numbers of `bytes`, two bytes for each.
pub fn f16_decode(bytes: &[u8], x: &mut [f32]) {
    let mut halves = [f16::ZERO; RUN];
    for (bytes, x) in bytes.chunks(2 * RUN).zip(x.chunks_mut(RUN)) {
        for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
            *half = f16::from_le_bytes(*bytes);
        }
        halves[..x.len()].convert_to_f32_slice(x);
    }
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
