//! What must hold of tokenizers, of weight files, of settings and of texts for any bytes whatever.
//!
//! Every check takes bytes and panics where something does not hold. Property tests (`tests`) and fuzzing
//! (`rust/fuzz`) call the same functions, so that neither can drift from the other: a fuzz target is `|data| check(data)`.

pub mod encoding;
pub mod files;
pub mod loading;
pub mod reading;
mod reference;
mod subject;
#[cfg(test)]
mod tests;
pub mod weights;
