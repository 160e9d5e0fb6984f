//! AUTH (RFC 4954): base64 on the wire here, the exchange itself in `sasl/`. How it fails: 503 out of order, 504 and 538
//! for the mechanism, 501 for what is no base64 or is cancelled, 500 for an over-long line, 535 for wrong credentials,
//! 454 when nobody can tell, 421 beyond `auth_failures_max`.

use crate::base::buf::Input;
use crate::base::time::Instant;
use crate::sasl::server::{Context, Exchange, Step};
use crate::sasl::{self, SaslError};
use crate::smtp::server::{Answer, Ask, Flow, Pending, SASL_LINE_OCTETS_MAX, Server, State, Then, Verdict, misfit};
use crate::wire::command::{self, Frame};
use crate::wire::replies;
use crate::wire::reply::Reply;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::time::Duration;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    let (mechanism, initial) = match check(server, argument) {
        Ok(checked) => checked,
        Err(reply) => return server.respond(now, reply),
    };
    let context = Context {
        nonce: sasl::nonce(&server.peer.nonce_seed, server.counters.auth_attempts),
        hostname: server.config.hostname.as_str().to_owned(),
        timestamp: server.wall_time(now),
        ..offer_context(server)
    };
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
    let initial = match initial {
        None => None,
        Some("=") => Some(Vec::new()), // RFC 4954 §4: the empty initial response
        Some(text) => Some(STANDARD.decode(text).map_err(|_| replies::not_base64())?),
    };
    Ok((mechanism, initial))
}

/// What decides which mechanisms are offered.
pub(in crate::smtp) fn offer_context(server: &Server) -> Context {
    let tls = server.peer.tls.as_ref();
    Context {
        enabled: server.config.mechanisms.clone(),
        protected: server.peer.rights.protected || tls.is_some(),
        channel_binding: tls.map(|t| t.channel_binding.clone()),
        external_identity: tls.and_then(|t| t.client_identity.clone()),
        ..Context::default()
    }
}

fn take_step(server: &mut Server, now: Instant, exchange: Box<Exchange>, step: Step) {
    match step {
        Step::Challenge(bytes) => {
            let challenge = replies::challenge(STANDARD.encode(bytes));
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

/// None of them tells whether the user exists.
fn failure_reply(error: &SaslError) -> Reply {
    match error {
        SaslError::UnknownMechanism => replies::mechanism_unknown(),
        SaslError::EncryptionRequired => replies::auth_needs_tls(),
        SaslError::Malformed(_) => replies::auth_malformed(),
        SaslError::TooLong => replies::auth_line_too_long(),
        SaslError::Unavailable | SaslError::OutOfOrder(_) => replies::auth_unavailable(),
        SaslError::InvalidCredentials
        | SaslError::NotAuthorized
        | SaslError::ChannelBinding(_)
        | SaslError::Downgrade
        | SaslError::ServerNotProven(_) => replies::auth_invalid(),
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
        Frame::Line { line, consumed } => {
            input.consume(consumed);
            if line == b"*" {
                server.respond(now, replies::auth_cancelled()); // RFC 4954 §4
            } else if let Ok(response) = STANDARD.decode(line) {
                let step = exchange.respond(&response);
                take_step(server, now, exchange, step);
            } else {
                server.respond(now, replies::not_base64());
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
