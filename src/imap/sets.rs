//! What a client's sequence sets mean in the mailbox it sees (RFC 9051 §9, sequence-set; RFC 5182 for `$`).
//!
//! How it fails: [`NoSuchMessage`] for a sequence number beyond the last (RFC 9051 §6: an error of the client).

use super::state::Mailbox;
use crate::base::mailbox::{Uid, UidSet, View};
use crate::wire::imap::{Bound, SequenceSet};

/// A sequence number that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSuchMessage;

/// The UIDs that a set names, of those the session sees.
pub fn resolve(mailbox: &Mailbox, set: &SequenceSet, uid: bool) -> Result<UidSet, NoSuchMessage> {
    match set {
        // RFC 5182 §2.1: what has been expunged is no longer in it.
        SequenceSet::Saved => Ok(mailbox.saved.intersection(&mailbox.view.uids())),
        SequenceSet::Ranges(ranges) if uid => {
            Ok(uid_ranges(ranges, mailbox.view.last_uid()).intersection(&mailbox.view.uids()))
        }
        SequenceSet::Ranges(ranges) => {
            let exists = mailbox.view.exists();
            let beyond = |bound: Bound| matches!(bound, Bound::Number(n) if n > exists);
            // `1:*` and `*` are no error in an empty mailbox: clients ask so before they know.
            if ranges.iter().any(|(a, b)| beyond(*a) && *b != Bound::Highest || beyond(*b) && *a != Bound::Highest) {
                return Err(NoSuchMessage);
            }
            Ok(by_sequence(&mailbox.view, ranges))
        }
    }
}

/// The same for SEARCH, where a number beyond the last simply matches nothing.
pub fn resolve_for_search(mailbox: &Mailbox, set: &SequenceSet, uid: bool) -> UidSet {
    match set {
        SequenceSet::Ranges(ranges) if !uid => by_sequence(&mailbox.view, ranges),
        // Of UIDs and `$` none is beyond.
        _ => resolve(mailbox, set, true).unwrap_or_default(),
    }
}

/// UIDs as they were said, whether there are messages with them or not.
pub fn uids_said(mailbox: &Mailbox, set: &SequenceSet) -> UidSet {
    match set {
        SequenceSet::Saved => mailbox.saved.clone(),
        SequenceSet::Ranges(ranges) => uid_ranges(ranges, mailbox.view.last_uid()),
    }
}

/// Sequence numbers of those UIDs that the session sees, as a set of numbers.
pub fn sequence_numbers(view: &View, uids: &UidSet) -> UidSet {
    let mut seqs = UidSet::new();
    // UIDs in a row that are all seen have numbers in a row.
    for (first, last) in uids.intersection(&view.uids()).ranges() {
        if let (Some(first), Some(last)) = (view.seq_of(*first), view.seq_of(*last)) {
            seqs.insert_range(first, last);
        }
    }
    seqs
}

/// UIDs that are taken from the front, a part at a time, at the cost of the part.
#[derive(Debug)]
pub struct Left {
    /// The last range is the lowest.
    ranges: Vec<(Uid, Uid)>,
}

impl Left {
    /// All of a set.
    pub fn new(uids: &UidSet) -> Left {
        Left { ranges: uids.ranges().iter().rev().copied().collect() }
    }
    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
    /// Takes the lowest, so many at most.
    pub fn take(&mut self, uids_max: u64) -> UidSet {
        let (mut taken, mut room) = (UidSet::new(), uids_max);
        while room > 0 {
            let Some((first, last)) = self.ranges.pop() else { break };
            let end = u64::from(last).min(u64::from(first).saturating_add(room - 1));
            // Between two 32-bit numbers.
            let end = u32::try_from(end).unwrap_or(last);
            taken.insert_range(first, end);
            room -= u64::from(end - first) + 1;
            if end < last {
                self.ranges.push((end + 1, last));
            }
        }
        taken
    }
    /// Gives back those of a part that has been taken last, from this UID on.
    pub fn give_back(&mut self, part: &UidSet, from: Uid) {
        for (first, last) in part.ranges().iter().rev() {
            if *last >= from {
                self.ranges.push((*first.max(&from), *last));
            }
        }
    }
}

