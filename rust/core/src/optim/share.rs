//! The part of what is trained that an optimizer updates: all of it, or the share of one of several processes, which keeps
//! moments for its share alone (ZeRO, stage 1).
//!
//! Rajbhandari et al.: "ZeRO: memory optimizations toward training trillion parameter models", 2020.

use crate::error::{Error, Result};
use crate::model::buckets::overlap;
use crate::model::params::Tensor;
use std::ops::Range;

/// Pieces of the gradients, in ascending order; `None`: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Share(Option<Vec<Range<usize>>>);

/// Some numbers of a tensor that belong to a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Whose numbers.
    pub tensor: &'a Tensor,
    /// Where their gradients lie.
    pub place: Range<usize>,
    /// Whether these are all numbers of the tensor.
    pub whole: bool,
}

impl Share {
    /// Everything.
    pub const ALL: Share = Share(None);

    /// The pieces `ranges`, which ascend and do not overlap.
    pub fn new(ranges: Vec<Range<usize>>) -> Result<Self> {
        let ascending = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
        if ascending && ranges.iter().all(|range| range.start <= range.end) {
            return Ok(Share(Some(ranges)));
        }
        Err(Error::value("optimizer", "share", format!("{ranges:?}"), "pieces must ascend and not overlap"))
    }

    /// Whether nothing is left to others.
    pub fn is_all(&self) -> bool {
        self.0.is_none()
    }

    /// What of `place` belongs to the share.
    pub fn of(&self, place: &Range<usize>) -> Vec<Range<usize>> {
        match &self.0 {
            None => vec![place.clone()],
            Some(ranges) => ranges.iter().filter_map(|range| overlap(range, place)).collect(),
        }
    }

    /// What of these tensors belongs to the share.
    pub fn parts<'a>(&self, tensors: Vec<(&'a Tensor, Range<usize>)>) -> Vec<Part<'a>> {
        let parts = tensors.into_iter().flat_map(|(tensor, whole)| {
            let parts = self.of(&whole).into_iter();
            parts.map(move |place| Part { tensor, whole: place == whole, place })
        });
        parts.collect()
    }
}
