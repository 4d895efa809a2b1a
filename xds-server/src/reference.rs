//! The reference of every YAML field, made from the model's own documentation, so that it can't be wrong.

use std::fmt::Write;

use schemars::schema_for;
use serde_json::{Map, Value};

use crate::gateway::Gateway;

/// The JSON Schema of the YAML.
pub fn schema() -> Value {
    schema_for!(Gateway).to_value()
}

/// The reference, as `envoy-configs/REFERENCE.md` holds it.
pub fn markdown() -> String {
    let schema = schema();
    let none = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&none);
    let mut text = String::from(
        "# Every field of the YAML\n\nMade from the code by `xds-server reference`; a test keeps it true. \
         Unknown fields are errors. Editors complete and check the YAML with `xds-server schema`.\n\n\
         Values written as text: a **duration** is `250ms`, `5s`, `1h30m`; a **rate** is `100/s`, `5000/m`, `20/10s`; \
         an **address** is `HOST:PORT`; a **name** has letters, digits, `.`, `_` and `-`; a **policy** is a name, or \
         `none`.\n",
    );
    // Breadth first from the top, so that the order is that of reading.
    let mut queue = vec![("Gateway".to_owned(), &schema)];
    let mut next = 0;
    while let Some((name, definition)) = queue.get(next).cloned() {
        next += 1;
        section(&mut text, &name, definition);
        for reference in references(definition) {
            if let Some(found) = definitions.get(&reference)
                && !queue.iter().any(|(name, _)| *name == reference)
            {
                queue.push((reference, found));
            }
        }
    }
    text
}

fn section(text: &mut String, name: &str, definition: &Value) {
    let _ = write!(text, "\n## {name}\n\n{}\n", describe(definition));
    if let Some(properties) = definition.get("properties").and_then(Value::as_object) {
        let required: Vec<&str> = definition
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let _ = write!(text, "\n| field | value | |\n|---|---|---|\n");
        for (field, property) in properties {
            let is_required = if required.contains(&field.as_str()) { "**required.** " } else { "" };
            let _ =
                writeln!(text, "| `{field}` | {} | {is_required}{} |", type_of(property), describe(property));
        }
    }
    // An enum: fixed words, or objects with one key.
    for alternative in alternatives(definition) {
        if let Some(word) = alternative.get("const").and_then(Value::as_str) {
            let _ = write!(text, "\n- `{word}`: {}", describe(alternative));
        } else if let Some(words) = alternative.get("enum").and_then(Value::as_array) {
            for word in words.iter().filter_map(Value::as_str) {
                let _ = write!(text, "\n- `{word}`");
            }
        } else if let Some((key, value)) =
            alternative.get("properties").and_then(Value::as_object).and_then(|all| all.iter().next())
        {
            let _ = write!(text, "\n- `{key}:` {}: {}", type_of(value), describe(alternative));
        }
    }
    if alternatives(definition).next().is_some() {
        text.push('\n');
    }
}

/// What an enum chooses from: `oneOf`, or the words of a plain one.
fn alternatives(definition: &Value) -> impl Iterator<Item = &Value> {
    let one_of = definition.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    one_of.chain(definition.get("enum").map(|_| definition))
}

fn describe(value: &Value) -> String {
    value
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .replace('\n', " ")
        .replace('|', "\\|")
}

/// A value's type, with links to the objects it holds.
fn type_of(property: &Value) -> String {
    if let Some(reference) = property.get("$ref").and_then(Value::as_str) {
        let name = last(reference);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    for key in ["anyOf", "allOf"] {
        if let Some(all) = property.get(key).and_then(Value::as_array) {
            return all
                .iter()
                .filter(|one| one.get("type") != Some(&"null".into()))
                .map(type_of)
                .collect::<Vec<_>>()
                .join(" or ");
        }
    }
    let names: Vec<&str> = match property.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
        }
        _ => vec![],
    };
    match names.as_slice() {
        ["array"] => format!("list of {}", property.get("items").map(type_of).unwrap_or_default()),
        ["object"] => match property.get("additionalProperties").filter(|inner| inner.is_object()) {
            Some(inner) => format!("map to {}", type_of(inner)),
            // Maps with typed keys are described by a pattern.
            None => match property
                .get("patternProperties")
                .and_then(Value::as_object)
                .and_then(|all| all.values().next())
            {
                Some(inner) => format!("map to {}", type_of(inner)),
                None => "object".into(),
            },
        },
        ["string"] => property.get("x-type").and_then(Value::as_str).unwrap_or("text").into(),
        ["integer"] => "number".into(),
        ["boolean"] => "true or false".into(),
        other => other.join(" or "),
    }
}

/// Names of the definitions that a definition refers to, in order.
fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| *key != "$defs")
            .flat_map(|(key, value)| match value {
                Value::String(reference) if key == "$ref" => vec![last(reference).to_owned()],
                _ => references(value),
            })
            .collect(),
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

fn last(reference: &str) -> &str {
    reference.rsplit('/').next().unwrap_or(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_in_the_repository_is_the_models() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../envoy-configs/REFERENCE.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            found == markdown(),
            "write it anew: cargo run -p xds-server -- reference > envoy-configs/REFERENCE.md"
        );
    }

    #[test]
    fn every_field_is_described() {
        fn check(name: &str, value: &Value) {
            if let Some(properties) = value.get("properties").and_then(Value::as_object) {
                for (field, property) in properties {
                    // The one key of an enum's alternative is described at the alternative.
                    let described = !describe(property).is_empty() || !describe(value).is_empty();
                    assert!(described, "{name}.{field} has no description");
                }
            }
            for alternative in value.get("oneOf").and_then(Value::as_array).into_iter().flatten() {
                check(name, alternative);
            }
        }
        let schema = schema();
        check("Gateway", &schema);
        for (name, definition) in schema["$defs"].as_object().unwrap() {
            check(name, definition);
        }
    }
}
