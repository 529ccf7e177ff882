//! One component of a `tokenizer.json`, with the errors that name it.

use crate::error::{Error, Result};
use crate::tokenizer::files::only;
use crate::tokenizer::pretokenize::delimiters::Delimiter;
use crate::tokenizer::pretokenize::general::General;
use crate::tokenizer::pretokenize::patterns::Pattern;
use serde_json::Value;

/// A component: an object with a `type`.
#[derive(Clone, Copy)]
pub struct Component<'v> {
    pub value: &'v Value,
    /// The field of the file that it is in.
    pub role: &'static str,
    /// The file.
    pub place: &'v str,
}

/// Says that something is not implemented.
pub fn unsupported(place: &str, what: impl std::fmt::Display) -> Error {
    Error::tokenizer(
        place,
        format!("{what} is not implemented"),
        "convert the tokenizer, or train one with Tokenizer.train",
    )
}

impl<'v> Component<'v> {
    /// The name of its type.
    pub fn kind(&self) -> Option<&'v str> {
        self.value.get("type").and_then(Value::as_str)
    }

    /// Refuses it.
    pub fn refuse(&self) -> Error {
        let shown = |most| self.value.to_string().chars().take(most).collect::<String>();
        let kind = self.kind().map_or_else(|| shown(80), |kind| format!("{kind:?} ({})", shown(160)));
        unsupported(self.place, format!("{} {kind}", self.role))
    }

    /// The components of a `Sequence`, in its field `list`, and of the sequences in it; any other by itself. The depth is
    /// bounded by the JSON reader's.
    pub fn flat(self, list: &str) -> Result<Vec<Component<'v>>> {
        if self.value.is_null() {
            return Ok(Vec::new());
        }
        if self.kind() != Some("Sequence") {
            return Ok(vec![self]);
        }
        let inner = self.value.get(list).and_then(Value::as_array).ok_or_else(|| self.refuse())?;
        let mut flat = Vec::new();
        for value in inner {
            flat.extend(Component { value, ..self }.flat(list)?);
        }
        Ok(flat)
    }

    /// A field that is true or false.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.value.get(name) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.refuse()),
        }
    }

    /// A field of text.
    pub fn string(&self, name: &str) -> Result<&'v str> {
        self.value.get(name).and_then(Value::as_str).ok_or_else(|| self.refuse())
    }

    /// A field of one character.
    pub fn char(&self, name: &str) -> Result<char> {
        only(self.string(name)?).ok_or_else(|| self.refuse())
    }

    /// A field that is a number from 0 on.
    pub fn count(&self, name: &str) -> Result<usize> {
        let count = self.value.get(name).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        count.ok_or_else(|| self.refuse())
    }

    /// The field `pattern`, with the regular expression that it is.
    pub fn pattern(&self) -> Result<(Delimiter, String)> {
        let pattern = self.value.get("pattern");
        let field = |name| pattern.and_then(|pattern| pattern.get(name));
        match (field("Regex"), field("String")) {
            (Some(Value::String(regex)), None) => Ok((self.regex(regex)?, regex.clone())),
            (None, Some(Value::String(literal))) if literal.is_empty() => Ok((self.regex("")?, String::new())),
            (None, Some(Value::String(literal))) => {
                Ok((Delimiter::Literal(literal.clone()), fancy_regex::escape(literal).into_owned()))
            }
            _ => Err(self.refuse()),
        }
    }

    fn regex(&self, regex: &str) -> Result<Delimiter> {
        match Pattern::from_regex(regex) {
            Some(known) => Ok(Delimiter::Known(known)),
            None => General::new(regex, self.place).map(Delimiter::Regex),
        }
    }
}
