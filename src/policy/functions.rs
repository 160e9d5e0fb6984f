//! Functions of one text that conditions may call: the way to what has no fixed name, such as header fields.
//!
//! **A new function is a row here and a golden case.** How it fails: a function is total.

use super::header;
use super::stage::{Span, Stage};
use super::state::View;
use super::value::{Type, Value};
use std::borrow::Cow;

/// What a function returns.
pub enum Returned<'a> {
    /// Text, perhaps made for the occasion.
    Text(Cow<'a, str>),
    /// Anything else.
    Value(Value<'a>),
}

/// One row.
pub struct Function {
    /// As conditions write it.
    pub name: &'static str,
    /// What its argument is.
    pub argument: &'static str,
    /// What it returns.
    pub kind: Type,
    /// When it can be asked.
    pub known: Span,
    /// What it is, for the reference.
    pub doc: &'static str,
    /// Computes it.
    pub read: for<'a> fn(&View<'a>, &'a str) -> Returned<'a>,
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// The table.
pub static FUNCTIONS: &[Function] = &[
    Function {
        name: "header",
        argument: "field name",
        kind: Type::Text,
        known: Span::from(Stage::Data),
        doc: "Text of the first header field of that name, unfolded, encoded words as they are; empty when there is none.",
        read: |v, name| match (v.state.missing.hides_text(name), header::first(v.headers, name)) {
            (true, _) => Returned::Value(Value::Unknown),
            (false, None) if v.state.missing.hides_fields() => Returned::Value(Value::Unknown),
            (false, text) => Returned::Text(text.unwrap_or_default()),
        },
    },
    Function {
        name: "has_header",
        argument: "field name",
        kind: Type::Flag,
        known: Span::from(Stage::Data),
        doc: "Whether there is a header field of that name.",
        read: |v, name| match header::count(v.headers, name) > 0 {
            false if v.state.missing.hides_fields() => Returned::Value(Value::Unknown),
            found => Returned::Value(Value::Flag(found)),
        },
    },
    Function {
        name: "header_count",
        argument: "field name",
        kind: Type::Number,
        known: Span::from(Stage::Data),
        doc: "How many header fields of that name there are.",
        read: |v, name| match v.state.missing.hides_fields() {
            true => Returned::Value(Value::Unknown),
            false => Returned::Value(Value::count(header::count(v.headers, name))),
        },
    },
];

/// The function of this name.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|f| f.name == name)
}
