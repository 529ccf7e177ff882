//! Which weights are trained, and where their gradients lie. Frozen weights have none.
//!
//! Gradients have the layout of the weights with the frozen ones left out; those of an adapter lie behind them.

use super::params::{Layout, Linear};
use std::ops::Range;

/// The weights that training changes.
#[derive(Clone, Debug)]
pub struct Trained {
    /// Whether each tensor of the layout is trained.
    tensors: Vec<bool>,
    /// What is left out of the flat buffer of weights: pieces in ascending order.
    frozen: Vec<Range<usize>>,
    /// Floats left out before each of these pieces.
    before: Vec<usize>,
    /// Floats of the gradients of all weights that are trained.
    base: usize,
    /// Floats of an adapter's, which follow.
    adapter: usize,
}

/// Columns of a linear layer that are trained together, and where their gradients lie.
pub struct Run {
    /// Columns of the layer's output.
    pub columns: Range<usize>,
    /// Their gradients.
    pub place: Range<usize>,
}

impl Trained {
    /// Those of the tensors of a layout that are marked and lie in the flat buffer, and an adapter of `adapter` floats.
    pub fn new(layout: &Layout, mut tensors: Vec<bool>, adapter: usize) -> Self {
        layout.tensors.iter().zip(&mut tensors).for_each(|(tensor, trained)| *trained &= tensor.is_flat());
        let ends = layout.tensors.iter().skip(1).map(|tensor| tensor.range.start).chain([layout.total]);
        let (mut frozen, mut before, mut left_out) = (Vec::new(), Vec::new(), 0);
        for ((tensor, end), &trained) in layout.tensors.iter().zip(ends).zip(&tensors) {
            if !trained {
                frozen.push(tensor.range.start..end);
                before.push(left_out);
                left_out += end - tensor.range.start;
            }
        }
        Trained { tensors, frozen, before, base: layout.total - left_out, adapter }
    }

    /// Floats of all gradients.
    pub fn total(&self) -> usize {
        self.base + self.adapter
    }

    /// Floats of an adapter's gradients.
    pub fn adapter_len(&self) -> usize {
        self.adapter
    }

    /// Floats of gradients that belong to weights before `weight`.
    pub fn before(&self, weight: usize) -> usize {
        let next = self.frozen.partition_point(|piece| piece.start < weight);
        let left_out = next
            .checked_sub(1)
            .map_or(0, |last| self.before[last] + self.frozen[last].end.min(weight) - self.frozen[last].start);
        weight - left_out
    }

    /// Whether anything is trained.
    pub fn is_empty(&self) -> bool {
        self.total() == 0
    }

    /// Whether the weights of the model itself are trained, some of them.
    pub fn has_weights(&self) -> bool {
        self.base > 0
    }

    /// Whether each tensor of the layout is trained.
    pub fn tensors(&self) -> &[bool] {
        &self.tensors
    }

    /// Where the gradients of weights lie that are all trained or all frozen; none for frozen ones, and for those that are
    /// not in the flat buffer.
    pub fn place(&self, weights: &Range<usize>) -> Option<Range<usize>> {
        if weights.is_empty() {
            return None;
        }
        let next = self.frozen.partition_point(|piece| piece.start <= weights.start);
        let left_out = match next.checked_sub(1) {
            None => 0,
            Some(last) if self.frozen[last].contains(&weights.start) => return None,
            Some(last) => self.before[last] + self.frozen[last].len(),
        };
        Some(weights.start - left_out..weights.end - left_out)
    }

    /// Where the gradients of an adapter's numbers lie.
    pub fn adapter_place(&self, numbers: &Range<usize>) -> Range<usize> {
        self.base + numbers.start..self.base + numbers.end
    }

    /// The columns of a layer whose weights are trained, neighbours together.
    pub fn weights(&self, linear: &Linear) -> Vec<Run> {
        self.runs(linear, |columns| Some(linear.weight_of(columns)))
    }

