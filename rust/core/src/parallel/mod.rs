//! Our own thread pool, and splitting of work that gives the same bits for any number of threads.
//!
//! Two rules make results independent of the thread count:
//!
//! 1. Work is cut into tasks by its *shape*; a task owns its outputs. By the number of threads it is cut only where no sum
//!    crosses a cut, so that no bit changes (`matmul/gemv`, `matmul/quantized`). Tasks are handed out through one counter,
//!    so a slow core does not hold the others up, and who computes a task does not change it.
//! 2. A reduction folds fixed-size blocks, in index order ([`sum_blocks`]).
//!
//! The thread that makes a call works itself, and threads of the pool help it: a call that computes holds them together
//! as a [`team`], whose regions start without a wake-up. What helps one call is not there for another meanwhile, which
//! then runs on fewer threads and waits for none.
//!
//! The pool is replaced when its size is changed and after a `fork`, whose child inherits no threads.

mod concat;
mod helpers;
mod patience;
mod team;

use arc_swap::{ArcSwapOption, Guard};
use helpers::Helpers;
use std::sync::{Arc, Mutex};
use team::Team;

pub use concat::concat;

/// The pool with the process that built it and its size.
struct Pool {
    /// One thread fewer than calls run on. None where that is none, or the system gives none.
    helpers: Option<Helpers>,
    /// Threads of a call that were asked for.
    size: usize,
    pid: u32,
}

/// Without a lock: a child that is forked while another thread holds one would wait for it for ever.
static POOL: ArcSwapOption<Pool> = ArcSwapOption::const_empty();

/// The largest number of threads that makes sense to ask for; more is taken for a mistake.
pub const MAX_THREADS: usize = 1024;

/// The number of threads asked for by `SUBGPT_NUM_THREADS`, else what affinity mask and container quota allow.
fn default_size() -> usize {
    let available = std::thread::available_parallelism().map_or(1, |n| n.get());
    match std::env::var("SUBGPT_NUM_THREADS").ok().and_then(|v| v.trim().parse::<usize>().ok()) {
        Some(n) if (1..=MAX_THREADS).contains(&n) => n,
        _ => available,
    }
}

fn build(size: usize) -> Pool {
    Pool { helpers: Helpers::new(size - 1), size, pid: std::process::id() }
}

fn pool() -> Arc<Pool> {
    let pid = std::process::id();
    let mut known = POOL.load_full();
    loop {
        if let Some(pool) = known.as_ref().filter(|pool| pool.pid == pid) {
            return pool.clone();
        }
        let built = Arc::new(build(known.as_ref().map_or_else(default_size, |pool| pool.size)));
        let before = Guard::into_inner(POOL.compare_and_swap(&known, Some(built.clone())));
        if before.as_ref().map(Arc::as_ptr) == known.as_ref().map(Arc::as_ptr) {
            leave_to_parent(before);
            return built;
        }
        // Another thread was faster; it may have set the number of threads.
        known = before;
    }
}

/// In a forked child the old pool's threads do not exist, and dropping it takes locks that one of them may have held at the
/// fork, for which the child would wait for ever.
fn leave_to_parent(pool: Option<Arc<Pool>>) {
    if let Some(pool) = pool.filter(|pool| pool.pid != std::process::id()) {
        std::mem::forget(pool);
    }
}

/// Sets the number of threads of every later call; `n` is clamped to `1..=MAX_THREADS`.
pub fn set_num_threads(n: usize) {
    leave_to_parent(POOL.swap(Some(Arc::new(build(n.clamp(1, MAX_THREADS))))));
}

/// The number of threads that calls use.
pub fn num_threads() -> usize {
    1 + pool().helpers.as_ref().map_or(0, Helpers::count)
}

/// Runs `f` with threads of the pool waiting for the parallel regions within it: each then starts in a fraction of a
/// microsecond. A call that computes does so once, around everything.
pub fn install<R>(f: impl FnOnce() -> R) -> R {
    if team::leads() || team::in_task() {
        return f();
    }
    let pool = pool();
    let Some(helpers) = &pool.helpers else { return f() };
    let team = Arc::new(Team::new());
    let _taken = helpers.call(&team);
    team.lead(f)
}

/// Calls `task(i)` for every `i` in `0..tasks`, on as many threads as there are, each `i` once.
///
/// `task` must own what it writes: which thread runs it, and in which order, is not said. Inside a task of another
/// region everything runs on the one thread.
pub fn run(tasks: usize, task: impl Fn(usize) + Sync) {
    if tasks <= 1 || team::in_task() {
        return (0..tasks).for_each(task);
    }
    if team::run(tasks, &task) {
        return;
    }
    match num_threads() {
        1 => (0..tasks).for_each(task),
        // Without a team where the pool was made one thread in between.
        _ => install(|| {
            if !team::run(tasks, &task) {
                (0..tasks).for_each(&task);
            }
        }),
    }
}

/// Gives every part to `task(index of the part, the part)`, on as many threads as there are.
pub fn for_each<T: Send>(parts: impl IntoIterator<Item = T>, task: impl Fn(usize, T) + Sync) {
    let parts: Vec<_> = parts.into_iter().map(|part| Mutex::new(Some(part))).collect();
    run(parts.len(), |i| {
        let part = parts[i].lock().unwrap_or_else(|e| e.into_inner()).take();
        task(i, part.expect("each part is taken once"));
    });
}