fn by_sequence(view: &View, ranges: &[(Bound, Bound)]) -> UidSet {
    let exists = view.exists();
    let mut parts: Vec<(u32, u32)> = ranges.iter().map(|r| ends(*r, exists)).collect();
    parts.sort_unstable();
    let mut uids = UidSet::new();
    for (first, last) in parts {
        for (a, b) in view.uids_of(first, last).ranges() {
            uids.insert_range(*a, *b);
        }
    }
    uids
}

fn uid_ranges(ranges: &[(Bound, Bound)], highest: Option<Uid>) -> UidSet {
    let mut parts: Vec<(u32, u32)> = ranges.iter().map(|r| ends(*r, highest.unwrap_or(0))).collect();
    // In ascending order the set grows at its end only.
    parts.sort_unstable();
    let mut uids = UidSet::new();
    parts.into_iter().for_each(|(first, last)| uids.insert_range(first.max(1), last));
    uids
}

/// The ends in ascending order (RFC 9051 §9: `4:2` is `2:4`).
fn ends((a, b): (Bound, Bound), highest: u32) -> (u32, u32) {
    let number = |bound| match bound {
        Bound::Number(n) => n,
        Bound::Highest => highest,
    };
    let (a, b) = (number(a), number(b));
    (a.min(b), a.max(b))
}

/// Places from 1 on that a range names, if there are any; negative ones count from the end.
pub(super) fn places(first: i64, last: i64, len: u64) -> Option<(u64, u64)> {
    let from_end = |n: i64| (len + 1).saturating_sub(n.unsigned_abs());
    let (a, b) = match (first, last) {
        (a, b) if a > 0 && b > 0 => (a.unsigned_abs(), b.unsigned_abs()),
        (a, b) if a < 0 && b < 0 => (from_end(a).max(1), from_end(b).max(1)),
        _ => return None,
    };
    let (a, b) = (a.min(b), a.max(b).min(len));
    // Ends that lie before the first place name nothing.
    let beyond = first < 0 && first.unsigned_abs().min(last.unsigned_abs()) > len;
    (a <= b && !beyond).then_some((a, b))
}

/// Those at the places that PARTIAL names (RFC 9394 §3.3).
pub(super) fn part_of(uids: &UidSet, (first, last): (i64, i64)) -> UidSet {
    let Some((first, last)) = places(first, last, uids.len()) else { return UidSet::new() };
    // Whole ranges are passed over, so that a window at the end of a large mailbox costs no more than one at its front.
    let (mut part, mut place) = (UidSet::new(), 1);
    for &(from, to) in uids.ranges() {
        let next = place + u64::from(to - from) + 1;
        if next > first && place <= last {
            let skip = first.saturating_sub(place) as u32;
            let end = (last.min(next - 1) - place) as u32;
            part.insert_range(from + skip, from + end);
        }
        place = next;
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_left_is_taken_in_order(
            uids in prop::collection::btree_set(1u32..60, 0..40),
            steps in prop::collection::vec((1u64..9, 0usize..9), 1..20),
        ) {
            let mut left = Left::new(&uids.iter().copied().collect());
            let mut model: Vec<u32> = uids.into_iter().collect();
            for (take, keep) in steps {
                let part: Vec<u32> = model.drain(..model.len().min(take as usize)).collect();
                let taken = left.take(take);
                prop_assert_eq!(taken.iter().collect::<Vec<_>>(), part.clone());
                if let Some(from) = part.get(keep) {
                    left.give_back(&taken, *from);
                    model.splice(..0, part[keep..].iter().copied());
                }
                prop_assert_eq!(left.is_empty(), model.is_empty());
            }
            prop_assert_eq!(left.take(u64::MAX).iter().collect::<Vec<_>>(), model);
        }
    }
}
