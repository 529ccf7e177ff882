//! A matrix in few bits: the weights of a linear layer as products read them.
//!
//! Rows are cut into blocks along their columns, the last of them filled up with zeros, and lie in panels of 16
//! ([`super::layout`]). Rows of a linear layer are its outputs.

use super::layout::{Layout, PANEL, put_words};
use super::{Format, decode_blocks};
use crate::buffer::{Buffer, padded};
use crate::error::{Error, Result};
use crate::kernels::{check, rows};
use crate::parallel;
use crate::simd::{Kernel, Simd, dispatch, isa};
use ndarray::{ArrayView2, s};
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The most bytes that a block has.
const BLOCK_BYTES: usize = 34;

/// Panels of a task that encodes: columns of a file are then read a whole cache line at a time.
const PANELS: usize = 8;

/// A matrix that is read a few rows at a time.
pub trait Rows: Sync {
    /// Rows and columns.
    fn dim(&self) -> (usize, usize);

    /// `out` (rows, columns) = some of the rows.
    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()>;
}

/// As they lie in memory, also where that is column by column.
impl Rows for ArrayView2<'_, f32> {
    fn dim(&self) -> (usize, usize) {
        self.dim()
    }

    fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let (x, width) = (self.slice(s![rows, ..]), self.ncols());
        if x.strides()[1] == 1 {
            for (row, x) in out.chunks_exact_mut(width.max(1)).zip(x.rows()) {
                row.iter_mut().zip(x).for_each(|(to, x)| *to = *x);
            }
        } else {
            for (k, x) in x.columns().into_iter().enumerate() {
                out[k..].iter_mut().step_by(width).zip(x).for_each(|(to, x)| *to = *x);
            }
        }
        Ok(())
    }
}

/// A matrix whose rows are stored in BF16, Q8_0 or Q4_0.
pub struct QuantizedMatrix {
    layout: Layout,
    /// Shared with the matrices that were encoded together: those of a model are smaller than a large page each.
    memory: Arc<Buffer>,
    /// Floats of the memory where its panels are, and its scales.
    places: [Range<usize>; 2],
}

impl QuantizedMatrix {
    /// `x` in `format`: BF16, Q8_0 or Q4_0.
    ///
    /// Fails on numbers that the format cannot hold: any that are not finite, and very large ones.
    pub fn encode(format: Format, x: ArrayView2<'_, f32>) -> Result<Self> {
        Ok(Self::encode_all(&[(format, &x)])?.swap_remove(0))
    }

    /// The same for matrices that are used together: they lie one behind the other.
    pub fn encode_all(all: &[(Format, &dyn Rows)]) -> Result<Vec<Self>> {
        if let Some((format, _)) = all.iter().find(|(f, _)| !matches!(f, Format::BF16 | Format::Q8_0 | Format::Q4_0)) {
            return Err(Error::value("quantize", "format", format!("{format:?}"), "take BF16, Q8_0 or Q4_0"));
        }
        let layouts = all.iter().map(|(format, x)| {
            let (rows, columns) = x.dim();
            Layout { format: *format, rows, columns }
        });
        let mut end = 0;
        let places: Vec<(Layout, [Range<usize>; 2])> = layouts
            .map(|layout| {
                let places = [layout.panel_bytes(), 2 * layout.panel_scales()].map(|bytes| {
                    let start = end;
                    end += padded((layout.panels() * bytes).div_ceil(size_of::<f32>()));
                    start..start + (layout.panels() * bytes).div_ceil(size_of::<f32>())
                });
                (layout, places)
            })
            .collect();
        let mut memory = Buffer::zeros(end, "quantized weights")?;
        for ((layout, [panels, scales]), (_, x)) in places.iter().zip(all) {
            let (before, after) = memory.split_at_mut(scales.start);
            Self::write(*layout, *x, &mut before[panels.clone()], &mut after[..scales.len()])?;
        }
        let memory = Arc::new(memory);
        Ok(places.into_iter().map(|(layout, places)| Self { layout, memory: memory.clone(), places }).collect())
    }

