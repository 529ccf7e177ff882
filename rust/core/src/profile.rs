//! Where the time of a call goes: operations measured by name while somebody asks for it, nothing otherwise.

use crate::fork::Lock;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What an operation does, to be held against what the machine can do.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// Multiplications and additions of a matrix product, 2 for each multiply-add.
    Product {
        /// How many.
        flop: f64,
    },
    /// Numbers that pass through memory.
    Memory {
        /// Bytes read and written.
        bytes: f64,
    },
}

impl Work {
    /// Bytes read and written.
    pub fn bytes(bytes: usize) -> Work {
        Work::Memory { bytes: bytes as f64 }
    }
}

/// An operation, added up over its calls.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its name.
    pub operation: &'static str,
    /// How often it ran.
    pub calls: u64,
    /// How long it took, all calls together.
    pub time: Duration,
    /// Operations of its products.
    pub flop: f64,
    /// Bytes it read and wrote.
    pub bytes: f64,
}

static MEASURING: AtomicBool = AtomicBool::new(false);
static RECORDS: LazyLock<Lock<Vec<Record>>> = LazyLock::new(|| Lock::new("profile", Vec::new()));

/// Forgets what was measured and measures from here on.
pub fn start() {
    if let Ok(mut records) = RECORDS.lock() {
        records.clear();
    }
    MEASURING.store(true, Ordering::Relaxed);
}

/// Ends measuring; what was measured, in the order of first calls.
pub fn stop() -> Vec<Record> {
    MEASURING.store(false, Ordering::Relaxed);
    RECORDS.lock().map_or_else(|_| Vec::new(), |mut records| std::mem::take(&mut *records))
}

/// Runs `f`, an operation of that name, which must not contain another: times would count twice.
pub fn measure<R>(operation: &'static str, work: Work, f: impl FnOnce() -> R) -> R {
    if !MEASURING.load(Ordering::Relaxed) {
        return f();
    }
    let begin = Instant::now();
    let result = f();
    add(operation, work, begin.elapsed());
    result
}

fn add(operation: &'static str, work: Work, time: Duration) {
    // Of a process that was forked while another thread measured nothing is told.
    let Ok(mut records) = RECORDS.lock() else { return };
    let at = records.iter().position(|record| record.operation == operation).unwrap_or_else(|| {
        records.push(Record { operation, calls: 0, time: Duration::ZERO, flop: 0.0, bytes: 0.0 });
        records.len() - 1
    });
    let record = &mut records[at];
    record.calls += 1;
    record.time += time;
    match work {
        Work::Product { flop } => record.flop += flop,
        Work::Memory { bytes } => record.bytes += bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_added_up_by_name_while_measuring() {
        let once = || measure("profiled by this test", Work::Product { flop: 2.0 }, || 7);
        assert_eq!(once(), 7);
        start();
        once();
        once();
        measure("profiled by this test", Work::bytes(8), || ());
        let records = stop();
        let ours = records.iter().find(|r| r.operation == "profiled by this test").unwrap();
        assert_eq!((ours.calls, ours.flop, ours.bytes), (3, 4.0, 8.0));
        once();
        assert!(stop().is_empty());
    }
}
