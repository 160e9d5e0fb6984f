//! AUTHENTICATE (RFC 9051 §6.2.2, RFC 4959); its lines and the exchange itself are in `sasl/`.
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
use crate::sasl::SaslError;
use crate::sasl::line::{self, Line, NotBase64, Told};
use crate::sasl::server::{Exchange, Step};

pub(super) fn run(session: &mut Session, tag: String, mechanism: &str, initial: Option<&str>) {
    match line::read_initial(initial) {
        Ok(initial) => begin(session, tag, mechanism, initial.as_deref()),
        Err(NotBase64) => session.finish(Ending::new(tag, "BAD the initial response is no base64")),
    }
}

/// Starts an exchange; LOGIN comes here as well.
pub(super) fn begin(session: &mut Session, tag: String, mechanism: &str, initial: Option<&[u8]>) {
    let (seed, attempt) = (&session.peer.nonce_seed, session.counters.auth_attempts);
    let (hostname, time) = (session.settings.hostname.as_str(), session.wall_time());
    let context = line::attempt(ext::sasl_context(session), seed, attempt, hostname, time);
    session.counters.auth_attempts += 1;
    let (exchange, step) = Exchange::start(mechanism, initial, context);
    take_step(session, tag, Box::new(exchange), step);
}

fn take_step(session: &mut Session, tag: String, mut exchange: Box<Exchange>, step: Step) {
    match step {
        Step::Challenge(octets) => {
            session.out.line(&format!("+ {}", line::challenge(&octets)));
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

fn failure_words(error: &SaslError) -> Words {
    match Told::from(error) {
        Told::UnknownMechanism => respond::no("CANNOT", "the mechanism is not offered here"),
        Told::NeedsProtection => respond::no("PRIVACYREQUIRED", "the mechanism needs TLS"),
        Told::TooLong => "BAD the response is too long".into(),
        Told::Unavailable => respond::no("UNAVAILABLE", "accounts cannot be checked now, try again"),
        Told::Malformed | Told::Invalid => respond::no("AUTHENTICATIONFAILED", "authentication failed"),
    }
}

/// A line of the exchange.
pub(in crate::imap) fn read_response(session: &mut Session, input: &mut Input<'_>) -> Flow {
    let text = match take_line(input, SASL_LINE_OCTETS_MAX) {
        Taken::Line(text) => text,
        Taken::Partial => return Flow::Wait,
        Taken::TooLong => {
            session.bye("the response is too long");
            return Flow::Again;
        }
    };
    let Phase::Sasl { tag, mut exchange } = std::mem::replace(&mut session.phase, Phase::Command) else {
        return Flow::Wait;
    };
    match line::read(text) {
        // RFC 9051 §6.2.2
        Ok(Line::Cancelled) => session.finish(Ending::new(tag, "BAD authentication cancelled")),
        Ok(Line::Response(response)) => {
            let step = exchange.respond(&response);
            take_step(session, tag, exchange, step);
        }
        Err(NotBase64) => session.finish(Ending::new(tag, "BAD the response is no base64")),
    }
    Flow::Again
}
