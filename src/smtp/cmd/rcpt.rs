//! RCPT (RFC 5321 §4.1.1.3). How it fails: 503 out of order, 501 and 555 for what is written, 452 beyond
//! `recipients_max` (RFC 5321 §4.5.3.1.10), and what the policy says.

use super::{argument_reply, parameter_reply};
use crate::base::address::{Host, Mailbox};
use crate::base::envelope::Recipient;
use crate::base::time::Instant;
use crate::smtp::ext;
use crate::smtp::server::{Answer, Ask, Chunks, Pending, Server, Then, Verdict, recipient_granted};
use crate::wire::address::{AddressError, ForwardPath};
use crate::wire::command;
use crate::wire::replies;
use crate::wire::reply::Reply;

pub(in crate::smtp) fn run(server: &mut Server, now: Instant, argument: &str) {
    match check(server, argument) {
        Ok(recipient) => server.ask(Ask::Rcpt { recipient: recipient.clone() }, Pending::Rcpt(recipient)),
        Err(reply) => {
            count_refused(server);
            server.respond(now, reply);
        }
    }
}

fn check(server: &mut Server, argument: &str) -> Result<Recipient, Reply> {
    let Some(transaction) = &server.transaction else { return Err(replies::mail_first()) };
    if !matches!(transaction.chunks, Chunks::None) {
        return Err(replies::not_after_bdat()); // RFC 3030 §2
    }
    let knobs = &server.config.knobs;
    let recipients_max = knobs.recipients_max as usize;
    if transaction.recipients.len() >= recipients_max {
        // A list longer than the limit is sent in parts; a client that pays no heed to 452 is broken or hostile.
        if transaction.refused as usize > recipients_max {
            server.counters.errors_without_mail += 1;
        }
        return Err(replies::too_many_recipients());
    }
    let (path, rest) = command::parse_rcpt(argument).map_err(|e| argument_reply(e, false))?;
    if !argument.is_ascii() && !transaction.parameters.smtputf8 {
        return Err(replies::needs_smtputf8()); // RFC 6531 §3.5
    }
    let mailbox = match path {
        ForwardPath::Mailbox(mailbox) => mailbox,
        // RFC 5321 §4.1.1.3: postmaster without domain is the postmaster of this server.
        ForwardPath::Postmaster => Mailbox::from_checked("postmaster", Host::Domain(server.config.hostname.clone())),
    };
    if mailbox.local().len() > knobs.local_part_octets_max {
        return Err(replies::bad_address(AddressError::LocalTooLong, false));
    }
    let parameters = ext::parse_rcpt(server, rest).map_err(parameter_reply)?;
    Ok(Recipient { mailbox, notify: parameters.notify, original: parameters.original })
}

pub(in crate::smtp) fn proceed(server: &mut Server, now: Instant, recipient: Recipient, answer: Answer) {
    match answer {
        Answer::Granted { grant, after } => {
            if let Some(transaction) = &mut server.transaction {
                transaction.recipients.push(recipient);
            }
            server.respond_after(now, after, vec![recipient_granted(grant)], Then::Command);
        }
        // `Go` proves nothing here: it is a misfit.
        Answer::Go | Answer::GoAfter(_) => {
            count_refused(server);
            server.respond(now, crate::smtp::server::misfit(&answer));
        }
        other => {
            count_refused(server);
            if let Verdict::No(refusal) = other.verdict() {
                server.refuse(now, refusal);
            }
        }
    }
}

fn count_refused(server: &mut Server) {
    server.counters.recipients_refused += 1;
    if let Some(transaction) = &mut server.transaction {
        transaction.refused += 1;
    }
}
