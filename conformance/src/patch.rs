//! Changes to JSON documents: pointer sets, removals and `${name}` in strings. A case is little more than these.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a case changes in the base config.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Patch {
    /// JSON pointer → value, set in the order of the pointers, what contains before what it contains; missing objects on the
    /// way are made, `-` appends to an array.
    pub set: Map<String, Value>,
    /// JSON pointers to what is taken away, before anything is set.
    pub remove: Vec<String>,
}

impl Patch {
    /// The document with the patch applied.
    ///
    /// # Errors
    /// A pointer that leads through a number or string, or to an array index that is not there.
    pub fn apply(&self, document: &Value) -> Result<Value, String> {
        let mut out = document.clone();
        for pointer in &self.remove {
            remove(&mut out, pointer)?;
        }
        for (pointer, value) in &self.set {
            *slot(&mut out, pointer)? = value.clone();
        }
        Ok(out)
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.remove.is_empty()
    }
}

/// The place that a pointer names, made if need be.
fn slot<'a>(document: &'a mut Value, pointer: &str) -> Result<&'a mut Value, String> {
    let mut at = document;
    for word in pointer.split('/').skip(1) {
        let key = word.replace("~1", "/").replace("~0", "~");
        if at.is_null() {
            *at = if key == "-" { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
        }
        at = match at {
            Value::Object(map) => map.entry(key).or_insert(Value::Null),
            Value::Array(list) => {
                if key == "-" {
                    list.push(Value::Null);
                }
                let index = if key == "-" { Some(list.len() - 1) } else { key.parse().ok() };
                index.and_then(|i| list.get_mut(i)).ok_or(format!("{pointer}: no {key}"))?
            }
            _ => return Err(format!("{pointer}: {key} lies inside a scalar")),
        };
    }
    Ok(at)
}

fn remove(document: &mut Value, pointer: &str) -> Result<(), String> {
    let (parent, key) = pointer.rsplit_once('/').ok_or(format!("{pointer}: not a pointer"))?;
    let gone = match document.pointer_mut(parent) {
        Some(Value::Object(map)) => map.remove(key).is_some(),
        Some(Value::Array(list)) => match key.parse::<usize>() {
            Ok(i) if i < list.len() => {
                list.remove(i);
                true
            }
            _ => false,
        },
        _ => false,
    };
    if gone { Ok(()) } else { Err(format!("{pointer}: nothing to remove")) }
}

/// Replaces `${name}` in every string of a document, keys included. A string that is nothing but `${name}` becomes the value
/// itself, numbers and lists too. Names that are not known stay as they are.
pub fn fill(document: &Value, known: &Map<String, Value>) -> Value {
    match document {
        Value::String(text) => fill_text(text, known),
        Value::Array(list) => Value::Array(list.iter().map(|v| fill(v, known)).collect()),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(k, v)| {
                    let key = fill_text(k, known);
                    (key.as_str().map_or_else(|| key.to_string(), str::to_owned), fill(v, known))
                })
                .collect(),
        ),
        other => other.clone(),
    }
}

fn fill_text(text: &str, known: &Map<String, Value>) -> Value {
    if let Some(value) = text.strip_prefix("${").and_then(|t| t.strip_suffix('}')).and_then(|name| known.get(name)) {
        return value.clone();
    }
    let mut out = text.to_owned();
    for (name, value) in known {
        let mark = format!("${{{name}}}");
        if out.contains(&mark) {
            let plain = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            out = out.replace(&mark, &plain);
        }
    }
    Value::String(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn patch(value: Value) -> Patch {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn sets_make_what_is_missing_and_append() {
        let p = patch(json!({"set": {"/a/b": 1, "/l/-": 3, "/n/-": 1, "/k/x~1y": true}, "remove": ["/old"]}));
        let out = p.apply(&json!({"old": 1, "l": [2]})).unwrap();
        assert_eq!(out, json!({"l": [2, 3], "a": {"b": 1}, "n": [1], "k": {"x/y": true}}));
    }

    #[test]
    fn a_removal_of_nothing_is_a_mistake_of_the_case() {
        assert!(patch(json!({"remove": ["/a"]})).apply(&json!({})).is_err());
        assert!(patch(json!({"set": {"/a/b": 1}})).apply(&json!({"a": "text"})).is_err());
    }

    #[test]
    fn a_lone_name_keeps_its_type_and_unknown_names_stay() {
        let known = json!({"n": 7}).as_object().unwrap().clone();
        assert_eq!(fill(&json!(["${n}", "x${n}", "${OTHER}"]), &known), json!([7, "x7", "${OTHER}"]));
        assert_eq!(fill(&json!({"k${n}": 1}), &known), json!({"k7": 1}));
    }
}
