//! Keys and values of a sequence, so that a new token costs one row and not the whole window again.

use super::config::Config;
use crate::buffer::Buffer;
use crate::error::Result;
use crate::simd::Element;
use ndarray::{ArrayView4, ArrayViewMut4, s};
use std::marker::PhantomData;

/// Positions that there is room for at first.
const FIRST: usize = 64;

/// The cache of every block, of numbers `E`. It grows with the sequence, since few fill a `block_size` of 100,000.
pub struct KvCache<E> {
    buffer: Buffer,
    blocks: usize,
    shape: [usize; 4], // (1, KVH, room, D) of one block's keys or values
    most: usize,
    len: usize,
    element: PhantomData<E>,
}

impl<E: Element> KvCache<E> {
    /// An empty cache for a model of this shape.
    pub fn new(config: &Config) -> Result<Self> {
        let (blocks, most) = (config.n_layer, config.block_size);
        let shape = [1, config.kv_heads(), 0, config.head_dim()];
        Ok(KvCache { buffer: room::<E>(blocks, shape)?, blocks, shape, most, len: 0, element: PhantomData })
    }

    /// A copy of the first `len` positions that grows on its own.
    pub fn prefix(&self, len: usize) -> Result<Self> {
        let (len, old) = (len.min(self.len), self.shape[2]);
        self.with_room(len, if len == self.len { old } else { len.next_multiple_of(FIRST).min(old) })
    }

    /// Makes room for `len` positions, at least doubling it, so that a position is moved twice at most on the average.
    pub fn reserve(&mut self, len: usize) -> Result<()> {
        let old = self.shape[2];
        if len > old {
            *self = self.with_room(self.len, (2 * old).max(len).max(FIRST).min(self.most.max(len)))?;
        }
        Ok(())
    }

    /// A copy of the first `len` positions in room for `positions`.
    fn with_room(&self, len: usize, positions: usize) -> Result<Self> {
        let [_, heads, old, d] = self.shape;
        let shape = [1, heads, positions, d];
        let mut buffer = room::<E>(self.blocks, shape)?;
        let (from, to): (&[E], &mut [E]) = (bytemuck::cast_slice(&self.buffer), bytemuck::cast_slice_mut(&mut buffer));
        for head in 0..2 * self.blocks * heads {
            to[head * positions * d..][..len * d].copy_from_slice(&from[head * old * d..][..len * d]);
        }
        Ok(KvCache { buffer, shape, len, ..*self })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.buffer.len() * size_of::<f32>()
    }

    /// Positions held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what is behind the first `len` positions.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Forgets everything; the room is kept.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// The part of one block, into which a pass of `t` new positions may append that there is room for.
    pub fn layer(&mut self, layer: usize, t: usize) -> LayerCache<'_, E> {
        let size: usize = self.shape.iter().product();
        let all: &mut [E] = bytemuck::cast_slice_mut(&mut self.buffer);
        let (keys, values) = all[2 * layer * size..2 * (layer + 1) * size].split_at_mut(size);
        LayerCache { keys, values, shape: self.shape, at: self.len, t }
    }

    /// Counts `t` positions that every block has appended.
    pub fn advance(&mut self, t: usize) {
        self.len += t;
    }
}

/// A sequence that a pass goes on with.
pub struct Growing<'a, E> {
    /// What it has read.
    pub cache: &'a mut KvCache<E>,
    /// How many tokens it reads now; there is room for them.
    pub t: usize,
}

impl<E: Element> Growing<'_, E> {
    /// The part of one block.
    pub fn layer(&mut self, layer: usize) -> LayerCache<'_, E> {
        self.cache.layer(layer, self.t)
    }

    /// Counts what every block has appended.
    pub fn advance(&mut self) {
        self.cache.advance(self.t);
    }
}

/// Zeros for the keys and values of all blocks.
fn room<E>(blocks: usize, shape: [usize; 4]) -> Result<Buffer> {
    let numbers = 2 * blocks * shape.iter().product::<usize>();
    Buffer::zeros((numbers * size_of::<E>()).div_ceil(size_of::<f32>()), "key/value cache")
}

/// One block's keys and values.
pub struct LayerCache<'a, E> {
    keys: &'a mut [E],
    values: &'a mut [E],
    shape: [usize; 4],
    at: usize,
    t: usize,
}

impl<E: Element> LayerCache<'_, E> {
    /// New positions.
    pub fn t(&self) -> usize {
        self.t
    }

    /// Positions with the new ones.
    pub fn positions(&self) -> usize {
        self.at + self.t
    }

    /// Keeps the keys and values (1, KVH, t, D) of the new positions behind those that are there.
    pub fn append(&mut self, k: ArrayView4<'_, E>, v: ArrayView4<'_, E>) {
        for (store, new) in [(&mut *self.keys, k), (&mut *self.values, v)] {
            let mut store = ArrayViewMut4::from_shape(self.shape, store).expect("(1, KVH, T, D) numbers");
            store.slice_mut(s![.., .., self.at..self.at + self.t, ..]).assign(&new);
        }
    }

    fn seen<'a>(&self, store: &'a [E]) -> ArrayView4<'a, E> {
        let store = ArrayView4::from_shape(self.shape, store).expect("(1, KVH, T, D) numbers");
        store.slice_move(s![.., .., ..self.at + self.t, ..])
    }

    /// Keys (1, KVH, positions, D), the new ones included.
    pub fn keys(&self) -> ArrayView4<'_, E> {
        self.seen(self.keys)
    }

    /// Values (1, KVH, positions, D), the new ones included.
    pub fn values(&self) -> ArrayView4<'_, E> {
        self.seen(self.values)
    }
}
