//! The commands, one file each: `run` is the check (grammar and order) and the ask, `proceed` the effect of the answer.
//!
//! How it fails: see [`crate::smtp::server`].

pub(in crate::smtp) mod auth;
pub(in crate::smtp) mod bdat;
pub(in crate::smtp) mod connect;
pub(in crate::smtp) mod data;
pub(in crate::smtp) mod end_of_data;
pub(in crate::smtp) mod hello;
pub(in crate::smtp) mod help;
pub(in crate::smtp) mod mail;
pub(in crate::smtp) mod noop;
pub(in crate::smtp) mod quit;
pub(in crate::smtp) mod rcpt;
pub(in crate::smtp) mod rset;
pub(in crate::smtp) mod starttls;
pub(in crate::smtp) mod verify;
pub(in crate::smtp) mod xclient;

use crate::base::time::Instant;
use crate::smtp::server::{Answer, Pending, Server, misfit};
use crate::wire::command::{ArgumentError, Verb};
use crate::wire::params::ParameterError;
use crate::wire::replies;
use crate::wire::reply::Reply;

/// One row of the table.
struct Command {
    verb: Verb,
    kind: Kind,
    run: fn(&mut Server, Instant, &str),
}

/// Whether a command brings mail nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Useful,
    /// Counted against `idle_commands_max`.
    Idle,
}

const TABLE: &[Command] = &[
    Command { verb: Verb::Ehlo, kind: Kind::Idle, run: hello::run_ehlo },
    Command { verb: Verb::Helo, kind: Kind::Idle, run: hello::run_helo },
    Command { verb: Verb::Lhlo, kind: Kind::Idle, run: hello::run_lhlo },
    Command { verb: Verb::Mail, kind: Kind::Useful, run: mail::run },
    Command { verb: Verb::Rcpt, kind: Kind::Useful, run: rcpt::run },
    Command { verb: Verb::Data, kind: Kind::Useful, run: data::run },
    Command { verb: Verb::Bdat, kind: Kind::Useful, run: bdat::run },
    Command { verb: Verb::Rset, kind: Kind::Idle, run: rset::run },
    Command { verb: Verb::Vrfy, kind: Kind::Idle, run: verify::run_vrfy },
    Command { verb: Verb::Expn, kind: Kind::Idle, run: verify::run_expn },
    Command { verb: Verb::Help, kind: Kind::Idle, run: help::run },
    Command { verb: Verb::Noop, kind: Kind::Idle, run: noop::run },
    Command { verb: Verb::Quit, kind: Kind::Useful, run: quit::run },
    Command { verb: Verb::StartTls, kind: Kind::Idle, run: starttls::run },
    Command { verb: Verb::Auth, kind: Kind::Idle, run: auth::run },
    Command { verb: Verb::Xclient, kind: Kind::Idle, run: xclient::run },
];

/// Runs a command.
pub(in crate::smtp) fn run(server: &mut Server, now: Instant, verb: Verb, argument: &str) {
    let row = TABLE.iter().find(|row| row.verb == verb);
    match row {
        Some(row) if row.kind == Kind::Useful || server.count_idle() => (row.run)(server, now, argument),
        Some(_) => {} // one idle command too many: it has been said
        None => server.respond(now, replies::unknown_command()),
    }
}

/// Whether a command must be the last of its group (RFC 2920 §3.1; STARTTLS by RFC 3207 §4, AUTH by RFC 4954 §4).
pub(in crate::smtp) fn ends_group(verb: Verb) -> bool {
    use Verb::{Auth, Data, Ehlo, Expn, Helo, Lhlo, Noop, Quit, StartTls, Vrfy};
    matches!(verb, Ehlo | Helo | Lhlo | Data | Vrfy | Expn | Noop | Quit | StartTls | Auth)
}

/// Goes on with the answer to an ask.
pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, pending: Pending, answer: Answer) {
    match pending {
        Pending::Connect => connect::proceed(server, now, answer.verdict()),
        Pending::Helo(greeting) => hello::proceed(server, now, greeting, answer.verdict()),
        Pending::Sasl(exchange) => auth::proceed(server, now, exchange, answer),
        Pending::Authenticated(user) => auth::proceed_authenticated(server, now, user, answer.verdict()),
        Pending::AuthFailed(reply) => auth::proceed_failed(server, now, reply, answer.verdict()),
        Pending::Mail(transaction) => mail::proceed(server, now, transaction, answer.verdict()),
        Pending::Rcpt(recipient) => rcpt::proceed(server, now, recipient, answer),
        Pending::Data => data::proceed(server, now, answer.verdict()),
        Pending::Chunk(chunk) => bdat::proceed(server, now, chunk, answer.verdict()),
        Pending::SpillData(mut intake) => {
            note_spilled(&mut intake, answer);
            data::resume(server, now, intake);
        }
        Pending::SpillChunk(mut chunk) => {
            note_spilled(&mut chunk.intake, answer);
            bdat::resume(server, now, chunk);
        }
        Pending::SpillEnd(mut intake) => {
            note_spilled(&mut intake, answer);
            end_of_data::run(server, now, intake);
        }
        Pending::Message { recipients } => end_of_data::proceed(server, now, recipients, answer),
        Pending::Verify => verify::proceed(server, now, answer),
    }
}

fn note_spilled(intake: &mut crate::smtp::server::Intake, answer: Answer) {
    match answer {
        Answer::Spilled(Ok(())) => {}
        Answer::Spilled(Err(reply)) | Answer::Refuse { reply, .. } => intake.fail(reply),
        other => intake.fail(misfit(&other)),
    }
}

/// The reply to a malformed parameter (RFC 5321 §4.1.1.11).
fn parameter_reply(error: ParameterError) -> Reply {
    match error {
        ParameterError::Syntax => replies::parameter_syntax(),
        ParameterError::Unknown => replies::parameter_unknown(),
        ParameterError::Repeated => replies::parameter_repeated(),
        ParameterError::Value => replies::parameter_value(),
    }
}

/// The reply to a malformed argument of MAIL or RCPT.
fn argument_reply(error: ArgumentError, of_sender: bool) -> Reply {
    match error {
        ArgumentError::Path(e) => replies::bad_address(e, of_sender),
        ArgumentError::Keyword | ArgumentError::Syntax if of_sender => replies::mail_syntax(),
        ArgumentError::Keyword | ArgumentError::Syntax => replies::rcpt_syntax(),
    }
}
