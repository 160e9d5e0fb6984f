//! From proofs to replies: the only place where a positive reply to RCPT or to a whole message is made.
//!
//! How it fails: a verdict that is missing is 451; the client keeps its message.

use crate::base::proof::RelayGrant;
use crate::smtp::server::ask::{Kept, Settled};
use crate::smtp::server::config::Service;
use crate::wire::replies;
use crate::wire::reply::Reply;

/// The positive reply to RCPT; the grant is used up (RFC 5321 §3.6.2).
pub(in crate::smtp) fn recipient_granted(_grant: RelayGrant) -> Reply {
    replies::recipient_ok()
}

/// The positive reply to a message, from the proof that somebody is answerable for it (RFC 5321 §4.2.5).
fn kept(proof: Kept) -> Reply {
    match proof {
        Kept::Committed(c) => replies::kept(&c.id().to_string()),
        Kept::Accepted(a) => replies::passed_on(a.text()),
        Kept::Discarded(_grant) => replies::taken(),
    }
}

/// The replies to end of data: one in SMTP, one per recipient in LMTP (RFC 2033 §4.2).
pub(in crate::smtp) fn settle(settled: Settled, service: Service, recipients: usize) -> Vec<Reply> {
    let one = match settled {
        Settled::PerRecipient(verdicts) => return settle_each(verdicts, service, recipients),
        Settled::Committed(c) => kept(Kept::Committed(c)),
        Settled::Accepted(a) => kept(Kept::Accepted(a)),
        Settled::Discarded(d) => kept(Kept::Discarded(d)),
        Settled::Refused(reply) => reply,
    };
    repeat(one, service, recipients)
}

/// One reply for all recipients.
pub(in crate::smtp) fn repeat(reply: Reply, service: Service, recipients: usize) -> Vec<Reply> {
    match service {
        Service::Mx | Service::Submission => vec![reply],
        Service::Lmtp => vec![reply; recipients],
    }
}

fn settle_each(verdicts: Vec<Result<Kept, Reply>>, service: Service, recipients: usize) -> Vec<Reply> {
    debug_assert_eq!(verdicts.len(), recipients);
    let mut each: Vec<Reply> = verdicts.into_iter().map(|v| v.map_or_else(|refused| refused, kept)).collect();
    each.resize_with(recipients, replies::local_error);
    match service {
        Service::Lmtp => each,
        // One reply must do: the message is taken when it is taken for everybody.
        Service::Mx | Service::Submission => {
            let at = each.iter().position(|r| !r.is_positive()).unwrap_or(0);
            vec![if each.is_empty() { replies::local_error() } else { each.swap_remove(at) }]
        }
    }
}
