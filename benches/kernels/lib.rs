//! Shared set-up of the kernel benches.
