//! The end of a message: its offence if it has one, else the rest of it to the scratch file, the question, and the
//! replies, one in SMTP and one per recipient in LMTP (RFC 5321 §4.1.1.4, RFC 2033 §4.2).
//!
//! How it fails: whatever the reply, the transaction is over (RFC 5321 §4.1.1.4).

use crate::base::envelope::{Envelope, Origin};
use crate::base::time::Instant;
use crate::smtp::server::{
    Answer, Ask, Intake, Message, Pending, Refusal, Server, Settled, Then, Verdict, repeat, settle,
};
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::time::Duration;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, mut intake: Box<Intake>) {
    if let Some(reply) = intake.failure() {
        let recipients = server.transaction.as_ref().map_or(0, |t| t.recipients.len());
        let replies = repeat(reply, server.config.service, recipients);
        return finish(server, now, Duration::ZERO, replies, Then::Command);
    }
    if intake.must_spill_rest() {
        let (first, chunk) = intake.spill();
        return server.ask(Ask::Spill { first, chunk }, Pending::SpillEnd(intake));
    }
    let Some(envelope) = envelope(server, now) else {
        debug_assert!(false, "text without a transaction");
        return server.respond(now, replies::local_error());
    };
    let recipients = envelope.recipients.len();
    let message = Message { envelope, text: intake.into_text() };
    server.ask(Ask::Message(Box::new(message)), Pending::Message { recipients });
}

/// Moves the transaction's contents into an envelope; the transaction stays open until the replies.
fn envelope(server: &mut Server, now: Instant) -> Option<Envelope> {
    let (protocol, received) = (server.protocol(), server.wall_time(now));
    let helo = server.greeting.as_ref().map(|g| g.name.text.clone()).unwrap_or_default();
    let transaction = server.transaction.as_mut()?;
    Some(Envelope {
        origin: Origin {
            session: server.peer.session,
            received,
            client: Some(server.peer.client),
            helo,
            protocol,
            user: server.login.clone(),
        },
        sender: transaction.sender.clone(),
        parameters: transaction.parameters.clone(),
        recipients: std::mem::take(&mut transaction.recipients),
    })
}

pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, recipients: usize, answer: Answer) {
    let service = server.config.service;
    let (replies, after, then) = match answer {
        Answer::Settled(settled) => {
            let refused = matches!(settled, Settled::Refused(_));
            let replies = settle(settled, service, recipients);
            if !refused && replies.iter().any(Reply::is_positive) {
                server.counters.messages += 1;
                server.counters.idle_commands = 0;
                server.counters.errors_without_mail = 0;
            }
            (replies, Duration::ZERO, Then::Command)
        }
        other => {
            let refusal = match other {
                // `Go` proves nothing here: it is a misfit.
                Answer::Go | Answer::GoAfter(_) => Refusal::now(crate::smtp::server::misfit(&other)),
                other => match other.verdict() {
                    Verdict::No(refusal) => refusal,
                    Verdict::Go(_) => Refusal::now(replies::local_error()),
                },
            };
            let then = if refusal.close { Then::Close } else { Then::Command };
            (repeat(refusal.reply, service, recipients), refusal.after, then)
        }
    };
    finish(server, now, after, replies, then);
}

fn finish(server: &mut Server, now: Instant, after: Duration, replies: Vec<Reply>, then: Then) {
    server.end_transaction();
    server.respond_after(now, after, replies, then);
}
