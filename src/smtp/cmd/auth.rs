//! AUTH (RFC 4954); its lines and the exchange itself are in `sasl/`. How it fails: 503 out of order, 504 and 538
//! for the mechanism, 501 for what is no base64 or is cancelled, 500 for an over-long line, 535 for wrong credentials,
//! 454 when nobody can tell, 421 beyond `auth_failures_max`.

use crate::base::buf::Input;
use crate::base::time::Instant;
use crate::sasl::SaslError;
use crate::sasl::line::{self, Line, NotBase64, Told};
use crate::sasl::server::{Context, Exchange, Step};
use crate::smtp::server::{Answer, Ask, Flow, Pending, SASL_LINE_OCTETS_MAX, Server, State, Then, Verdict, misfit};
use crate::wire::command::{self, Frame};
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::time::Duration;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    let (mechanism, initial) = match check(server, argument) {
        Ok(checked) => checked,
        Err(reply) => return server.respond(now, reply),
    };
    let (seed, attempt) = (&server.peer.nonce_seed, server.counters.auth_attempts);
    let (hostname, time) = (server.config.hostname.as_str(), server.wall_time(now));
    let context = line::attempt(offer_context(server), seed, attempt, hostname, time);
    server.counters.auth_attempts += 1;
    let (exchange, step) = Exchange::start(mechanism, initial.as_deref(), context);
    take_step(server, now, Box::new(exchange), step);
}

/// The mechanism, and the initial response decoded.
fn check<'a>(server: &Server, argument: &'a str) -> Result<(&'a str, Option<Vec<u8>>), Reply> {
    if server.config.mechanisms.is_empty() {
        return Err(replies::not_offered());
    }
    if !server.is_extended() {
        return Err(replies::hello_first());
    }
    if server.login.is_some() {
        return Err(replies::already_authenticated()); // RFC 4954 §4
    }
    if server.transaction.is_some() {
        return Err(replies::not_in_transaction()); // RFC 4954 §4
    }
    let (mechanism, initial) = command::parse_auth(argument).map_err(|_| replies::auth_syntax())?;
    let initial = line::read_initial(initial).map_err(|NotBase64| replies::not_base64())?;
    Ok((mechanism, initial))
}

/// What decides which mechanisms are offered.
pub(in crate::smtp) fn offer_context(server: &Server) -> Context {
    line::offer(&server.config.mechanisms, server.peer.rights.protected, server.peer.tls.as_ref())
}

fn take_step(server: &mut Server, now: Instant, exchange: Box<Exchange>, step: Step) {
    match step {
        Step::Challenge(bytes) => {
            let challenge = replies::challenge(line::challenge(&bytes));
            server.respond_after(now, Duration::ZERO, vec![challenge], Then::Sasl(exchange));
        }
        Step::Ask(ask) => server.ask(Ask::Sasl(ask), Pending::Sasl(exchange)),
        Step::Done { user } => {
            server.ask(Ask::Authenticated { user: user.clone() }, Pending::Authenticated(user));
        }
        Step::Failed(error) if error.is_failed_attempt() => {
            server.counters.auth_failures += 1;
            let failures = server.counters.auth_failures;
            server.ask(Ask::AuthFailed { failures }, Pending::AuthFailed(failure_reply(&error)));
        }
        Step::Failed(error) => server.respond(now, failure_reply(&error)),
    }
}

fn failure_reply(error: &SaslError) -> Reply {
    match Told::from(error) {
        Told::UnknownMechanism => replies::mechanism_unknown(),
        Told::NeedsProtection => replies::auth_needs_tls(),
        Told::Malformed => replies::auth_malformed(),
        Told::TooLong => replies::auth_line_too_long(),
        Told::Unavailable => replies::auth_unavailable(),
        Told::Invalid => replies::auth_invalid(),
    }
}

/// A line of the exchange.
pub(in crate::smtp) fn read_response(
    server: &mut Server,
    now: Instant,
    input: &mut Input<'_>,
    mut exchange: Box<Exchange>,
) -> Flow {
    let rest = input.rest();
    match command::frame(rest, SASL_LINE_OCTETS_MAX) {
        Frame::Partial => {
            server.state = State::Sasl(exchange);
            return Flow::Wait;
        }
        Frame::Line { line: text, consumed } => {
            input.consume(consumed);
            match line::read(text) {
                Ok(Line::Cancelled) => server.respond(now, replies::auth_cancelled()),
                Ok(Line::Response(response)) => {
                    let step = exchange.respond(&response);
                    take_step(server, now, exchange, step);
                }
                Err(NotBase64) => server.respond(now, replies::not_base64()),
            }
        }
        Frame::BareLf => return server.skip_bare_line(now, input),
        Frame::TooLong => {
            let after_cr = input.consume(SASL_LINE_OCTETS_MAX).last() == Some(&b'\r');
            return server.complain(now, replies::auth_line_too_long(), State::SkipLine { after_cr });
        }
    }
    Flow::Again
}

/// The answer about credentials.
pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, mut exchange: Box<Exchange>, answer: Answer) {
    match answer {
        Answer::Sasl(answer) => {
            let step = exchange.answer(answer);
            take_step(server, now, exchange, step);
        }
        Answer::Refuse { .. } => {
            if let Verdict::No(refusal) = answer.verdict() {
                server.refuse(now, refusal);
            }
        }
        other => server.respond(now, misfit(&other)),
    }
}

pub(in crate::smtp) fn proceed_authenticated(server: &mut Server, now: Instant, user: String, verdict: Verdict) {
    match verdict {
        Verdict::Go(after) => {
            server.login = Some(user);
            server.respond_after(now, after, vec![replies::authenticated()], Then::Command);
        }
        Verdict::No(refusal) => server.refuse(now, refusal),
    }
}

/// The failure has been judged: the client waits as long as the policy says, and is sent away after too many.
pub(in crate::smtp) fn proceed_failed(server: &mut Server, now: Instant, reply: Reply, verdict: Verdict) {
    let mut refusal = match verdict {
        Verdict::Go(after) => crate::smtp::server::Refusal { reply, after, close: false },
        Verdict::No(refusal) => refusal,
    };
    let mut replies = vec![refusal.reply];
    if server.counters.auth_failures >= server.config.knobs.auth_failures_max {
        replies.push(replies::too_many_auth_failures());
        refusal.close = true;
    }
    let then = if refusal.close { Then::Close } else { Then::Command };
    server.respond_after(now, refusal.after, replies, then);
}
