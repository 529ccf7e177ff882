//! The kernels: one operation a file (or folder), forward beside backward, formula and source in its head.
//!
//! Every entry checks shapes ([`check`]) and returns an error instead of panicking, asks [`crate::simd::isa::current`]
//! once and splits its work so that results have the same bits for any number of threads ([`crate::parallel`]). Gradients of
//! parameters are *added* to their buffers (accumulation over micro-batches); gradients of activations are written over
//! unless [`Beta`] says otherwise.
//!
//! Arrays are filled in loops: a closure that fills one may be compiled for no instruction set and called, which clippy.toml
//! is about.

#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

pub mod activation;
pub mod attention;
pub mod check;
pub mod column_sum;
pub mod columns;
pub mod convert;
pub mod cross_entropy;
pub mod dropout;
pub mod embedding;
pub mod exchange;
pub mod glu;
pub mod layer_norm;
pub mod matmul;
pub mod narrow;
pub mod qk_norm;
pub mod quantized;
pub mod residual;
pub mod rms_norm;
pub mod rope;
mod rows;
pub mod softcap;
pub mod softmax;

/// What happens to what the output buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beta {
    /// The result replaces it; it is never read (it may be NaN).
    Overwrite,
    /// The result is added to it.
    Accumulate,
}
