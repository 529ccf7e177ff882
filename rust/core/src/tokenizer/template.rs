//! What a `post_processor` puts around a text: data, which encoding itself leaves out.

use serde_json::Value;

/// Ids before and after a single text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    /// Before the text.
    pub before: Vec<u32>,
    /// After it.
    pub after: Vec<u32>,
    /// As the file has it, for writing it back.
    pub source: Value,
}
