//! Recipients at RCPT: by a table, or by asking the backend and remembering what it said.
//!
//! The policy is asked first whether it would refuse anyway, so strangers cannot make us ask a backend; clients that ask
//! the same at the same time share one question. How it fails: a backend that cannot be asked says nothing about a
//! recipient; the recipient is then taken as it would be without verification, and the end of data decides.

use super::core::{Asker, Core, End};
use super::inbound::Inbound;
use super::outbound::{Job, JobEnd, Owner, Task};
use super::routing::Key;
use super::targets::{Target, Verify};
use crate::base::address::ReversePath;
use crate::base::envelope::Recipient;
use crate::mailstore::addresses::Resolved;
use crate::relay::verify::{Known, RecipientCache};
use crate::smtp::client::Verification;
use crate::smtp::server::Answer;
use crate::wire::address::parse_mailbox;
use crate::wire::replies;
use crate::wire::reply::Reply;
use std::time::Duration;

/// What is known of a recipient: whether it exists, and the reply to give when it is not to be taken (now).
pub(super) type Opinion = (bool, Option<Reply>);

/// A client that waits for a callout.
pub(super) struct Waiter {
    asker: Asker,
    recipient: Recipient,
}

impl Core {
    pub(super) fn asks_rcpt(&mut self, inbound: &mut Inbound, recipient: Recipient) -> Option<Answer> {
        let shared = self.shared.clone();
        let route = shared.routing.route(&recipient.mailbox, None);
        if route.is_some_and(|r| r.target == Target::Mailboxes) {
            let known = matches!(shared.addresses.resolve(&recipient.mailbox), Resolved::Local { .. });
            let reply = (!known).then(replies::unknown_recipient);
            return Some(self.decide_rcpt(inbound, &recipient, Some((known, reply))));
        }
        match route.map_or(Verify::None, |r| r.verify) {
            Verify::None => Some(self.decide_rcpt(inbound, &recipient, None)),
            Verify::Table => {
                let known = route.and_then(|r| r.table.as_ref()).is_some_and(|t| t.contains(&recipient.mailbox));
                let reply = (!known).then(replies::unknown_recipient);
                Some(self.decide_rcpt(inbound, &recipient, Some((known, reply))))
            }
            Verify::Callout => {
                if let Some(refusal) = inbound.judge.refuses(self.now, &recipient) {
                    return Some(refusal);
                }
                let name = route.map_or("none", |r| &r.name);
                let key = RecipientCache::key(name, &recipient.mailbox);
                if let Some(known) = self.recipients.lookup(self.now, &key) {
                    return Some(self.decide_rcpt(inbound, &recipient, Some(opinion(known))));
                }
                let to = shared.routing.key(route, &recipient.mailbox);
                self.call_out(inbound.asker(), key, to, recipient);
                None
            }
        }
    }

    /// The policy's word, with what is known of the recipient; `opinion` is whether it exists, and the reply if not.
    fn decide_rcpt(&mut self, inbound: &mut Inbound, recipient: &Recipient, opinion: Option<Opinion>) -> Answer {
        let (exists, refusal) = match opinion {
            // A 4xx says nothing about whether it exists.
            Some((_, Some(reply))) if reply.is_transient() => (None, Some(reply)),
            Some((exists, reply)) => (Some(exists), reply),
            None => (None, None),
        };
        let (word, named) = inbound.judge.rcpt(self.now, recipient, exists);
        match (word, refusal) {
            (Err(answer), _) => answer,
            (Ok((_, delay)), Some(reply)) => {
                inbound.judge.recipient_refused(&reply);
                Answer::Refuse { close: false, reply, after: delay }
            }
            (Ok((grant, after)), None) => {
                if let Some(route) = named {
                    inbound.named_routes.push((recipient.mailbox.clone(), route));
                }
                Answer::Granted { grant, after }
            }
        }
    }

