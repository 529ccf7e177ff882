//! Keys and values of a sequence, so that a new token costs one row and not the whole window again.
//!
//! The room of a block grows with the sequence, since few fill a `block_size` of 100,000, and where the block's attention
//! is windowed it holds little more than the window: the room is twice as long, and when it is full what is seen moves to
//! its beginning, a position once on the average. In one piece always, attention reads it as it lies
//! ([`crate::kernels::attention::cache`]).

use super::config::Config;
use crate::buffer::{Buffer, padded};
use crate::error::Result;
use crate::kernels::attention::cache::{Cache, POSITIONS, floats_of_position};
use crate::kernels::matmul::{Precision, Scalar};
use crate::simd::bf16;
use std::marker::PhantomData;
use std::ops::Range;

/// Positions that there is room for at first, by which that grows and by which they move: those whose keys lie together stay
/// together, and sums that are made tile by tile stay what they are.
const PIECE: usize = 4 * POSITIONS;

/// What memory is asked for, in an error.
const WHAT: &str = "key/value cache";

/// The cache of every block, of numbers of either precision.
pub struct KvCache {
    precision: Precision,
    /// All blocks one after the other, in large pages where there is so much: a step reads all of it, and waits for every
    /// page that is not known.
    buffer: Buffer,
    layers: Vec<Layer>,
    len: usize,
}

impl KvCache {
    /// An empty cache for a model of this shape.
    pub fn new(config: &Config, precision: Precision) -> Result<Self> {
        let (heads, d, most) = (config.kv_heads(), config.head_dim(), config.block_size);
        let floats = match precision {
            Precision::Float32 => floats_of_position::<f32>(d),
            Precision::Bfloat16 => floats_of_position::<bf16>(d),
        };
        let layer = |layer| {
            let window = config.window(layer).filter(|&window| window < most);
            Layer { heads, floats, window, most, start: 0, room: 0, first: 0 }
        };
        let layers = (0..config.n_layer).map(layer).collect();
        Ok(KvCache { precision, buffer: Buffer::zeros(0, WHAT)?, layers, len: 0 })
    }

    /// What its numbers are.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// A copy of the first `len` positions that grows on its own; nothing where a window has slid away from them.
    pub fn prefix(&self, len: usize) -> Result<Option<Self>> {
        let len = len.min(self.len);
        if !self.reaches(len) {
            return Ok(None);
        }
        let enough = |layer: &Layer, first: usize| match len == self.len {
            true => layer.room,
            false => (len - first).next_multiple_of(PIECE).min(layer.room),
        };
        self.copy(len, |layer, first| enough(layer, first)).map(Some)
    }

    /// Makes room for `len` positions, at least doubling it, so that a position is moved twice at most on the average.
    pub fn reserve(&mut self, len: usize) -> Result<()> {
        if self.layers.iter().all(|layer| layer.has_room(len)) {
            return Ok(());
        }
        if self.layers.iter().all(|layer| layer.has_room(len) || layer.has_room_behind(self.len, len)) {
            let full = self.layers.iter_mut().filter(|layer| !layer.has_room(len));
            full.for_each(|layer| layer.shift(self.len, &mut self.buffer));
            return Ok(());
        }
        *self = self.copy(self.len, |layer, first| layer.more_room(first, len))?;
        Ok(())
    }

    /// A copy of what is seen behind the first `len` positions, in the `room` that each block needs for what is kept of it.
    fn copy(&self, len: usize, room: impl Fn(&Layer, usize) -> usize) -> Result<Self> {
        let mut layers = self.layers.clone();
        let mut floats = 0;
        for layer in &mut layers {
            let first = layer.first_kept(len);
            (layer.start, layer.room, layer.first) = (floats, room(layer, first), first);
            floats += padded(layer.len());
        }
        let mut buffer = Buffer::zeros(floats, WHAT)?;
        for (old, new) in self.layers.iter().zip(&layers) {
            for (from, to) in old.heads(new.first, len).zip(new.heads(new.first, len)) {
                buffer[to].copy_from_slice(&self.buffer[from]);
            }
        }
        Ok(KvCache { precision: self.precision, buffer, layers, len })
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.buffer.len() * size_of::<f32>()
    }

    /// Positions read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether all is there that is seen behind the first `len` positions.
    fn reaches(&self, len: usize) -> bool {
        self.layers.iter().all(|layer| layer.first <= layer.first_seen(len))
    }