    /// Writes `x` to where it is to lie.
    fn write(layout: Layout, x: &dyn Rows, panels: &mut [f32], scales: &mut [f32]) -> Result<()> {
        let (isa, fault, rooms) = (isa::current(), OnceLock::new(), Mutex::new(Vec::<Vec<f32>>::new()));
        let rooms = || rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = (layout.panel_bytes().max(1), layout.panel_scales());
        let panels = bytemuck::cast_slice_mut::<f32, u8>(panels).chunks_mut(PANELS * sizes.0);
        // Without scales there is nothing to be handed out, but as many parts.
        let scales = rows::chunks_mut(bytemuck::cast_slice_mut::<f32, u16>(scales), PANELS * sizes.1);
        let tasks = layout.panels().div_ceil(PANELS);
        parallel::for_each(panels.zip(scales).take(tasks), |task, (panels, scales)| {
            let first = task * PANELS * PANEL;
            let rows = first..layout.rows.min(first + PANELS * PANEL);
            // Of a task that has ended, so that there are as many as threads.
            let mut numbers = rooms().pop().unwrap_or_default();
            numbers.resize(rows.len() * layout.columns, 0.0);
            if let Err(error) = x.read(rows, &mut numbers) {
                _ = fault.set(error);
                return;
            }
            let panels = panels.chunks_mut(sizes.0).zip(rows::chunks_mut(scales, sizes.1));
            for (rows, (panel, scales)) in numbers.chunks((PANEL * layout.columns).max(1)).zip(panels) {
                if !dispatch(isa, Encode { layout, rows, panel, scales }) {
                    let remedy = format!("{:?} does not hold that; keep float32", layout.format);
                    _ = fault.set(Error::value("quantize", "a weight", "not finite or too large", remedy));
                }
                if !layout.has_scales() {
                    put_words(isa, rows, layout.columns, panel);
                }
            }
            rooms().push(numbers);
        });
        fault.into_inner().map_or(Ok(()), Err)
    }

    /// How values are stored.
    pub fn format(&self) -> Format {
        self.layout.format
    }

    /// Rows and columns.
    pub fn dim(&self) -> (usize, usize) {
        (self.layout.rows, self.layout.columns)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> usize {
        self.places.iter().map(|place| size_of::<f32>() * place.len()).sum()
    }

    /// The bytes of panel `p` and its scales.
    pub(in crate::kernels) fn panel(&self, p: usize) -> (&[u8], &[u16]) {
        let (bytes, scales) = (self.layout.panel_bytes(), self.layout.panel_scales());
        let [panels, all_scales] = self.places.each_ref().map(|place| &self.memory[place.clone()]);
        let panel = &bytemuck::cast_slice(panels)[p * bytes..][..bytes];
        (panel, &bytemuck::cast_slice(all_scales)[p * scales..][..scales])
    }

    /// `x` (rows, columns) = the numbers of some rows, all of which the matrix must have.
    pub fn decode(&self, rows: Range<usize>, x: &mut [f32]) -> Result<()> {
        let columns = self.layout.columns;
        if rows.end > self.layout.rows {
            return Err(Error::value(
                "decode",
                "rows",
                format!("{rows:?}"),
                format!("the matrix has {}", self.layout.rows),
            ));
        }
        check::len("decode", "x", x.len(), rows.len() * columns)?;
        let (isa, task) = (isa::current(), rows::task_rows(columns));
        parallel::for_each(x.chunks_mut(task * columns.max(1)), |i, x| {
            dispatch(isa, Decode { matrix: self, first: rows.start + i * task, x });
        });
        Ok(())
    }
}

/// Says whether a format holds all numbers of up to 16 rows; where it has scales, they are put into a panel.
struct Encode<'a> {
    layout: Layout,
    rows: &'a [f32],
    panel: &'a mut [u8],
    scales: &'a mut [u16],
}

impl Kernel for Encode<'_> {
    type Output = bool;
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> bool {
        let limit = self.layout.format.limit();
        // A loop without a way out, which the compiler turns into vectors; NaN is not below anything.
        if !self.rows.iter().fold(true, |held, &x| held & (x.abs() < limit)) {
            return false;
        }
        if self.layout.has_scales() {
            for (lane, row) in self.rows.chunks_exact(self.layout.columns.max(1)).enumerate() {
                self.layout.put(s, row, lane, self.panel, self.scales);
            }
        }
        true
    }
}

/// Some rows of a matrix, decoded.
struct Decode<'a> {
    matrix: &'a QuantizedMatrix,
    first: usize,
    x: &'a mut [f32],
}

