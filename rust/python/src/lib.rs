//! The door between Python and the core.
#![forbid(unsafe_code)]
