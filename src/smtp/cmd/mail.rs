//! MAIL (RFC 5321 §4.1.1.2). How it fails: 503 out of order, 501 and 555 for what is written, 552 for a declared size
//! beyond the limit (RFC 1870 §6.1), 553 for UTF-8 without SMTPUTF8 (RFC 6531 §3.5), 421 beyond `transactions_max`.

use super::{argument_reply, parameter_reply};
use crate::base::address::ReversePath;
use crate::base::envelope::MailParameters;
use crate::base::time::Instant;
use crate::smtp::ext;
use crate::smtp::server::{Ask, Chunks, Pending, Server, Then, Transaction, Verdict};
use crate::wire::address::AddressError;
use crate::wire::command;
use crate::wire::replies;
use crate::wire::reply::Reply;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    match check(server, argument) {
        Err(reply) => server.respond(now, reply),
        Ok((sender, parameters)) => {
            let transaction = Transaction {
                sender: sender.clone(),
                parameters: parameters.clone(),
                recipients: Vec::new(),
                refused: 0,
                chunks: Chunks::None,
            };
            server.ask(Ask::Mail { sender, parameters }, Pending::Mail(Box::new(transaction)));
        }
    }
}

fn check(server: &Server, argument: &str) -> Result<(ReversePath, MailParameters), Reply> {
    if server.greeting.is_none() {
        return Err(replies::hello_first()); // RFC 5321 §4.1.4
    }
    if server.transaction.is_some() {
        return Err(replies::nested_mail()); // RFC 5321 §4.1.4
    }
    let knobs = &server.config.knobs;
    if server.counters.transactions >= knobs.transactions_max {
        return Err(replies::too_many_transactions());
    }
    let (sender, rest) = command::parse_mail(argument).map_err(|e| argument_reply(e, true))?;
    if sender.mailbox().is_some_and(|m| m.local().len() > knobs.local_part_octets_max) {
        return Err(replies::bad_address(AddressError::LocalTooLong, true));
    }
    let mut parameters = ext::parse_mail(server, rest).map_err(parameter_reply)?;
    if !argument.is_ascii() && !parameters.smtputf8 {
        return Err(replies::needs_smtputf8());
    }
    if parameters.size.is_some_and(|n| n > knobs.message_octets_max.0) {
        return Err(replies::size_too_large());
    }
    // RFC 4954 §5: what an unauthenticated client says about the author's login is not passed on.
    if server.login.is_none() && parameters.auth.is_some() {
        parameters.auth = Some(String::new());
    }
    Ok((sender, parameters))
}

pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, transaction: Box<Transaction>, verdict: Verdict) {
    match verdict {
        Verdict::Go(after) => {
            server.counters.transactions += 1;
            server.transaction = Some(transaction);
            server.respond_after(now, after, vec![replies::sender_ok()], Then::Command);
        }
        Verdict::No(refusal) => server.refuse(now, refusal),
    }
}
