//! The `pre_tokenizer` of a file: as steps that only cut, where it is no more than that, or as stages.

use super::component::Component;
use crate::error::Result;
use crate::tokenizer::pretokenize::delimiters::{Behavior, Class, Cut, Delimiter};
use crate::tokenizer::pretokenize::general::General;
use crate::tokenizer::pretokenize::patterns::GPT2;
use crate::tokenizer::pretokenize::rewrite::{Prepend, Stage};
use crate::tokenizer::pretokenize::{Pretokenizer, Step};
use serde_json::Value;

/// A `pre_tokenizer`, its sequences taken apart.
pub struct PreTokenizer<'v> {
    flat: Vec<Component<'v>>,
}

impl<'v> PreTokenizer<'v> {
    /// That of a file.
    pub fn new(value: &'v Value, place: &'v str) -> Result<Self> {
        Ok(PreTokenizer { flat: Component { value, role: "pre_tokenizer", place }.flat("pretokenizers")? })
    }

    /// Whether it ends in `ByteLevel`, after nothing of that kind.
    pub fn is_byte_level(&self) -> bool {
        let place = self.flat.iter().position(|component| component.kind() == Some("ByteLevel"));
        place.is_some_and(|place| place + 1 == self.flat.len())
    }

    /// The steps, where they only cut; the last may be `ByteLevel`.
    pub fn steps(&self) -> Result<Option<Pretokenizer>> {
        let mut split = Pretokenizer::default();
        for (at, component) in self.flat.iter().enumerate() {
            match component.kind() {
                Some("ByteLevel") if at + 1 == self.flat.len() => {
                    split.prefix_space = component.flag("add_prefix_space", true)?;
                    if split.prefix_space && !split.steps.is_empty() {
                        return Ok(None);
                    }
                    if component.flag("use_regex", true)? {
                        split.steps.push(Step::Known(GPT2, None));
                    }
                }
                Some("Digits") => {
                    split.steps.push(Step::Digits { individual: component.flag("individual_digits", false)? });
                }
                Some("Split") => {
                    let (delimiter, regex) = component.pattern()?;
                    let known = matches!(delimiter, Delimiter::Known(_));
                    match (behavior(component)?, component.flag("invert", false)?) {
                        (Behavior::Isolated, _) => {}
                        // "Remove what does not match": nothing, for patterns that match everything.
                        (Behavior::Removed, true) if known => {}
                        _ => return Ok(None),
                    }
                    split.steps.push(match delimiter {
                        Delimiter::Known(pattern) => Step::Known(pattern, Some(regex)),
                        Delimiter::Regex(general) => Step::General(general),
                        _ => Step::General(General::new(&regex, component.place)?),
                    });
                }
                _ => return Ok(None),
            }
        }
        Ok(Some(split))
    }

    /// The stages. `ByteLevel` writes bytes as characters if `alphabet`.
    pub fn stages(&self, alphabet: bool) -> Result<Vec<Stage>> {
        let mut stages = Vec::new();
        for component in &self.flat {
            read_stages(component, alphabet, &mut stages)?;
        }
        Ok(stages)
    }
}

fn read_stages(component: &Component<'_>, alphabet: bool, stages: &mut Vec<Stage>) -> Result<()> {
    let class = |class, behavior| Stage::Cut(Cut::new(Delimiter::Class(class), behavior));
    match component.kind() {
        Some("ByteLevel") => {
            if component.flag("add_prefix_space", true)? {
                stages.push(Stage::PrefixSpace);
            }
            if component.flag("use_regex", true)? {
                stages.push(Stage::Cut(Cut::new(Delimiter::Known(GPT2), Behavior::Isolated)));
            }
            if alphabet {
                stages.push(Stage::Alphabet);
            }
        }
        Some("Metaspace") => stages.push(metaspace(component)?),
        Some("Split") => stages.push(Stage::Cut(Cut {
            delimiter: component.pattern()?.0,
            behavior: behavior(component)?,
            invert: component.flag("invert", false)?,
        })),
        Some("Digits") => {
            let individual = component.flag("individual_digits", false)?;
            stages.push(class(Class::Number, if individual { Behavior::Isolated } else { Behavior::Contiguous }));
        }
        Some("Whitespace") => stages.push(Stage::Cut(Cut {
            delimiter: Delimiter::Regex(General::new(r"\w+|[^\w\s]+", component.place)?),
            behavior: Behavior::Removed,
            invert: true,
        })),
        Some("WhitespaceSplit") => stages.push(class(Class::Space, Behavior::Removed)),
        Some("Punctuation") => {
            let behavior = match component.value.get("behavior") {
                None => Behavior::Isolated,
                Some(_) => behavior(component)?,
            };
            stages.push(class(Class::Punctuation, behavior));
        }
        Some("CharDelimiterSplit") => stages.push(class(Class::Only(component.char("delimiter")?), Behavior::Removed)),
        Some("BertPreTokenizer") => {
            stages.push(class(Class::Space, Behavior::Removed));
            stages.push(class(Class::Punctuation, Behavior::Isolated));
        }
        _ => return Err(component.refuse()),
    }
    Ok(())
}

fn behavior(component: &Component<'_>) -> Result<Behavior> {
    Behavior::from_name(component.string("behavior")?).ok_or_else(|| component.refuse())
}

fn metaspace(component: &Component<'_>) -> Result<Stage> {
    Ok(Stage::Metaspace {
        replacement: component.char("replacement")?,
        prepend: prepend_scheme(component)?,
        split: component.flag("split", true)?,
    })
}

/// Where Metaspace puts its character in front; older files say only whether it does.
pub fn prepend_scheme(component: &Component<'_>) -> Result<Prepend> {
    match component.value.get("prepend_scheme").and_then(Value::as_str) {
        Some("always") => Ok(Prepend::Always),
        Some("first") => Ok(Prepend::First),
        Some("never") => Ok(Prepend::Never),
        None if component.value.get("prepend_scheme").is_none() => {
            Ok(if component.flag("add_prefix_space", true)? { Prepend::Always } else { Prepend::Never })
        }
        _ => Err(component.refuse()),
    }
}
