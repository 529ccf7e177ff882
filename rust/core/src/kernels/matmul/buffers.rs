//! Scratch memory that is kept from call to call, so that a product allocates nothing large in the steady state.

use crate::pages;
use std::cell::Cell;

/// Units of four bytes in a cache line: where a buffer starts.
const LINE: usize = 16;

thread_local! {
    static PASS: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
    static LEFT: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
    static SUMS: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
    static TASK: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
    static PANEL: Cell<Vec<u32>> = const { Cell::new(Vec::new()) };
}

/// Which of a thread's buffers.
#[derive(Clone, Copy)]
pub enum Buffer {
    /// Packed `b` of a whole pass, filled by many threads.
    Pass,
    /// Packed `a` of a whole pass, filled by many threads.
    Left,
    /// Unfinished sums of a whole product, filled by many threads.
    Sums,
    /// A task's own panels.
    Task,
    /// A panel of integers that a task has unpacked.
    Panel,
}

/// Calls `f` with `len` units of this thread, at the start of a cache line; what they hold is not said.
///
/// The buffer is taken while it is in use: a product that the thread pool starts on this thread meanwhile gets another.
pub fn with<R>(which: Buffer, len: usize, f: impl FnOnce(&mut [u32]) -> R) -> R {
    let slot = match which {
        Buffer::Pass => &PASS,
        Buffer::Left => &LEFT,
        Buffer::Sums => &SUMS,
        Buffer::Task => &TASK,
        Buffer::Panel => &PANEL,
    };
    let mut memory = slot.take();
    if memory.len() < len + LINE {
        // A new one, not a longer one: there is nothing to be copied. And never both at once.
        drop(memory);
        memory = vec![0; len + LINE];
        pages::prefer_huge(&mut memory);
    }
    let start = memory.as_ptr().align_offset(LINE * size_of::<u32>()).min(LINE);
    let result = f(&mut memory[start..start + len]);
    slot.set(memory);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_kept_and_not_shared() {
        let at = |len| with(Buffer::Task, len, |x| (x.as_ptr() as usize, x.len()));
        let (first, len) = at(100);
        assert!(first.is_multiple_of(64) && len == 100);
        assert_eq!(at(50), (first, 50));
        with(Buffer::Task, 10, |x| {
            x.fill(1);
            with(Buffer::Task, 10, |y| y.fill(2));
            assert!(x.iter().all(|&x| x == 1));
        });
    }
}
