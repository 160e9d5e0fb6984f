//! Mail for local accounts: recipients through aliases and lists to accounts, and what the mailstore says about it, for
//! clients that wait and for the queue.
//!
//! A message goes to the store once for all of its recipients. How it fails: when some recipients could be served and
//! others could not (an account over its quota), the client of SMTP hears one 250 and the rest goes into the queue, which
//! reports what it cannot deliver; when nobody could be served, the client hears why (452, 552 or 451).

use super::core::{Asker, Core, End};
use super::deliver::Attempt;
use super::inbound::Inbound;
use super::lanes::{Attempted, DeliveryFor};
use super::routing::Key;
use crate::base::address::{Mailbox, ReversePath};
use crate::base::envelope::{Envelope, Recipient};
use crate::base::mailbox::ask::{Delivery, Recipient as LocalRecipient, StoreError};
use crate::mailstore::Delivered;
use crate::mailstore::addresses::Resolved;
use crate::smtp::server::{Kept, Service, Settled};
use crate::spool::{Fate, Scope};
use crate::wire::header::return_path;
use crate::wire::replies;
use crate::wire::reply::Reply;

/// Whether a list can be served in part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Partly {
    Yes,
    No,
}

impl Core {
    /// Where aliases and lists lead to other servers, those recipients are put in the place of the one that was named
    /// (RFC 5321 §3.9). Whether there were any.
    pub(super) fn follow_aliases(&self, envelope: &mut Envelope, keys: &mut Vec<Key>) -> bool {
        if !keys.contains(&Key::Mailboxes) {
            return false;
        }
        let mut led_away = false;
        let (mut recipients, mut new_keys) = (Vec::new(), Vec::new());
        for (recipient, key) in std::mem::take(&mut envelope.recipients).into_iter().zip(keys.drain(..)) {
            let Resolved::Local { accounts, remote, .. } = self.resolve(&key, &recipient) else {
                recipients.push(recipient);
                new_keys.push(key);
                continue;
            };
            let here = !accounts.is_empty() || remote.is_empty();
            led_away |= !remote.is_empty();
            for mailbox in remote {
                let route = self.shared.routing.route(&mailbox, None);
                new_keys.push(self.shared.routing.key(route, &mailbox));
                recipients.push(Recipient { mailbox, ..recipient.clone() });
            }
            if here {
                recipients.push(recipient);
                new_keys.push(key);
            }
        }
        envelope.recipients = recipients;
        *keys = new_keys;
        led_away
    }

    fn resolve(&self, key: &Key, recipient: &Recipient) -> Resolved {
        match key {
            Key::Mailboxes => self.shared.addresses.resolve(&recipient.mailbox),
            _ => Resolved::NotLocal,
        }
    }

    /// How many people a message is for, behind aliases and lists.
    pub(super) fn people(&self, envelope: &Envelope, keys: &[Key]) -> usize {
        let of = |(recipient, key): (&Recipient, &Key)| match self.resolve(key, recipient) {
            Resolved::Local { accounts, remote, .. } => accounts.len() + remote.len(),
            Resolved::Unknown | Resolved::NotLocal => 1,
        };
        envelope.recipients.iter().zip(keys).map(of).sum()
    }

    /// For the queue: in the place of a list its members, so that each has a fate of its own. A list with a member that
    /// has no address of its own stays as it is, and is delivered to all or none.
    pub(super) fn spread_lists(&self, envelope: &mut Envelope, keys: &mut Vec<Key>) {
        let (mut recipients, mut new_keys) = (Vec::new(), Vec::new());
        for (recipient, key) in std::mem::take(&mut envelope.recipients).into_iter().zip(keys.drain(..)) {
            let members = match self.resolve(&key, &recipient) {
                Resolved::Local { accounts, .. } if accounts.len() > 1 => self.own_addresses(&accounts),
                _ => None,
            };
            for mailbox in members.unwrap_or_else(|| vec![recipient.mailbox.clone()]) {
                recipients.push(Recipient { mailbox, ..recipient.clone() });
                new_keys.push(key.clone());
            }
        }
        envelope.recipients = recipients;
        *keys = new_keys;
    }

    fn own_addresses(&self, accounts: &[String]) -> Option<Vec<Mailbox>> {
        accounts.iter().map(|account| self.shared.addresses.own_address(account)).collect()
    }

