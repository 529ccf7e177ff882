//! Packing: a block of a matrix copied into panels that the microkernel reads from end to end.
//!
//! A panel holds `width` neighbouring columns of a block, unit after unit of depth: unit `(u, j)` of a panel is at
//! `u * width + j`. A unit is four bytes: one float32, or two bfloat16 numbers of neighbouring `k`, the first in the
//! lower half (the second of an odd last one is 0). Panels follow each other; the last is as wide as its columns need,
//! rounded up to whole vectors and filled with zeros. `b` is packed as it is (`K` by `N`), `a` as its transpose (`K` by
//! `M`), so one function serves both:
//!
//! - rows adjacent in memory: runs are copied, or two of them interleaved ([`rows`]);
//! - columns adjacent in memory (a `.t()` view of rows): blocks of 8 by 8 units are transposed ([`columns`]);
//! - anything else: unit by unit.

mod columns;
mod rows;

use super::matrix::Precision;
use super::micro::Micro;
use super::operand::{Deep, Operand, Source};
use crate::simd::{Element, Isa, bf16, pair_of, round_to_bf16};
use std::ops::Range;

/// The shape of panels.
#[derive(Clone, Copy)]
pub struct Panels {
    /// Columns of a panel.
    pub width: usize,
    /// The last panel's width is a multiple of this power of two.
    pub lanes: usize,
    /// What a unit is.
    pub precision: Precision,
    /// Whose vectors may be used.
    pub isa: Isa,
}

/// Where units of depth lie in panels that hold others too.
#[derive(Clone, Copy)]
pub struct Place {
    /// Units of depth of the panels.
    pub units: usize,
    /// The first of those in question.
    pub first: usize,
}

/// A number that can be packed.
pub trait Packable: Element {
    /// The number as bfloat16.
    fn to_half(self) -> bf16;
}

impl Packable for f32 {
    #[inline(always)]
    fn to_half(self) -> bf16 {
        round_to_bf16(self)
    }
}

impl Packable for bf16 {
    #[inline(always)]
    fn to_half(self) -> bf16 {
        self
    }
}

impl Panels {
    /// The panels of `b` for a microkernel.
    pub fn of_b(micro: &Micro) -> Panels {
        Panels { width: micro.nr, lanes: micro.lanes, precision: micro.precision, isa: micro.isa }
    }

    /// The panels of `a` for a microkernel.
    pub fn of_a(micro: &Micro) -> Panels {
        Panels { width: micro.mr, lanes: 1, precision: micro.precision, isa: micro.isa }
    }

    /// The width of a panel of `columns` columns.
    #[inline(always)]
    fn padded(self, columns: usize) -> usize {
        (columns + self.lanes - 1) & !(self.lanes - 1)
    }

    /// Units of the panels for a block of `units` units of depth and `columns` columns.
    pub fn len(self, units: usize, columns: usize) -> usize {
        units * columns.next_multiple_of(self.lanes)
    }

    /// The panels of `columns` columns: first column, columns, width with padding.
    pub fn iter(self, columns: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..columns).step_by(self.width).map(move |j| {
            let n = self.width.min(columns - j);
            (j, n, self.padded(n))
        })
    }

    /// Packs units `us` of depth and columns `js` of `src` into `out`, which holds [`Panels::len`] units.
    pub fn pack(self, src: &Deep<'_>, us: Range<usize>, js: Range<usize>, out: &mut [u32]) {
        self.pack_deeper(src, us.clone(), js, us.len(), out);
    }

    /// The same in panels that are `units` deep; what is behind `us` is left as it is.
    pub fn pack_deeper(self, src: &Deep<'_>, us: Range<usize>, js: Range<usize>, units: usize, out: &mut [u32]) {
        let own = us.start..us.end.min(src.units);
        let place = Place { units, first: 0 };
        self.pack_source(&src.own, own.clone(), js.clone(), place, out);
        if let Some(extension) = src.extension.filter(|_| us.end > src.units) {
            let place = Place { first: own.len(), ..place };
            self.pack_source(&extension, us.start.max(src.units) - src.units..us.end - src.units, js, place, out);
        }
    }

    /// Packs units and columns of one source into their `place`.
    pub fn pack_source(self, src: &Source<'_>, us: Range<usize>, js: Range<usize>, place: Place, out: &mut [u32]) {
        match src {
            Source::Float(src) => self.pack_from(src, us, js, place, out),
            Source::Half(src) => self.pack_from(src, us, js, place, out),
        }
    }

    fn pack_from<E: Packable>(
        self,
        src: &Operand<'_, E>,
        us: Range<usize>,
        js: Range<usize>,
        place: Place,
        out: &mut [u32],
    ) {
        if src.has_runs() {
            return rows::pack(self, src, us, js, place, out);
        }
        let columns = src.t();
        for (j, n, width) in self.iter(js.len()) {
            let js = js.start + j..js.start + j + n;
            let panel = &mut out[j * place.units + place.first * width..][..us.len() * width];
            if columns.has_runs() {
                columns::transpose(self, &columns, us.clone(), js, width, panel);
            } else {
                self.gather(src, us.clone(), js, width, panel);
            }
            if n < width {
                panel.chunks_exact_mut(width).for_each(|row| row[n..].fill(0));
            }
        }
    }

    /// Packs unit by unit.
    fn gather<E: Packable>(
        self,
        src: &Operand<'_, E>,
        us: Range<usize>,
        js: Range<usize>,
        width: usize,
        panel: &mut [u32],
    ) {
        for (u, row) in us.zip(panel.chunks_exact_mut(width)) {
            row.iter_mut().zip(js.clone()).for_each(|(x, j)| *x = self.unit(u, src.rows(), |k| src.at(k, j)));
        }
    }

    /// Unit `u` of a column of `k` numbers.
    fn unit<E: Packable>(self, u: usize, k: usize, at: impl Fn(usize) -> E) -> u32 {
        match self.precision {
            Precision::Float32 => at(u).to_f32().to_bits(),
            Precision::Bfloat16 => {
                let second = if 2 * u + 1 < k { at(2 * u + 1).to_half() } else { bf16::ZERO };
                pair_of(at(2 * u).to_half(), second)
            }
        }
    }
}
