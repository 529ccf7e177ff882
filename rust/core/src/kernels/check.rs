//! Shape and length checks at the door of every kernel: an error with names and both shapes, never a panic.

use crate::error::{Error, Result};

/// `got` must equal `expected`, axis by axis.
pub fn shape(op: &'static str, what: &'static str, got: &[usize], expected: &[usize]) -> Result<()> {
    if got == expected { Ok(()) } else { Err(Error::shape(op, what, got, format!("{expected:?}"))) }
}

/// `got` must equal `expected` elements.
pub fn len(op: &'static str, what: &'static str, got: usize, expected: usize) -> Result<()> {
    shape(op, what, &[got], &[expected])
}

/// Every id must be below `vocab_size`.
pub fn ids(op: &'static str, ids: &[u32], vocab_size: usize) -> Result<()> {
    match ids.iter().position(|&id| id as usize >= vocab_size) {
        None => Ok(()),
        Some(at) => Err(Error::value(
            op,
            "ids",
            format!("{} at position {at}", ids[at]),
            format!("ids must be below vocab_size = {vocab_size}"),
        )),
    }
}

/// Every target must be below `vocab_size` and not negative, or be `ignore_index`.
pub fn targets(op: &'static str, targets: &[i64], vocab_size: usize, ignore_index: i64) -> Result<()> {
    let fits = |t: i64| t == ignore_index || usize::try_from(t).is_ok_and(|t| t < vocab_size);
    match targets.iter().position(|&t| !fits(t)) {
        None => Ok(()),
        Some(at) => Err(Error::value(
            op,
            "targets",
            format!("{} at position {at}", targets[at]),
            format!("targets must be in 0..{vocab_size} or ignore_index = {ignore_index}"),
        )),
    }
}

/// Where each place's document begins in its row: `b` rows of `t`, never behind the place and never falling in a row.
pub fn starts(op: &'static str, starts: &[u32], b: usize, t: usize) -> Result<()> {
    len(op, "starts", starts.len(), b * t)?;
    let fits = |at: usize| starts[at] as usize <= at % t && (at.is_multiple_of(t) || starts[at - 1] <= starts[at]);
    match (0..starts.len()).find(|&at| !fits(at)) {
        None => Ok(()),
        Some(at) => Err(Error::value(
            op,
            "starts",
            format!("{} at place {} of row {}", starts[at], at % t, at / t),
            "a document begins at its place or before it, and not before the one that it follows",
        )),
    }
}
