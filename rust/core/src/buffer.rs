//! Flat float buffers that start on a cache line: parameters, gradients, moments, activations.

use crate::error::{Error, Result};
use crate::pages;
use bytemuck::Pod;
use std::ops::{Deref, DerefMut, Range};

/// Floats in a cache line; tensors inside a flat buffer start at multiples of it.
pub const LINE: usize = 16;

/// A zeroed `f32` buffer, 64-byte aligned, that reports a failed allocation instead of ending the process.
///
/// Its pages come when they are first written, so the threads that fill it share that work; large ones are huge pages.
pub struct Buffer {
    /// Room for one cache line more than asked for.
    floats: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeros. `what` names the buffer's purpose in the error when the system has not enough memory.
    pub fn zeros(len: usize, what: &'static str) -> Result<Self> {
        if len == 0 {
            return Ok(Buffer { floats: Vec::new(), start: 0, len });
        }
        let refused = || Error::OutOfMemory { what, bytes: len.saturating_mul(4) };
        let room = len.checked_add(LINE).ok_or_else(refused)?;
        let mut floats: Vec<f32> = bytemuck::allocation::try_zeroed_vec(room).map_err(|()| refused())?;
        pages::prefer_huge(&mut floats);
        let start = floats.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
        Ok(Buffer { floats, start, len })
    }

    /// Grows to at least `len` floats; what was inside is lost. Never shrinks, so that a steady state allocates nothing.
    pub fn ensure(&mut self, len: usize, what: &'static str) -> Result<()> {
        if self.len < len {
            *self = Buffer::zeros(0, what)?; // freed before the larger one is asked for
            *self = Buffer::zeros(len, what)?;
        }
        Ok(())
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.floats[self.start..self.start + self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats[self.start..self.start + self.len]
    }
}

/// `len` zeros in a plain vector, to be handed on; fails as [`Buffer::zeros`] does.
pub fn zeros(len: usize, what: &'static str) -> Result<Vec<f32>> {
    // Memory that comes as zeros is not touched: whoever writes first has its pages made, on all threads.
    bytemuck::allocation::try_zeroed_vec(len).map_err(|()| Error::OutOfMemory { what, bytes: len.saturating_mul(4) })
}

/// Whether an array of floats of `shape` can be had: for libraries that panic or end the process where it cannot.
pub fn room(shape: &[usize], what: &'static str) -> Result<()> {
    let refused = |bytes| Error::OutOfMemory { what, bytes };
    // An axis of length 0 does not excuse the others: ndarray multiplies those alone.
    let bytes = shape.iter().filter(|&&n| n > 0).try_fold(size_of::<f32>(), |bytes, &n| bytes.checked_mul(n));
    let bytes = bytes.filter(|&bytes| isize::try_from(bytes).is_ok()).ok_or_else(|| refused(usize::MAX))?;
    if shape.contains(&0) {
        return Ok(());
    }
    let mut probe = Vec::<u8>::new();
    // An allocation that nobody uses may be left out by the compiler, which then takes it for a success.
    std::hint::black_box(&mut probe).try_reserve_exact(bytes).map_err(|_| refused(bytes))
}

/// Cuts named pieces off the front of a buffer, each on a cache line.
pub struct Carver<'a> {
    rest: &'a mut [f32],
}

impl<'a> Carver<'a> {
    /// A carver of the whole of `buffer`.
    pub fn new(buffer: &'a mut [f32]) -> Self {
        Carver { rest: buffer }
    }

    /// The next `len` floats. The caller sized the buffer with [`padded`]; too small a one is a defect of the plan.
    pub fn take(&mut self, len: usize) -> &'a mut [f32] {
        let (piece, rest) = std::mem::take(&mut self.rest).split_at_mut(padded(len));
        self.rest = rest;
        &mut piece[..len]
    }

    /// The next `len` numbers of type `E`, which is no wider than a float.
    pub fn take_as<E: Pod>(&mut self, len: usize) -> &'a mut [E] {
        let floats = (len * size_of::<E>()).div_ceil(size_of::<f32>());
        &mut bytemuck::cast_slice_mut(self.take(floats))[..len]
    }
}

/// Takes the first `n` elements off a slice, which has as many.
pub fn front_mut<'a>(slice: &mut &'a mut [f32], n: usize) -> &'a mut [f32] {
    slice.split_off_mut(..n).expect("as many as its plan says")
}

/// The parts of `data` that lie in `ranges`, which ascend and do not overlap.
pub fn parts_mut(mut data: &mut [f32], ranges: impl Iterator<Item = Range<usize>>) -> impl Iterator<Item = &mut [f32]> {
    let mut start = 0;
    ranges.map(move |range| {
        front_mut(&mut data, range.start - start);
        start = range.end;
        front_mut(&mut data, range.len())
    })
}

/// `len` rounded up to whole cache lines.
pub fn padded(len: usize) -> usize {
    len.next_multiple_of(LINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_and_pieces_start_on_a_cache_line() {
        let mut buffer = Buffer::zeros(padded(5) + padded(33), "test").unwrap();
        let mut carver = Carver::new(&mut buffer);
        for len in [5, 33] {
            let piece = carver.take(len);
            assert_eq!((piece.len(), piece.as_ptr() as usize % 64), (len, 0));
        }
    }

    #[test]
    fn arrays_beyond_memory_are_errors() {
        for fits in [&[][..], &[3, 4], &[0], &[1 << 40, 0]] {
            room(fits, "test").unwrap();
        }
        for beyond in [&[1 << 60, 4][..], &[1 << 40, 1 << 40, 0], &[1 << 55], &[1 << 46]] {
            assert!(matches!(room(beyond, "test"), Err(Error::OutOfMemory { .. })), "{beyond:?}");
        }
        assert!(zeros(1 << 50, "test").is_err() && zeros(3, "test").unwrap() == [0.0; 3]);
    }

    #[test]
    fn a_buffer_beyond_memory_is_an_error() {
        let error = Buffer::zeros(usize::MAX / 8, "weights").err().unwrap();
        assert!(matches!(error, Error::OutOfMemory { what: "weights", .. }));
    }
}
