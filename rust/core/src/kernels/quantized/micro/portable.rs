//! The loops in plain Rust.

use super::{Micro, Tile};
use crate::kernels::quantized::activations::Form;
use crate::kernels::quantized::layout::{BIAS_8, BLOCK, PANEL};
use half::f16;

pub const MICRO: Micro = Micro { form: Form::Bytes, int8, int4 };

fn int8(tile: &mut Tile<'_>) {
    run(
        tile,
        BLOCK,
        |block, row, x| x.iter().enumerate().map(|(k, &x)| i32::from(byte(block, row, k)) * x).sum(),
        i32::from(BIAS_8),
    );
}

fn int4(tile: &mut Tile<'_>) {
    run(
        tile,
        BLOCK / 2,
        |block, row, x| {
            let (low, high) = x.split_at(BLOCK / 2);
            let both = low.iter().zip(high).enumerate();
            both.map(|(k, (&low, &high))| {
                let byte = byte(block, row, k);
                i32::from(byte & 15) * low + i32::from(byte >> 4) * high
            })
            .sum()
        },
        8,
    );
}

/// Byte `k` of a row of a block of a panel.
fn byte(block: &[u8], row: usize, k: usize) -> u8 {
    block[(k / 4 * PANEL + row) * 4 + k % 4]
}

fn run(tile: &mut Tile<'_>, bytes: usize, sum: impl Fn(&[u8], usize, &[i32]) -> i32, bias: i32) {
    let x = tile.x;
    for (m, out) in tile.out.iter_mut().enumerate() {
        *out = [0.0; PANEL];
        for (b, block) in tile.panel.chunks_exact(PANEL * bytes).enumerate() {
            let at = (tile.row + m) * x.blocks + b;
            let [first, second] = x.planes.map(|plane| &plane[at * BLOCK..][..BLOCK]);
            let mut numbers = [0; BLOCK];
            for k in 0..BLOCK {
                numbers[k] = i32::from(first[k]) + i32::from(second[k]);
            }
            for (row, out) in out.iter_mut().enumerate() {
                let scale = f16::from_bits(tile.scales[b * PANEL + row]).to_f32() * x.scales[at];
                *out += (sum(block, row, &numbers) - bias * x.sums[at]) as f32 * scale;
            }
        }
    }
}
