//! The system calls that change a disk, each at one place, so that tests can let any of them fail.

use std::io;
use std::path::Path;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Makes a temporary file.
    Create,
    /// Begins to write its bytes.
    Write,
    /// Opens what was written.
    Open,
    /// Gives it its permissions.
    Permit,
    /// Brings a file to the disk.
    Sync,
    /// Brings the names in a directory to the disk.
    SyncDirectory,
    /// Gives something its final name.
    Rename,
    /// Lets two directories change names.
    Exchange,
    /// Removes what was replaced.
    Remove,
}

/// Makes a call about `path`; in tests it may meet a fault instead.
pub fn call<T>(kind: Call, path: &Path, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(test)]
    faults::meet(kind, path)?;
    let _ = (kind, path);
    make()
}

/// Lets two paths change names in one step; `false`, and nothing is done, where system or file system cannot.
#[cfg(target_os = "linux")]
pub fn exchange(one: &Path, other: &Path) -> io::Result<bool> {
    use std::ffi::CString;
    use std::os::unix::ffi::OsStrExt;
    let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other);
    let (one, other) = (name(one)?, name(other)?);
    let (here, flags) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
    // SAFETY: both names end with a zero byte and live until the call returns, which keeps neither.
    let result = unsafe { libc::syscall(libc::SYS_renameat2, here, one.as_ptr(), here, other.as_ptr(), flags) };
    if result == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOSYS | libc::EINVAL | libc::EPERM) => Ok(false),
        _ => Err(error),
    }
}

/// Lets two paths change names in one step; `false`: this system cannot.
#[cfg(not(target_os = "linux"))]
pub fn exchange(_: &Path, _: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Faults that tests put in the way of this thread's calls.
#[cfg(test)]
pub mod faults {
    use super::Call;
    use std::cell::RefCell;
    use std::io;
    use std::path::{Path, PathBuf};

    /// What happens at a call.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fault {
        /// It fails with this error of the system, later ones do not.
        Fails(i32),
        /// The process ends before it: it and all later ones do nothing.
        Ends,
    }

    #[derive(Default)]
    struct State {
        /// Which call meets the fault, counted from 0.
        at: Option<(usize, Fault)>,
        log: Vec<(Call, PathBuf)>,
    }

    thread_local! {
        static STATE: RefCell<State> = RefCell::default();
    }

    pub(super) fn meet(kind: Call, path: &Path) -> io::Result<()> {
        STATE.with_borrow_mut(|state| {
            let number = state.log.len();
            state.log.push((kind, path.to_path_buf()));
            match state.at {
                Some((at, Fault::Fails(error))) if number == at => Err(io::Error::from_raw_os_error(error)),
                Some((at, Fault::Ends)) if number >= at => Err(io::Error::other("the process has ended")),
                _ => Ok(()),
            }
        })
    }

    /// Runs `f` whose call number `at`, if there is one, meets `fault`; gives its result and the calls that it made.
    pub fn with<R>(at: Option<(usize, Fault)>, f: impl FnOnce() -> R) -> (R, Vec<(Call, PathBuf)>) {
        STATE.set(State { at, log: Vec::new() });
        let result = f();
        (result, STATE.take().log)
    }
}
