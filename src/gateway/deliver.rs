//! Deliveries from the queue: an attempt the spool lane hands out becomes a job, and its end becomes fates.
//!
//! How it fails: every end of a job is a fate for each recipient of the attempt: delivered, failed for good, or deferred
//! (with the destination left alone for a while when it was not there at all). A report that the lane cannot take at
//! once is kept and told again at the next tick; nothing is forgotten.

use super::core::Core;
use super::lanes::{Attempted, SpoolRequest};
use super::outbound::{Job, JobEnd, Owner, Task};
use super::routing::Key;
use crate::base::id::SpoolId;
use crate::smtp::client::{Delivery, Fate as Ended, Speaks, Unity};
use crate::spool::{Fate, Scope};
use crate::wire::replies;
use crate::wire::reply::{Enhanced, Reply};

/// What is needed to report back about an attempt.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: SpoolId,
    pub(super) recipients: Vec<u32>,
    pub(super) destination: String,
    pub(super) number: u32,
    pub(super) lane: usize,
}

impl Core {
    /// The spool lane hands out a message that is due.
    pub(super) fn deliver(&mut self, attempted: Attempted) {
        let Attempted { attempt, prefix, body, lane } = attempted;
        if self.is_draining() {
            // Its turn comes after the next start.
            let request = SpoolRequest::Return { id: attempt.id, recipients: attempt.recipients };
            return self.tell_spool(lane, request);
        }
        let Some(first) = attempt.recipients.first().and_then(|i| attempt.envelope.recipients.get(*i as usize)) else {
            return self.tell_spool(lane, SpoolRequest::Settle { id: attempt.id, fates: Vec::new() });
        };
        let to = self.shared.routing.key_of_text(&attempt.destination, &first.mailbox);
        if to == Key::Mailboxes {
            return self.deliver_locally(Attempted { attempt, prefix, body, lane });
        }
        let delivery = Delivery {
            envelope: attempt.envelope,
            recipients: attempt.recipients.clone(),
            prefix,
            body,
            unity: Unity::Each,
        };
        let owner = Attempt {
            id: attempt.id,
            recipients: attempt.recipients,
            destination: attempt.destination,
            number: attempt.attempt,
            lane,
        };
        self.submit(Job {
            owner: Owner::Spool(Box::new(owner)),
            to,
            task: Task::Deliver(Box::new(delivery)),
            tries: 0,
            give_up: self.now + self.shared.config.settings.relay.spool_wait,
        });
    }

    /// An attempt has ended: tells the spool what became of each recipient.
    pub(super) fn attempt_ended(&mut self, attempt: Attempt, end: JobEnd) {
        let everybody = |fate: Fate| attempt.recipients.iter().map(|r| (*r, fate.clone())).collect::<Vec<_>>();
        let fates = match end {
            JobEnd::Finished { outcome, dsn, speaks } => {
                // LMTP delivers into mailboxes and reports nothing (RFC 2033 §4.2), so success is ours to report.
                let dsn_passed_on = dsn && speaks == Speaks::Smtp;
                outcome.recipients.into_iter().map(|(r, ended)| (r, fate(ended, dsn_passed_on))).collect()
            }
            JobEnd::Unavailable(reason) => everybody(Fate::Deferred {
                reply: Reply::new(451, Some(Enhanced(4, 4, 1)), reason),
                scope: Scope::Destination,
            }),
            JobEnd::Refused(reply) => everybody(Fate::Failed { reply }),
            JobEnd::Verified(_) => everybody(Fate::Deferred { reply: replies::local_error(), scope: Scope::Message }),
        };
        self.tell_fates(attempt, fates);
    }

    /// Writes what became of an attempt into the log and tells its queue.
    pub(super) fn tell_fates(&mut self, attempt: Attempt, fates: Vec<(u32, Fate)>) {
        for (recipient, fate) in &fates {
            let (verdict, reply) = match fate {
                Fate::Delivered { reply, .. } => ("delivered", reply),
                Fate::Failed { reply } => ("failed", reply),
                Fate::Deferred { reply, .. } => ("deferred", reply),
            };
            tracing::info!(
                target: "delivery", id = %attempt.id, recipient, destination = attempt.destination,
                attempt = attempt.number, verdict, %reply, "delivery"
            );
        }
        self.tell_spool(attempt.lane, SpoolRequest::Settle { id: attempt.id, fates });
    }

    /// Tells a lane what it must hear, now or at the next tick.
    pub(super) fn tell_spool(&mut self, lane: usize, request: SpoolRequest) {
        if let Err(back) = self.shared.lanes[lane].ask(request) {
            self.unsaid.push_back((lane, back));
        }
    }

    /// The core ends: what a lane could not take at once is told now, waiting if need be. A fate that is not told would
    /// be a message delivered twice.
    pub(super) fn tell_all(&mut self) {
        for (lane, request) in std::mem::take(&mut self.unsaid) {
            self.shared.lanes[lane].tell(*request);
        }
    }

    /// Tries again what a lane could not take.
    pub(super) fn tell_unsaid(&mut self) {
        while let Some((lane, request)) = self.unsaid.pop_front() {
            if let Err(back) = self.shared.lanes[lane].ask(*request) {
                self.unsaid.push_front((lane, back));
                return;
            }
        }
    }
}

fn fate(ended: Ended, dsn_passed_on: bool) -> Fate {
    match ended {
        Ended::Accepted(proof) => {
            // The proof's text is the backend's whole reply; its code stands before it already.
            let text = proof.text().strip_prefix("250 ").unwrap_or(proof.text()).to_owned();
            Fate::Delivered { reply: Reply::new(250, None, text), dsn_passed_on }
        }
        Ended::Refused { reply, .. } if reply.is_permanent() => Fate::Failed { reply },
        Ended::Refused { reply, .. } => {
            let scope = if reply.code == 421 { Scope::Destination } else { Scope::Message };
            Fate::Deferred { reply, scope }
        }
        Ended::Withheld => Fate::Deferred { reply: replies::recipients_differ(), scope: Scope::Message },
        Ended::Lost { error, .. } => {
            Fate::Deferred { reply: Reply::new(451, Some(Enhanced(4, 4, 2)), error.to_string()), scope: Scope::Message }
        }
    }
}