impl Kernel for Decode<'_> {
    type Output = ();
    /// Plain loops, which the compiler turns into vectors of the instruction set; there is nothing to be rounded, so all
    /// give the same bits.
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let layout = self.matrix.layout;
        let (values, mut block) = (layout.format.values(), [0; BLOCK_BYTES]);
        let block = &mut block[..layout.format.bytes()];
        for (i, x) in (self.first..).zip(self.x.chunks_exact_mut(layout.columns)) {
            let (panel, scales) = self.matrix.panel(i / PANEL);
            for (b, x) in x.chunks_mut(values).enumerate() {
                layout.take(i % PANEL, panel, scales, b..b + 1, block);
                if x.len() == values {
                    decode_blocks(layout.format, block, x);
                } else {
                    let mut last = [0.0; 32];
                    decode_blocks(layout.format, block, &mut last);
                    x.copy_from_slice(&last[..x.len()]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{decode, encode};
    use super::*;
    use crate::kernels::rows::testing::on_each_isa;
    use ndarray::Array2;
    use subgpt_testkit::noise::Noise;

    const FORMATS: [Format; 3] = [Format::BF16, Format::Q8_0, Format::Q4_0];

    #[test]
    fn rows_are_those_of_the_filled_matrix() {
        for (rows, columns) in [(1, 1), (3, 32), (5, 172), (7, 33), (2, 0), (0, 4), (300, 64)] {
            let x = Array2::from_shape_vec((rows, columns), Noise::new(1).normal(rows * columns, 2.0)).unwrap();
            for format in FORMATS {
                let filled = columns.next_multiple_of(format.values());
                let matrix = QuantizedMatrix::encode(format, x.view()).unwrap();
                let turned = QuantizedMatrix::encode(format, x.t().as_standard_layout().t()).unwrap();
                assert_eq!(matrix.dim(), (rows, columns));
                on_each_isa(|| {
                    let mut got = vec![f32::NAN; rows * columns];
                    matrix.decode(0..rows, &mut got).unwrap();
                    for i in 0..rows {
                        let mut row = x.row(i).to_vec();
                        row.resize(filled, 0.0);
                        let mut bytes = vec![0; filled / format.values() * format.bytes()];
                        encode(format, &row, &mut bytes).unwrap();
                        let mut want = vec![0.0; filled];
                        decode(format, &bytes, &mut want).unwrap();
                        if format == Format::Q4_0 {
                            // With a scale that is closer, if there is one.
                            let off = |y: &[f32]| y.iter().zip(&row).map(|(y, x)| (y - x) * (y - x)).sum::<f32>();
                            let closer = &got[i * columns..(i + 1) * columns];
                            assert!(off(closer) <= off(&want[..columns]) * 1.0001);
                            want[..columns].copy_from_slice(closer);
                        }
                        assert_eq!(got[i * columns..(i + 1) * columns], want[..columns]);
                        let mut alone = vec![f32::NAN; columns];
                        turned.decode(i..i + 1, &mut alone).unwrap();
                        assert_eq!(alone, want[..columns]);
                    }
                });
            }
        }
    }

    #[test]
    fn numbers_of_a_format_stay_what_they_are() {
        let x = Array2::from_shape_vec((20, 96), Noise::new(3).normal(20 * 96, 2.0)).unwrap();
        for format in FORMATS {
            let mut bytes = vec![0; 20 * 96 / format.values() * format.bytes()];
            encode(format, x.as_slice().unwrap(), &mut bytes).unwrap();
            let mut own = Array2::zeros((20, 96));
            decode(format, &bytes, own.as_slice_mut().unwrap()).unwrap();
            let mut again = vec![0.0; 20 * 96];
            QuantizedMatrix::encode(format, own.view()).unwrap().decode(0..20, &mut again).unwrap();
            assert_eq!(own.as_slice().unwrap(), again);
        }
    }

    #[test]
    fn a_closer_scale_is_found() {
        let x = Array2::from_shape_vec((200, 64), Noise::new(4).normal(200 * 64, 1.0)).unwrap();
        let off = |y: &[f32]| x.iter().zip(y).map(|(x, y)| f64::from((x - y) * (x - y))).sum::<f64>();
        let mut bytes = vec![0; 200 * 2 * 18];
        encode(Format::Q4_0, x.as_slice().unwrap(), &mut bytes).unwrap();
        let (mut plain, mut closer) = (vec![0.0; 200 * 64], vec![0.0; 200 * 64]);
        decode(Format::Q4_0, &bytes, &mut plain).unwrap();
        QuantizedMatrix::encode(Format::Q4_0, x.view()).unwrap().decode(0..200, &mut closer).unwrap();
        assert!(off(&closer) < 0.9 * off(&plain), "{} {}", off(&closer), off(&plain));
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        for format in FORMATS {
            for bad in [f32::NAN, f32::NEG_INFINITY, f32::MAX] {
                let mut x = Array2::<f32>::zeros((100, 40));
                x[[99, 39]] = bad;
                assert!(QuantizedMatrix::encode(format, x.view()).is_err_and(|e| e.to_string().contains("float32")));
            }
        }
        assert!(QuantizedMatrix::encode(Format::Q6_K, Array2::zeros((1, 256)).view()).is_err());
        let matrix = QuantizedMatrix::encode(Format::Q8_0, Array2::zeros((2, 3)).view()).unwrap();
        assert!(matrix.decode(0..2, &mut [0.0; 5]).is_err());
    }
}
