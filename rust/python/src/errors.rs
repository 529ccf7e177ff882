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

#[cfg(test)]
mod tests {
    use super::*;
    use pyo3::prelude::*;
    use pyo3::types::PyDict;
    use std::ffi::CString;
    use std::io;

    /// `subgpt.errors` from its source: the package itself would load the native module, which this test is.
    fn with_classes(test: impl FnOnce(Python<'_>)) {
        Python::initialize();
        Python::attach(|py| {
            let source = CString::new(include_str!("../../../python/subgpt/errors.py")).unwrap();
            let package = PyModule::new(py, "subgpt").unwrap();
            let errors = PyModule::from_code(py, &source, c"errors.py", c"subgpt.errors").unwrap();
            let modules = py.import("sys").unwrap().getattr("modules").unwrap().cast_into::<PyDict>().unwrap();
            modules.set_item("subgpt", package).unwrap();
            modules.set_item("subgpt.errors", errors).unwrap();
            test(py);
        });
    }

    fn io_error(kind: io::ErrorKind) -> Error {
        Error::io("read", "a/file")(io::Error::from(kind))
    }

    #[test]
    fn every_error_becomes_the_class_that_is_promised() {
        let cases = [
            (Error::shape("op", "x", [1], "[2]"), "ShapeError", "ValueError"),
            (Error::value("op", "x", 1, "no"), "InvalidValueError", "ValueError"),
            (Error::config("n_embd", 1, "is", "use"), "ConfigError", "ValueError"),
            (Error::tokenizer("a", "b", "c"), "TokenizerError", "ValueError"),
            (Error::Data { place: "a".into(), problem: "b".into(), remedy: "c".into() }, "DataError", "ValueError"),
            (Error::checkpoint("a", "b", "c"), "CheckpointError", "OSError"),
            (io_error(io::ErrorKind::NotFound), "MissingFileError", "FileNotFoundError"),
            (io_error(io::ErrorKind::PermissionDenied), "OutputError", "OSError"),
            (io_error(io::ErrorKind::StorageFull), "OutputError", "OSError"),
            (Error::OutOfMemory { what: "x", bytes: 1 }, "OutOfMemoryError", "MemoryError"),
            (Error::Interrupted, "KeyboardInterrupt", "KeyboardInterrupt"),
            (Error::Internal("x".into()), "InternalError", "RuntimeError"),
        ];
        with_classes(|py| {
            let builtins = py.import("builtins").unwrap();
            let base = py.import("subgpt.errors").unwrap().getattr("SubgptError").unwrap();
            for (error, name, builtin) in cases {
                let (text, interrupted) = (error.to_string(), matches!(error, Error::Interrupted));
                let raised = to_python(error);
                assert_eq!(raised.get_type(py).name().unwrap().to_string(), name, "{text}");
                assert!(raised.is_instance(py, &builtins.getattr(builtin).unwrap()), "{name} is no {builtin}");
                assert_eq!(raised.is_instance(py, &base), !interrupted, "{name}");
                if !interrupted {
                    assert_eq!(raised.value(py).to_string(), text);
                }
            }
        });
    }
}
