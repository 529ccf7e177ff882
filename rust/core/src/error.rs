//! Everything that can go wrong below Python, a variant for each way.
//!
//! A message says what was given, where, what was expected and what to do. The binding crate maps each variant to one
//! Python exception (`rust/python/src/errors.rs`).

use std::path::PathBuf;

/// The result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, with the offending value, the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An array of the wrong shape, length or stride reached a kernel. Python: `ShapeError` (a `ValueError`).
    #[error("{op}: {what} has shape {got}, expected {expected}")]
    Shape {
        /// The operation, by its public name.
        op: &'static str,
        /// The argument, by its public name.
        what: &'static str,
        /// The shape that came.
        got: String,
        /// The shape that fits.
        expected: String,
    },
    /// A value outside what an operation accepts (an id beyond the vocabulary, a negative temperature).
    /// Python: `InvalidValueError` (a `ValueError`).
    #[error("{op}: {what} is {got}; {expected}")]
    Value {
        /// The operation, by its public name.
        op: &'static str,
        /// The argument, by its public name.
        what: &'static str,
        /// The value that came.
        got: String,
        /// What would have been right, as a sentence part.
        expected: String,
    },
    /// A field of a model configuration that cannot be. Python: `ConfigError` (a `ValueError`).
    #[error("config: {field} = {value} {problem}; {remedy}")]
    Config {
        /// The field's name.
        field: String,
        /// The value that came.
        value: String,
        /// What is wrong with it.
        problem: String,
        /// What to write instead.
        remedy: String,
    },
    /// A tokenizer file, vocabulary, pattern or text that cannot be used. Python: `TokenizerError` (a `ValueError`).
    #[error("{place}: {problem}; {remedy}")]
    Tokenizer {
        /// File, field or argument.
        place: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A corpus or data set that cannot be used. Python: `DataError` (a `ValueError`).
    #[error("{place}: {problem}; {remedy}")]
    Data {
        /// File, line or argument.
        place: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A weight file or checkpoint that cannot be used. Python: `CheckpointError` (an `OSError`).
    #[error("{}: {problem}; {remedy}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// The operating system refused. Python: `OutputError` or `MissingFileError`, by the source's kind.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// The verb: "read", "write", "rename".
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// Memory for a buffer could not be had. Python: `OutOfMemoryError` (a `MemoryError`).
    #[error(
        "{what} needs {bytes} bytes that the system does not give; ask for less (a smaller model, batch or block_size), or free some memory"
    )]
    OutOfMemory {
        /// What the buffer was for.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The caller's progress callback asked to stop (Ctrl-C). Python: the pending `KeyboardInterrupt`.
    #[error("interrupted")]
    Interrupted,
    /// A panic that was caught at the door: a defect of subgpt. Python: `InternalError` (a `RuntimeError`).
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

impl Error {
    /// A [`Error::Shape`] from anything that prints.
    pub fn shape(op: &'static str, what: &'static str, got: impl std::fmt::Debug, expected: impl Into<String>) -> Self {
        Error::Shape { op, what, got: format!("{got:?}"), expected: expected.into() }
    }

    /// A [`Error::Value`] from anything that prints.
    pub fn value(
        op: &'static str,
        what: &'static str,
        got: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Error::Value { op, what, got: got.to_string(), expected: expected.into() }
    }

    /// A [`Error::Config`].
    pub fn config(
        field: impl Into<String>,
        value: impl std::fmt::Display,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Error::Config { field: field.into(), value: value.to_string(), problem: problem.into(), remedy: remedy.into() }
    }

    /// A [`Error::Tokenizer`].
    pub fn tokenizer(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Tokenizer { place: place.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// This error, with `prefix` before the place of an [`Error::Tokenizer`]: which of several texts it came from.
    pub fn within(self, prefix: impl std::fmt::Display) -> Self {
        match self {
            Error::Tokenizer { place, problem, remedy } => {
                Error::Tokenizer { place: format!("{prefix}{place}"), problem, remedy }
            }
            other => other,
        }
    }

    /// A [`Error::Checkpoint`].
    pub fn checkpoint(path: impl Into<PathBuf>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::Checkpoint { path: path.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// A [`Error::Io`], for `map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::Io { action, path, source }
    }
}
