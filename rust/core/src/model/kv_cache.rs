//! Keys and values of one sequence, so that a new token costs one row and not the whole window again.

use super::config::Config;
use crate::buffer::Buffer;
use crate::error::Result;
use ndarray::{ArrayView4, ArrayViewMut4, s};

/// The cache of every block, with room for `block_size` positions.
pub struct KvCache {
    buffer: Buffer,
    shape: [usize; 4], // (1, H, block_size, D) of one block's keys or values
    len: usize,
}

impl KvCache {
    /// An empty cache for a model of this shape.
    pub fn new(config: &Config) -> Result<Self> {
        let shape = [1, config.n_head, config.block_size, config.head_dim()];
        let floats = 2 * config.n_layer * config.block_size * config.n_embd;
        Ok(KvCache { buffer: Buffer::zeros(floats, "key/value cache")?, shape, len: 0 })
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets everything; the room is kept.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The part of one block, into which a pass of `t` new positions may append.
    pub fn layer(&mut self, layer: usize, t: usize) -> LayerCache<'_> {
        let size: usize = self.shape.iter().product();
        let both = &mut self.buffer[2 * layer * size..2 * (layer + 1) * size];
        let (keys, values) = both.split_at_mut(size);
        LayerCache { keys, values, shape: self.shape, at: self.len, t }
    }

    /// Counts `t` positions that every block has appended.
    pub fn advance(&mut self, t: usize) {
        self.len += t;
    }
}

/// One block's keys and values.
pub struct LayerCache<'a> {
    keys: &'a mut [f32],
    values: &'a mut [f32],
    shape: [usize; 4],
    at: usize,
    t: usize,
}

impl LayerCache<'_> {
    /// Keeps the keys and values (1, H, t, D) of the new positions behind those that are there.
    pub fn append(&mut self, k: ArrayView4<'_, f32>, v: ArrayView4<'_, f32>) {
        for (store, new) in [(&mut *self.keys, k), (&mut *self.values, v)] {
            let mut store = ArrayViewMut4::from_shape(self.shape, store).expect("(1, H, T, D) floats");
            store.slice_mut(s![.., .., self.at..self.at + self.t, ..]).assign(&new);
        }
    }

    fn seen<'a>(&self, store: &'a [f32]) -> ArrayView4<'a, f32> {
        let store = ArrayView4::from_shape(self.shape, store).expect("(1, H, T, D) floats");
        store.slice_move(s![.., .., ..self.at + self.t, ..])
    }

    /// Keys (1, H, positions, D), the new ones included.
    pub fn keys(&self) -> ArrayView4<'_, f32> {
        self.seen(self.keys)
    }

    /// Values (1, H, positions, D), the new ones included.
    pub fn values(&self) -> ArrayView4<'_, f32> {
        self.seen(self.values)
    }
}
