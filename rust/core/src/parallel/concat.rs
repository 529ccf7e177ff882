//! What many tasks produce, one after the other in memory, while they run.

use super::{num_threads, run};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Where outputs go and how far they have come.
struct Joined<T, R> {
    /// The next task whose place is known: all before it have ended.
    next: usize,
    /// Elements of the tasks before it.
    len: usize,
    /// What tasks from `next` on have produced, where they have ended.
    waiting: VecDeque<Option<Vec<T>>>,
    results: Vec<Option<R>>,
    /// Buffers for the tasks to come.
    free: Vec<Vec<T>>,
}

/// Runs `produce(i, buffer)` for every `i` in `0..tasks`, appends what the buffers then hold to `out` in the order of
/// `i`, and gives what the calls returned.
///
/// A task's output is moved to its place as soon as the tasks before it have ended, while it is still in a near cache.
/// `produce` may only append: on one thread its buffer is `out` itself. There should be room for all of it in `out`, which costs nothing before it is used; what finds none is appended at
/// the end.
pub fn concat<T: Copy + Send + Sync, R: Send>(
    out: &mut Vec<T>,
    tasks: usize,
    produce: impl Fn(usize, &mut Vec<T>) -> R + Sync,
) -> Vec<R> {
    if tasks <= 1 || num_threads() == 1 {
        return (0..tasks).map(|i| produce(i, out)).collect();
    }
    let room = Room { start: out.spare_capacity_mut().as_mut_ptr().cast(), len: out.capacity() - out.len() };
    let joined = Mutex::new(Joined {
        next: 0,
        len: 0,
        waiting: (0..tasks).map(|_| None).collect(),
        results: (0..tasks).map(|_| None).collect(),
        free: Vec::new(),
    });
    let lock = || joined.lock().unwrap_or_else(PoisonError::into_inner);
    run(tasks, |i| {
        let mut buffer = lock().free.pop().unwrap_or_default();
        let result = produce(i, &mut buffer);
        let mut ready = Vec::new();
        {
            let mut joined = lock();
            joined.results[i] = Some(result);
            let slot = i - joined.next;
            joined.waiting[slot] = Some(buffer);
            while let Some(Some(buffer)) = joined.waiting.front()
                && joined.len + buffer.len() <= room.len
            {
                let at = joined.len;
                joined.len += buffer.len();
                joined.next += 1;
                ready.push((at, joined.waiting.pop_front().flatten().unwrap_or_default()));
            }
        }
        for (at, buffer) in &ready {
            // SAFETY: the range was checked to be within the room and given to this task alone.
            unsafe { room.write(*at, buffer) };
        }
        lock().free.extend(ready.into_iter().map(|(_, mut buffer)| {
            buffer.clear();
            buffer
        }));
    });
    let joined = joined.into_inner().unwrap_or_else(PoisonError::into_inner);
    let filled = out.len() + joined.len;
    // SAFETY: `joined.len` elements of the room were written, without gaps, by tasks that have ended.
    unsafe { out.set_len(filled) };
    joined.waiting.into_iter().flatten().for_each(|buffer| out.extend_from_slice(&buffer));
    joined.results.into_iter().map(|result| result.expect("every task has run")).collect()
}

/// Memory behind the end of a vector.
struct Room<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: the memory is only written, by `write`, whose callers keep to ranges of their own.
unsafe impl<T: Send> Sync for Room<T> {}

impl<T: Copy> Room<T> {
    /// # Safety
    /// `at + items.len()` must be at most `len`, and no other thread may write to that range.
    unsafe fn write(&self, at: usize, items: &[T]) {
        // SAFETY: the caller's promise; the vector cannot move while its room is borrowed.
        unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), self.start.add(at), items.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_in_order_with_and_without_room() {
        for room in [0, 10, 10_000] {
            let mut out = vec![7u32];
            out.reserve_exact(room);
            let lengths = concat(&mut out, 100, |i, buffer| {
                buffer.extend((0..i % 13).map(|k| (1000 * i + k) as u32));
                i % 13
            });
            assert_eq!(lengths, (0..100).map(|i| i % 13).collect::<Vec<_>>());
            let expected: Vec<u32> = (0..100).flat_map(|i| (0..i % 13).map(move |k| (1000 * i + k) as u32)).collect();
            assert_eq!(out[1..], expected);
        }
        assert!(concat(&mut Vec::<u8>::new(), 0, |_, _| ()).is_empty());
    }
}
