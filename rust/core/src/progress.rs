//! The only way out of a long call: a callback that hears how far the work is and may ask it to stop.
//!
//! The binding crate passes one that looks for Ctrl-C and feeds a progress bar; nothing below knows of either.

use crate::error::{Error, Result};
use std::ops::ControlFlow;

/// How far a long call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Units finished (bytes read, merges made, tokens written).
    pub done: u64,
    /// Units in all; 0 when unknown.
    pub total: u64,
}

/// A listener: `Break` asks the call to end with [`Error::Interrupted`].
pub type Listener<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// Reports `done` of `total`, and turns a `Break` into the error that ends the call.
pub fn report(listener: &mut Listener<'_>, done: u64, total: u64) -> Result<()> {
    match listener(Progress { done, total }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::Interrupted),
    }
}

/// A listener that never stops anything, for tests and short calls.
pub fn ignore(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
