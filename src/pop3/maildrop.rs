//! A maildrop as one session sees it: INBOX frozen at login, with the marks of DELE.
//!
//! How it fails: it does not; what is not there is `None`.

use super::ahead::Ahead;
use crate::base::mailbox::ask::{Row, Selected};
use crate::base::mailbox::{AccountId, MailboxId, Uid, UidSet, View};

/// The messages of a session and what it did with them.
#[derive(Debug)]
pub(super) struct Maildrop {
    pub account: AccountId,
    pub mailbox: MailboxId,
    uid_validity: u32,
    view: View,
    /// Octets of each message as they are sent, by message number.
    octets: Vec<u64>,
    deleted: Marks,
    /// Messages that RETR has sent to the end.
    retrieved: Marks,
    /// What is not marked as deleted.
    count: u32,
    total: u64,
    /// The highest message number that was accessed (LAST, RFC 1081).
    pub last: u32,
    /// Messages that were read before they are asked for.
    pub ahead: Ahead,
}

impl Maildrop {
    /// Nothing yet of a mailbox that was opened.
    pub fn new(account: AccountId, selected: &Selected) -> Maildrop {
        Maildrop {
            account,
            mailbox: selected.status.mailbox,
            uid_validity: selected.status.uid_validity,
            view: View::default(),
            octets: Vec::new(),
            deleted: Marks::default(),
            retrieved: Marks::default(),
            count: 0,
            total: 0,
            last: 0,
            ahead: Ahead::default(),
        }
    }

    /// The next messages, by UID.
    pub fn extend(&mut self, rows: &[Row]) {
        let mut uids = UidSet::new();
        for row in rows {
            uids.insert(row.uid);
            // RFC 1939 §11: the count is that of the octets sent, so a CRLF that is added counts.
            let octets = row.octets + if row.ends_with_crlf { 0 } else { 2 };
            self.octets.push(octets);
            self.total += octets;
            self.count += 1;
        }
        self.view.extend(&uids);
        debug_assert_eq!(self.view.exists() as usize, self.octets.len());
    }

    /// The highest message number there is, deleted or not.
    pub fn highest(&self) -> u32 {
        self.view.exists()
    }
    /// Messages that are not marked.
    pub fn count(&self) -> u32 {
        self.count
    }
    /// Their octets.
    pub fn total(&self) -> u64 {
        self.total
    }
    /// UID and octets of a message that is there and not marked.
    pub fn message(&self, number: u32) -> Option<(Uid, u64)> {
        let uid = self.view.uid_of(number).filter(|_| !self.deleted.contains(number))?;
        Some((uid, self.octets[number as usize - 1]))
    }
    /// Whether it is marked.
    pub fn is_deleted(&self, number: u32) -> bool {
        self.deleted.contains(number)
    }
    /// DELE; the message must be there.
    pub fn delete(&mut self, number: u32) {
        if let Some((_, octets)) = self.message(number) {
            self.deleted.set(number);
            self.count -= 1;
            self.total -= octets;
            self.last = self.last.max(number);
        }
    }
    /// RETR has sent it.
    pub fn note_retrieved(&mut self, number: u32) {
        self.retrieved.set(number);
        self.last = self.last.max(number);
    }
    /// RSET.
    pub fn reset(&mut self) {
        self.deleted = Marks::default();
        self.retrieved = Marks::default();
        self.count = self.highest();
        self.total = self.octets.iter().sum();
        self.last = 0;
    }
    /// What the UPDATE state removes: messages marked by DELE, and with `retrieved` those that were retrieved.
    pub fn doomed(&self, retrieved: bool) -> UidSet {
        let is_doomed = |n: &u32| self.deleted.contains(*n) || retrieved && self.retrieved.contains(*n);
        (1..=self.highest()).filter(is_doomed).filter_map(|n| self.view.uid_of(n)).collect()
    }
    /// The unique id of a UID (RFC 1939 §7): never used again, since neither a UID nor a UIDVALIDITY is.
    pub fn unique_id(&self, uid: Uid) -> String {
        format!("{:08x}{uid:08x}", self.uid_validity)
    }
}

/// Marked message numbers, a bit each.
#[derive(Debug, Default)]
struct Marks(Vec<u64>);

impl Marks {
    fn set(&mut self, number: u32) {
        let word = number as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }
    fn contains(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word >> (number % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_apart() {
        let mut marks = Marks::default();
        for number in [1, 63, 64, 200] {
            marks.set(number);
        }
        let marked: Vec<u32> = (0..300).filter(|n| marks.contains(*n)).collect();
        assert_eq!(marked, [1, 63, 64, 200]);
    }
}
