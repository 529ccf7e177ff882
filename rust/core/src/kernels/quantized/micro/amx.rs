//! The loops in tiles: many rows of activations at once, with the bits that few have.
//!
//! Integers: a tile of up to 16 rows by the 32 columns of a block meets the block's eight vectors, 8,192 products in an
//! instruction; its exact sums pass through memory to be scaled, as the sums of any other instruction set are. Where there are
//! many rows a panel is first unpacked to bfloat16, and the rows come so too, with their scales in them: the sums are exact
//! all the same, and there is nothing to be done with them but one multiply-add.

use crate::kernels::quantized::Format;
use crate::kernels::quantized::activations::Activations;
use crate::kernels::quantized::layout::{BIAS_8, BLOCK, PANEL};
use crate::simd::Isa;
use crate::simd::amx::{ROW_BYTES, ROWS, Tiles, dot_bytes, dot_pairs, load, store, zero};
use crate::simd::bf16;
use core::arch::x86_64::*;
use std::mem::MaybeUninit;
use std::ops::Range;

/// Rows from which tiles are worth their shaping.
pub const LEAST: usize = 5;

/// Blocks whose sums pass through memory together, so that tiles and vectors work side by side.
const TOGETHER: usize = 4;

/// Rows whose sums are scaled in one unrolled loop.
const HALF: usize = 8;

/// Rows from which panels of integers are unpacked to bfloat16.
pub const MANY: usize = 2 * ROWS + 1;

// What integers are stored with is taken off by shifts of their sums.
const _: () = assert!(BIAS_8 == 1 << 7);

/// Bytes of a block of a panel: eight rows of a tile.
const BLOCK_BYTES: usize = BLOCK * PANEL;

/// The sums of one tile.
#[repr(C, align(64))]
struct Sums<T>([[T; PANEL]; ROWS]);

/// A block of four bits as one of eight.
#[repr(C, align(64))]
struct Unpacked([u8; BLOCK_BYTES]);

/// Room for `N` of something, twice; not cleared, for that would cost as much as some products.
fn rooms<T, const N: usize>() -> [[MaybeUninit<T>; N]; 2] {
    [const { [const { MaybeUninit::uninit() }; N] }; 2]
}

/// Bytes from what is unpacked or multiplied to what is fetched: a page ends too soon for the hardware to do so itself.
const AHEAD: usize = 2048;

/// Writes the sums of a panel of `format` with the `rows` of `x` to `out`, `pitch` floats from one row to the next.
///
/// # Panics
/// Where lengths do not fit each other, or this processor has no tiles.
pub fn integers(
    format: Format,
    panel: &[u8],
    scales: &[u16],
    x: Activations<'_>,
    rows: Range<usize>,
    out: &mut [f32],
    pitch: usize,
) {
    let bytes = if format == Format::Q8_0 { BLOCK } else { BLOCK / 2 };
    assert!(Isa::Amx.is_available() && pitch >= PANEL && out.len() + pitch >= rows.len() * pitch + PANEL);
    assert!(panel.len() == PANEL * bytes * x.blocks && scales.len() == PANEL * x.blocks);
    assert!(x.planes.iter().all(|plane| plane.len() >= rows.end * x.blocks * BLOCK));
    assert!(x.scales.len() >= rows.end * x.blocks && x.sums.len() >= rows.end * x.blocks);
    for first in (0..rows.len()).step_by(ROWS) {
        let count = ROWS.min(rows.len() - first);
        let (out, first) = (&mut out[first * pitch..], rows.start + first);
        // SAFETY: lengths were just checked; `Isa::Amx` includes AVX-512 and VNNI.
        unsafe {
            match format {
                Format::Q8_0 => tile::<8>(panel, scales, x, first, count, out, pitch),
                _ => tile::<4>(panel, scales, x, first, count, out, pitch),
            }
        }
    }
}

