//! What one session sees of a mailbox: which UID stands at which message sequence number.

use super::{Uid, UidSet};

/// Message sequence numbers 1 to n and their UIDs, as runs (RFC 9051 §2.3.1.2). A million messages without a gap are one
/// run; each gap adds one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// First sequence number and first UID of each run, ascending.
    runs: Vec<(u32, Uid)>,
    exists: u32,
}

impl View {
    /// All of a mailbox. Sequence numbers are 32 bits wide; what would stand beyond them is left out.
    pub fn new(uids: &UidSet) -> View {
        let mut view = View::default();
        view.extend(uids);
        view
    }
    /// How many messages (EXISTS).
    pub fn exists(&self) -> u32 {
        self.exists
    }
    /// The highest UID in it.
    pub fn last_uid(&self) -> Option<Uid> {
        self.uid_of(self.exists)
    }
    /// Adds messages at the end; `uids` are higher than all that are there.
    pub fn extend(&mut self, uids: &UidSet) {
        for &(first, last) in uids.ranges() {
            debug_assert!(self.last_uid().is_none_or(|highest| highest < first));
            if self.last_uid().is_none_or(|highest| highest + 1 != first) {
                self.runs.push((self.exists + 1, first));
            }
            self.exists = self.exists.saturating_add(last - first).saturating_add(1);
        }
    }
    fn length(&self, run: usize) -> u32 {
        let next = self.runs.get(run + 1).map_or(self.exists + 1, |r| r.0);
        next - self.runs[run].0
    }
    /// The UID at a sequence number.
    pub fn uid_of(&self, seq: u32) -> Option<Uid> {
        if seq == 0 || seq > self.exists {
            return None;
        }
        let run = self.runs.partition_point(|r| r.0 <= seq) - 1;
        let (first_seq, first_uid) = self.runs[run];
        Some(first_uid + (seq - first_seq))
    }
    /// The sequence number of a UID.
    pub fn seq_of(&self, uid: Uid) -> Option<u32> {
        let run = self.runs.partition_point(|r| r.1 <= uid).checked_sub(1)?;
        let (first_seq, first_uid) = self.runs[run];
        (uid - first_uid < self.length(run)).then(|| first_seq + (uid - first_uid))
    }
    /// The UIDs at a closed range of sequence numbers.
    pub fn uids_of(&self, first: u32, last: u32) -> UidSet {
        let mut uids = UidSet::new();
        let (first, last) = (first.max(1), last.min(self.exists));
        if first > last {
            return uids;
        }
        let mut run = self.runs.partition_point(|r| r.0 <= first) - 1;
        let mut seq = first;
        while seq <= last {
            let (first_seq, first_uid) = self.runs[run];
            let end = last.min(first_seq + self.length(run) - 1);
            uids.insert_range(first_uid + (seq - first_seq), first_uid + (end - first_seq));
            seq = end + 1;
            run += 1;
        }
        uids
    }
    /// All UIDs.
    pub fn uids(&self) -> UidSet {
        self.uids_of(1, self.exists)
    }
    /// Takes messages out, each with the sequence number it has at that moment: what EXPUNGE reports, in the order in
    /// which it must be reported. From the highest to the lowest, so that no number moves before it is reported.
    pub fn remove(&mut self, gone: &UidSet) -> Vec<u32> {
        let gone = gone.intersection(&self.uids());
        let mut seqs: Vec<u32> = gone.iter().filter_map(|uid| self.seq_of(uid)).collect();
        seqs.reverse();
        let left = self.uids().difference(&gone);
        *self = View::new(&left);
        seqs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_counts_as_a_list_would(mut list in prop::collection::btree_set(1u32..60, 0..40), gone in prop::collection::btree_set(1u32..60, 0..20)) {
            let mut view = View::new(&list.iter().copied().collect());
            for round in 0..2 {
                let flat: Vec<u32> = list.iter().copied().collect();
                prop_assert_eq!(view.exists() as usize, flat.len());
                for seq in 0..=flat.len() as u32 + 1 {
                    let expected = (seq as usize).checked_sub(1).and_then(|i| flat.get(i)).copied();
                    prop_assert_eq!(view.uid_of(seq), expected);
                    if let Some(uid) = expected {
                        prop_assert_eq!(view.seq_of(uid), Some(seq));
                    }
                }
                for uid in 0..61 {
                    prop_assert_eq!(view.seq_of(uid).is_some(), list.contains(&uid));
                }
                prop_assert_eq!(view.uids_of(2, 9), flat.iter().copied().skip(1).take(8).collect());
                if round == 0 {
                    let seqs = view.remove(&gone.iter().copied().collect());
                    let mut replay = flat.clone();
                    for seq in seqs {
                        replay.remove(seq as usize - 1);
                    }
                    list.retain(|uid| !gone.contains(uid));
                    prop_assert_eq!(replay, list.iter().copied().collect::<Vec<_>>());
                }
            }
            view.extend(&UidSet::range(100, 102));
            prop_assert_eq!(view.last_uid(), Some(102));
            prop_assert_eq!(view.exists() as usize, list.len() + 3);
        }
    }
}
