//! What is kept in memory about a waiting message: small, without envelope and body. How it fails: it does not.

use super::report::ReportKind;
use crate::base::envelope::{Envelope, Recipient};
use crate::base::id::Slot;
use crate::base::time::WallTime;
use crate::log::Location;
use crate::wire::reply::Reply;
use smallvec::SmallVec;

/// What became of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// To be delivered.
    Waiting,
    /// The next hop has taken it.
    Delivered,
    /// Given up.
    Failed,
    /// Taken off by an administrator.
    Removed,
}

/// What a recipient wants to be told (RFC 3461 §4.1), as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wants(pub u8);

impl Wants {
    const SUCCESS: u8 = 1;
    const FAILURE: u8 = 2;
    const DELAY: u8 = 4;

    pub fn of(recipient: &Recipient) -> Wants {
        match recipient.notify {
            // RFC 3461 §4.1: absent means FAILURE, and a delay may be told.
            None => Wants(Wants::FAILURE | Wants::DELAY),
            Some(n) => {
                let bit = |on: bool, bit: u8| if on { bit } else { 0 };
                Wants(bit(n.success, Wants::SUCCESS) | bit(n.failure, Wants::FAILURE) | bit(n.delay, Wants::DELAY))
            }
        }
    }

    pub fn wants(self, kind: ReportKind) -> bool {
        let bit = match kind {
            ReportKind::Success => Wants::SUCCESS,
            ReportKind::Failure => Wants::FAILURE,
            ReportKind::Delay => Wants::DELAY,
        };
        self.0 & bit != 0
    }
}

#[derive(Clone, Debug)]
pub(super) struct RecipientState {
    pub leg: u32,
    pub status: Status,
    pub wants: Wants,
    /// A report that must be sent.
    pub due: Option<ReportKind>,
    /// A report somebody is composing; due again after a restart.
    pub taken: Option<ReportKind>,
    pub delay_told: bool,
    /// What decided its fate, or delayed it last.
    pub reply: Option<Box<Reply>>,
}

impl RecipientState {
    pub fn is_over(&self) -> bool {
        self.status != Status::Waiting && self.due.is_none() && self.taken.is_none()
    }
}

/// The recipients of one message that go to one destination.
#[derive(Clone, Debug)]
pub(super) struct LegState {
    /// In the table of destinations, while there is somebody to deliver to.
    pub destination: Slot,
    pub due: WallTime,
    pub attempts: u32,
    pub in_flight: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub at: Location,
    pub state_at: Option<Location>,
    pub received: WallTime,
    /// Of trace headers and body.
    pub octets: u64,
    pub body: Option<u64>,
    pub null_sender: bool,
    pub hold: Option<Box<str>>,
    pub legs: SmallVec<[LegState; 1]>,
    pub recipients: SmallVec<[RecipientState; 1]>,
    /// Its place in the order of deadlines.
    pub deadline: Option<WallTime>,
    /// Everything is settled and told; the tombstone is on its way.
    pub over: bool,
}

impl Entry {
    /// Waiting recipients of a leg.
    pub fn waiting(&self, leg: u32) -> impl Iterator<Item = u32> + '_ {
        let of_leg = move |(_, r): &(usize, &RecipientState)| r.leg == leg && r.status == Status::Waiting;
        self.recipients.iter().enumerate().filter(of_leg).map(|(i, _)| i as u32)
    }

    pub fn is_waiting(&self) -> bool {
        self.recipients.iter().any(|r| r.status == Status::Waiting)
    }
}

/// The states of recipients whose routes are `routes`, and the names of the legs they form.
pub(super) fn legs_of(envelope: &Envelope, routes: &[String]) -> (SmallVec<[RecipientState; 1]>, Vec<String>) {
    let mut names: Vec<String> = Vec::new();
    let mut known = std::collections::HashMap::new();
    let recipients = envelope.recipients.iter().zip(routes).map(|(recipient, route)| {
        let leg = *known.entry(route.as_str()).or_insert_with(|| {
            names.push(route.clone());
            names.len() as u32 - 1
        });
        RecipientState {
            leg,
            status: Status::Waiting,
            wants: Wants::of(recipient),
            due: None,
            taken: None,
            delay_told: false,
            reply: None,
        }
    });
    let recipients = recipients.collect();
    (recipients, names)
}
