//! The JSON Schema of the configuration file (`policy/gatepost.schema.json`), for editors.
//!
//! Draft 7, which the TOML editors speak. How it fails: it does not; a knob whose own schema is no JSON would accept
//! anything, which a test excludes.

use crate::base::knob::Knob;
use crate::control::sections::{self, Entry, Shape};
use serde_json::{Map, Value, json};

/// Keys every entry of a section must have.
const REQUIRED: &[(&str, &[&str])] = &[
    ("[[listener]]", &["name", "address"]),
    ("[[pool.NAME.backend]]", &["address"]),
    ("[[tls.certificate]]", &["chain", "key"]),
];

/// The schema, as text with a line end.
pub fn text() -> String {
    // A value of strings, numbers and maps always has a text.
    let text = serde_json::to_string_pretty(&schema()).unwrap_or_default();
    format!("{text}\n")
}

/// The schema.
pub fn schema() -> Value {
    let mut root = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Gatepost configuration",
        "type": "object",
        "properties": {},
        "additionalProperties": false,
    });
    let mut entries = sections::all();
    // A table is there before what stands in it.
    entries.sort_by_key(|entry| entry.path.len());
    for entry in &entries {
        insert(&mut root, entry);
    }
    root
}

/// Puts the schema of a section where its path leads.
fn insert(root: &mut Value, entry: &Entry) {
    let mut at = root;
    let (last, way) = entry.path.split_last().map_or(("", [].as_slice()), |(last, way)| (last.as_str(), way));
    for key in way {
        at = step(at, key);
    }
    let object = object(entry);
    let wrapped = match entry.shape {
        Shape::Plain | Shape::Named => object,
        Shape::List | Shape::ListInNamed => json!({ "type": "array", "items": object }),
    };
    match last {
        "NAME" => at["additionalProperties"] = wrapped,
        key => at["properties"][key] = wrapped,
    }
}

/// The table below `at` that `key` leads to, made when it is not there.
fn step<'v>(at: &'v mut Value, key: &str) -> &'v mut Value {
    if key == "NAME" {
        return &mut at["additionalProperties"];
    }
    let place = &mut at["properties"][key];
    if place.is_null() {
        *place = json!({ "type": "object", "properties": {}, "additionalProperties": false });
    }
    place
}

fn object(entry: &Entry) -> Value {
    let properties: Map<String, Value> = entry.rows.iter().map(|row| (row.name.to_owned(), property(row))).collect();
    let mut object = json!({
        "type": "object",
        "description": entry.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if let Some((_, keys)) = REQUIRED.iter().find(|(header, _)| *header == entry.header()) {
        object["required"] = json!(keys);
    }
    object
}

fn property(row: &Knob) -> Value {
    let mut value: Value = serde_json::from_str(&row.schema).unwrap_or_else(|_| json!({}));
    let unit = if row.unit.is_empty() { String::new() } else { format!(" Unit: {}.", row.unit) };
    value["description"] = json!(format!("{}{unit}", row.doc.replace('\n', " ")));
    if let Some(default) = as_json(&row.default) {
        value["default"] = default;
    }
    if value["type"] == "integer" {
        for (key, bound) in [("minimum", &row.range.low), ("maximum", &row.range.high)] {
            if let Ok(bound) = bound.parse::<u64>() {
                value[key] = json!(bound);
            }
        }
    }
    value
}

/// A default as the file would have it: TOML and JSON agree on strings, numbers, booleans and lists of them.
fn as_json(default: &str) -> Option<Value> {
    serde_json::from_str(default).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_in_the_tree_is_the_schema_of_the_program() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/policy/gatepost.schema.json");
        assert!(
            std::fs::read_to_string(path).unwrap() == text(),
            "run `gatepost config schema > policy/gatepost.schema.json`"
        );
    }

    #[test]
    fn every_section_and_knob_is_in_it() {
        let schema = schema();
        for entry in sections::all() {
            let mut at = &schema;
            for key in &entry.path {
                at = if key == "NAME" { &at["additionalProperties"] } else { &at["properties"][key] };
                at = if at["type"] == "array" { &at["items"] } else { at };
            }
            assert_eq!(at["additionalProperties"], false, "{}", entry.header());
            for row in &entry.rows {
                assert!(serde_json::from_str::<Value>(&row.schema).is_ok(), "{} {}", entry.header(), row.name);
                assert!(at["properties"][row.name]["description"].is_string(), "{} {}", entry.header(), row.name);
            }
        }
        let ports = &schema["properties"]["server"]["properties"]["cores"];
        assert_eq!((&ports["minimum"], &ports["maximum"]), (&json!(0), &json!(64)));
    }
}
