//! A matrix in few bits: every row is cut into blocks along its columns, the last of them filled up with zeros.
//!
//! Rows are what products with vectors read one after the other, so those of a linear layer are its outputs.

use super::{Format, decode_blocks, encode_blocks};
use crate::error::{Error, Result};
use crate::kernels::{check, rows};
use crate::parallel;
use crate::simd::{Kernel, Simd, dispatch, isa};
use ndarray::ArrayView2;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// The most values that a block has.
const MOST: usize = 256;

/// A matrix whose rows are stored in blocks of a [`Format`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuantizedMatrix {
    format: Format,
    rows: usize,
    columns: usize,
    bytes: Vec<u8>,
}

impl QuantizedMatrix {
    /// `x` in `format`, which must be one that is written.
    ///
    /// Fails on numbers that the format cannot hold: any that are not finite, and very large ones.
    pub fn encode(format: Format, x: ArrayView2<'_, f32>) -> Result<Self> {
        format.check_encodes()?;
        let (rows, columns) = x.dim();
        let mut matrix = QuantizedMatrix { format, rows, columns, bytes: Vec::new() };
        let (row_bytes, filled) = (matrix.row_bytes(), columns.next_multiple_of(format.values()));
        let bytes = row_bytes.saturating_mul(rows);
        let refused = |_| Error::OutOfMemory { what: "quantized weights", bytes };
        matrix.bytes.try_reserve_exact(bytes).map_err(refused)?;
        matrix.bytes.resize(bytes, 0);
        let (held, task) = (AtomicBool::new(true), rows::task_rows(columns));
        parallel::for_each_chunk(&mut matrix.bytes, task * row_bytes, |i, bytes| {
            let mut row = vec![0.0; filled];
            for (x, bytes) in x.rows().into_iter().skip(i * task).zip(bytes.chunks_mut(row_bytes)) {
                row.iter_mut().zip(x).for_each(|(to, x)| *to = *x);
                if !row.iter().all(|&x| format.holds(x)) {
                    return held.store(false, Ordering::Relaxed);
                }
                encode_blocks(format, &row, bytes);
            }
        });
        match held.into_inner() {
            true => Ok(matrix),
            false => {
                let remedy = format!("{format:?} does not hold that; keep float32");
                Err(Error::value("quantize", "a weight", "not finite or too large", remedy))
            }
        }
    }

    /// How values are stored.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.columns.div_ceil(self.format.values()) * self.format.bytes()
    }

    /// The blocks of row `i`.
    pub fn row(&self, i: usize) -> &[u8] {
        &self.bytes[i * self.row_bytes()..(i + 1) * self.row_bytes()]
    }

    /// The blocks of all rows, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// `x` (rows, columns) = the numbers of some rows.
    pub fn decode(&self, rows: Range<usize>, x: &mut [f32]) -> Result<()> {
        check::len("decode", "x", x.len(), rows.len() * self.columns)?;
        let (isa, task) = (isa::current(), rows::task_rows(self.columns));
        let bytes = &self.bytes[rows.start * self.row_bytes()..rows.end * self.row_bytes()];
        let parts = bytes.chunks(task * self.row_bytes().max(1)).zip(x.chunks_mut(task * self.columns.max(1)));
        parallel::for_each(parts, |_, (bytes, x)| dispatch(isa, Decode { matrix: self, bytes, x }));
        Ok(())
    }
}

/// Some rows of a matrix, decoded.
struct Decode<'a> {
    matrix: &'a QuantizedMatrix,
    bytes: &'a [u8],
    x: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();
    /// Plain loops, which the compiler turns into vectors of the instruction set; there is nothing to be rounded, so all
    /// give the same bits.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let QuantizedMatrix { format, columns, .. } = *self.matrix;
        let whole = columns / format.values();
        let (values, bytes) = (whole * format.values(), whole * format.bytes());
        for (row, x) in self.bytes.chunks_exact(self.matrix.row_bytes()).zip(self.x.chunks_exact_mut(columns)) {
            decode_blocks(format, &row[..bytes], &mut x[..values]);
            if values < columns {
                let mut last = [0.0; MOST];
                decode_blocks(format, &row[bytes..], &mut last[..format.values()]);
                x[values..].copy_from_slice(&last[..columns - values]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::*;
    use crate::kernels::rows::testing::on_each_isa;
    use ndarray::Array2;
    use subgpt_testkit::noise::Noise;

    const FORMATS: [Format; 2] = [Format::Q8_0, Format::Q4_0];

    #[test]
    fn rows_are_those_of_the_filled_matrix() {
        for (rows, columns) in [(1, 1), (3, 32), (5, 172), (7, 33), (2, 0), (0, 4), (300, 64)] {
            let x = Array2::from_shape_vec((rows, columns), Noise::new(1).normal(rows * columns, 2.0)).unwrap();
            let filled = columns.next_multiple_of(32);
            for format in FORMATS {
                let matrix = QuantizedMatrix::encode(format, x.view()).unwrap();
                assert_eq!(QuantizedMatrix::encode(format, x.t().as_standard_layout().t()).unwrap(), matrix);
                assert_eq!((matrix.dim(), matrix.bytes().len()), ((rows, columns), rows * matrix.row_bytes()));
                on_each_isa(|| {
                    let mut got = vec![f32::NAN; rows * columns];
                    matrix.decode(0..rows, &mut got).unwrap();
                    for i in 0..rows {
                        let mut want = vec![0.0; filled];
                        decode(format, matrix.row(i), &mut want).unwrap();
                        assert_eq!(got[i * columns..(i + 1) * columns], want[..columns]);
                        let mut alone = vec![f32::NAN; columns];
                        matrix.decode(i..i + 1, &mut alone).unwrap();
                        assert_eq!(alone, want[..columns]);
                        assert!(want[columns..].iter().all(|&x| x == 0.0));
                    }
                });
            }
        }
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        for format in FORMATS {
            for bad in [f32::NAN, f32::NEG_INFINITY, 1e30] {
                let mut x = Array2::<f32>::zeros((100, 40));
                x[[99, 39]] = bad;
                assert!(QuantizedMatrix::encode(format, x.view()).unwrap_err().to_string().contains("float32"));
            }
        }
        assert!(QuantizedMatrix::encode(Format::Q6_K, Array2::zeros((1, 256)).view()).is_err());
        let matrix = QuantizedMatrix::encode(Format::Q8_0, Array2::zeros((2, 3)).view()).unwrap();
        assert!(matrix.decode(0..2, &mut [0.0; 5]).is_err());
    }
}
