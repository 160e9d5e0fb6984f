//! What a milter says, as advice: words that decide and changes to the message.
//!
//! How it fails: a change that makes no sense, or more of them than anybody needs, is garbage.

use super::super::failure::Failure;
use super::super::reply::{Refusal, refusal};
use crate::base::address::{Host, Mailbox};
use crate::base::inquiry::{Action, Advice, Case, Edit};
use crate::wire::address::parse_mailbox;
use crate::wire::milter::Response;
use std::sync::Arc;

/// Changes to one message at most.
const EDITS_MAX: usize = 1000;
/// Octets that a body may become larger than the largest message that is told.
const BODY_OCTETS_MORE: usize = 64 * 1024;
/// Octets of a field's value at most.
const VALUE_OCTETS_MAX: usize = 256 * 1024;

/// What was said to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Continue,
    Skip,
    Accept,
    Discard,
    Refused(Refusal),
}

/// Reads a word that decides.
pub(super) fn word(response: &Response<'_>) -> Result<Word, Failure> {
    Ok(match response {
        Response::Continue => Word::Continue,
        Response::Skip => Word::Skip,
        Response::Accept => Word::Accept,
        Response::Discard => Word::Discard,
        Response::Reject => Word::Refused(Refusal::plain(true)),
        Response::TempFail => Word::Refused(Refusal::plain(false)),
        Response::Reply(text) => {
            let text = String::from_utf8_lossy(text);
            Word::Refused(refusal(&text).ok_or_else(|| Failure::Garbage(format!("{text:?} as a reply")))?)
        }
        // RFC 5321 §3.8: the connection is closed with 421.
        Response::Shutdown => {
            Word::Refused(Refusal { permanent: false, reply: Some("421 4.7.0 closing connection".into()) })
        }
        Response::ConnectionFailure => return Err(Failure::Unable("the connection is to fail".into())),
        other => return Err(Failure::Garbage(format!("{} where a decision was expected", name(other)))),
    })
}

fn name(response: &Response<'_>) -> String {
    let debug = format!("{response:?}");
    debug.split(['(', ' ', '{']).next().unwrap_or_default().to_owned()
}

/// The changes of one message.
pub(super) struct Changes<'a> {
    case: &'a Case,
    leading_space: bool,
    body_octets_max: usize,
    edits: Vec<Edit>,
    body: Option<Vec<u8>>,
    quarantine: Option<String>,
}

