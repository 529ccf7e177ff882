//! Asking for cache lines before they are needed.

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Asks for the cache lines of `data`, where the processor can be asked.
#[inline(always)]
pub fn prefetch<T>(data: &[T]) {
    prefetch_at(data.as_ptr(), data.len());
}

/// The same of `len` elements from `start` on, which need not be valid memory.
#[inline(always)]
pub fn prefetch_at<T>(start: *const T, len: usize) {
    #[cfg(target_arch = "x86_64")]
    {
        let (bytes, into) = (len * size_of::<T>(), start.addr() % LINE);
        for at in (0..bytes + into).step_by(LINE) {
            prefetch_line(start.cast::<i8>().wrapping_sub(into).wrapping_add(at));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len);
}

/// Fetches the line that `start` lies in, which need not be valid memory.
#[inline(always)]
pub fn prefetch_line<T>(start: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE is part of every x86-64 processor, and a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = start;
}
