//! The words of tagged answers: response codes of RFC 9051 §7.1 and RFC 5530, and what a [`StoreError`] is called.
//!
//! How it fails: it does not.

use super::state::State;
use crate::base::mailbox::ask::StoreError;

/// A tagged answer without its tag: condition, code in brackets, words.
pub type Words = String;

/// `NO [CODE] text`
pub fn no(code: &str, text: &str) -> Words {
    format!("NO [{code}] {}", one_line(text))
}

/// Where a missing mailbox was named: whether making it would help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// NONEXISTENT
    Nonexistent,
    /// TRYCREATE (RFC 9051 §7.1: for APPEND, COPY and MOVE)
    TryCreate,
}

/// What the store's refusal is called.
pub fn store_error(error: &StoreError, missing: Missing) -> Words {
    let code = match error {
        StoreError::NoSuchMailbox if missing == Missing::TryCreate => "TRYCREATE",
        StoreError::NoSuchMailbox | StoreError::Gone => "NONEXISTENT",
        StoreError::Exists => "ALREADYEXISTS",
        StoreError::InvalidName(_) | StoreError::Cannot(_) => "CANNOT",
        StoreError::HasChildren => "HASCHILDREN",
        StoreError::OverQuota => "OVERQUOTA",
        StoreError::Limit(_) => "LIMIT",
        StoreError::Expunged => "EXPUNGEISSUED",
        StoreError::NoSuchAccount => "AUTHORIZATIONFAILED",
        StoreError::Busy | StoreError::DiskFull => "UNAVAILABLE",
        StoreError::Failed => "SERVERBUG",
    };
    no(code, &error.to_string())
}

/// The answer does not fit the ask: a fault of ours.
pub fn server_bug() -> Words {
    no("SERVERBUG", "internal error, try again")
}

/// A command in a state in which it may not come (RFC 9051 §6).
pub fn wrong_state(state: &State, needs_mailbox: bool) -> Words {
    match state {
        State::NotAuthenticated => "BAD [CLIENTBUG] log in first".into(),
        State::Authenticated(_) if needs_mailbox => "BAD [CLIENTBUG] select a mailbox first".into(),
        State::Authenticated(_) | State::Selected(..) | State::Logout => "BAD [CLIENTBUG] not after login".into(),
    }
}

/// Without what would end the line.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
