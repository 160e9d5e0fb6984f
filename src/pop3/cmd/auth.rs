//! AUTH (RFC 5034); its lines and the exchange itself are in `sasl/`. How it fails: `-ERR` for an unknown mechanism,
//! for what is no base64 or is cancelled and for an over-long line, `[AUTH]` for wrong credentials and where a password
//! could be read on the wire, `[SYS/TEMP]` when nobody can tell; the end beyond `auth_failures_max`.

use super::super::ask::{Answer, Ask};
use super::super::open;
use super::super::session::Session;
use super::super::state::{Pending, State};
use super::user::needs_protection;
use crate::base::buf::Input;
use crate::base::time::Instant;
use crate::sasl::line::{self, Line, NotBase64, Told};
use crate::sasl::server::{Context, Exchange, Step};
use crate::sasl::{self, SaslError};
use crate::wire::pop3::replies::{self, Response};
use crate::wire::pop3::{self, Frame, SASL_LINE_OCTETS_MAX};

pub(super) fn run(session: &mut Session, now: Instant, argument: &str) {
    let mut words = argument.split([' ', '\t']).filter(|word| !word.is_empty());
    let Some(mechanism) = words.next() else {
        return list_mechanisms(session, now);
    };
    let initial = match (words.next(), words.next()) {
        (word, None) => line::read_initial(word).map_err(|NotBase64| replies::not_base64()),
        (_, Some(_)) => Err(replies::usage("AUTH mechanism or AUTH mechanism initial-response")),
    };
    let Some(initial) = super::checked(session, now, initial) else { return };
    let (seed, attempt) = (&session.peer.nonce_seed, session.counters.auth_attempts);
    let (hostname, time) = (session.settings.hostname.as_str(), session.wall_time(now));
    let context = line::attempt(offer_context(session), seed, attempt, hostname, time);
    session.counters.auth_attempts += 1;
    let (exchange, step) = Exchange::start(mechanism, initial.as_deref(), context);
    take_step(session, now, Box::new(exchange), step);
}

/// AUTH alone, as clients older than CAPA ask for mechanisms.
fn list_mechanisms(session: &mut Session, now: Instant) {
    session.say(&replies::mechanisms());
    for name in sasl::server::mechanisms(&offer_context(session)) {
        session.out.push_bytes(format!("{name}\r\n").as_bytes());
    }
    session.out.push_bytes(b".\r\n");
    session.await_command(now);
}

/// What decides which mechanisms are offered.
pub(super) fn offer_context(session: &Session) -> Context {
    line::offer(&session.settings.sasl_mechanisms, session.peer.protected, session.peer.tls.as_ref())
}

fn take_step(session: &mut Session, now: Instant, exchange: Box<Exchange>, step: Step) {
    match step {
        Step::Challenge(bytes) => {
            session.out.push_bytes(&replies::challenge(&line::challenge(&bytes)));
            session.enter(now, State::Sasl(exchange));
        }
        Step::Ask(ask) => session.ask(Ask::Sasl(ask), Pending::Sasl(exchange)),
        Step::Done { user } => open::begin(session, user),
        Step::Failed(error) if error.is_failed_attempt() => {
            let response = failure(session, &error);
            super::auth_failed(session, response);
        }
        Step::Failed(error) if error.is_transient() => session.respond(now, &replies::auth_unavailable()),
        Step::Failed(error) => {
            let response = failure(session, &error);
            session.refuse(now, &response);
        }
    }
}

fn failure(session: &Session, error: &SaslError) -> Response {
    match Told::from(error) {
        Told::UnknownMechanism => replies::mechanism_unknown(),
        Told::NeedsProtection => needs_protection(session),
        Told::Malformed => replies::auth_malformed(),
        Told::TooLong => replies::auth_line_too_long(),
        Told::Unavailable => replies::auth_unavailable(),
        Told::Invalid => replies::auth_invalid(),
    }
}

/// A line of the exchange. Says whether looking at the input again makes sense.
pub(in crate::pop3) fn read_response(
    session: &mut Session,
    now: Instant,
    input: &mut Input<'_>,
    mut exchange: Box<Exchange>,
) -> bool {
    match pop3::frame(input.rest(), SASL_LINE_OCTETS_MAX) {
        Frame::Partial => {
            session.state = State::Sasl(exchange);
            return false;
        }
        Frame::Line { line: text, consumed } => {
            input.consume(consumed);
            match line::read(text) {
                Ok(Line::Cancelled) => session.refuse(now, &replies::auth_cancelled()),
                Ok(Line::Response(response)) => {
                    let step = exchange.respond(&response);
                    take_step(session, now, exchange, step);
                }
                Err(NotBase64) => session.refuse(now, &replies::not_base64()),
            }
        }
        Frame::TooLong => {
            let response = replies::auth_line_too_long();
            return session.refuse_long_line(now, input, SASL_LINE_OCTETS_MAX, &response);
        }
    }
    true
}

/// The answer about credentials.
pub(in crate::pop3) fn proceed(session: &mut Session, now: Instant, mut exchange: Box<Exchange>, answer: Answer) {
    match answer {
        Answer::Sasl(answer) => {
            let step = exchange.answer(answer);
            take_step(session, now, exchange, step);
        }
        Answer::Refuse(why) => session.respond(now, &replies::login_refused(why)),
        other => session.misfit(now, &other),
    }
}