impl<'a> Changes<'a> {
    pub(super) fn new(case: &'a Case, leading_space: bool, body_octets_max: usize) -> Changes<'a> {
        let body_octets_max = body_octets_max.saturating_add(BODY_OCTETS_MORE);
        Changes { case, leading_space, body_octets_max, edits: Vec::new(), body: None, quarantine: None }
    }

    /// Takes a change; `false` when it is none.
    pub(super) fn take(&mut self, response: &Response<'_>) -> Result<bool, Failure> {
        let edit = match response {
            Response::AddHeader { name, value } => {
                Edit::AddField { name: field_name(name)?, value: self.field_value(value)? }
            }
            Response::InsertHeader { index, name, value } => Edit::InsertField {
                // A server counts its own Received field as number 0; it is written above all of these afterwards.
                at: index.saturating_sub(1),
                name: field_name(name)?,
                value: self.field_value(value)?,
            },
            Response::ChangeHeader { index, name, value } => Edit::ChangeField {
                occurrence: (*index).max(1),
                name: field_name(name)?,
                value: if value.is_empty() { None } else { Some(self.field_value(value)?) },
            },
            Response::AddRecipient(path) | Response::AddRecipientParameters { path, .. } => {
                Edit::AddRecipient(self.mailbox(path)?)
            }
            Response::DeleteRecipient(path) => Edit::RemoveRecipient(self.mailbox(path)?),
            Response::ChangeSender { path, .. } => Edit::ChangeSender(match inner(path).as_str() {
                "" => None,
                _ => Some(self.mailbox(path)?),
            }),
            Response::ReplaceBody(octets) => {
                self.replace_body(octets)?;
                return Ok(true);
            }
            Response::Quarantine(reason) => {
                self.quarantine = Some(String::from_utf8_lossy(reason).into_owned());
                return Ok(true);
            }
            _ => return Ok(false),
        };
        if self.edits.len() >= EDITS_MAX {
            return Err(Failure::Garbage(format!("more than {EDITS_MAX} changes to one message")));
        }
        self.edits.push(edit);
        Ok(true)
    }

    fn replace_body(&mut self, octets: &[u8]) -> Result<(), Failure> {
        let body = self.body.get_or_insert_default();
        if body.len() + octets.len() > self.body_octets_max {
            return Err(Failure::Garbage(format!("another body of more than {} octets", self.body_octets_max)));
        }
        body.extend_from_slice(octets);
        Ok(())
    }

    /// Puts the changes into the advice of a message that is accepted.
    pub(super) fn finish(self, advice: &mut Advice) {
        advice.edits.extend(self.edits);
        advice.edits.extend(self.body.map(|body| Edit::ReplaceBody(Arc::new(body))));
        if let Some(reason) = self.quarantine {
            advice.action = Action::Quarantine;
            advice.symbols.push(format!("quarantine: {reason}").into());
        }
    }

    fn field_value(&self, value: &[u8]) -> Result<Box<str>, Failure> {
        let value = match value {
            [b' ', rest @ ..] if self.leading_space => rest,
            value => value,
        };
        field_value(value)
    }

    fn mailbox(&self, path: &[u8]) -> Result<Mailbox, Failure> {
        let text = inner(path);
        let full = if text.contains('@') {
            text.clone()
        } else {
            // A name without a domain is one of ours (RFC 5321 §4.1.1.3 has it for the postmaster).
            format!("{text}@{}", Host::Domain(self.case.host.clone()))
        };
        parse_mailbox(&full).map_err(|e| Failure::Garbage(format!("{text:?} as an address: {e}")))
    }
}

/// A path without its angle brackets.
fn inner(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    let text = text.trim();
    text.strip_prefix('<').and_then(|t| t.strip_suffix('>')).unwrap_or(text).to_owned()
}

/// A field's name, which must be one (RFC 5322 §3.6.8).
pub(in super::super) fn field_name(name: &[u8]) -> Result<Box<str>, Failure> {
    let text = String::from_utf8_lossy(name);
    if name.is_empty() || !name.iter().all(|b| matches!(b, 0x21..=0x7e) && *b != b':') {
        return Err(Failure::Garbage(format!("{text:?} as the name of a header field")));
    }
    Ok(text.into())
}

/// A field's value as it stands in a message: folds are CRLF and white space, and nothing can begin another field.
pub(in super::super) fn field_value(value: &[u8]) -> Result<Box<str>, Failure> {
    if value.len() > VALUE_OCTETS_MAX {
        return Err(Failure::Garbage(format!("a header field of {} octets", value.len())));
    }
    let text = String::from_utf8_lossy(value).replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(text.len());
    // An empty line would end the header section: only lines with something in them count.
    for line in text.split('\n').filter(|line| !line.trim_matches([' ', '\t']).is_empty()) {
        if !out.is_empty() {
            out.push_str("\r\n");
            if !line.starts_with([' ', '\t']) {
                out.push('\t');
            }
        }
        out.extend(line.chars().map(|c| if c.is_control() && c != '\t' { '?' } else { c }));
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_folded_as_messages_have_it() {
        for (said, written) in [
            ("one", "one"),
            ("one\n\ttwo\n three", "one\r\n\ttwo\r\n three"),
            ("one\r\n\ttwo\r\n", "one\r\n\ttwo"),
            ("one\nInjected: yes\n\nbody", "one\r\n\tInjected: yes\r\n\tbody"),
            ("a\0b", "a?b"),
            ("", ""),
        ] {
            assert_eq!(&*field_value(said.as_bytes()).unwrap(), written, "{said:?}");
        }
        assert!(field_value(&vec![b'x'; VALUE_OCTETS_MAX + 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_value_begins_a_field(said in "[ \ta:\r\n\0\u{e9}]{0,60}") {
            let value = field_value(said.as_bytes()).unwrap();
            for line in value.split("\r\n").skip(1) {
                prop_assert!(line.starts_with([' ', '\t']) && !line.trim().is_empty());
            }
            prop_assert!(!value.replace("\r\n", "").contains(['\r', '\n', '\0']));
        }
    }

    #[test]
    fn names_are_names() {
        assert_eq!(&*field_name(b"X-Spam").unwrap(), "X-Spam");
        for name in [&b""[..], b"a b", b"a:", b"a\r\nb", b"\xe9"] {
            assert!(field_name(name).is_err(), "{name:?}");
        }
    }
}
