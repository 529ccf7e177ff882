//! Naive f64 references, finite differences and awkward sizes for the tests of subgpt.
pub mod attention;
