//! The `normalizer` of a file.

use super::component::Component;
use crate::error::Result;
use crate::tokenizer::normalize::{Form, Normalizer};
use serde_json::Value;

/// Its steps.
pub fn read(value: &Value, place: &str) -> Result<Vec<Normalizer>> {
    Component { value, role: "normalizer", place }.flat("normalizers")?.iter().map(step).collect()
}

fn step(component: &Component<'_>) -> Result<Normalizer> {
    Ok(match component.kind() {
        Some("NFC") => Normalizer::Form(Form::Nfc),
        Some("NFD") => Normalizer::Form(Form::Nfd),
        Some("NFKC") => Normalizer::Form(Form::Nfkc),
        Some("NFKD") => Normalizer::Form(Form::Nfkd),
        Some("Lowercase") => Normalizer::Lowercase,
        Some("Strip") => {
            Normalizer::Strip { left: component.flag("strip_left", true)?, right: component.flag("strip_right", true)? }
        }
        Some("StripAccents") => Normalizer::StripAccents,
        Some("Prepend") => Normalizer::Prepend(component.string("prepend")?.to_string()),
        Some("Replace") => {
            let (pattern, _) = component.pattern()?;
            Normalizer::Replace { pattern, content: component.string("content")?.to_string() }
        }
        _ => return Err(component.refuse()),
    })
}