    /// What is known about the argument of VRFY without asking anybody (RFC 5321 §3.5): by a table, or from what a
    /// backend has said before. `None` is 252: we would try.
    pub(super) fn knows(&mut self, argument: &str) -> Option<Reply> {
        let text = argument.trim().trim_start_matches('<').trim_end_matches('>');
        let mailbox = match text.contains('@') {
            true => parse_mailbox(text).ok()?,
            false => parse_mailbox(&format!("{text}@{}", self.shared.config.domains.first()?)).ok()?,
        };
        let shared = self.shared.clone();
        let route = shared.routing.route(&mailbox, None)?;
        if route.target == Target::Mailboxes {
            return Some(match shared.addresses.resolve(&mailbox) {
                Resolved::Local { .. } => replies::verified(&mailbox),
                Resolved::Unknown | Resolved::NotLocal => replies::unknown_recipient(),
            });
        }
        let known = match route.verify {
            Verify::None => return None,
            Verify::Table => route.table.as_ref()?.contains(&mailbox).then_some(Known::Accepted),
            Verify::Callout => Some(self.recipients.lookup(self.now, &RecipientCache::key(&route.name, &mailbox))?),
        };
        Some(match known {
            Some(Known::Accepted) => replies::verified(&mailbox),
            Some(Known::Refused(reply) | Known::Deferred(reply)) => (*reply).clone(),
            None => replies::unknown_recipient(),
        })
    }

    /// The members of a list, for EXPN (RFC 5321 §3.5.2).
    pub(super) fn members(&self, argument: &str) -> Option<Reply> {
        let list = argument.trim().trim_start_matches('<').trim_end_matches('>');
        self.shared.addresses.expand(list).map(replies::members)
    }

    fn call_out(&mut self, asker: Asker, key: String, to: Key, recipient: Recipient) {
        let mailbox = recipient.mailbox.clone();
        let waiter = Waiter { asker, recipient };
        if let Some(others) = self.callouts.get_mut(&key) {
            others.push(waiter);
            return;
        }
        self.callouts.insert(key.clone(), vec![waiter]);
        self.submit(Job {
            owner: Owner::Callout(key),
            to,
            task: Task::Verify { sender: ReversePath::Null, recipient: mailbox },
            tries: 0,
            give_up: self.now + self.shared.config.settings.relay.spool_wait.min(CALLOUT_MAX),
        });
    }

    /// A callout has ended.
    pub(super) fn callout_ended(&mut self, key: String, end: JobEnd) {
        let known = match end {
            JobEnd::Verified(Verification::Recipient(reply)) => {
                self.recipients.learn(self.now, key.clone(), &reply);
                match reply.is_positive() {
                    true => Some((true, None)),
                    false => Some((false, Some(reply))),
                }
            }
            JobEnd::Verified(Verification::Unable(reply)) => {
                tracing::info!(%reply, "the backend does not answer callouts");
                None
            }
            JobEnd::Refused(reply) => Some((false, Some(reply))),
            JobEnd::Verified(Verification::Lost(_)) | JobEnd::Unavailable(_) | JobEnd::Finished { .. } => None,
        };
        for waiter in self.callouts.remove(&key).unwrap_or_default() {
            self.called_out.push_back((waiter, known.clone()));
        }
    }

    /// Answers clients whose callouts have ended; outside of the leg that made them.
    pub(super) fn answer_callouts(&mut self) {
        while let Some((waiter, known)) = self.called_out.pop_front() {
            let Waiter { asker, recipient } = waiter;
            let Some(End::Client(mut inbound)) = self.take(asker.conn) else { continue };
            if inbound.question != asker.question {
                self.put(asker.conn, End::Client(inbound));
                continue;
            }
            let answer = self.decide_rcpt(&mut inbound, &recipient, known);
            self.client_answered(inbound, asker.question, answer);
        }
    }
}

/// A client waits no longer than this for the answer to its RCPT: RFC 5321 §4.5.3.2.3 gives it five minutes.
const CALLOUT_MAX: Duration = Duration::from_secs(60);

fn opinion(known: Known) -> Opinion {
    match known {
        Known::Accepted => (true, None),
        Known::Refused(reply) | Known::Deferred(reply) => (false, Some((*reply).clone())),
    }
}
