//! A team: threads held together for the length of a call, so that a parallel region costs a fraction of a microsecond
//! instead of a wake-up.
//!
//! The leader, who made the call, runs it; the helpers, threads of the pool, wait for tasks, first spinning, then
//! yielding, at last asleep. A region is one counter of tasks that are left: whoever subtracts from it has taken a task.
//! Nobody waits for helpers to show up, only for tasks that somebody has begun, so a helper whose core is taken away
//! delays nothing.

use super::patience::Patience;
use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::thread::Thread;

/// The tasks of a region: called with `0..tasks`, each number once.
type Task<'a> = &'a (dyn Fn(usize) + Sync);

/// The region in progress.
#[derive(Clone, Copy)]
struct Job {
    task: Task<'static>,
    tasks: usize,
}

/// What the threads of a team share.
pub struct Team {
    job: UnsafeCell<Option<Job>>,
    /// Tasks that nobody has taken; at most 0 between regions.
    left: AtomicIsize,
    /// Tasks that are finished.
    done: AtomicUsize,
    /// The call is over.
    over: AtomicBool,
    /// The first panic of a task.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    /// Helpers that sleep or are about to.
    sleepers: Mutex<Vec<Thread>>,
    /// How many those are, to be read without the lock.
    asleep: AtomicUsize,
}

// SAFETY: `job` is written by the leader alone while no task is left or running, and read by a thread that has taken a
// task of it; both are ordered by `left` and `done`. Everything else is made for sharing.
unsafe impl Sync for Team {}

thread_local! {
    /// The team whose leader this thread is.
    static LED: Cell<*const Team> = const { Cell::new(std::ptr::null()) };
    /// Whether this thread is inside a task: regions within it run on this thread alone.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// Sets a thread-local for the length of a scope, and puts it back also when unwinding.
struct Restore<T: Copy + 'static>(&'static std::thread::LocalKey<Cell<T>>, T);

impl<T: Copy> Restore<T> {
    fn set(key: &'static std::thread::LocalKey<Cell<T>>, value: T) -> Self {
        Restore(key, key.replace(value))
    }
}

impl<T: Copy> Drop for Restore<T> {
    fn drop(&mut self) {
        self.0.set(self.1);
    }
}

/// Whether this thread runs a task of a region.
pub fn in_task() -> bool {
    IN_TASK.get()
}

/// Whether this thread leads a team.
pub fn leads() -> bool {
    !LED.get().is_null()
}

/// Runs a region of the team that this thread leads; `false` (and nothing is done) where it leads none.
pub fn run(tasks: usize, task: Task<'_>) -> bool {
    let team = LED.get();
    if team.is_null() || IN_TASK.get() {
        return false;
    }
    // SAFETY: `lead` keeps the team alive for as long as the pointer is set.
    unsafe { &*team }.region(tasks, task);
    true
}

impl Team {
    /// A team without a region.
    pub fn new() -> Self {
        Team {
            job: UnsafeCell::new(None),
            left: AtomicIsize::new(0),
            done: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            panic: Mutex::new(None),
            sleepers: Mutex::new(Vec::new()),
            asleep: AtomicUsize::new(0),
        }
    }

    /// Runs `f` as the leader and sends the helpers home afterwards, also when `f` panics.
    pub fn lead<R>(&self, f: impl FnOnce() -> R) -> R {
        struct Over<'a>(&'a Team);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.over.store(true, Ordering::SeqCst);
                self.0.wake();
            }
        }
        let _over = Over(self);
        let _led = Restore::set(&LED, self);
        f()
    }

    /// Whether the call has ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn region(&self, tasks: usize, task: Task<'_>) {
        // SAFETY: only the lifetime changes. `task` is used by threads that have taken one of its tasks, and this
        // function does not return or unwind before all of them are done.
        let task = unsafe { std::mem::transmute::<Task<'_>, Task<'static>>(task) };
        // SAFETY: no task is left or running, so nobody reads the job.
        unsafe { *self.job.get() = Some(Job { task, tasks }) };
        self.done.store(0, Ordering::Relaxed);
        // SeqCst, as in `sleep`: either this thread sees the sleeper, or the sleeper sees the tasks.
        self.left.store(isize::try_from(tasks).unwrap_or(isize::MAX), Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
        while self.take_one() {}
        let mut patience = Patience::default();
        while self.done.load(Ordering::Acquire) < tasks {
            patience.wait();
        }
        if let Some(panic) = lock(&self.panic).take() {
            resume_unwind(panic);
        }
    }

    /// Takes a task and runs it; `false` where none is left.
    fn take_one(&self) -> bool {
        if self.left.load(Ordering::Relaxed) <= 0 {
            return false;
        }
        let left = self.left.fetch_sub(1, Ordering::AcqRel);
        if left <= 0 {
            return false;
        }
        // SAFETY: a task of this job is ours and not done, so the leader is still in `region` and does not write.
        let Some(Job { task, tasks }) = (unsafe { *self.job.get() }) else { return false };
        let inside = Restore::set(&IN_TASK, true);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| task(tasks - left as usize))) {
            lock(&self.panic).get_or_insert(panic);
        }
        drop(inside);
        self.done.fetch_add(1, Ordering::Release);
        true
    }

    /// A helper's life: tasks as long as the call lasts.
    pub fn help(&self) {
        let mut patience = Patience::default();
        while !self.is_over() {
            if self.take_one() {
                patience = Patience::default();
            } else if !patience.wait() {
                self.sleep();
                patience = Patience::default();
            }
        }
    }

    fn sleep(&self) {
        lock(&self.sleepers).push(std::thread::current());
        self.asleep.fetch_add(1, Ordering::SeqCst);
        // A leader that did not see this sleeper has published before: look once more.
        if self.left.load(Ordering::SeqCst) <= 0 && !self.over.load(Ordering::SeqCst) {
            std::thread::park();
        }
        // Woken for no reason, or not gone to sleep at all: nobody else takes the name off the list.
        let me = std::thread::current().id();
        let mut sleepers = lock(&self.sleepers);
        if let Some(at) = sleepers.iter().position(|thread| thread.id() == me) {
            sleepers.swap_remove(at);
            self.asleep.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn wake(&self) {
        let mut sleepers = lock(&self.sleepers);
        self.asleep.fetch_sub(sleepers.len(), Ordering::SeqCst);
        sleepers.drain(..).for_each(|thread| thread.unpark());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}
