//! The `decoder` of a file.

use super::component::Component;
use super::pretokenizers::prepend_scheme;
use crate::error::Result;
use crate::tokenizer::decoders::{Decoder, Step};
use crate::tokenizer::pretokenize::rewrite::Prepend;
use serde_json::Value;

/// Whether it is one component, of this type.
pub fn is_only(value: &Value, kind: &str, place: &str) -> bool {
    let flat = Component { value, role: "decoder", place }.flat("decoders");
    flat.is_ok_and(|flat| matches!(flat.as_slice(), [only] if only.kind() == Some(kind)))
}

/// Its steps. Without any, tokens are joined by spaces, as in `tokenizers`.
pub fn read(value: &Value, place: &str) -> Result<Decoder> {
    if value.is_null() {
        return Ok(Decoder::new(vec![Step::Spaces]));
    }
    let flat = Component { value, role: "decoder", place }.flat("decoders")?;
    Ok(Decoder::new(flat.iter().map(step).collect::<Result<_>>()?))
}

fn step(component: &Component<'_>) -> Result<Step> {
    Ok(match component.kind() {
        Some("ByteLevel") => Step::ByteLevel,
        Some("Metaspace") => Step::Metaspace {
            replacement: component.char("replacement")?,
            prefix: prepend_scheme(component)? != Prepend::Never,
        },
        Some("Replace") => {
            let (pattern, _) = component.pattern()?;
            Step::Replace { pattern, content: component.string("content")?.to_string() }
        }
        Some("ByteFallback") => Step::ByteFallback { each: false },
        Some("Fuse") => Step::Fuse,
        Some("Strip") => Step::Strip {
            content: component.char("content")?,
            start: component.count("start")?,
            stop: component.count("stop")?,
        },
        _ => return Err(component.refuse()),
    })
}
