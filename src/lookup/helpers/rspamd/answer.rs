//! rspamd's answer as advice: its action, score and symbols, and what it wants changed.
//!
//! The block `milter` of the answer is made by rspamd's module `milter_headers` and others; here it means what rspamd's
//! own milter makes of it. How it fails: an answer without an action is garbage; single parts of the `milter` block that
//! make no sense are left out, since modules of an administrator's own write into it.

use super::super::failure::Failure;
use super::super::milter::{field_name, field_value};
use super::super::reply::refusal_with;
use crate::base::inquiry::{Action, Advice, Case, Edit};
use crate::wire::address::parse_mailbox;
use crate::wire::milter::header_fields;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Symbols kept at most.
const SYMBOLS_MAX: usize = 250;
/// Changes to one message at most.
const EDITS_MAX: usize = 1000;

#[derive(Deserialize)]
struct Answer {
    action: String,
    score: Option<f64>,
    required_score: Option<f64>,
    // Lua writes an empty table as a list: everything that can be one is read as any value.
    #[serde(default)]
    symbols: Value,
    #[serde(default)]
    messages: Value,
    #[serde(default)]
    milter: Value,
    #[serde(default)]
    subject: Value,
    #[serde(default, rename = "dkim-signature")]
    dkim_signature: Value,
}

/// Reads the answer.
pub(super) fn advice(json: &[u8], case: &Case) -> Result<Advice, Failure> {
    let answer: Answer =
        serde_json::from_slice(json).map_err(|e| Failure::Garbage(format!("{e} in the answer to /checkv2")))?;
    let empty = Map::new();
    let milter = answer.milter.as_object().unwrap_or(&empty);
    let mut edits = Edits::new(case);
    edits.of_milter(milter);
    edits.signatures(&answer.dkim_signature);
    let action = action(&answer, milter, &mut edits)?;
    let reply = reply(&answer, action);
    // What is not delivered needs no changes.
    let goes_on = matches!(action, Action::Accept | Action::Quarantine);
    Ok(Advice {
        action,
        reply,
        score: answer.score,
        threshold: answer.required_score,
        symbols: symbols(&answer.symbols),
        edits: if goes_on { edits.list } else { Vec::new() },
    })
}

/// The word of an error, `: text`, if the answer has one.
pub(super) fn message_of(json: &[u8]) -> String {
    let value: Value = serde_json::from_slice(json).unwrap_or_default();
    match value.get("error").and_then(Value::as_str) {
        Some(text) => format!(": {}", text.chars().filter(|c| !c.is_control()).take(200).collect::<String>()),
        None => String::new(),
    }
}

/// What its action means (`src/libserver/milter.c` of rspamd does the same towards Sendmail and Postfix).
fn action(answer: &Answer, milter: &Map<String, Value>, edits: &mut Edits<'_>) -> Result<Action, Failure> {
    if milter.get("no_action").is_some_and(|v| v.as_bool() != Some(false)) {
        return Ok(Action::Accept);
    }
    Ok(match answer.action.as_str() {
        "no action" | "accept" => Action::Accept,
        "greylist" => Action::Greylist,
        "soft reject" => Action::Defer,
        "reject" => match milter.get("reject").and_then(Value::as_str) {
            Some("discard") => Action::Discard,
            Some("quarantine") => Action::Quarantine,
            _ => Action::Reject,
        },
        "discard" => Action::Discard,
        "quarantine" => Action::Quarantine,
        "add header" => {
            edits.spam_header(milter.get("spam_header"));
            Action::Accept
        }
        "rewrite subject" => {
            edits.subject(&answer.subject);
            Action::Accept
        }
        other => return Err(Failure::Garbage(format!("action {other:?} in the answer to /checkv2"))),
    })
}

fn reply(answer: &Answer, action: Action) -> Option<Box<str>> {
    let said = answer.messages.get("smtp_message").and_then(Value::as_str);
    let (code, usual) = match action {
        Action::Reject => ("554", "5.7.1 Spam message rejected"),
        Action::Defer | Action::Greylist => ("451", "4.7.1 Try again later"),
        _ => return None,
    };
    refusal_with(code, said.unwrap_or(usual)).and_then(|refusal| refusal.reply)
}

fn symbols(symbols: &Value) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> =
        symbols.as_object().into_iter().flatten().map(|(name, _)| name.as_str().into()).collect();
    names.sort_unstable();
    names.truncate(SYMBOLS_MAX);
    names
}

/// The changes, in the order they are to be made.
struct Edits<'a> {
    case: &'a Case,
    list: Vec<Edit>,
}

