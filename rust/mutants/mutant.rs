//! Which mutant is on: the one whose number is in `SUBGPT_MUTANT`. Copied into the crate that is changed.
//!
//! With `SUBGPT_MUTANT=record` none is, and those that could have been are noted: a test that does not come by a mutant
//! cannot notice it. They are appended to the file `SUBGPT_MUTANTS_SEEN`, at the end of the process and when
//! `subgpt_mutants_seen` is called.
#![allow(missing_docs, unsafe_code)]

use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

const UNKNOWN: usize = usize::MAX;
const RECORD: usize = usize::MAX - 1;

static ACTIVE: AtomicUsize = AtomicUsize::new(UNKNOWN);
static SEEN: [AtomicU64; 256] = [const { AtomicU64::new(0) }; 256];

unsafe extern "C" {
    fn atexit(callback: extern "C" fn()) -> i32;
}

#[cold]
fn ask() -> usize {
    let asked = std::env::var("SUBGPT_MUTANT").unwrap_or_default();
    let active = if asked == "record" { RECORD } else { asked.parse().unwrap_or(0) };
    if ACTIVE.swap(active, Relaxed) == UNKNOWN && active == RECORD {
        // SAFETY: the function lives as long as the process and touches nothing but statics.
        unsafe { atexit(subgpt_mutants_seen) };
    }
    active
}

#[inline]
fn active() -> usize {
    let active = ACTIVE.load(Relaxed);
    if active == UNKNOWN { ask() } else { active }
}

#[cold]
fn note(mutants: &[usize]) {
    for mutant in mutants {
        let (word, bit) = (&SEEN[mutant / 64], 1 << (mutant % 64));
        if word.load(Relaxed) & bit == 0 {
            word.fetch_or(bit, Relaxed);
        }
    }
}

/// Appends the numbers that were noted since the last time.
#[unsafe(no_mangle)]
pub extern "C" fn subgpt_mutants_seen() {
    let Some(path) = std::env::var_os("SUBGPT_MUTANTS_SEEN") else { return };
    let Ok(mut file) = std::fs::File::options().create(true).append(true).open(path) else { return };
    for (word, seen) in SEEN.iter().enumerate() {
        let seen = seen.swap(0, Relaxed);
        for bit in (0..64).filter(|bit| seen >> bit & 1 == 1) {
            let _ = writeln!(file, "{}", 64 * word + bit);
        }
    }
}

#[inline]
pub fn on(mutant: usize) -> bool {
    pick(&[mutant]) == 1
}

/// The place of the one that is on, from 1 on; 0 where it is none of these.
#[inline]
pub fn pick(mutants: &[usize]) -> usize {
    let active = active();
    if active == RECORD {
        note(mutants);
    }
    mutants.iter().position(|&mutant| mutant == active).map_or(0, |place| place + 1)
}
