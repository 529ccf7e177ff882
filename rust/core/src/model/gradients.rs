//! The gradients of all weights that are trained, with what is still to be done to them.
//!
//! Clipping and zeroing would each be a pass over the whole buffer. Both are put off until something passes over it
//! anyway: clipping leaves a factor, which the next update multiplies in as it reads, and zeroing leaves a mark, so that
//! the next backward pass may overwrite instead of add. Whoever looks at the numbers in between sees what they stand for.

use super::buckets::Finished;
use super::trained::Trained;
use crate::buffer::Buffer;
use crate::error::Result;
use crate::kernels::Beta;
use crate::parallel;
use std::ops::Range;

/// Floats of one task of a pass over the buffer.
const CHUNK: usize = 1 << 16;

/// One gradient for each weight that is trained, where [`Trained`] says.
pub struct GradientBuffer {
    data: Buffer,
    /// Every gradient is this times what `data` holds.
    factor: f32,
    /// Every gradient is 0, whatever `data` holds; `factor` is then 1.
    fresh: bool,
}

impl GradientBuffer {
    /// Zeros for `len` weights.
    pub fn new(len: usize) -> Result<Self> {
        Ok(GradientBuffer { data: Buffer::zeros(len, "gradients")?, factor: 1.0, fresh: true })
    }

    /// Whether all gradients are 0 and what the buffer holds means nothing.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Sets every gradient to 0.
    pub fn zero(&mut self) {
        (self.factor, self.fresh) = (1.0, true);
    }

    /// Multiplies every gradient by `factor`.
    pub fn scale(&mut self, factor: f32) {
        if !self.fresh {
            self.settle();
            self.factor = factor;
        }
    }

    /// The buffer for a backward pass, and whether it is fresh: then the pass must write over all that it holds, else
    /// it adds.
    pub fn begin(&mut self) -> (&mut [f32], bool) {
        let fresh = std::mem::replace(&mut self.fresh, false);
        if !fresh {
            self.settle();
        }
        (&mut self.data, fresh)
    }

    /// Numbers and a factor whose products are the gradients, for an update, which reads each once.
    pub fn pending(&mut self) -> (&[f32], f32) {
        if self.fresh {
            self.settle();
        }
        (&self.data, self.factor)
    }

    /// The gradients themselves: does what was put off.
    pub fn settle(&mut self) -> &mut [f32] {
        let factor = std::mem::replace(&mut self.factor, 1.0);
        if std::mem::replace(&mut self.fresh, false) {
            zero(&mut self.data);
        } else if factor != 1.0 {
            parallel::for_each_chunk(&mut self.data, CHUNK, |_, chunk| chunk.iter_mut().for_each(|g| *g *= factor));
        }
        &mut self.data
    }

    /// Whether one of the gradients in `range` is a NaN or an infinity.
    pub fn has_nonfinite(&self, range: &Range<usize>) -> bool {
        !self.fresh && !self.data[range.clone()].iter().all(|g| (g * self.factor).is_finite())
    }
}

/// Fills `data` with zeros.
pub(super) fn zero(data: &mut [f32]) {
    parallel::for_each_chunk(data, CHUNK, |_, chunk| chunk.fill(0.0));
}

/// Where the gradients of a backward pass go.
pub struct Gradients<'a> {
    /// All of them.
    pub data: &'a mut [f32],
    /// Where those of each weight are.
    pub trained: &'a Trained,
    /// Whether products overwrite what the buffer holds of linear weights, or add to it.
    pub beta: Beta,
    /// Who hears of what is finished, and of how many pieces it has heard.
    pub watch: Option<(Finished<'a>, usize)>,
}

impl Gradients<'_> {
    /// The gradients of weights, all of which are trained or none; none for frozen ones.
    pub fn of(&mut self, weights: &Range<usize>) -> Option<&mut [f32]> {
        self.trained.place(weights).map(|place| &mut self.data[place])
    }

    /// Those of two tensors, of which the second lies behind the first.
    pub fn of_both(&mut self, first: Option<&Range<usize>>, second: Option<&Range<usize>>) -> [Option<&mut [f32]>; 2] {
        let [first, second] = [first, second].map(|weights| weights.and_then(|weights| self.trained.place(weights)));
        let cut = second.as_ref().map_or(self.data.len(), |place| place.start);
        let (before, after) = self.data.split_at_mut(cut);
        [first.map(|place| &mut before[place]), second.map(|place| &mut after[..place.len()])]
    }

    /// The gradients of an adapter's numbers.
    pub fn of_adapter(&mut self, numbers: &Range<usize>) -> &mut [f32] {
        &mut self.data[self.trained.adapter_place(numbers)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(values: &[f32]) -> GradientBuffer {
        let mut grads = GradientBuffer::new(values.len()).unwrap();
        grads.settle().copy_from_slice(values);
        grads
    }

    #[test]
    fn a_factor_waits_for_whoever_looks() {
        let mut grads = holding(&[2.0, -4.0]);
        grads.scale(0.5);
        assert_eq!(grads.pending(), (&[2.0, -4.0][..], 0.5));
        grads.scale(0.25); // the first factor is settled, the second waits
        assert_eq!(grads.pending(), (&[1.0, -2.0][..], 0.25));
        assert_eq!(grads.begin(), (&mut [0.25, -0.5][..], false));
        assert_eq!(grads.settle(), [0.25, -0.5]);
    }

    #[test]
    fn zeros_are_written_only_for_those_who_look() {
        let mut grads = holding(&[1.0, f32::NAN]);
        assert!(grads.has_nonfinite(&(0..2)) && !grads.has_nonfinite(&(0..1)));
        grads.zero();
        assert!(grads.is_fresh() && !grads.has_nonfinite(&(0..2)));
        grads.scale(f32::NAN);
        let (data, fresh) = grads.begin();
        assert!(fresh && data[0] == 1.0 && !grads.is_fresh());
        grads.zero();
        assert_eq!(grads.pending(), (&[0.0, 0.0][..], 1.0));
        assert!(!grads.is_fresh());
    }
}
