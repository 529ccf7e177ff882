//! Which mutant is on: the one whose number is in `SUBGPT_MUTANT`. Copied into the crate that is changed.
#![allow(missing_docs)]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static ACTIVE: AtomicUsize = AtomicUsize::new(usize::MAX);

#[cold]
fn ask() -> usize {
    let active = std::env::var("SUBGPT_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    ACTIVE.store(active, Relaxed);
    active
}

#[inline]
fn active() -> usize {
    let active = ACTIVE.load(Relaxed);
    if active == usize::MAX { ask() } else { active }
}

#[inline]
pub fn on(mutant: usize) -> bool {
    active() == mutant
}

/// The place of the one that is on, from 1 on; 0 where it is none of these.
#[inline]
pub fn pick(mutants: &[usize]) -> usize {
    let active = active();
    mutants.iter().position(|&mutant| mutant == active).map_or(0, |place| place + 1)
}