    /// Who of an envelope is whom here; those who are nobody are left to be refused. With `Partly::Yes` who has no room is
    /// left out of a list instead of the list.
    fn local_recipients(&self, envelope: &Envelope, indexes: &[u32], partly: Partly) -> Vec<LocalRecipient> {
        let of = |index: &u32| {
            let recipient = envelope.recipients.get(*index as usize)?;
            let (accounts, mailbox) = match self.shared.addresses.resolve(&recipient.mailbox) {
                Resolved::Local { accounts, mailbox, .. } => (accounts, mailbox),
                Resolved::Unknown | Resolved::NotLocal => (Vec::new(), None),
            };
            let partly = partly == Partly::Yes && accounts.len() > 1 && self.own_addresses(&accounts).is_some();
            Some(LocalRecipient { index: *index, accounts, mailbox, partly })
        };
        indexes.iter().filter_map(of).collect()
    }

    /// Gives a client's message to the store; the answer now when that has no room.
    pub(super) fn settle_locally(&mut self, inbound: &mut Inbound) -> Option<crate::smtp::server::Answer> {
        let settlement = inbound.settling.as_ref()?;
        let success = |r: &Recipient| r.notify.as_ref().is_some_and(|n| n.success);
        if settlement.envelope.recipients.iter().any(success) {
            // Somebody wants to be told of the delivery (RFC 3461 §4.1): the queue delivers and reports.
            return self.keep(inbound);
        }
        let indexes: Vec<u32> = (0..settlement.envelope.recipients.len() as u32).collect();
        let delivery = Delivery {
            id: settlement.id,
            prefix: with_return_path(&settlement.envelope.sender, &settlement.prefix),
            body: settlement.body.clone(),
            to: self.local_recipients(&settlement.envelope, &indexes, Partly::Yes),
        };
        let sent = match &self.shared.mailboxes {
            Some(lanes) => lanes.deliver(self.number, DeliveryFor::Client(inbound.asker()), delivery).is_ok(),
            None => false,
        };
        (!sent).then(|| self.settled(inbound, Settled::Refused(replies::no_room())))
    }

    /// Gives a message of the queue to the store.
    pub(super) fn deliver_locally(&mut self, attempted: Attempted) {
        let Attempted { attempt, prefix, body, lane } = attempted;
        let delivery = Delivery {
            id: attempt.id,
            prefix: with_return_path(&attempt.envelope.sender, &prefix),
            body,
            // Only a list that could not be spread is one here.
            to: self.local_recipients(&attempt.envelope, &attempt.recipients, Partly::No),
        };
        let attempt = Attempt {
            id: attempt.id,
            recipients: attempt.recipients,
            destination: attempt.destination,
            number: attempt.attempt,
            lane,
        };
        let whose = DeliveryFor::Attempt(Box::new(attempt));
        let back = match &self.shared.mailboxes {
            Some(lanes) => lanes.deliver(self.number, whose, delivery).err(),
            None => Some(whose),
        };
        if let Some(DeliveryFor::Attempt(attempt)) = back {
            let fate = Fate::Deferred { reply: replies::no_room(), scope: Scope::Destination };
            let fates = attempt.recipients.iter().map(|r| (*r, fate.clone())).collect();
            self.tell_fates(*attempt, fates);
        }
    }

    /// The store has delivered a message, or not; `None` is a fault of the store.
    pub(super) fn delivered(&mut self, whose: DeliveryFor, delivered: Option<Delivered>) {
        match whose {
            DeliveryFor::Client(asker) => self.delivered_for_client(asker, delivered),
            DeliveryFor::Attempt(attempt) => {
                let verdicts = delivered.map(|d| d.verdicts).unwrap_or_default();
                let of = |index: &u32| verdicts.iter().find(|(i, _)| i == index).map(|(_, v)| v);
                let fates = attempt.recipients.iter().map(|index| (*index, fate(of(index)))).collect();
                self.tell_fates(*attempt, fates);
            }
        }
    }

    fn delivered_for_client(&mut self, asker: Asker, delivered: Option<Delivered>) {
        let Some(End::Client(mut inbound)) = self.take(asker.conn) else { return };
        if inbound.question != asker.question || inbound.settling.is_none() {
            return self.put(asker.conn, End::Client(inbound));
        }
        let settled = match (delivered, inbound.server.service) {
            (None, _) => Some(Settled::Refused(replies::local_error())),
            (Some(delivered), Service::Lmtp) => self.each(&mut inbound, &delivered),
            (Some(delivered), Service::Mx | Service::Submission) => self.one(&mut inbound, delivered),
        };
        let answer = match settled {
            Some(settled) => Some(self.settled(&mut inbound, settled)),
            // Some have it: the queue takes the others over, under the same question.
            None => self.keep(&mut inbound),
        };
        match answer {
            Some(answer) => self.client_answered(inbound, asker.question, answer),
            None => self.put(asker.conn, End::Client(inbound)),
        }
    }