/// `count` rows of `x` from `first` on against a panel of integers of `BITS` bits.
///
/// # Safety
/// [`integers`] must have checked lengths and processor; `count` is [`ROWS`] at most.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn tile<const BITS: usize>(
    panel: &[u8],
    scales: &[u16],
    x: Activations<'_>,
    first: usize,
    count: usize,
    out: &mut [f32],
    pitch: usize,
) {
    // In two halves, each short enough a loop to be unrolled: only then do they stay in registers.
    let mut sums = [[_mm512_setzero_ps(); HALF]; ROWS / HALF];
    // What one instruction wrote as a tile another cannot read as a vector before it has reached the cache, so there are two
    // sets of everything, of which one is worked on while the other is on its way.
    let (mut dots, mut unpacked) = (rooms::<Sums<i32>, TOGETHER>(), rooms::<Unpacked, TOGETHER>());
    let steps = x.blocks.div_ceil(TOGETHER);
    let x_pitch = x.blocks * BLOCK;
    // SAFETY: as passed on from the caller. Tiles of activations are `count` rows of 32 bytes, those of weights eight of 64.
    // Nothing that has tiles of its own is called.
    unsafe {
        let (a, b, c) = ((count, BLOCK), (BLOCK / 4, ROW_BYTES), (count, ROW_BYTES));
        let _tiles = Tiles::new([c, c, a, a, a, a, b, b]);
        for step in 0..steps + 1 + usize::from(BITS == 4) {
            let of = |step: usize| step * TOGETHER..x.blocks.min((step + 1) * TOGETHER);
            // Four bits are unpacked a step before they are multiplied.
            let mut multiplied = step;
            if BITS == 4 {
                if step < steps {
                    for (b, unpacked) in of(step).zip(&mut unpacked[step % 2]) {
                        unpack(&panel[b * BLOCK_BYTES / 2..][..BLOCK_BYTES / 2], unpacked.as_mut_ptr().cast());
                    }
                }
                multiplied = step.wrapping_sub(1);
            }
            if multiplied < steps {
                let range = of(multiplied);
                let (unpacked, dots) = (&unpacked[multiplied % 2], &mut dots[multiplied % 2]);
                let weights = |i: usize| match BITS {
                    8 => panel.as_ptr().wrapping_add((range.start + i) * BLOCK_BYTES),
                    _ => unpacked[i].as_ptr().cast::<u8>(),
                };
                if BITS == 8 {
                    for at in (0..range.len() * BLOCK_BYTES).step_by(64) {
                        _mm_prefetch::<_MM_HINT_T0>(weights(0).wrapping_add(AHEAD + at).cast());
                    }
                }
                let numbers = |plane: usize, i: usize| {
                    x.planes[plane].as_ptr().wrapping_add(first * x_pitch + (range.start + i) * BLOCK)
                };
                macro_rules! product {
                    ($i:literal, $c:literal, $a:literal, $rest:literal, $b:literal) => {
                        if $i < range.len() {
                            zero!($c);
                            load!($b, weights($i), ROW_BYTES);
                            load!($a, numbers(0, $i), x_pitch);
                            dot_bytes!($c, $a, $b);
                            load!($rest, numbers(1, $i), x_pitch);
                            dot_bytes!($c, $rest, $b);
                            store!($c, dots[$i].as_mut_ptr().cast::<i32>(), ROW_BYTES);
                        }
                    };
                }
                product!(0, 0, 2, 3, 6);
                product!(1, 1, 4, 5, 7);
                product!(2, 0, 2, 3, 6);
                product!(3, 1, 4, 5, 7);
            }
            let scaled = multiplied.wrapping_sub(1);
            if scaled >= steps {
                continue;
            }
            for (b, dots) in of(scaled).zip(&dots[scaled % 2]) {
                let scales = _mm512_cvtph_ps(_mm256_loadu_si256(scales.as_ptr().add(b * PANEL).cast()));
                for (half, sums) in sums.iter_mut().enumerate() {
                    // The rows of the tile that was stored there.
                    let dots = dots.as_ptr().cast::<i32>().wrapping_add(half * HALF * PANEL);
                    let at = (first + half * HALF) * x.blocks + b;
                    let (x_sums, x_scales) = (x.sums.as_ptr().wrapping_add(at), x.scales.as_ptr().wrapping_add(at));
                    for m in 0..count.saturating_sub(half * HALF).min(HALF) {
                        let sum = _mm512_set1_epi32(*x_sums.wrapping_add(m * x.blocks));
                        let shift = if BITS == 8 { _mm512_slli_epi32::<7>(sum) } else { _mm512_slli_epi32::<3>(sum) };
                        let dots = _mm512_sub_epi32(_mm512_load_si512(dots.wrapping_add(m * PANEL).cast()), shift);
                        let scales = _mm512_mul_ps(scales, _mm512_set1_ps(*x_scales.wrapping_add(m * x.blocks)));
                        sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dots), scales, sums[m]);
                    }
                }
            }
        }
        for m in 0..count {
            _mm512_storeu_ps(out[m * pitch..][..PANEL].as_mut_ptr(), sums[m / HALF][m % HALF]);
        }
    }
}

