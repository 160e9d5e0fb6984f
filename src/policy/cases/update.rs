//! What came, written into the file of cases where it was expected otherwise; comments and layout stay.
//!
//! How it fails: [`Unreadable`] when the text is not the file that was run; the text is then unchanged.

use super::{CaseFile, CaseResult, Report};
use std::fmt;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Value};

/// Why expectations were not rewritten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// It is no TOML; what the reader said.
    Syntax(String),
    /// The case of this name is not where it was when it was run.
    Moved(String),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Syntax(error) => write!(f, "the cases cannot be read: {error}"),
            Unreadable::Moved(name) => {
                write!(f, "the case {name:?} has changed while it was run; expected the same file; try again")
            }
        }
    }
}

impl CaseFile {
    /// The text with the expectations of failed cases replaced by what came, and how many cases were changed. A reply or a
    /// reason that was given by its beginning is written whole.
    pub fn update(source: &str, report: &Report) -> Result<(String, usize), Unreadable> {
        let mut document: DocumentMut =
            source.parse().map_err(|e: toml_edit::TomlError| Unreadable::Syntax(e.to_string()))?;
        let mut changed = 0;
        for (i, result) in report.results.iter().enumerate().filter(|(_, r)| !r.failures.is_empty()) {
            let moved = || Unreadable::Moved(result.name.clone());
            let case = document.get_mut("case").and_then(Item::as_array_of_tables_mut).and_then(|a| a.get_mut(i));
            let case = case.filter(|t| t.get("name").and_then(Item::as_str).is_none_or(|n| n == result.name));
            rewrite(case.and_then(|t| t.get_mut("expect")).ok_or_else(moved)?, result).ok_or_else(moved)?;
            changed += 1;
        }
        Ok((document.to_string(), changed))
    }
}

fn rewrite(expect: &mut Item, result: &CaseResult) -> Option<()> {
    let table = expect.as_table_like_mut()?;
    for miss in &result.failures {
        let value = match (miss.key, &result.decided) {
            // It never came so far: what is expected now is where it ended.
            ("stage", None) => Value::from(miss.came.as_str()),
            ("tags", _) => Value::Array(result.tags.iter().map(String::as_str).collect::<Array>()),
            _ => Value::from(miss.came.as_str()),
        };
        let slot = table.get_mut(miss.key)?.as_value_mut()?;
        let mut value = value;
        *value.decor_mut() = slot.decor().clone();
        *slot = value;
    }
    if let Some(inline) = expect.as_inline_table_mut() {
        drop_empty(inline);
    }
    Some(())
}

/// What nothing came of is not expected: an empty reply says no more than the verdict.
fn drop_empty(table: &mut InlineTable) {
    let empty = ["rule", "reply", "reason", "route", "quarantine"];
    for key in empty.into_iter().filter(|k| table.get(k).and_then(Value::as_str) == Some("")).collect::<Vec<_>>() {
        table.remove(key);
    }
}
