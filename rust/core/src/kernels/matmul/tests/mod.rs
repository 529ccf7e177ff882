//! The product against the f64 reference: [`floats`] has sums in float32, [`outputs`] every precision and output,
//! [`extensions`] more depth, [`quantized`] a right operand in few bits.

mod extensions;
mod floats;
mod outputs;
mod quantized;

use crate::simd::{Element, Isa, isa};
use ndarray::{Array2, ArrayView2, s};

/// Numbers in -1..1 that are no round fractions.
fn numbers(rows: usize, columns: usize, seed: u32) -> Array2<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    Array2::from_shape_simple_fn((rows, columns), || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Layout {
    Rows,
    Transposed,
    /// Inside a wider matrix.
    Part,
    TransposedPart,
    /// Every second row and third column.
    Sparse,
    /// Both axes against the order of memory.
    Backward,
    /// One row, repeated by a stride of 0.
    Repeated,
}

const LAYOUTS: [Layout; 7] = [
    Layout::Rows,
    Layout::Transposed,
    Layout::Part,
    Layout::TransposedPart,
    Layout::Sparse,
    Layout::Backward,
    Layout::Repeated,
];

/// A matrix that lies in memory in some way; what surrounds it is NaN.
struct Laid<E = f32> {
    memory: Array2<E>,
    layout: Layout,
    rows: usize,
    columns: usize,
}

impl<E: Element> Laid<E> {
    fn new(rows: usize, columns: usize, layout: Layout, seed: u32) -> Self {
        let values = numbers(rows, columns, seed).mapv(E::from_f32);
        let memory_shape = match layout {
            Layout::Rows | Layout::Backward => (rows, columns),
            Layout::Transposed => (columns, rows),
            Layout::Part => (rows + 2, columns + 3),
            Layout::TransposedPart => (columns + 3, rows + 2),
            Layout::Sparse => (2 * rows, 3 * columns),
            Layout::Repeated => (1, columns),
        };
        let mut memory = Array2::from_elem(memory_shape, E::from_f32(f32::NAN));
        match layout {
            Layout::Rows => memory.assign(&values),
            Layout::Transposed => memory.assign(&values.t()),
            Layout::Part => memory.slice_mut(s![1..=rows, 2..2 + columns]).assign(&values),
            Layout::TransposedPart => memory.slice_mut(s![2..2 + columns, 1..=rows]).assign(&values.t()),
            Layout::Sparse => memory.slice_mut(s![..;2, ..;3]).assign(&values),
            Layout::Backward => memory.slice_mut(s![..;-1, ..;-1]).assign(&values),
            Layout::Repeated => memory.assign(&numbers(1, columns, seed).mapv(E::from_f32)),
        }
        Laid { memory, layout, rows, columns }
    }

    fn view(&self) -> ArrayView2<'_, E> {
        let (rows, columns) = (self.rows, self.columns);
        match self.layout {
            Layout::Rows => self.memory.view(),
            Layout::Transposed => self.memory.t(),
            Layout::Part => self.memory.slice(s![1..=rows, 2..2 + columns]),
            Layout::TransposedPart => self.memory.slice(s![2..2 + columns, 1..=rows]).reversed_axes(),
            Layout::Sparse => self.memory.slice(s![..;2, ..;3]),
            Layout::Backward => self.memory.slice(s![..;-1, ..;-1]),
            Layout::Repeated => self.memory.broadcast((rows, columns)).expect("one row repeats"),
        }
    }
}

/// Calls `f` for every instruction set that there is; says which are not.
fn on_every_isa(f: impl Fn(Isa)) {
    for isa in Isa::ALL {
        if isa.is_available() {
            isa::with(isa, || f(isa));
        } else {
            println!("skipped: this processor has no {}", isa.name());
        }
    }
}

/// The bits of a matrix.
fn bits<E: Element>(c: &Array2<E>) -> Vec<u32> {
    c.iter().map(|x| x.to_f32().to_bits()).collect()
}
