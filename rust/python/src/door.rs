//! The one door between Python and the core: detach from the interpreter, run, look for Ctrl-C, map errors.
//!
//! Nothing else in this crate detaches, polls signals or catches panics.

use crate::{arrays, errors};
use pyo3::prelude::*;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};
use subgpt_core::progress::Progress;
use subgpt_core::{Error, Result};

/// How often a long call looks for signals and reports progress.
const POLL: Duration = Duration::from_millis(100);

/// Runs `work` without the GIL; its error, or a panic inside it, becomes a Python exception.
pub fn enter<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| guarded(work)).map_err(errors::to_python)
}

/// Like [`enter`] for a microsecond of work, with the GIL: a thread that lets go of it for each token of a text gets it
/// back late from an event loop that is busy. What `work` waits for must not wait for the GIL.
pub fn enter_briefly<T>(work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    guarded(work).map_err(errors::to_python)
}

/// Like [`enter`] for calls that last: `work` gets a listener that looks for Ctrl-C ten times a second and calls
/// `callback(done, total)` if there is one. An exception in the callback ends the call and is raised.
pub fn enter_long<T: Send>(
    py: Python<'_>,
    callback: Option<Py<PyAny>>,
    work: impl FnOnce(&mut (dyn FnMut(Progress) -> ControlFlow<()> + Send)) -> Result<T> + Send,
) -> PyResult<T> {
    arrays::ready(py)?;
    let mut raised: Option<PyErr> = None;
    let outcome = py.detach(|| {
        let raised = &mut raised;
        let mut last = Instant::now();
        let mut listener = |progress: Progress| {
            let finished = progress.total > 0 && progress.done >= progress.total;
            if !finished && last.elapsed() < POLL {
                return ControlFlow::Continue(());
            }
            last = Instant::now();
            let told = Python::attach(|py| {
                py.check_signals()?;
                callback.as_ref().map_or(Ok(()), |f| f.call1(py, (progress.done, progress.total)).map(drop))
            });
            match told {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    *raised = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        guarded(|| work(&mut listener))
    });
    match (raised, outcome) {
        (Some(error), _) => Err(error),
        (None, outcome) => outcome.map_err(errors::to_python),
    }
}

/// Runs `work`; a panic becomes [`Error::Internal`], so that none ever reaches Python.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string()))
            .unwrap_or_else(|| "a panic without a message".to_string());
        Err(Error::Internal(text))
    })
}