    /// Forgets what is behind the first `len` positions, and everything where a window has slid away from these.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len {
            match self.reaches(len) {
                true => self.len = len,
                false => self.clear(),
            }
        }
    }

    /// Forgets everything; the room is kept.
    pub fn clear(&mut self) {
        self.layers.iter_mut().for_each(|layer| layer.first = 0);
        self.len = 0;
    }

    /// The part of one block, into which a pass of `t` new positions may append that there is room for.
    fn layer<E: Scalar>(&mut self, layer: usize, t: usize) -> LayerCache<'_, E> {
        assert!(E::PRECISION == self.precision, "rows of a cache are of its precision");
        let layer = &self.layers[layer];
        let (keys, values) = self.buffer[layer.start..][..layer.len()].split_at_mut(layer.keys());
        LayerCache { kept: Cache { keys, values, room: layer.room, len: self.len - layer.first }, t, row: PhantomData }
    }
}

/// Where the keys of one block lie, head by head, and behind them its values.
#[derive(Clone)]
struct Layer {
    heads: usize,
    /// Floats of a position of a head: of its key, and of its value.
    floats: [usize; 2],
    /// Positions that a query sees, where that is fewer than there may be.
    window: Option<usize>,
    /// Positions that there may be.
    most: usize,
    /// The float at which it begins.
    start: usize,
    /// Positions that there is room for.
    room: usize,
    /// The position that lies at the beginning of each head.
    first: usize,
}

impl Layer {
    /// Floats of all keys.
    fn keys(&self) -> usize {
        self.heads * self.room * self.floats[0]
    }

    /// Floats of keys and values.
    fn len(&self) -> usize {
        self.heads * self.room * (self.floats[0] + self.floats[1])
    }

    /// Where the keys of the positions from `first` to `len` lie, head by head, and their values: as those of all that share
    /// a piece.
    fn heads(&self, first: usize, len: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let (heads, room, floats, start) = (self.heads, self.room, self.floats, [self.start, self.start + self.keys()]);
        let positions = first - self.first..(len - self.first).next_multiple_of(POSITIONS);
        (0..2).flat_map(move |side| {
            let positions = positions.clone();
            (0..heads).map(move |head| {
                let at = |position| start[side] + (head * room + position) * floats[side];
                at(positions.start)..at(positions.end)
            })
        })
    }

    /// The first position that a query at `position` sees.
    fn first_seen(&self, position: usize) -> usize {
        self.window.map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// The first position to be kept where those from `len` on are to come.
    fn first_kept(&self, len: usize) -> usize {
        self.first.max(self.first_seen(len) / PIECE * PIECE)
    }

    /// Whether the positions up to `end` fit.
    fn has_room(&self, end: usize) -> bool {
        end - self.first <= self.room
    }

    /// The most positions that there is room for without need.
    fn enough(&self) -> usize {
        self.window.map_or(self.most, |window| (2 * window).next_multiple_of(PIECE) + PIECE)
    }

    /// Whether they fit once what the positions from `len` on do not see has made room, so much that this is rare.
    fn has_room_behind(&self, len: usize, end: usize) -> bool {
        self.room >= self.enough() && end - self.first_kept(len) <= self.room
    }

    /// The room to have for the positions from `first` up to `end`.
    fn more_room(&self, first: usize, end: usize) -> usize {
        match self.has_room(end) {
            true => self.room,
            false => (2 * self.room).max(PIECE).min(self.enough()).max(end - first).next_multiple_of(PIECE),
        }
    }

    /// Moves what the positions from `len` on see to the beginning.
    fn shift(&mut self, len: usize, floats: &mut [f32]) {
        let first = self.first_kept(len);
        for (from, all) in self.heads(first, len).zip(self.heads(self.first, len)) {
            floats.copy_within(from, all.start);
        }
        self.first = first;
    }
}

/// A sequence that a pass goes on with.
pub struct Growing<'a> {
    /// What it has read.
    pub cache: &'a mut KvCache,
    /// How many tokens it reads now; there is room for them.
    pub t: usize,
}

impl Growing<'_> {
    /// The part of one block.
    pub fn layer<E: Scalar>(&mut self, layer: usize) -> LayerCache<'_, E> {
        self.cache.layer(layer, self.t)
    }

    /// Counts what every block has appended.
    pub fn advance(&mut self) {
        self.cache.len += self.t;
    }
}

/// One block's keys and values, for rows of type `E`.
pub struct LayerCache<'a, E> {
    /// What is there, and room for more.
    pub kept: Cache<'a>,
    /// New positions.
    pub t: usize,
    row: PhantomData<E>,
}

impl<E> LayerCache<'_, E> {
    /// Positions held, with the new ones.
    pub fn positions(&self) -> usize {
        self.kept.len + self.t
    }
}
