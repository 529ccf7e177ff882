//! The `post_processor` of a file: what it puts around a single text.

use super::component::Component;
use crate::error::Result;
use crate::tokenizer::template::Template;
use serde_json::Value;

/// What all its parts put around a text together.
pub fn read(value: &Value, place: &str) -> Result<Template> {
    let mut template = Template { source: value.clone(), ..Template::default() };
    for component in (Component { value, role: "post_processor", place }).flat("processors")? {
        let (mut before, after) = match component.kind() {
            // It moves offsets only.
            Some("ByteLevel") => continue,
            Some("TemplateProcessing") => single(&component)?,
            Some("BertProcessing" | "RobertaProcessing") => {
                (vec![pair_id(&component, "cls")?], vec![pair_id(&component, "sep")?])
            }
            _ => return Err(component.refuse()),
        };
        before.append(&mut template.before);
        template.before = before;
        template.after.extend(after);
    }
    Ok(template)
}

/// The ids on both sides of the one sequence in the field `single`.
fn single(component: &Component<'_>) -> Result<(Vec<u32>, Vec<u32>)> {
    let refuse = || component.refuse();
    let parts = component.value.get("single").and_then(Value::as_array).ok_or_else(refuse)?;
    let (mut before, mut after) = (Vec::new(), None);
    for part in parts {
        match (part.get("SpecialToken"), part.get("Sequence")) {
            (Some(special), None) => {
                let name = special.get("id").and_then(Value::as_str).ok_or_else(refuse)?;
                let known = component.value.get("special_tokens").and_then(|tokens| tokens.get(name));
                let ids = known.and_then(|token| token.get("ids")).and_then(Value::as_array).ok_or_else(refuse)?;
                let side = after.as_mut().unwrap_or(&mut before);
                for id in ids {
                    side.push(id_of(id).ok_or_else(refuse)?);
                }
            }
            (None, Some(_)) if after.is_none() => after = Some(Vec::new()),
            _ => return Err(refuse()),
        }
    }
    Ok((before, after.ok_or_else(refuse)?))
}

/// The id in a field of a token and its id.
fn pair_id(component: &Component<'_>, name: &str) -> Result<u32> {
    let id = component.value.get(name).and_then(|pair| pair.get(1)).and_then(id_of);
    id.ok_or_else(|| component.refuse())
}

fn id_of(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ids_around_a_text() {
        let token = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let tokens = json!({"a": {"id": "a", "ids": [1, 2], "tokens": ["x", "y"]}, "b": {"id": "b", "ids": [3], "tokens": ["z"]}});
        let template =
            |single: Value| json!({"type": "TemplateProcessing", "single": single, "special_tokens": tokens});
        let read = |value: Value| read(&value, "test").map(|template| (template.before, template.after));
        assert_eq!(read(template(json!([token("a"), text, token("b")]))).unwrap(), (vec![1, 2], vec![3]));
        assert_eq!(read(json!(null)).unwrap(), (vec![], vec![]));
        let bert = json!({"type": "BertProcessing", "sep": ["s", 5], "cls": ["c", 4]});
        assert_eq!(read(bert).unwrap(), (vec![4], vec![5]));
        for bad in [json!([token("a")]), json!([text, text]), json!([text, token("c")]), json!(3)] {
            let error = read(template(bad)).unwrap_err().to_string();
            assert!(error.contains("TemplateProcessing"), "{error}");
        }
    }
}
