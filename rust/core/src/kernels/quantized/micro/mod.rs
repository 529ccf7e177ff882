//! The innermost loops of products with integers: a panel of 16 rows of weights and a few rows of activations.
//!
//! ```text
//! sum[m][r] = over the blocks b, ascending: fma(float(sum of w[r][k] x[m][k] in b), dw[r][b] dx[m][b], sum)
//! ```
//!
//! The inner sums are integers, hence exact: neither the instruction set nor how many rows go together changes a bit
//! (but for the portable path, which has no fused multiply-add).

#[cfg(target_arch = "x86_64")]
pub mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512vnni;
mod portable;

use super::Format;
use super::activations::{Activations, Form};
use super::layout::{BLOCK, PANEL};
use crate::simd::Isa;

/// The most rows of activations of a tile.
pub const ROWS: usize = 8;

/// A panel and the rows that it meets.
pub struct Tile<'a> {
    /// Bytes of the panel.
    pub panel: &'a [u8],
    /// Its scales, as float16.
    pub scales: &'a [u16],
    /// All rows of activations, in the loops' [`Micro::form`].
    pub x: Activations<'a>,
    /// The first that is meant.
    pub row: usize,
    /// The sums of each row that is meant, at most [`ROWS`].
    pub out: &'a mut [[f32; PANEL]],
}

/// The innermost loops for one instruction set.
#[derive(Clone, Copy)]
pub struct Micro {
    /// What they ask integers to look like.
    pub form: Form,
    int8: unsafe fn(&mut Tile<'_>),
    int4: unsafe fn(&mut Tile<'_>),
}

impl Micro {
    /// Those of `isa`, or of the best below it that this processor has.
    pub fn of(isa: Isa) -> Micro {
        #[cfg(target_arch = "x86_64")]
        {
            if isa >= Isa::Avx512 && isa.is_available() && is_x86_feature_detected!("avx512vnni") {
                return avx512vnni::MICRO;
            }
            if isa >= Isa::Avx2 && isa.is_available() && is_x86_feature_detected!("f16c") {
                return avx2::MICRO;
            }
        }
        let _ = isa;
        portable::MICRO
    }

    /// Computes a tile of a matrix in `format`, which is one of blocks.
    ///
    /// # Panics
    /// Where lengths do not fit each other.
    pub fn run(self, format: Format, tile: &mut Tile<'_>) {
        let (blocks, rows) = (tile.x.blocks, tile.row + tile.out.len());
        let bytes = if format == Format::Q8_0 { BLOCK } else { BLOCK / 2 };
        assert!(tile.panel.len() == PANEL * bytes * blocks && tile.scales.len() == PANEL * blocks);
        assert!(tile.out.len() <= ROWS && tile.x.planes.iter().all(|plane| plane.len() >= rows * blocks * BLOCK));
        assert!(tile.x.scales.len() >= rows * blocks && tile.x.sums.len() >= rows * blocks);
        // SAFETY: `of` has asked the processor for the instructions; lengths were just checked, and loads ask for no alignment.
        unsafe {
            match format {
                Format::Q8_0 => (self.int8)(tile),
                _ => (self.int4)(tile),
            }
        }
    }
}

/// Calls the function `$run::<M>` for the tile's number of rows.
macro_rules! by_rows {
    ($run:ident, $tile:expr) => {
        match $tile.out.len() {
            0 => {}
            1 => $run::<1>($tile),
            2 => $run::<2>($tile),
            3 => $run::<3>($tile),
            4 => $run::<4>($tile),
            5 => $run::<5>($tile),
            6 => $run::<6>($tile),
            7 => $run::<7>($tile),
            _ => $run::<8>($tile),
        }
    };
}
use by_rows;
