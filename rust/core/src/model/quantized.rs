//! Weights of linear layers in few bits.
//!
//! A layer's matrix is kept with its outputs as rows, whatever the order in which the family stores it. Position
//! embeddings, norms and biases stay float32. Where only the blocks are quantized, embeddings and the output projection do
//! too, as in QLoRA (Dettmers et al. 2023); such a model trains adapters: its passes decode one layer at a time, into a
//! room that the whole model shares. Generation, and every pass without gradients of a model that is quantized as a whole, multiplies the
//! weights as they are kept ([`Right::Quantized`](crate::kernels::matmul::Right)); the rows of the latter, its keys and
//! values are bfloat16.

use super::Gpt;
use super::linear::view;
use super::params::{Extent, Layout, Linear, Tensor};
use super::source::Own;
use crate::buffer::Buffer;
use crate::error::{Error, Result};
use crate::kernels::quantized::{Format, QuantizedMatrix, Rows};
use crate::profile::{Work, measure};
use ndarray::ArrayView2;
use std::borrow::Cow;
use std::sync::Mutex;

/// How many bits a weight has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// 16: BF16.
    Bfloat16,
    /// 8, and a scale for 32 of them: Q8_0.
    Int8,
    /// 4, and a scale for 32 of them: Q4_0; in the head, where they cost a fifth of all that is lost, 8.
    Int4,
}

impl Kind {
    /// As it is called outside.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bfloat16 => "bfloat16",
            Kind::Int8 => "int8",
            Kind::Int4 => "int4",
        }
    }

    /// The format of the blocks.
    pub fn format(self) -> Format {
        match self {
            Kind::Bfloat16 => Format::BF16,
            Kind::Int8 => Format::Q8_0,
            Kind::Int4 => Format::Q4_0,
        }
    }

    /// The format of the head.
    pub fn head_format(self) -> Format {
        if self == Kind::Int4 { Format::Q8_0 } else { self.format() }
    }
}

/// How weights are kept where it is not as float32 numbers, and which.
pub type Few = Option<(Kind, Extent)>;

/// The weights of all linear layers of a model's blocks, and of its head where that is quantized too.
pub struct Quantized {
    /// How many bits each has.
    pub kind: Kind,
    /// By the layer's number, `(out, in)`; the head is the last.
    layers: Vec<QuantizedMatrix>,
    /// Where a layer is decoded; not there before the first product, and while one works with it.
    room: Mutex<Option<Buffer>>,
}

impl Quantized {
    /// Those of `layers`, which are the first of `layout`'s linear layers or all of them.
    pub(super) fn new(kind: Kind, layout: &Layout, layers: &[&dyn Rows]) -> Result<Self> {
        let format = |index: usize| if index == layout.head.index { kind.head_format() } else { kind.format() };
        let layers: Vec<_> = layers.iter().enumerate().map(|(index, layer)| (format(index), *layer)).collect();
        Ok(Quantized { kind, layers: QuantizedMatrix::encode_all(&layers)?, room: Mutex::new(None) })
    }

    /// The weights of a layer `(out, in)`; none of a head that is not quantized.
    pub fn layer(&self, linear: &Linear) -> Option<&QuantizedMatrix> {
        self.layers.get(linear.index)
    }

    /// Bytes that they take.
    pub fn bytes(&self) -> usize {
        self.layers.iter().map(|layer| layer.bytes()).sum()
    }

    /// Floats of the room where a layer is decoded: those of the largest.
    fn largest(&self) -> usize {
        self.layers.iter().map(|layer| layer.dim().0 * layer.dim().1).max().unwrap_or(0)
    }

    /// Bytes of that room.
    pub fn room_bytes(&self) -> usize {
        size_of::<f32>() * self.largest()
    }

