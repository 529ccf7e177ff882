//! bfloat16 in tiles: many rows of `a` against panels of `b`, 16 columns each.
//!
//! Two tiles of rows and two panels at a time; sums stay in registers over the whole depth. A tile adds up to two chains for
//! every 32 columns ([`crate::simd::amx`]); few rows are added up so in vectors where there are tiles.

use crate::simd::Isa;
use crate::simd::amx::{ROW_BYTES, ROWS, Tiles, dot_pairs, load, store, zero};
use crate::simd::bf16;

/// Columns of a panel: those of a tile.
pub const PANEL: usize = ROW_BYTES / size_of::<f32>();

/// Depth of a tile in numbers.
const DEPTH: usize = ROW_BYTES / size_of::<bf16>();

/// Writes the sums of `panels` of bfloat16 numbers with rows of `x`, `depth` columns each (a multiple of 32), to `out`: those of a panel
/// side by side, `pitch` floats from one row to the next.
///
/// # Panics
/// Where lengths do not fit each other, or this processor has no tiles.
pub fn floats(x: &[bf16], depth: usize, panels: &[&[u8]], out: &mut [f32], pitch: usize) {
    let Some(rows) = x.len().checked_div(depth) else { return out.fill(0.0) };
    // SAFETY: `x` has as many rows.
    unsafe { floats_at(x.as_ptr(), depth, rows, depth, panels, out, pitch) }
}

/// The same for `rows` rows from `x` on, `x_pitch` numbers from one to the next.
///
/// # Safety
/// `x` must be valid for reads of `depth` numbers of each row.
///
/// # Panics
/// As [`floats`].
pub unsafe fn floats_at(
    x: *const bf16,
    x_pitch: usize,
    rows: usize,
    depth: usize,
    panels: &[&[u8]],
    out: &mut [f32],
    pitch: usize,
) {
    assert!(Isa::Amx.is_available() && depth.is_multiple_of(DEPTH) && pitch >= panels.len() * PANEL);
    assert!(out.len() >= rows * pitch && panels.iter().all(|panel| panel.len() == 2 * PANEL * depth));
    for first in (0..rows).step_by(2 * ROWS) {
        let count = (2 * ROWS).min(rows - first);
        let (x, out) = (x.wrapping_add(first * x_pitch), &mut out[first * pitch..]);
        for (i, two) in panels.chunks(2).enumerate() {
            // SAFETY: lengths were just checked, and the caller says so of `x`.
            unsafe { square(x, x_pitch, depth, count, two, &mut out[2 * i * PANEL..], pitch) };
        }
    }
}

/// `count` rows (at most 32) against one or two panels.
///
/// # Safety
/// [`floats_at`] must have checked lengths and processor.
unsafe fn square(
    x: *const bf16,
    x_pitch: usize,
    depth: usize,
    count: usize,
    panels: &[&[u8]],
    out: &mut [f32],
    pitch: usize,
) {
    let (upper, lower) = (count.min(ROWS), count.saturating_sub(ROWS));
    let (a, x_pitch, pitch) = (x.cast::<u8>(), 2 * x_pitch, 4 * pitch);
    let panel = |i: usize| panels[i].as_ptr();
    let below = |i: usize| a.wrapping_add(ROWS * x_pitch + i * ROW_BYTES);
    let out = out.as_mut_ptr().cast::<u8>();
    const TILE: usize = ROWS * ROW_BYTES;
    // SAFETY: as passed on from the caller: rows of `x` are as long as the panels are deep, and 16 sums of each row of each
    // panel lie within `out`. Nothing that has tiles of its own is called.
    unsafe {
        let [first, second] = [(upper, ROW_BYTES), (lower, ROW_BYTES)];
        let weights = (ROWS, ROW_BYTES);
        let _tiles = Tiles::new([first, first, second, second, first, second, weights, weights]);
        zero!(0, 1);
        if lower > 0 {
            zero!(2, 3);
        }
        for i in 0..depth / DEPTH {
            load!(4, a.wrapping_add(i * ROW_BYTES), x_pitch);
            load!(6, panel(0).wrapping_add(i * TILE), ROW_BYTES);
            dot_pairs!(0, 4, 6);
            if panels.len() > 1 {
                load!(7, panel(1).wrapping_add(i * TILE), ROW_BYTES);
                dot_pairs!(1, 4, 7);
            }
            if lower > 0 {
                load!(5, below(i), x_pitch);
                dot_pairs!(2, 5, 6);
                if panels.len() > 1 {
                    dot_pairs!(3, 5, 7);
                }
            }
        }
        store!(0, out, pitch);
        if panels.len() > 1 {
            store!(1, out.wrapping_add(ROW_BYTES), pitch);
        }
        if lower > 0 {
            store!(2, out.wrapping_add(ROWS * pitch), pitch);
            if panels.len() > 1 {
                store!(3, out.wrapping_add(ROWS * pitch + ROW_BYTES), pitch);
            }
        }
    }
}
