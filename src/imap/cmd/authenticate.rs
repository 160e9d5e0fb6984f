//! AUTHENTICATE (RFC 9051 §6.2.2, RFC 4959): base64 on the wire here, the exchange itself in `sasl/`.
//!
//! How it fails: BAD for what is no base64 or is cancelled, NO [PRIVACYREQUIRED] where TLS is needed, NO
//! [AUTHENTICATIONFAILED] for wrong credentials, NO [UNAVAILABLE] when nobody can tell, BYE beyond `auth_failures_max`.

use crate::base::buf::Input;
use crate::base::mailbox::ask::{Reply, StoreAsk};
use crate::imap::ask::{Answer, Ask};
use crate::imap::config::SASL_LINE_OCTETS_MAX;
use crate::imap::ext;
use crate::imap::respond::{self, Missing, Words};
use crate::imap::session::{Ending, Flow, Session, Taken, take_line};
use crate::imap::state::{Phase, State};
use crate::sasl::server::{Context, Exchange, Step};
use crate::sasl::{self, SaslError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

pub(super) fn run(session: &mut Session, tag: String, mechanism: &str, initial: Option<&str>) {
    let initial = match initial {
        None => None,
        Some("=") => Some(Vec::new()), // RFC 4959 §3: the empty initial response
        Some(text) => match STANDARD.decode(text) {
            Ok(octets) => Some(octets),
            Err(_) => return session.finish(Ending::new(tag, "BAD the initial response is no base64")),
        },
    };
    begin(session, tag, mechanism, initial.as_deref());
}

/// Starts an exchange; LOGIN comes here as well.
pub(super) fn begin(session: &mut Session, tag: String, mechanism: &str, initial: Option<&[u8]>) {
    let context = Context {
        nonce: sasl::nonce(&session.peer.nonce_seed, session.counters.auth_attempts),
        hostname: session.settings.hostname.clone(),
        timestamp: session.wall_time(),
        ..ext::sasl_context(session)
    };
    session.counters.auth_attempts += 1;
    let (exchange, step) = Exchange::start(mechanism, initial, context);
    take_step(session, tag, Box::new(exchange), step);
}

fn take_step(session: &mut Session, tag: String, mut exchange: Box<Exchange>, step: Step) {
    match step {
        Step::Challenge(octets) => {
            session.out.line(&format!("+ {}", STANDARD.encode(octets)));
            session.phase = Phase::Sasl { tag, exchange };
        }
        Step::Ask(ask) => session.ask(Ask::Sasl(ask), move |s, answer| match answer {
            Answer::Sasl(answer) => {
                let step = exchange.answer(answer);
                take_step(s, tag, exchange, step);
            }
            Answer::Refuse(why) => s.finish(Ending::new(tag, respond::no("UNAVAILABLE", &why))),
            _ => s.finish(Ending::new(tag, respond::server_bug())),
        }),
        Step::Done { user } => session.ask(Ask::Authenticated { user: user.clone() }, move |s, answer| match answer {
            Answer::Go => open_account(s, tag, user),
            Answer::Refuse(why) => s.finish(Ending::new(tag, respond::no("AUTHORIZATIONFAILED", &why))),
            _ => s.finish(Ending::new(tag, respond::server_bug())),
        }),
        Step::Failed(error) if error.is_failed_attempt() => fail(session, tag, failure_words(&error)),
        Step::Failed(error) => session.finish(Ending::new(tag, failure_words(&error))),
    }
}

fn open_account(session: &mut Session, tag: String, user: String) {
    session.ask_store(StoreAsk::Account { name: user.clone() }, move |s, reply| match reply {
        Ok(Reply::Account(account)) => {
            s.state = State::Authenticated(account);
            s.user = Some(user.into());
            s.widen_limits();
            // RFC 9051 §6.2.2: what is offered has changed.
            let words = format!("OK [{}] logged in", ext::capability(s));
            s.finish(Ending::new(tag, words));
        }
        Ok(_) => s.finish(Ending::new(tag, respond::server_bug())),
        Err(error) => s.finish(Ending::new(tag, respond::store_error(&error, Missing::Nonexistent))),
    });
}

/// The answer waits as long as the caller says; too many failures end the session.
fn fail(session: &mut Session, tag: String, words: Words) {
    session.counters.auth_failures += 1;
    let failures = session.counters.auth_failures;
    session.ask(Ask::AuthFailed { failures }, move |s, _| {
        s.finish(Ending::new(tag, words));
        if failures >= s.settings.knobs.auth_failures_max && matches!(s.phase, Phase::Command) {
            s.bye("too many failed logins");
        }
    });
}

/// None of them tells whether the user exists.
fn failure_words(error: &SaslError) -> Words {
    match error {
        SaslError::UnknownMechanism => respond::no("CANNOT", "the mechanism is not offered here"),
        SaslError::EncryptionRequired => respond::no("PRIVACYREQUIRED", "the mechanism needs TLS"),
        SaslError::TooLong => "BAD the response is too long".into(),
        SaslError::Unavailable | SaslError::OutOfOrder(_) => {
            respond::no("UNAVAILABLE", "accounts cannot be checked now, try again")
        }
        SaslError::Malformed(_)
        | SaslError::InvalidCredentials
        | SaslError::NotAuthorized
        | SaslError::ChannelBinding(_)
        | SaslError::Downgrade
        | SaslError::ServerNotProven(_) => respond::no("AUTHENTICATIONFAILED", "authentication failed"),
    }
}

/// A line of the exchange.
pub(in crate::imap) fn read_response(session: &mut Session, input: &mut Input<'_>) -> Flow {
    let line = match take_line(input, SASL_LINE_OCTETS_MAX) {
        Taken::Line(line) => line,
        Taken::Partial => return Flow::Wait,
        Taken::TooLong => {
            session.bye("the response is too long");
            return Flow::Again;
        }
    };
    let Phase::Sasl { tag, mut exchange } = std::mem::replace(&mut session.phase, Phase::Command) else {
        return Flow::Wait;
    };
    if line == b"*" {
        // RFC 9051 §6.2.2
        session.finish(Ending::new(tag, "BAD authentication cancelled"));
    } else if let Ok(response) = STANDARD.decode(line) {
        let step = exchange.respond(&response);
        take_step(session, tag, exchange, step);
    } else {
        session.finish(Ending::new(tag, "BAD the response is no base64"));
    }
    Flow::Again
}