    /// The columns of a layer whose offsets are trained, neighbours together.
    pub fn biases(&self, linear: &Linear) -> Vec<Run> {
        self.runs(linear, |columns| linear.bias_of(columns))
    }

    fn runs(&self, linear: &Linear, numbers: impl Fn(&Range<usize>) -> Option<Range<usize>>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for part in &linear.parts {
            let Some(place) = numbers(&part.columns).and_then(|numbers| self.place(&numbers)) else { continue };
            match runs.last_mut() {
                Some(last) if last.columns.end == part.columns.start => {
                    (last.columns.end, last.place.end) = (part.columns.end, place.end);
                }
                _ => runs.push(Run { columns: part.columns.clone(), place }),
            }
        }
        runs
    }

    /// Whether a tensor in this piece of the flat weights is trained.
    pub fn any(&self, layout: &Layout, weights: &Range<usize>) -> bool {
        let inside = |range: &Range<usize>| weights.start <= range.start && range.end <= weights.end;
        layout.tensors.iter().zip(&self.tensors).any(|(tensor, &trained)| trained && inside(&tensor.range))
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{Config, Mlp, Norm, Position};
    use super::*;

    fn layout() -> Layout {
        let config = Config {
            bias: true,
            mlp: Mlp::Gated,
            norm: Norm::RmsNorm,
            position: Position::Rotary,
            qkv_bias: Some(true),
            ..crate::model::tests::tiny()
        };
        Layout::new(&config)
    }

    fn trained(layout: &Layout, trains: impl Fn(&str) -> bool, adapter: usize) -> Trained {
        Trained::new(layout, layout.tensors.iter().map(|tensor| trains(&tensor.name)).collect(), adapter)
    }

    #[test]
    fn gradients_of_everything_lie_as_the_weights_do() {
        let layout = layout();
        let trained = trained(&layout, |_| true, 0);
        assert_eq!(trained.total(), layout.total);
        assert!(layout.tensors.iter().all(|tensor| trained.place(&tensor.range) == Some(tensor.range.clone())));
        assert_eq!(trained.weights(&layout.blocks[1].qkv).len(), 1);
    }

    #[test]
    fn frozen_weights_leave_no_gap() {
        let layout = layout();
        let trained = trained(&layout, |name| name.contains("1.") && !name.contains("k_proj"), 5);
        let (mut end, mut seen) = (0, 0);
        for (tensor, &is_trained) in layout.tensors.iter().zip(trained.tensors()) {
            let place = trained.place(&tensor.range);
            assert_eq!(place.is_some(), is_trained, "{}", tensor.name);
            if let Some(place) = place {
                assert!(place.start >= end && place.len() == tensor.range.len());
                (end, seen) = (place.end, seen + 1);
            }
        }
        assert!(seen > 3 && end <= trained.adapter_place(&(0..5)).start && trained.total() < layout.total);
        assert_eq!(trained.adapter_place(&(0..5)).end, trained.total());
        // Query and value columns, between which the keys' are frozen.
        let qkv = &layout.blocks[1].qkv;
        let runs = trained.weights(qkv);
        let columns: Vec<_> = runs.iter().map(|run| run.columns.clone()).collect();
        assert_eq!(columns, [qkv.parts[0].columns.clone(), qkv.parts[2].columns.clone()]);
        assert!(runs.iter().all(|run| run.place.len() == run.columns.len() * qkv.n_in));
        assert_eq!(trained.biases(qkv).len(), 2);
        assert!(trained.weights(&layout.blocks[0].qkv).is_empty());
        let block = |layer: usize| layout.blocks[layer].qkv.weight.start..layout.blocks[layer].down.weight.end;
        assert!(!trained.any(&layout, &block(0)) && trained.any(&layout, &block(1)));
    }

    #[test]
    fn nothing_is_trained_where_everything_is_frozen() {
        let layout = layout();
        let trained = trained(&layout, |_| false, 0);
        assert!(trained.is_empty() && !trained.has_weights());
        assert!(layout.tensors.iter().all(|tensor| trained.place(&tensor.range).is_none()));
    }
}
