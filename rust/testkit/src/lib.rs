//! Naive f64 references, finite differences and awkward texts for the tests of subgpt.

pub mod attention;
pub mod gpt;
pub mod gradcheck;
pub mod matmul;
pub mod matrix;
pub mod noise;
pub mod rows;
pub mod special;
pub mod texts;
