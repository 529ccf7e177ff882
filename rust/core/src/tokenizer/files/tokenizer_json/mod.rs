//! Hugging Face's `tokenizer.json`, read and written.
//!
//! Our three levels in its words: subwords are `BPE` with a `Split` (or nothing, for GPT-2's pattern) and `ByteLevel`;
//! characters and words are `WordLevel` with a `Split` that isolates them and a `Fuse` decoder, which joins without
//! spaces. Other files are read as well: components that only cut become a [`Pretokenizer`], all others a [`Pipeline`],
//! which keeps what the file says so that it can be written back. Special tokens are in the vocabulary as well as in `added_tokens`, so that their ids may leave gaps.
//!
//! `truncation` and `padding` are what the last call asked for, no part of text to ids, and are not applied. Everything
//! else that is not implemented is refused by name.
//!
//! [`Pretokenizer`]: crate::tokenizer::pretokenize::Pretokenizer
//! [`Pipeline`]: crate::tokenizer::pipeline::Pipeline

mod component;
mod decoders;
mod normalizers;
mod pretokenizers;
mod read;
mod template;
mod write;

pub(super) use read::Entries;
pub use read::{load, parse};
pub(super) use write::InOrder;
pub use write::{config, split_to_json};

use serde::{Deserialize, Serialize};

/// A token beside the vocabulary: special, or found in every text.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct AddedToken {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub normalized: bool,
    #[serde(default)]
    pub special: bool,
}
