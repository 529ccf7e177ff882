//! Where weights come from: files whose numbers are read straight to where they are kept, as float32 or in few bits.
//!
//! A model in few bits is never in memory as float32 numbers: of each layer a few outputs are read, rounded and forgotten.

use super::Gpt;
use super::params::{Layout, Linear, Tensor};
use super::quantized::{Few, Quantized};
use crate::buffer::Buffer;
use crate::error::Result;
use crate::kernels::quantized::Rows;
use crate::parallel;
use std::ops::Range;

/// Where all weights of a model can be read.
pub trait Source: Sync {
    /// The numbers of a tensor of the layout, of its shape.
    fn numbers<'a>(&'a self, tensor: &Tensor) -> Result<Box<dyn Numbers + 'a>>;
}

/// The numbers of a tensor, in the layout's order.
pub trait Numbers: Sync {
    /// `out` = consecutive numbers, from the one with that index on.
    fn read(&self, first: usize, out: &mut [f32]) -> Result<()>;

    /// `out` (columns, rows) = some columns of a matrix of that many columns, each as a row.
    fn read_columns(&self, of: usize, columns: Range<usize>, out: &mut [f32]) -> Result<()> {
        const RUN: usize = 16; // whole cache lines of `out`
        let (width, rows) = (columns.len(), out.len() / columns.len().max(1));
        let mut room = vec![0.0; RUN * width];
        for k in (0..rows).step_by(RUN) {
            let run = RUN.min(rows - k);
            for (i, row) in room.chunks_exact_mut(width).enumerate().take(run) {
                self.read((k + i) * of + columns.start, row)?;
            }
            for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                out[k..k + run].iter_mut().zip(room[column..].iter().step_by(width)).for_each(|(to, x)| *to = *x);
            }
        }
        Ok(())
    }

    /// Some of `count` numbers: the first, and others at even distances behind it.
    fn sample(&self, count: usize, wanted: usize) -> Result<Vec<f32>> {
        let mut sample = Vec::new();
        for at in (0..count).step_by(count.div_ceil(wanted.max(1)).max(1)).take(wanted) {
            let mut number = [0.0];
            self.read(at, &mut number)?;
            sample.extend(number);
        }
        Ok(sample)
    }
}

/// A linear layer's weights `(out, in)`, on their way from a source.
struct Layer<'a> {
    linear: &'a Linear,
    /// What its outputs are, in order.
    parts: Vec<(Range<usize>, Box<dyn Numbers + 'a>)>,
}

impl<'a> Layer<'a> {
    fn new(linear: &'a Linear, layout: &Layout, source: &'a dyn Source) -> Result<Self> {
        let part = |(columns, tensor): (Range<usize>, &Tensor)| Ok((columns, source.numbers(tensor)?));
        Ok(Layer { linear, parts: layout.weights_of(linear).map(part).collect::<Result<_>>()? })
    }
}

impl Rows for Layer<'_> {
    fn dim(&self) -> (usize, usize) {
        (self.linear.n_out, self.linear.n_in)
    }

    fn read(&self, rows: Range<usize>, mut out: &mut [f32]) -> Result<()> {
        let n_in = self.linear.n_in;
        for (columns, numbers) in &self.parts {
            let own = rows.start.max(columns.start)..rows.end.min(columns.end);
            if own.is_empty() {
                continue;
            }
            let place = out.split_off_mut(..own.len() * n_in).unwrap_or_default();
            let own = own.start - columns.start..own.end - columns.start;
            match self.linear.transposed {
                true => numbers.read(own.start * n_in, place)?,
                false => numbers.read_columns(columns.len(), own, place)?,
            }
        }
        Ok(())
    }
}

impl Gpt {
    /// Takes all weights from `source`, as float32 numbers or in `few` bits. Nothing is changed unless everything can be
    /// read and kept so.
    pub(super) fn fill(&mut self, source: &dyn Source, few: Few) -> Result<()> {
        let Some((kind, extent)) = few else {
            let layout = &self.layout;
            self.params = parallel::install(|| flat(layout, layout, source))?;
            self.weights_change();
            return Ok(());
        };
        let layout = Layout::quantized(&self.config, extent);
        let (quantized, params) = parallel::install(|| {
            let layers = self.layout.linears().filter(|linear| extent.has(linear, &self.layout));
            let layers = layers.map(|linear| Layer::new(linear, &self.layout, source)).collect::<Result<Vec<_>>>()?;
            let rows: Vec<&dyn Rows> = layers.iter().map(|layer| layer as &dyn Rows).collect();
            Ok::<_, crate::Error>((Quantized::new(kind, &layout, &rows)?, flat(&self.layout, &layout, source)?))
        })?;
        (self.layout, self.params, self.quantized, self.packs) = (layout, params, Some(quantized), None);
        self.weights_change();
        self.retrain(None);
        Ok(())
    }
}

/// The numbers of all tensors that lie in the flat buffer of `layout`; `whole` is the layout where all do.
fn flat(whole: &Layout, layout: &Layout, source: &dyn Source) -> Result<Buffer> {
    let mut params = Buffer::zeros(layout.total, "parameters")?;
    for (from, to) in whole.tensors.iter().zip(&layout.tensors).filter(|(_, to)| to.is_flat()) {
        source.numbers(from)?.read(0, &mut params[to.range.clone()])?;
    }
    Ok(params)
}

/// The model's own float32 numbers, to be kept otherwise.
pub(super) struct Own<'a>(pub &'a [f32]);

impl Source for Own<'_> {
    fn numbers<'a>(&'a self, tensor: &Tensor) -> Result<Box<dyn Numbers + 'a>> {
        Ok(Box::new(&self.0[tensor.range.clone()]))
    }
}

impl Numbers for &[f32] {
    fn read(&self, first: usize, out: &mut [f32]) -> Result<()> {
        out.copy_from_slice(&self[first..][..out.len()]);
        Ok(())
    }
}
