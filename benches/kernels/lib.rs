//! Shared set-up of the kernel benches.

pub mod peak;