    /// One verdict for all recipients, or `None` when the queue is to take those that are left.
    fn one(&self, inbound: &mut Inbound, delivered: Delivered) -> Option<Settled> {
        let Some(proof) = delivered.committed else {
            let why = delivered.verdicts.into_iter().find_map(|(_, verdict)| verdict.err());
            return Some(Settled::Refused(why.map_or_else(replies::local_error, |why| refusal(&why))));
        };
        let left: Vec<u32> = delivered.verdicts.iter().filter(|(_, v)| v.is_err()).map(|(index, _)| *index).collect();
        let settlement = inbound.settling.as_mut()?;
        let mut waiting = self.left_of_lists(&settlement.envelope, &delivered.left);
        waiting.extend(left.iter().filter_map(|index| settlement.envelope.recipients.get(*index as usize).cloned()));
        if waiting.is_empty() {
            return Some(Settled::Committed(proof));
        }
        settlement.left_for_queue(waiting);
        None
    }

    /// One verdict per recipient (RFC 2033 §4.2). Who was left out of a list waits in the queue, which answers for it: the
    /// list itself has one reply, and the others have the message. `None` until it is there.
    fn each(&self, inbound: &mut Inbound, delivered: &Delivered) -> Option<Settled> {
        let verdict = |verdict: &Result<(), StoreError>| match (verdict, &delivered.committed) {
            (Ok(()), Some(proof)) => Ok(Kept::Committed(proof.clone())),
            (Ok(()), None) => Err(replies::local_error()),
            (Err(why), _) => Err(refusal(why)),
        };
        let settled = Settled::PerRecipient(delivered.verdicts.iter().map(|(_, v)| verdict(v)).collect());
        let settlement = inbound.settling.as_mut()?;
        let waiting = self.left_of_lists(&settlement.envelope, &delivered.left);
        if waiting.is_empty() || delivered.committed.is_none() {
            return Some(settled);
        }
        settlement.left_for_queue(waiting);
        settlement.settled_before = Some(settled);
        None
    }

    /// Members of lists that have not got a message which others have, as recipients of their own.
    fn left_of_lists(&self, envelope: &Envelope, left: &[(u32, String, StoreError)]) -> Vec<Recipient> {
        let of = |(index, account, _): &(u32, String, StoreError)| {
            let recipient = envelope.recipients.get(*index as usize)?;
            let mailbox = self.shared.addresses.own_address(account)?;
            Some(Recipient { mailbox, ..recipient.clone() })
        };
        left.iter().filter_map(of).collect()
    }
}

fn with_return_path(sender: &ReversePath, prefix: &[u8]) -> Vec<u8> {
    let mut fields = return_path(sender).into_bytes();
    fields.extend_from_slice(prefix);
    fields
}

/// What a client hears when the store did not take a message.
fn refusal(why: &StoreError) -> Reply {
    match why {
        StoreError::OverQuota => replies::over_quota(),
        StoreError::NoSuchAccount | StoreError::NoSuchMailbox | StoreError::Gone => replies::unknown_recipient(),
        StoreError::Busy | StoreError::DiskFull => replies::no_room(),
        StoreError::Limit(_) => replies::size_too_large(),
        _ => replies::local_error(),
    }
}

/// What the queue hears. An account over its quota may find room in time; who is not there is not.
fn fate(verdict: Option<&Result<(), StoreError>>) -> Fate {
    match verdict {
        Some(Ok(())) => {
            Fate::Delivered { reply: Reply::new(250, None, "2.1.5 delivered to the mailbox"), dsn_passed_on: false }
        }
        Some(Err(StoreError::OverQuota)) => Fate::Deferred { reply: replies::mailbox_full(), scope: Scope::Message },
        Some(Err(why)) => {
            let reply = refusal(why);
            if reply.is_permanent() {
                Fate::Failed { reply }
            } else {
                Fate::Deferred { reply, scope: Scope::Destination }
            }
        }
        None => Fate::Deferred { reply: replies::local_error(), scope: Scope::Destination },
    }
}
