//! A set of UIDs as ranges: what a million messages in a row cost is one pair.

use super::Uid;
use std::fmt;

/// UIDs in ascending order, kept as closed ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UidSet {
    ranges: Vec<(Uid, Uid)>,
}

impl UidSet {
    /// None.
    pub fn new() -> UidSet {
        UidSet::default()
    }
    /// One range; empty when `first > last`.
    pub fn range(first: Uid, last: Uid) -> UidSet {
        let mut set = UidSet::new();
        set.insert_range(first, last);
        set
    }
    /// Adds one.
    pub fn insert(&mut self, uid: Uid) {
        self.insert_range(uid, uid);
    }
    /// Adds a closed range; nothing when `first > last`.
    pub fn insert_range(&mut self, first: Uid, last: Uid) {
        if first > last {
            return;
        }
        match self.ranges.last_mut() {
            // In ascending order it costs nothing.
            Some(end) if first > end.1.saturating_add(1) => self.ranges.push((first, last)),
            Some(end) if first >= end.0 => end.1 = end.1.max(last),
            None => self.ranges.push((first, last)),
            Some(_) => {
                let from = self.ranges.partition_point(|r| r.1.saturating_add(1) < first);
                let to = self.ranges.partition_point(|r| r.0 <= last.saturating_add(1));
                let joined = self.ranges[from..to]
                    .iter()
                    .fold((first, last), |joined, r| (joined.0.min(r.0), joined.1.max(r.1)));
                self.ranges.splice(from..to, [joined]);
            }
        }
    }
    /// Whether it is one of them.
    pub fn contains(&self, uid: Uid) -> bool {
        let at = self.ranges.partition_point(|r| r.1 < uid);
        self.ranges.get(at).is_some_and(|r| r.0 <= uid)
    }
    /// Those that are in both.
    pub fn intersection(&self, other: &UidSet) -> UidSet {
        let (mut a, mut b) = (self.ranges.iter().peekable(), other.ranges.iter().peekable());
        let mut both = UidSet::new();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            both.insert_range(x.0.max(y.0), x.1.min(y.1));
            if x.1 < y.1 {
                a.next()
            } else {
                b.next()
            };
        }
        both
    }
    /// Those that are not in `other`.
    pub fn difference(&self, other: &UidSet) -> UidSet {
        let mut left = UidSet::new();
        let mut holes = other.ranges.iter().peekable();
        for &(first, last) in &self.ranges {
            let mut at = Some(first);
            while let Some(from) = at {
                while holes.peek().is_some_and(|h| h.1 < from) {
                    holes.next();
                }
                match holes.peek() {
                    Some(hole) if hole.0 <= last => {
                        if hole.0 > from {
                            left.insert_range(from, hole.0 - 1);
                        }
                        at = hole.1.checked_add(1).filter(|next| *next <= last);
                    }
                    _ => {
                        left.insert_range(from, last);
                        at = None;
                    }
                }
            }
        }
        left
    }
    /// How many.
    pub fn len(&self) -> u64 {
        self.ranges.iter().map(|r| u64::from(r.1 - r.0) + 1).sum()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
    /// The ranges, ascending.
    pub fn ranges(&self) -> &[(Uid, Uid)] {
        &self.ranges
    }
    /// Each, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Uid> + '_ {
        self.ranges.iter().flat_map(|r| r.0..=r.1)
    }
    /// The lowest.
    pub fn first(&self) -> Option<Uid> {
        self.ranges.first().map(|r| r.0)
    }
    /// The highest.
    pub fn last(&self) -> Option<Uid> {
        self.ranges.last().map(|r| r.1)
    }
}

impl FromIterator<Uid> for UidSet {
    fn from_iter<I: IntoIterator<Item = Uid>>(uids: I) -> UidSet {
        let mut set = UidSet::new();
        uids.into_iter().for_each(|uid| set.insert(uid));
        set
    }
}

impl fmt::Display for UidSet {
    /// As IMAP writes it: `1:3,7` (RFC 9051 §9, sequence-set).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.ranges.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}:{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(uids: &BTreeSet<u32>) -> UidSet {
        uids.iter().copied().collect()
    }

    #[test]
    fn it_is_written_as_imap_writes_it() {
        assert_eq!([1, 2, 3, 7].into_iter().collect::<UidSet>().to_string(), "1:3,7");
        assert_eq!(UidSet::range(4_294_967_295, 4_294_967_295).to_string(), "4294967295");
        assert_eq!(UidSet::range(2, 1).to_string(), "");
    }

    proptest! {
        #[test]
        fn it_is_a_set(order in prop::collection::vec(1u32..40, 0..60), other in prop::collection::btree_set(1u32..40, 0..30)) {
            let model: BTreeSet<u32> = order.iter().copied().collect();
            let ours: UidSet = order.iter().copied().collect();
            prop_assert_eq!(&ours, &set(&model));
            prop_assert_eq!(ours.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(ours.len(), model.len() as u64);
            let theirs = set(&other);
            prop_assert_eq!(ours.intersection(&theirs), set(&model.intersection(&other).copied().collect()));
            prop_assert_eq!(ours.difference(&theirs), set(&model.difference(&other).copied().collect()));
            for uid in 0..41 {
                prop_assert_eq!(ours.contains(uid), model.contains(&uid));
            }
        }
    }
}
