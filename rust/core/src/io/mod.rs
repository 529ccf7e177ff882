//! Files: written whole or not at all, read with every size checked.

pub mod atomic;
pub mod safetensors;