/// What numbers of an unpacked panel are larger by, so that a byte becomes one without being moved to the end of its word.
const LARGER: f32 = (1 << 24) as f32;

/// Numbers of a panel of `blocks` blocks once it is unpacked: as panels of BF16 lie.
pub fn unpacked_numbers(blocks: usize) -> usize {
    blocks * BLOCK * PANEL
}

/// Writes the integers of a panel of `format` to `out` as numbers of bfloat16, [`LARGER`] times as large.
///
/// # Panics
/// Where lengths do not fit each other, or this processor has no tiles.
pub fn unpack_panel(format: Format, panel: &[u8], out: &mut [bf16]) {
    let bytes = if format == Format::Q8_0 { BLOCK_BYTES } else { BLOCK_BYTES / 2 };
    assert!(
        Isa::Amx.is_available() && panel.len() / bytes * BLOCK_BYTES == out.len() && panel.len().is_multiple_of(bytes)
    );
    for (block, out) in panel.chunks_exact(bytes).zip(out.chunks_exact_mut(BLOCK_BYTES)) {
        // SAFETY: a processor with tiles has AVX-512; lengths are those of a block.
        unsafe { unpack_block(format, block, out.as_mut_ptr()) };
    }
}

/// # Safety
/// The processor must have AVX-512; `block` is one of `format`, and `out` valid for writes of as many numbers.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn unpack_block(format: Format, block: &[u8], out: *mut bf16) {
    let (nibble, bias_4, bias_8) = (_mm512_set1_epi8(15), _mm512_set1_epi8(8), _mm512_set1_epi8(BIAS_8.cast_signed()));
    for (g, from) in block.chunks_exact(64).enumerate() {
        let out = out.wrapping_add(g * 64);
        // SAFETY: `from` has 64 bytes, whose numbers lie within `out` (or each half of it); a prefetch never faults.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(from.as_ptr().wrapping_add(AHEAD).cast());
            let x = _mm512_loadu_si512(from.as_ptr().cast());
            if format == Format::Q8_0 {
                write_four(_mm512_xor_si512(x, bias_8), out);
                continue;
            }
            write_four(_mm512_sub_epi8(_mm512_and_si512(x, nibble), bias_4), out);
            let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(x), nibble);
            write_four(_mm512_sub_epi8(upper, bias_4), out.wrapping_add(BLOCK_BYTES / 2));
        }
    }
}

/// Writes four columns of 16 rows, a byte each, as two rows of pairs. A float of such an integer has nothing in its lower half.
///
/// # Safety
/// The processor must have AVX-512; `out` must be valid for writes of 64 numbers.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn write_four(x: __m512i, out: *mut bf16) {
    let last = _mm512_set1_epi32(0xFF00_0000_u32.cast_signed());
    let first = |x: __m512i| _mm512_srli_epi32::<16>(_mm512_castps_si512(_mm512_cvtepi32_ps(x)));
    let second = |x: __m512i| _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_and_si512(x, last)));
    let low = _mm512_or_si512(first(_mm512_slli_epi32::<24>(x)), second(_mm512_slli_epi32::<16>(x)));
    let third = _mm512_and_si512(_mm512_slli_epi32::<8>(x), last);
    let high = _mm512_or_si512(first(third), second(x));
    // SAFETY: passed on from the caller.
    unsafe {
        _mm512_storeu_si512(out.cast(), low);
        _mm512_storeu_si512(out.wrapping_add(32).cast(), high);
    }
}

/// Writes the sums of a panel that was unpacked with rows of `x`, which were rounded to bfloat16 block by block, to `out`,
/// `pitch` floats from one row to the next.
///
/// # Panics
/// Where lengths do not fit each other, or this processor has no tiles.
pub fn blocks(panel: &[bf16], scales: &[u16], x: &[bf16], out: &mut [f32], pitch: usize) {
    let blocks = scales.len() / PANEL;
    let Some(rows) = x.len().checked_div(blocks * BLOCK) else { return out.fill(0.0) };
    assert!(Isa::Amx.is_available() && pitch >= PANEL && out.len() + pitch >= rows * pitch + PANEL);
    assert!(panel.len() == unpacked_numbers(blocks) && x.len() == rows * blocks * BLOCK);
    for first in (0..rows).step_by(ROWS) {
        let count = ROWS.min(rows - first);
        let (x, out) = (&x[first * blocks * BLOCK..], &mut out[first * pitch..]);
        // SAFETY: lengths were just checked; `Isa::Amx` includes AVX-512 and VNNI.
        unsafe {
            match count {
                ROWS => block_tile::<ROWS>(panel, scales, x, count, out, pitch),
                _ => block_tile::<0>(panel, scales, x, count, out, pitch),
            }
        }
    }
}

