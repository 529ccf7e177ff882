//! Core error -> Python exception, one table. The classes themselves are written in `python/subgpt/errors.py`.

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::{PyErr, import_exception};
use std::io::ErrorKind;
use subgpt_core::Error;

import_exception!(subgpt.errors, ShapeError);
import_exception!(subgpt.errors, DtypeError);
import_exception!(subgpt.errors, InvalidValueError);
import_exception!(subgpt.errors, ConfigError);
import_exception!(subgpt.errors, TokenizerError);
import_exception!(subgpt.errors, DataError);
import_exception!(subgpt.errors, MissingFileError);
import_exception!(subgpt.errors, CheckpointError);
import_exception!(subgpt.errors, OutputError);
import_exception!(subgpt.errors, OutOfMemoryError);
import_exception!(subgpt.errors, InternalError);

/// The Python exception for a core error.
pub fn to_python(error: Error) -> PyErr {
    let message = error.to_string();
    match error {
        Error::Shape { .. } => ShapeError::new_err(message),
        Error::Value { .. } => InvalidValueError::new_err(message),
        Error::Config { .. } => ConfigError::new_err(message),
        Error::Tokenizer { .. } => TokenizerError::new_err(message),
        Error::Data { .. } => DataError::new_err(message),
        Error::Checkpoint { .. } => CheckpointError::new_err(message),
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => MissingFileError::new_err(message),
        Error::Io { .. } => OutputError::new_err(message),
        Error::OutOfMemory { .. } => OutOfMemoryError::new_err(message),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        Error::Internal(_) => InternalError::new_err(message),
    }
}