    /// Calls `f` with the numbers of a layer `(out, in)`, which are there until it returns.
    pub fn with_decoded<R>(
        &self,
        matrix: &QuantizedMatrix,
        f: impl FnOnce(ArrayView2<'_, f32>) -> Result<R>,
    ) -> Result<R> {
        let (n_out, n_in) = matrix.dim();
        // Taken, not locked, while others work: another pass over the same model makes a room of its own. And not waited
        // for: in a forked child nobody may be left to give it back.
        let kept = self.room.try_lock().ok().and_then(|mut room| room.take());
        let mut room = kept.map_or_else(|| Buffer::zeros(self.largest(), "decoded weights"), Ok)?;
        let bytes = matrix.bytes() + size_of::<f32>() * n_out * n_in;
        measure("decode weights", Work::bytes(bytes), || matrix.decode(0..n_out, &mut room[..n_out * n_in]))?;
        let result = f(view(&room, n_out, n_in));
        if let Ok(mut kept) = self.room.try_lock() {
            *kept = Some(room);
        }
        result
    }
}

impl Gpt {
    /// How many bits the weights of linear layers have, where they are no float32 numbers.
    pub fn quantization(&self) -> Option<Kind> {
        self.quantized.as_ref().map(|quantized| quantized.kind)
    }

    /// Keeps the weights of linear layers in few bits from now on: of the blocks, or of `everything`; they can then not be
    /// trained. Adapters stay, gradients are dropped. Nothing is changed where a weight does not fit the format.
    ///
    /// On the way both copies are in memory: the float32 numbers and, for a fraction of that, what becomes of them.
    pub fn quantize(&mut self, kind: Kind, everything: bool) -> Result<()> {
        if let Some(known) = self.quantization() {
            let remedy = "it cannot be quantized again; open it anew";
            return Err(Error::value("quantize", "the model", format!("{} already", known.name()), remedy));
        }
        let params = std::mem::replace(&mut self.params, Buffer::zeros(0, "parameters")?);
        let extent = if everything { Extent::Everything } else { Extent::Blocks };
        let result = self.fill(&Own(&params), Some((kind, extent)));
        if result.is_err() {
            self.params = params;
        }
        result
    }

    /// What needs all weights as float32 numbers is not for a quantized model.
    pub(super) fn refuse_quantized(&self, op: &'static str) -> Result<()> {
        match self.quantization() {
            None => Ok(()),
            Some(kind) => Err(Error::value(
                op,
                "the model",
                format!("quantized ({})", kind.name()),
                "open the float32 model for that",
            )),
        }
    }

    /// The numbers of a tensor of the layout, in its own order.
    pub(super) fn numbers(&self, tensor: &Tensor) -> Cow<'_, [f32]> {
        match self.quantized.as_ref().filter(|_| !tensor.is_flat()) {
            None => Cow::Borrowed(&self.params[tensor.range.clone()]),
            Some(quantized) => Cow::Owned(decoded(&self.layout, quantized, tensor)),
        }
    }
}

/// The numbers of a tensor that is kept in few bits.
fn decoded(layout: &Layout, quantized: &Quantized, tensor: &Tensor) -> Vec<f32> {
    let find = |linear: &'_ Linear| {
        let part = linear.parts.iter().find(|part| tensor.name.strip_suffix(".weight") == Some(&*part.name))?;
        Some((quantized.layer(linear)?, part.columns.clone(), linear.transposed))
    };
    let (matrix, rows, transposed) = layout.linears().find_map(find).unwrap_or_else(|| {
        let matrix =
            quantized.layer(&layout.head).expect("a tensor of a linear layer, or a table that shares the head");
        (matrix, 0..matrix.dim().0, true)
    });
    let (n_out, n_in) = (rows.len(), matrix.dim().1);
    let mut numbers = vec![0.0; n_out * n_in];
    matrix.decode(rows, &mut numbers).expect("room for just these rows");
    match transposed {
        true => numbers,
        false => view(&numbers, n_out, n_in).reversed_axes().iter().copied().collect(),
    }
}
