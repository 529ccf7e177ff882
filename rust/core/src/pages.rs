//! Large memory in large pages, where the system gives them only to who asks (Linux with `madvise`, its usual setting).
//!
//! Kernels walk matrices along rows that are kilobytes apart. In pages of 4 KiB every step is another page, and a model
//! has more of them than the processor can remember; in pages of 2 MiB it knows them all. Faults of the first step are
//! fewer by the same factor.

/// Bytes of a huge page on x86-64, and on ARM with base pages of 4 KiB.
#[cfg(target_os = "linux")]
const HUGE: usize = 2 << 20;

/// Asks for `data` to be in huge pages where it is not in memory yet; a hint that the system may pass over.
pub fn prefer_huge<T>(data: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        let start = data.as_mut_ptr().cast::<u8>();
        let skip = start.addr().next_multiple_of(HUGE) - start.addr();
        let bytes = size_of_val(data).saturating_sub(skip) / HUGE * HUGE;
        if bytes > 0 {
            // SAFETY: the range lies within `data`, which is borrowed exclusively, and the advice changes no content.
            unsafe { libc::madvise(start.wrapping_add(skip).cast(), bytes, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = data;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_what_it_holds() {
        for len in [0, 1, 1000, (3 << 20) + 5] {
            let mut data: Vec<u32> = (0..len).collect();
            prefer_huge(&mut data);
            assert!(data.iter().copied().eq(0..len));
        }
    }
}
