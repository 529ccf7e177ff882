//! The engine of subgpt, in reading order: text -> ids -> batch -> forward -> loss -> backward -> step -> logits -> text.
//!
//! Arrows point down only. `optim` stands on `model`, `model` on `kernels`, `sampling` and `io`, these on `kernels`,
//! `kernels` on `rng`, `rng` on `simd`, and `tokenizer` on `simd` and `io`; everything on the ground floor (`buffer`,
//! `error`, `fork`, `pages`, `parallel`, `profile`, `progress`), which knows nobody above it. No Python type is named
//! anywhere here.

// The ground floor.
pub mod buffer;
pub mod error;
pub mod fork;
pub mod pages;
pub mod parallel;
pub mod profile;
pub mod progress;

// Vectors, and random numbers by the vector.
pub mod rng;
pub mod simd;

// Text to ids.
pub mod tokenizer;

// Batches to gradients, gradients to new weights.
pub mod kernels;
pub mod model;
pub mod optim;

// Logits to text, weights to files.
pub mod io;
pub mod sampling;

// What it costs.
pub mod peaks;

pub use error::{Error, Result};
