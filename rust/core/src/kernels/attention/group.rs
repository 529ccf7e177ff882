//! Which keys a group of queries sees: position and window, tile by tile.

#[cfg(doc)]
use super::tile::QUERIES;
use super::tile::{HALVES, KEYS, SLICE};
use crate::simd::LANES;
use std::ops::Range;

/// Which keys a group of queries sees, tile by tile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    /// The first query, counted in its head.
    pub first: usize,
    /// Its queries, at most [`QUERIES`].
    pub live: usize,
    /// The position of the first query: the last key that it sees.
    pub position: usize,
    /// Keys that a query sees, its own included; more than there are where there is no window.
    pub window: usize,
}

impl Group {
    /// The keys that some query sees.
    pub fn keys(&self) -> Range<usize> {
        (self.position + 1).saturating_sub(self.window)..self.position + self.live
    }

    /// The tiles of keys that some query of half `half` sees; empty where the half has no queries.
    pub fn half_tiles(&self, half: usize) -> Range<usize> {
        let first = half * LANES;
        if first >= self.live {
            return 0..0;
        }
        let queries = first..self.live.min(first + LANES);
        let end = self.position + queries.end;
        (self.position + first + 1).saturating_sub(self.window) / KEYS..end.div_ceil(KEYS)
    }

    /// The halves that see tile `tile`.
    pub fn halves(&self, tile: usize) -> Range<usize> {
        let sees = |half: usize| self.half_tiles(half).contains(&tile);
        let start = (0..HALVES).find(|&half| sees(half)).unwrap_or(HALVES);
        start..(start..HALVES).find(|&half| !sees(half)).unwrap_or(HALVES)
    }

    /// The keys of [`SLICE`] queries from `first` on, within the tiles of their half.
    pub fn slice_keys(&self, slice: usize) -> Range<usize> {
        let first = slice * SLICE;
        let end = self.position + self.live.min(first + SLICE);
        (self.position + first + 1).saturating_sub(self.window)..end
    }

    /// The first key of `tile` counted from the first query of `half`, where lanes of this half must be hidden.
    pub fn hidden(&self, tile: usize, half: usize) -> Option<f32> {
        let at = self.position + half * LANES;
        let (first, last) = (tile * KEYS, tile * KEYS + KEYS - 1);
        let in_future = last > at;
        let out_of_window = first + self.window < at + LANES;
        (in_future || out_of_window).then_some(first as f32 - at as f32)
    }
}
