//! The commands, one file each: `run` is the check and the ask, `proceed` the effect of the answer. A new command is a
//! file and a row.
//!
//! How it fails: see [`crate::pop3`].

pub(super) mod apop;
pub(super) mod auth;
mod capa;
mod dele;
mod lang;
mod last;
mod list;
mod noop;
pub(super) mod pass;
pub(super) mod quit;
mod retr;
pub(super) mod rpop;
mod rset;
mod stat;
mod stls;
mod top;
mod uidl;
mod user;
mod utf8;

use super::ask::{Answer, Ask};
use super::open;
use super::session::Session;
use super::state::{Pending, Phase};
use crate::base::time::Instant;
use crate::wire::pop3::replies::{self, Response};
use crate::wire::pop3::{self, ArgumentError, Verb};
pub use capa::{CAPABILITIES, Capability};

/// One row of the table.
struct Command {
    verb: Verb,
    /// In which states it may come (RFC 1939 §3).
    states: States,
    arguments: Arguments,
    /// How it is used, for who used it otherwise.
    usage: &'static str,
    run: fn(&mut Session, Instant, &str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum States {
    Authorization,
    Transaction,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arguments {
    /// None at all.
    None,
    /// None, or some.
    Optional,
    /// Something there must be.
    Some,
}

macro_rules! row {
    ($verb:ident, $states:ident, $arguments:ident, $usage:literal, $run:path) => {
        Command {
            verb: Verb::$verb,
            states: States::$states,
            arguments: Arguments::$arguments,
            usage: $usage,
            run: $run,
        }
    };
}

const TABLE: &[Command] = &[
    row!(User, Authorization, Some, "USER name", user::run),
    row!(Pass, Authorization, Some, "PASS password", pass::run),
    row!(Apop, Authorization, Some, "APOP name digest", apop::run),
    row!(Rpop, Authorization, Some, "RPOP user", rpop::run),
    row!(Auth, Authorization, Optional, "AUTH mechanism or AUTH mechanism initial-response", auth::run),
    row!(Stls, Authorization, None, "STLS without argument", stls::run),
    row!(Utf8, Authorization, None, "UTF8 without argument", utf8::run),
    row!(Capa, Both, None, "CAPA without argument", capa::run),
    row!(Lang, Both, Optional, "LANG or LANG language", lang::run),
    row!(Quit, Both, None, "QUIT without argument", quit::run),
    row!(Stat, Transaction, None, "STAT without argument", stat::run),
    row!(List, Transaction, Optional, "LIST or LIST message", list::run),
    row!(Uidl, Transaction, Optional, "UIDL or UIDL message", uidl::run),
    row!(Retr, Transaction, Some, "RETR message", retr::run),
    row!(Top, Transaction, Some, "TOP message lines", top::run),
    row!(Dele, Transaction, Some, "DELE message", dele::run),
    row!(Rset, Transaction, None, "RSET without argument", rset::run),
    row!(Noop, Transaction, None, "NOOP without argument", noop::run),
    row!(Last, Transaction, None, "LAST without argument", last::run),
];

/// Runs a command.
pub(super) fn run(session: &mut Session, now: Instant, verb: Verb, argument: &str) {
    let Some(row) = TABLE.iter().find(|row| row.verb == verb) else {
        return session.refuse(now, &replies::unknown_command());
    };
    match check(row, &session.phase, argument) {
        Ok(()) => (row.run)(session, now, argument),
        Err(response) => session.refuse(now, &response),
    }
}

fn check(row: &Command, phase: &Phase, argument: &str) -> Result<(), Response> {
    match (row.states, phase) {
        (States::Authorization, Phase::Transaction(_)) => return Err(replies::logged_in()),
        (States::Transaction, Phase::Authorization { .. }) => return Err(replies::login_first()),
        _ => {}
    }
    // A password may be of spaces; of everything else they are no part.
    let is_empty = if row.verb == Verb::Pass { argument.is_empty() } else { argument.trim().is_empty() };
    match (row.arguments, is_empty) {
        (Arguments::None, false) | (Arguments::Some, true) => Err(replies::usage(row.usage)),
        _ => Ok(()),
    }
}

/// Goes on with the answer to an ask.
pub(super) fn proceed(session: &mut Session, now: Instant, pending: Pending, answer: Answer) {
    match pending {
        Pending::Sasl(exchange) => auth::proceed(session, now, exchange, answer),
        Pending::Password(user) => pass::proceed(session, now, user, answer),
        Pending::Secret(digest) => apop::proceed(session, now, *digest, answer),
        Pending::Identity(user) => rpop::proceed(session, now, user, answer),
        Pending::AuthFailed(response) => proceed_failed(session, now, &response, answer),
        Pending::Opening(opening) => open::proceed(session, now, *opening, answer),
        Pending::Text(text) => session.proceed_text(now, text, answer),
        Pending::Update => quit::proceed(session, answer),
    }
}

/// The client has failed to prove who it is: counts it, and asks how long it waits for the answer.
fn auth_failed(session: &mut Session, response: Response) {
    session.counters.auth_failures += 1;
    let failures = session.counters.auth_failures;
    session.ask(Ask::AuthFailed { failures }, Pending::AuthFailed(response));
}

/// The client hears that it failed, and is sent away after too many failures.
fn proceed_failed(session: &mut Session, now: Instant, response: &Response, answer: Answer) {
    match answer {
        Answer::Go if session.counters.auth_failures >= session.settings.knobs.auth_failures_max => {
            session.dismiss(&replies::too_many_auth_failures());
        }
        Answer::Go => session.respond(now, response),
        Answer::Refuse(why) => session.dismiss(&replies::login_refused(why)),
        other => session.misfit(now, &other),
    }
}

/// Takes what USER said (RFC 1939 §7: PASS comes right after it).
fn take_claim(session: &mut Session) -> Option<String> {
    match &mut session.phase {
        Phase::Authorization { claim } => claim.take(),
        Phase::Transaction(_) => None,
    }
}

/// The message a command names, when it is there and not marked as deleted (RFC 1939 §5).
fn message(session: &mut Session, word: &str) -> Result<(u32, u32, u64), Response> {
    let number = pop3::number(word).map_err(|_| replies::not_a_number())?;
    let found = session.maildrop().and_then(|maildrop| maildrop.message(number));
    found.map(|(uid, octets)| (number, uid, octets)).ok_or_else(replies::no_such_message)
}

/// The arguments of a command, or how it is used.
fn words<const N: usize>(verb: Verb, argument: &str) -> Result<[&str; N], Response> {
    let usage = || TABLE.iter().find(|row| row.verb == verb).map_or("another argument", |row| row.usage);
    pop3::words::<N>(argument).map_err(|_: ArgumentError| replies::usage(usage()))
}

/// Goes on with a checked command, or refuses it. That a message is not there is no offence: it may have been deleted.
fn checked<T>(session: &mut Session, now: Instant, checked: Result<T, Response>) -> Option<T> {
    match checked {
        Ok(value) => Some(value),
        Err(response) if response == replies::no_such_message() => {
            session.respond(now, &response);
            None
        }
        Err(response) => {
            session.refuse(now, &response);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_has_one_row() {
        for verb in Verb::ALL {
            assert_eq!(TABLE.iter().filter(|row| row.verb == *verb).count(), 1, "{verb:?}");
        }
        assert!(TABLE.iter().all(|row| row.usage.starts_with(row.verb.text())));
    }
}