/// `count` rows of `x` against an unpacked panel. `WHOLE` is `count` where that is known to the compiler, so that sums stay in
/// registers.
///
/// # Safety
/// [`blocks`] must have checked lengths and processor; `count` is [`ROWS`] at most.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
unsafe fn block_tile<const WHOLE: usize>(
    panel: &[bf16],
    scales: &[u16],
    x: &[bf16],
    count: usize,
    out: &mut [f32],
    pitch: usize,
) {
    let blocks = scales.len() / PANEL;
    let (steps, x_pitch) = (blocks.div_ceil(TOGETHER), blocks * BLOCK * size_of::<bf16>());
    // As in `tile`.
    let mut sums = [[_mm512_setzero_ps(); HALF]; ROWS / HALF];
    let mut dots = rooms::<Sums<f32>, TOGETHER>();
    let smaller = _mm512_set1_ps(1.0 / LARGER);
    // SAFETY: as passed on from the caller. Tiles of activations are `count` rows of 64 bytes, those of weights 16. Nothing
    // that has tiles of its own is called.
    unsafe {
        let (rows, weights) = ((count, ROW_BYTES), (ROWS, ROW_BYTES));
        let _tiles = Tiles::new([rows, rows, rows, rows, rows, weights, weights, weights]);
        for step in 0..=steps {
            let of = |step: usize| step * TOGETHER..blocks.min((step + 1) * TOGETHER);
            if step < steps {
                let (range, dots) = (of(step), &mut dots[step % 2]);
                let numbers = |i: usize| x.as_ptr().wrapping_add((range.start + i) * BLOCK);
                let weights = |i: usize| panel.as_ptr().wrapping_add((range.start + i) * BLOCK * PANEL);
                macro_rules! product {
                    ($i:literal, $c:literal, $a:literal, $b:literal) => {
                        if $i < range.len() {
                            zero!($c);
                            load!($a, numbers($i), x_pitch);
                            load!($b, weights($i), ROW_BYTES);
                            dot_pairs!($c, $a, $b);
                            store!($c, dots[$i].as_mut_ptr().cast::<f32>(), ROW_BYTES);
                        }
                    };
                }
                product!(0, 0, 2, 5);
                product!(1, 1, 3, 6);
                product!(2, 0, 4, 7);
                product!(3, 1, 2, 5);
            }
            let Some(scaled) = step.checked_sub(1) else { continue };
            for (b, dots) in of(scaled).zip(&dots[scaled % 2]) {
                let scales = _mm512_cvtph_ps(_mm256_loadu_si256(scales.as_ptr().add(b * PANEL).cast()));
                let scales = _mm512_mul_ps(scales, smaller);
                for (half, sums) in sums.iter_mut().enumerate() {
                    let dots = dots.as_ptr().cast::<f32>().wrapping_add(half * HALF * PANEL);
                    for m in 0..if WHOLE > 0 { HALF } else { count.saturating_sub(half * HALF).min(HALF) } {
                        sums[m] = _mm512_fmadd_ps(_mm512_load_ps(dots.wrapping_add(m * PANEL)), scales, sums[m]);
                    }
                }
            }
        }
        for m in 0..count {
            _mm512_storeu_ps(out[m * pitch..][..PANEL].as_mut_ptr(), sums[m / HALF][m % HALF]);
        }
    }
}

/// The upper four bits of a block's vectors behind the lower ones.
///
/// # Safety
/// The processor must have AVX-512; `packed` has half of [`BLOCK_BYTES`], and `out` is valid for writes of all, on a line.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn unpack(packed: &[u8], out: *mut u8) {
    let nibble = _mm512_set1_epi8(15);
    for at in (0..BLOCK_BYTES / 2).step_by(64) {
        // SAFETY: 64 bytes from `at` on lie within `packed` and within each half of `out`.
        unsafe {
            let from = packed.as_ptr().wrapping_add(at);
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
            let both = _mm512_loadu_si512(from.cast());
            _mm512_store_si512(out.wrapping_add(at).cast(), _mm512_and_si512(both, nibble));
            let upper = _mm512_and_si512(_mm512_srli_epi16::<4>(both), nibble);
            _mm512_store_si512(out.wrapping_add(BLOCK_BYTES / 2 + at).cast(), upper);
        }
    }
}