/// What `task` makes of each part, in order.
pub fn map<T: Send, R: Send>(parts: impl IntoIterator<Item = T>, task: impl Fn(T) -> R + Sync) -> Vec<R> {
    let parts: Vec<_> = parts.into_iter().collect();
    let mut results: Vec<Option<R>> = Vec::new();
    results.resize_with(parts.len(), || None);
    for_each(parts.into_iter().zip(&mut results), |_, (part, result)| *result = Some(task(part)));
    results.into_iter().map(|result| result.expect("every task has run")).collect()
}

/// Hands out `data` in consecutive chunks of `chunk` elements: `task(index of the chunk, the chunk)`.
pub fn for_each_chunk<T: Send>(data: &mut [T], chunk: usize, task: impl Fn(usize, &mut [T]) + Sync) {
    for_each(data.chunks_mut(chunk.max(1)), task);
}

/// The values `value(i)` for `i` in `0..n`, computed in parallel, in order.
pub fn collect<T: Send>(n: usize, value: impl Fn(usize) -> T + Sync + Send) -> Vec<T> {
    let mut out: Vec<Option<T>> = Vec::new();
    out.resize_with(n, || None);
    for_each(&mut out, |i, slot| *slot = Some(value(i)));
    out.into_iter().map(|x| x.expect("every task has run")).collect()
}

/// A sum over `0..n` that has the same bits for any number of threads: `block_sum` adds up one block of `block`
/// indices, and the blocks' sums are added in index order.
pub fn sum_blocks(n: usize, block: usize, block_sum: impl Fn(std::ops::Range<usize>) -> f64 + Sync + Send) -> f64 {
    let block = block.max(1);
    collect(n.div_ceil(block), |i| block_sum(i * block..((i + 1) * block).min(n))).iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn every_task_runs_once() {
        for tasks in [0, 1, 2, 7, 1000] {
            let counts: Vec<_> = (0..tasks).map(|_| AtomicU64::new(0)).collect();
            run(tasks, |i| {
                counts[i].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn chunks_cover_the_data_in_order() {
        let mut data = vec![0usize; 1003];
        for_each_chunk(&mut data, 10, |i, chunk| chunk.iter_mut().enumerate().for_each(|(j, x)| *x = i * 10 + j));
        assert!(data.iter().enumerate().all(|(i, &x)| i == x));
    }

    #[test]
    fn sums_do_not_depend_on_the_thread_count() {
        let x: Vec<f32> = (0..100_003).map(|i| ((i * 7919) % 1013) as f32 * 1e-3 - 0.5).collect();
        let sum = || sum_blocks(x.len(), 1024, |r| x[r].iter().map(|&v| f64::from(v) * f64::from(v)).sum());
        let sums = [1, 2, 5].map(|n| {
            set_num_threads(n);
            sum().to_bits()
        });
        assert!(sums.windows(2).all(|w| w[0] == w[1]));
    }

    #[test]
    fn regions_within_a_call_and_within_tasks_run_every_task() {
        for threads in [1, 2, 5] {
            set_num_threads(threads);
            let count = AtomicU64::new(0);
            let add = |_| {
                count.fetch_add(1, Ordering::Relaxed);
            };
            let answer = install(|| {
                for tasks in (0..2000).map(|i| i % 7) {
                    run(tasks, add);
                }
                std::thread::sleep(std::time::Duration::from_millis(3)); // long enough for helpers to fall asleep
                run(3, |_| run(4, |_| install(|| run(2, add))));
                count.load(Ordering::Relaxed)
            });
            assert_eq!(answer, (0..2000u64).map(|i| i % 7).sum::<u64>() + 24);
        }
        set_num_threads(2);
    }

    #[test]
    fn a_call_beside_another_waits_for_no_thread_of_it() {
        set_num_threads(2);
        let (began, go_on) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        std::thread::scope(|scope| {
            scope.spawn(move || {
                install(|| {
                    began.0.send(()).expect("the test waits for it");
                    go_on.1.recv().expect("the test goes on");
                });
            });
            began.1.recv().expect("the call began");
            let sum = AtomicU64::new(0);
            run(100, |i| {
                sum.fetch_add(i as u64, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 4950);
            go_on.0.send(()).expect("the call waits for it");
        });
        // And all that either took was given back, unless a test beside this one has just taken some.
        assert!((0..1000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            pool().helpers.as_ref().map_or(0, Helpers::free) == pool().size - 1
        }));
    }

    #[test]
    fn a_call_goes_on_after_a_panic_in_one_of_its_regions() {
        let count = AtomicU64::new(0);
        install(|| {
            for _ in 0..100 {
                assert!(std::panic::catch_unwind(|| run(8, |i| assert!(i != 5, "task five"))).is_err());
                run(8, |_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(count.load(Ordering::Relaxed), 800);
    }

    #[test]
    fn a_panic_in_a_task_reaches_the_caller() {
        let caught = std::panic::catch_unwind(|| run(8, |i| assert!(i != 5, "task five")));
        assert!(caught.is_err());
    }
}
