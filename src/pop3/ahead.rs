//! Reading ahead: a client that takes messages in order is given the next ones from memory, so that one question to the
//! store serves many RETR.
//!
//! How far ahead doubles with each question while the order lasts, up to [`MESSAGES_MAX`] messages and
//! `read_ahead_octets`; the first RETR out of order drops what is held. How it fails: it does not; a message that is not
//! held is asked for by itself.

use super::maildrop::Maildrop;
use crate::base::mailbox::ask::{Octets, Row, SectionData};
use crate::base::mailbox::{Uid, UidSet};
use std::collections::VecDeque;

/// Messages that one question asks for at most.
const MESSAGES_MAX: u32 = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The message that was retrieved last.
    last: u32,
    /// Messages of the last question.
    batch: u32,
    /// What came with the message that was asked for, in order.
    held: VecDeque<(Uid, Octets)>,
}

impl Ahead {
    /// The message, if it is held. Those in front of it were passed over and are let go.
    pub fn take(&mut self, number: u32, uid: Uid) -> Option<Octets> {
        let at = self.held.iter().position(|(held, _)| *held == uid)?;
        self.held.drain(..at);
        self.last = number;
        self.held.pop_front().map(|(_, octets)| octets)
    }

    /// Remembers what is to be asked for now, the message `number` first: how many messages beside it.
    fn begin(&mut self, number: u32) -> u32 {
        self.held.clear();
        let in_order = number == self.last + 1;
        self.batch = if in_order { (self.batch * 2).clamp(1, MESSAGES_MAX) } else { 1 };
        self.last = number;
        self.batch - 1
    }

    /// Keeps what the answer has beside the message that was asked for.
    pub fn keep(&mut self, rows: Vec<Row>) {
        debug_assert!(self.held.is_empty());
        for row in rows {
            // A message the store would have read in pieces is asked for when it is its turn.
            if let Some(SectionData::Octets(octets @ Octets::Memory { .. })) = row.sections.into_iter().next() {
                self.held.push_back((row.uid, octets));
            }
        }
    }
}

impl Maildrop {
    /// UIDs to ask for when `number` is wanted and not held: the message itself, and what follows as far as it fits.
    pub fn plan_ahead(&mut self, number: u32, octets_max: u64) -> UidSet {
        let more = self.ahead.begin(number);
        let Some((uid, octets)) = self.message(number) else { return UidSet::new() };
        let mut uids = UidSet::range(uid, uid);
        let mut octets_planned = octets;
        let candidates = (number + 1..=self.highest()).filter_map(|n| self.message(n));
        for (uid, octets) in candidates.take(more as usize) {
            octets_planned = octets_planned.saturating_add(octets);
            if octets_planned > octets_max {
                break;
            }
            uids.insert(uid);
        }
        uids
    }
}
