//! Locks for which a forked child does not wait for ever.
//!
//! A child has of all threads only the one that forked. What another held is never given back there, and may be half
//! changed: who asks for it gets an error. Told by the process that looked at a lock last.

use crate::error::{Error, Result};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

/// What of a lock may be had, the least last; in the lowest bits of [`Origin`].
const ALL: u64 = 0;
const READING: u64 = 1;
const NOTHING: u64 = 2;
const BEING_LOOKED_AT: u64 = 3;

/// The process that a lock is used in, and what may be had of it there.
struct Origin(AtomicU64);

impl Origin {
    fn new() -> Self {
        Origin(AtomicU64::new(own() | ALL))
    }

    /// What may be had in this process; `look` tells it in a child, before anybody there has the lock.
    fn state(&self, look: impl Fn() -> u64) -> u64 {
        let own = own();
        loop {
            let seen = self.0.load(Ordering::Acquire);
            let (process, state) = (seen & !BEING_LOOKED_AT, seen & BEING_LOOKED_AT);
            if process == own {
                if state != BEING_LOOKED_AT {
                    return state;
                }
                std::thread::yield_now();
            } else if self.0.compare_exchange(seen, own | BEING_LOOKED_AT, Ordering::AcqRel, Ordering::Acquire).is_ok()
            {
                let before = if state == BEING_LOOKED_AT { ALL } else { state };
                self.0.store(own | look().max(before), Ordering::Release);
            }
        }
    }

    fn check(&self, what: &'static str, most: u64, look: impl Fn() -> u64) -> Result<()> {
        if self.state(look) <= most {
            return Ok(());
        }
        let got = "as another thread left it when this process was forked";
        Err(Error::value("fork", what, got, "make or load it in this process, or fork while nobody uses it"))
    }
}

fn own() -> u64 {
    u64::from(std::process::id()) << 2
}

/// A mutex whose poison is passed over.
pub struct Lock<T> {
    origin: Origin,
    what: &'static str,
    inner: Mutex<T>,
}

impl<T> Lock<T> {
    /// `what` names it in errors.
    pub fn new(what: &'static str, value: T) -> Self {
        Lock { origin: Origin::new(), what, inner: Mutex::new(value) }
    }

    /// Waits for it; an error in a child of a process where somebody had it.
    pub fn lock(&self) -> Result<MutexGuard<'_, T>> {
        self.origin.check(self.what, ALL, || if is_blocked(self.inner.try_lock()) { NOTHING } else { ALL })?;
        Ok(self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A lock for many who read or one who writes, whose poison is passed over.
pub struct SharedLock<T> {
    origin: Origin,
    what: &'static str,
    inner: RwLock<T>,
}

impl<T> SharedLock<T> {
    /// `what` names it in errors.
    pub fn new(what: &'static str, value: T) -> Self {
        SharedLock { origin: Origin::new(), what, inner: RwLock::new(value) }
    }

    /// Waits to read; an error in a child of a process where somebody wrote.
    pub fn read(&self) -> Result<RwLockReadGuard<'_, T>> {
        self.origin.check(self.what, READING, || self.look())?;
        Ok(self.inner.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads if nobody writes or waits to; an error in a child of a process where somebody wrote.
    pub fn try_read(&self) -> Result<Option<RwLockReadGuard<'_, T>>> {
        self.origin.check(self.what, READING, || self.look())?;
        Ok(match self.inner.try_read() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }

    /// Waits to write; an error in a child of a process where somebody wrote or read.
    pub fn write(&self) -> Result<RwLockWriteGuard<'_, T>> {
        self.origin.check(self.what, ALL, || self.look())?;
        Ok(self.inner.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn look(&self) -> u64 {
        if !is_blocked(self.inner.try_write()) {
            ALL
        } else if !is_blocked(self.inner.try_read()) {
            READING
        } else {
            NOTHING
        }
    }
}

fn is_blocked<G>(tried: std::result::Result<G, TryLockError<G>>) -> bool {
    matches!(tried, Err(TryLockError::WouldBlock))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    /// What a forked child finds to be true.
    fn in_child(check: impl FnOnce() -> bool) -> bool {
        // SAFETY: the child calls `check`, which takes locks without waiting, and ends without returning.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let fine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(check)).unwrap_or(false);
            // SAFETY: ends the process at once, without running what belongs to its parent.
            unsafe { libc::_exit(i32::from(!fine)) };
        }
        let mut status = 0;
        // SAFETY: `status` is a valid place for the child's status.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }

    #[test]
    fn who_does_not_wait_reads_only_where_nobody_writes() {
        let shared = SharedLock::new("a model", 2);
        assert_eq!(shared.try_read().unwrap().map(|guard| *guard), Some(2));
        let writing = shared.write().unwrap();
        assert!(shared.try_read().unwrap().is_none());
        drop(writing);
        assert!(shared.try_read().unwrap().is_some());
    }

    #[test]
    fn a_child_takes_what_was_free() {
        let (lock, shared) = (Lock::new("a lock", 1), SharedLock::new("a model", 2));
        assert!(in_child(|| *lock.lock().unwrap() == 1
            && *shared.write().unwrap() == 2
            && *shared.read().unwrap() == 2));
        assert_eq!((*lock.lock().unwrap(), *shared.write().unwrap()), (1, 2));
    }

    #[test]
    fn a_child_is_told_what_it_would_wait_for() {
        let (lock, shared) = (Lock::new("a lock", 1), SharedLock::new("a model", 2));
        let _held = (lock.lock().unwrap(), shared.write().unwrap());
        assert!(in_child(|| {
            let errors = [lock.lock().err(), shared.read().err(), shared.write().err(), shared.read().err()];
            errors.into_iter().all(|error| error.is_some_and(|error| error.to_string().contains("was forked")))
        }));
    }

    #[test]
    fn a_child_reads_what_others_read_and_cannot_change_it() {
        let shared = SharedLock::new("a model", 2);
        let _reading = shared.read().unwrap();
        assert!(in_child(|| *shared.read().unwrap() == 2 && shared.write().is_err() && shared.read().is_ok()));
    }

    #[test]
    fn a_child_of_a_child_knows_it_too() {
        let lock = Lock::new("a lock", 1);
        let _held = lock.lock().unwrap();
        assert!(in_child(|| lock.lock().is_err() && in_child(|| lock.lock().is_err())));
    }
}