impl<'a> Edits<'a> {
    fn new(case: &'a Case) -> Edits<'a> {
        Edits { case, list: Vec::new() }
    }

    fn push(&mut self, edit: Edit) {
        if self.list.len() < EDITS_MAX {
            self.list.push(edit);
        }
    }

    fn of_milter(&mut self, milter: &Map<String, Value>) {
        for (name, which) in milter.get("remove_headers").and_then(Value::as_object).into_iter().flatten() {
            match which {
                Value::Array(all) => all.iter().for_each(|one| self.remove(name, one)),
                one => self.remove(name, one),
            }
        }
        for (name, values) in milter.get("add_headers").and_then(Value::as_object).into_iter().flatten() {
            match values {
                Value::Array(all) => all.iter().for_each(|one| self.add(name, one)),
                one => self.add(name, one),
            }
        }
        let text = |value: &Value| value.as_str().and_then(mailbox);
        let list = |key| milter.get(key).and_then(Value::as_array).into_iter().flatten();
        list("add_rcpt").filter_map(text).for_each(|m| self.push(Edit::AddRecipient(m)));
        list("del_rcpt").filter_map(text).for_each(|m| self.push(Edit::RemoveRecipient(m)));
        match milter.get("change_from").and_then(Value::as_str) {
            Some("" | "<>") => self.push(Edit::ChangeSender(None)),
            Some(path) => {
                if let Some(sender) = mailbox(path) {
                    self.push(Edit::ChangeSender(Some(sender)));
                }
            }
            None => {}
        }
    }

    /// `0` removes all of that name, `n` the nth, `-n` the nth from the end.
    fn remove(&mut self, name: &str, which: &Value) {
        let (Ok(name), Some(which)) = (field_name(name.as_bytes()), which.as_i64()) else { return };
        let there = self.count(&name);
        let (first, last) = match u32::try_from(which) {
            Ok(0) => (1, there),
            Ok(n) if n <= there => (n, n),
            Ok(_) => return,
            Err(_) => {
                let back = u32::try_from(which.unsigned_abs()).unwrap_or(u32::MAX);
                let Some(n) = (there + 1).checked_sub(back).filter(|n| *n > 0) else { return };
                (n, n)
            }
        };
        // From the last to the first, so that what is left keeps its number.
        for occurrence in (first..=last).rev() {
            self.push(Edit::ChangeField { occurrence, name: name.clone(), value: None });
        }
    }

    /// A text, or a text with its place among the fields.
    fn add(&mut self, name: &str, value: &Value) {
        let (text, order) = match value {
            Value::Object(object) => (object.get("value"), object.get("order").and_then(Value::as_i64)),
            text => (Some(text), None),
        };
        let text = match text {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Bool(flag)) => flag.to_string(),
            _ => return,
        };
        let (Ok(name), Ok(value)) = (field_name(name.as_bytes()), field_value(text.as_bytes())) else { return };
        self.push(match order.and_then(|n| u32::try_from(n).ok()) {
            // As with a milter's own: number 0 is the Received field of the server.
            Some(place) => Edit::InsertField { at: place.saturating_sub(1), name, value },
            None => Edit::AddField { name, value },
        });
    }

    /// Signatures that rspamd has made go on top.
    fn signatures(&mut self, value: &Value) {
        let texts: Vec<&str> = match value {
            Value::String(text) => vec![text],
            Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
            _ => return,
        };
        for text in texts {
            if let Ok(value) = field_value(text.as_bytes()) {
                self.push(Edit::InsertField { at: 0, name: "DKIM-Signature".into(), value });
            }
        }
    }

    fn spam_header(&mut self, named: Option<&Value>) {
        let name = named.and_then(Value::as_str).unwrap_or("X-Spam");
        self.add(name, &Value::String("Yes".into()));
    }

    fn subject(&mut self, subject: &Value) {
        let Some(Ok(value)) = subject.as_str().map(|text| field_value(text.as_bytes())) else { return };
        let name: Box<str> = "Subject".into();
        self.push(match self.count(&name) {
            0 => Edit::AddField { name, value },
            _ => Edit::ChangeField { occurrence: 1, name, value: Some(value) },
        });
    }

    /// How many fields of that name the message has.
    fn count(&self, name: &str) -> u32 {
        let head = self.case.body.as_ref().map(|body| body.head()).unwrap_or_default();
        let same = header_fields(&head).filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
        u32::try_from(same.count()).unwrap_or(u32::MAX)
    }
}

fn mailbox(path: &str) -> Option<crate::base::address::Mailbox> {
    let inner = path.trim();
    parse_mailbox(inner.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(inner)).ok()
}

#[cfg(test)]
mod tests;
