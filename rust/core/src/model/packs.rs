//! Weights packed ahead, in the order in which products read them, once for each change of the weights.
//!
//! A product packs its right side on the way, which costs one part in N of its arithmetic for N rows: much for small
//! batches through small models, which is where these copies are kept; nothing to speak of for large models, where they
//! would take memory for nothing.

use super::params::{Extent, Layout};
use crate::error::Result;
use crate::kernels::matmul::{Packed, Precision};
use crate::profile;

/// Bytes of packed copies that are worth keeping.
const MOST: usize = 64 << 20;

/// Which way rows go through a layer.
#[derive(Clone, Copy, Debug)]
pub enum Direction {
    /// `x W`
    Forward,
    /// `dy W^T`
    Backward,
}

/// Both copies of every linear layer.
pub struct Packs {
    /// By the layer's number: forward, backward.
    layers: Vec<[Packed; 2]>,
    /// The weights' version that was packed; none yet.
    version: Option<u64>,
}

impl Packs {
    /// Bytes of the copies of a model's weights; 0 where they are not kept, as for weights in few bits.
    pub fn bytes(layout: &Layout, precision: Precision) -> usize {
        if layout.quantized != Extent::Nothing {
            return 0;
        }
        let copies = |n_in, n_out| Packed::bytes(precision, n_in, n_out) + Packed::bytes(precision, n_out, n_in);
        let bytes = layout.linears().map(|linear| copies(linear.n_in, linear.n_out)).sum();
        if bytes <= MOST { bytes } else { 0 }
    }

    /// Whether copies of a model's weights are small enough to be kept.
    pub fn are_worth_keeping(layout: &Layout, precision: Precision) -> bool {
        Packs::bytes(layout, precision) > 0
    }

    /// Room for the copies.
    pub fn new(layout: &Layout, precision: Precision) -> Result<Self> {
        let layers = layout.linears().map(|linear| {
            let forward = Packed::new(precision, linear.n_in, linear.n_out)?;
            Ok([forward, Packed::new(precision, linear.n_out, linear.n_in)?])
        });
        Ok(Packs { layers: layers.collect::<Result<_>>()?, version: None })
    }

    /// Whether the copies are those of the weights' `version`.
    pub fn are_of(&self, version: u64) -> bool {
        self.version == Some(version)
    }

    /// Copies `params`, whose version is `version`.
    pub fn refresh(&mut self, layout: &Layout, params: &[f32], version: u64) -> Result<()> {
        if self.are_of(version) {
            return Ok(());
        }
        self.version = None;
        profile::measure("pack weights", profile::Work::bytes(12 * params.len()), || {
            for (linear, [forward, backward]) in layout.linears().zip(&mut self.layers) {
                let matrix = linear.matrix(params);
                forward.pack(matrix.into())?;
                backward.pack(matrix.reversed_axes().into())?;
            }
            Ok(())
        })?;
        self.version = Some(version);
        Ok(())
    }

    /// The copy of layer number `index` for one direction.
    pub fn get(&self, index: usize, direction: Direction) -> &Packed {
        &self.layers[index][direction as usize]
    }
}
