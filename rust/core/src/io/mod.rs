//! Files: written whole or not at all, read with every size checked.

pub mod atomic;
mod disk;
pub mod gguf;
mod map;
pub mod safetensors;

pub use map::Map;
