//! Files: written whole or not at all, read with every size checked.

pub mod atomic;
pub mod gguf;
mod map;
pub mod safetensors;

pub use map::Map;
