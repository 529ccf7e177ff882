//! layer_norm
