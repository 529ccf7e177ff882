//! Gradients in pieces, for processes that share the work of an update: which pieces there are, and when a backward pass
//! is done with each.
//!
//! A backward pass goes through the blocks from the last to the first, and the flat buffer has them from the first to
//! the last: so gradients are finished from its end on, and a piece can be sent while the rest is computed. The token
//! embedding lies first and is finished last, also where the head shares it. An adapter's gradients lie behind those of
//! the weights; its parts are not told apart, they are finished at the end.

use super::Gpt;
use super::gradients::Gradients;
use super::params::Layout;
use super::trained::Trained;
use crate::buffer::padded;
use crate::error::{Error, Result};
use std::ops::Range;

/// Hears of each of `buckets` once a backward pass adds nothing more to it, in their order.
pub struct Finished<'a> {
    /// Pieces of the gradients, from the end to the beginning.
    pub buckets: &'a [Range<usize>],
    /// Gets the number of a bucket, and its gradients.
    pub tell: &'a mut (dyn FnMut(usize, &[f32]) + Send),
}

impl Finished<'_> {
    /// The same for a shorter while.
    pub fn again(&mut self) -> Finished<'_> {
        Finished { buckets: self.buckets, tell: &mut *self.tell }
    }

    /// Tells of all buckets that begin at `low` or behind it.
    fn from(&mut self, told: &mut usize, low: usize, grads: &[f32]) {
        while let Some(bucket) = self.buckets.get(*told).filter(|bucket| bucket.start >= low) {
            (self.tell)(*told, &grads[bucket.clone()]);
            *told += 1;
        }
    }
}

impl Gradients<'_> {
    /// Nothing more is added to what belongs to the weights from `weight` on, in this pass.
    pub fn finished(&mut self, weight: usize) {
        if let Some((finished, told)) = &mut self.watch {
            let low = if weight == 0 { 0 } else { self.trained.finished_from(weight) };
            finished.from(told, low, self.data);
        }
    }
}

impl Trained {
    /// Where the gradients begin that are finished when those of all weights from `weight` on are.
    fn finished_from(&self, weight: usize) -> usize {
        if self.adapter_len() > 0 { self.total() } else { self.before(weight) }
    }
}

/// Pieces of about `floats` that a backward pass finishes one after the other, from the end of the gradients to their
/// beginning; nothing is left out. None is much smaller but the last, and one of what is finished at once is at most
/// twice as large.
pub fn buckets(layout: &Layout, trained: &Trained, floats: usize) -> Vec<Range<usize>> {
    let floats = padded(floats.clamp(1, trained.total().max(1)));
    let blocks = layout.blocks.iter().rev().map(|block| block.span.start);
    let ends = layout.blocks.last().map(|block| block.span.end);
    let lows = ends.into_iter().chain(blocks).map(|weight| trained.finished_from(weight)).chain([0]);
    let (mut made, mut high) = (Vec::new(), trained.total());
    for low in lows {
        while high - low >= floats {
            let size = if high - low < 2 * floats { high - low } else { floats };
            made.push(high - size..high);
            high -= size;
        }
    }
    if high > 0 {
        made.push(0..high);
    }
    made
}

/// What two ranges have in common, if it is anything.
pub fn overlap(a: &Range<usize>, b: &Range<usize>) -> Option<Range<usize>> {
    let common = a.start.max(b.start)..a.end.min(b.end);
    (!common.is_empty()).then_some(common)
}

/// Where a part of `whole` lies in it.
pub fn within(part: &Range<usize>, whole: &Range<usize>) -> Range<usize> {
    part.start - whole.start..part.end - whole.start
}

impl Gpt {
    /// See [`buckets`].
    pub fn gradient_buckets(&self, floats: usize) -> Vec<Range<usize>> {
        buckets(&self.layout, &self.trained, floats)
    }

    /// Where the gradients of each tensor that is trained begin, in order.
    pub fn gradient_starts(&self) -> Vec<usize> {
        self.trained_places().into_iter().map(|(_, place)| place.start).collect()
    }

    /// The gradients in `place`; zeros before the first backward pass.
    pub fn gradients_in(&mut self, place: Range<usize>) -> Result<Vec<f32>> {
        self.check_place("gradients", &place)?;
        Ok(match self.grads() {
            Some(grads) => grads[place].to_vec(),
            None => vec![0.0; place.len()],
        })
    }

    /// Buckets must lie within the gradients.
    pub fn check_buckets(&self, buckets: &[Range<usize>]) -> Result<()> {
        buckets.iter().try_for_each(|bucket| self.check_place("backward", bucket))
    }

    /// Sets the gradients from `start` on.
    pub fn set_gradients(&mut self, start: usize, values: &[f32]) -> Result<()> {
        let place = start..start.saturating_add(values.len());
        self.check_place("set_gradients", &place)?;
        let total = self.trained.total();
        let grads = match &mut self.grads {
            Some(grads) => grads,
            none => none.insert(super::gradients::GradientBuffer::new(total)?),
        };
        grads.settle()[place].copy_from_slice(values);
        Ok(())
    }

    /// The numbers that are trained, as their gradients lie; zeros between them.
    pub fn trained_in(&self, place: Range<usize>) -> Result<Vec<f32>> {
        self.check_place("trained", &place)?;
        let mut values = vec![0.0; place.len()];
        for (tensor, whole) in self.trained_places() {
            if let (Some(common), Ok((_, w))) = (overlap(&whole, &place), self.tensor(&tensor.name)) {
                values[within(&common, &place)].copy_from_slice(&w[within(&common, &whole)]);
            }
        }
        Ok(values)
    }

    /// Sets those from `start` on.
    pub fn set_trained(&mut self, start: usize, values: &[f32]) -> Result<()> {
        let place = start..start.saturating_add(values.len());
        self.check_place("set_trained", &place)?;
        for slot in self.update_parts().0 {
            if let Some(common) = overlap(&slot.place, &place) {
                slot.w[within(&common, &slot.place)].copy_from_slice(&values[within(&common, &place)]);
            }
        }
        Ok(())
    }

    /// `place` must lie within the gradients.
    pub fn check_place(&self, op: &'static str, place: &Range<usize>) -> Result<()> {
        let total = self.trained.total();
        if place.start <= place.end && place.end <= total {
            return Ok(());
        }
        Err(Error::value(op, "place", format!("{place:?}"), format!("there are {total} gradients")))
    }
}
