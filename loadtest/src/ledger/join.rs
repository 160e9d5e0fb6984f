//! Sender, sinks and readers joined: what was lost, duplicated, corrupted, reordered.
//!
//! Senders say what they were promised; sinks and readers, each for themselves, what they saw. Everything is counted
//! exactly, with the first few ids of each kind for whoever looks into it. How it fails: a ledger that cannot be read
//! fails with its name and line.

use super::{Fate, read};
use crate::message::Id;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

/// Examples kept of each kind.
const EXAMPLES_MAX: usize = 5;

/// Two ledgers joined, counted in recipients where not said otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Messages the sender wrote down.
    pub sent_messages: u64,
    /// Accepted recipients.
    pub accepted: u64,
    /// Messages refused.
    pub refused_messages: u64,
    /// Messages without a reply.
    pub unknown_messages: u64,
    /// Recipients that were seen.
    pub seen: u64,
    /// Accepted, never seen. Must be 0.
    pub lost: u64,
    /// Seen more often than accepted or unknown.
    pub duplicated: u64,
    /// Messages seen with another body than was sent.
    pub corrupted_messages: u64,
    /// Messages of one sender that came out of the order in which they were accepted: the fewest that would have to be
    /// moved. Over several connections this is no fault.
    pub reordered_messages: u64,
    /// Messages refused and yet seen.
    pub refused_but_seen_messages: u64,
    /// Messages whose reply was lost, and which arrived.
    pub unknown_but_seen_messages: u64,
    /// Messages that were seen and that nobody sent.
    pub foreign_messages: u64,
    /// First ids that were lost, duplicated or corrupted, for whoever looks into it.
    pub examples: Vec<String>,
}

impl Account {
    /// Whether nothing accepted was lost or changed.
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.corrupted_messages == 0
    }

    fn rows(&self) -> [(&'static str, u64); 9] {
        [
            ("seen", self.seen),
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("corrupted", self.corrupted_messages),
            ("reordered", self.reordered_messages),
            ("refused but seen", self.refused_but_seen_messages),
            ("unknown, seen", self.unknown_but_seen_messages),
            ("unknown, not seen", self.unknown_messages.saturating_sub(self.unknown_but_seen_messages)),
            ("foreign", self.foreign_messages),
        ]
    }

    fn head(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "sent {} messages, {} recipients accepted", self.sent_messages, self.accepted)?;
        writeln!(f, "refused {} messages, {} without a reply", self.refused_messages, self.unknown_messages)
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.head(f)?;
        self.rows().iter().try_for_each(|(name, n)| writeln!(f, "{name:<18}{n:>12}"))?;
        self.examples.iter().try_for_each(|e| writeln!(f, "  {e}"))
    }
}

/// The sender's promises joined with what the sinks saw, and with what the readers saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// With the sinks, or with the readers when there are no sinks.
    #[serde(flatten)]
    pub first: Account,
    /// With the readers, beside sinks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<Account>,
}

impl Accounts {
    /// Whether nothing accepted was lost or changed, wherever it was looked for.
    pub fn is_clean(&self) -> bool {
        self.first.is_clean() && self.read.as_ref().is_none_or(Account::is_clean)
    }
}

impl std::fmt::Display for Accounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(read) = &self.read else { return self.first.fmt(f) };
        self.first.head(f)?;
        writeln!(f, "{:<18}{:>12}{:>12}", "", "sinks", "readers")?;
        for ((name, sinks), (_, readers)) in self.first.rows().iter().zip(read.rows()) {
            writeln!(f, "{name:<18}{sinks:>12}{readers:>12}")?;
        }
        self.first.examples.iter().try_for_each(|e| writeln!(f, "  sinks: {e}"))?;
        read.examples.iter().try_for_each(|e| writeln!(f, "  readers: {e}"))
    }
}

/// Joins senders with sinks and readers; at least one of the latter two is there.
pub fn accounts<P: AsRef<Path>>(sent: &[P], seen: &[P], read: &[P]) -> io::Result<Accounts> {
    if seen.is_empty() {
        return Ok(Accounts { first: join(sent, read)?, read: None });
    }
    let by_readers = if read.is_empty() { None } else { Some(join(sent, read)?) };
    Ok(Accounts { first: join(sent, seen)?, read: by_readers })
}

struct Promise {
    fate: Fate,
    crc: u32,
    recipients: u32,
    /// Line of the sender's ledger: the order in which outcomes were known.
    place: u64,
}

#[derive(Default)]
struct Joined {
    promise: Option<Promise>,
    seen: u32,
    changed: bool,
}

/// Joins senders' ledgers with those of sinks, or with those of readers.
pub fn join(sender: &[impl AsRef<Path>], observer: &[impl AsRef<Path>]) -> io::Result<Account> {
    let mut messages: HashMap<Id, Joined> = HashMap::new();
    let mut place = 0;
    for path in sender {
        read(path.as_ref(), |l| {
            place += 1;
            let promise = Promise { fate: l.fate, crc: l.crc, recipients: l.recipients, place };
            messages.entry(l.id).or_default().promise = Some(promise);
        })?;
    }
    let mut account = Account::default();
    for path in observer {
        // By run and core of the sender: places in the order in which they were seen here.
        let mut orders: BTreeMap<(u32, u16), Vec<u64>> = BTreeMap::new();
        read(path.as_ref(), |l| {
            let joined = messages.entry(l.id).or_default();
            let first = joined.seen == 0;
            joined.seen = joined.seen.saturating_add(l.recipients);
            if let Some(promise) = &joined.promise {
                joined.changed |= promise.crc != l.crc;
                if first {
                    orders.entry((l.id.run, l.id.core)).or_default().push(promise.place);
                }
            }
        })?;
        account.reordered_messages += orders.values().map(|o| o.len() as u64 - longest_rise(o)).sum::<u64>();
    }
    let mut ordered: Vec<_> = messages.into_iter().collect();
    ordered.sort_unstable_by_key(|(id, _)| *id);
    let mut examples: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for (id, joined) in &ordered {
        settle(&mut account, *id, joined, &mut |what, id, why| {
            let kept = examples.entry(what).or_default();
            if kept.len() < EXAMPLES_MAX {
                kept.push(format!("{what} {id}{why}"));
            }
        });
    }
    account.examples = examples.into_values().flatten().collect();
    Ok(account)
}

/// Length of the longest increasing subsequence (patience sorting).
fn longest_rise(places: &[u64]) -> u64 {
    let mut tails: Vec<u64> = Vec::new();
    for place in places {
        match tails.partition_point(|t| t < place) {
            at if at == tails.len() => tails.push(*place),
            at => tails[at] = *place,
        }
    }
    tails.len() as u64
}

fn settle(account: &mut Account, id: Id, joined: &Joined, example: &mut dyn FnMut(&'static str, Id, String)) {
    account.seen += u64::from(joined.seen);
    let Some(promise) = &joined.promise else {
        account.foreign_messages += 1;
        return;
    };
    account.sent_messages += 1;
    if joined.changed {
        account.corrupted_messages += 1;
        example("corrupted", id, String::new());
    }
    let (recipients, seen) = (promise.recipients, joined.seen);
    match promise.fate {
        Fate::Accepted => {
            account.accepted += u64::from(recipients);
            let lost = u64::from(recipients.saturating_sub(seen));
            account.lost += lost;
            if lost > 0 {
                example("lost", id, format!(" ({seen} of {recipients} recipients seen)"));
            }
        }
        Fate::Unknown => {
            account.unknown_messages += 1;
            account.unknown_but_seen_messages += u64::from(seen > 0);
        }
        Fate::Refused | Fate::Seen => {
            account.refused_messages += 1;
            account.refused_but_seen_messages += u64::from(seen > 0);
            return;
        }
    }
    let extra = u64::from(seen.saturating_sub(recipients));
    account.duplicated += extra;
    if extra > 0 {
        example("duplicated", id, format!(" (seen {seen} times for {recipients} recipients)"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ledger;
    use super::*;

    #[test]
    fn known_loss_duplication_and_corruption_are_found_exactly() {
        use Fate::*;
        let dir = tempfile::tempdir().unwrap();
        let sent = [
            (Accepted, 1, 10, 1),
            (Accepted, 2, 20, 1), // lost
            (Accepted, 3, 30, 1), // twice
            (Accepted, 4, 40, 1), // changed
            (Refused, 5, 50, 1),
            (Refused, 6, 60, 1),    // refused and yet delivered
            (Unknown, 7, 70, 1),    // arrived
            (Unknown, 8, 80, 1),    // did not
            (Accepted, 9, 90, 3),   // one of three recipients lost
            (Accepted, 10, 100, 2), // split by recipient
        ];
        let seen = [
            (Seen, 1, 10, 1),
            (Seen, 3, 30, 1),
            (Seen, 3, 30, 1),
            (Seen, 4, 41, 1),
            (Seen, 6, 60, 1),
            (Seen, 7, 70, 1),
            (Seen, 9, 90, 2),
            (Seen, 10, 100, 1),
            (Seen, 10, 100, 1),
            (Seen, 99, 1, 1), // nobody's
        ];
        let (a, b) = (ledger(dir.path(), "a", 1, &sent), ledger(dir.path(), "b", 1, &seen));
        let account = join(&[a], &[b]).unwrap();
        assert_eq!((account.sent_messages, account.accepted, account.seen), (10, 9, 11));
        assert_eq!((account.lost, account.duplicated, account.corrupted_messages), (2, 1, 1));
        assert_eq!((account.refused_messages, account.refused_but_seen_messages), (2, 1));
        assert_eq!((account.unknown_messages, account.unknown_but_seen_messages), (2, 1));
        assert_eq!((account.foreign_messages, account.reordered_messages), (1, 0));
        assert!(!account.is_clean());
        assert_eq!(account.examples.len(), 4);
        assert!(account.examples.contains(&"lost 00000001-0-9 (2 of 3 recipients seen)".to_owned()), "{account}");
    }

    #[test]
    fn reordering_is_the_fewest_that_would_have_to_move() {
        use Fate::*;
        let dir = tempfile::tempdir().unwrap();
        let sent: Vec<_> = (1..=6).map(|n| (Accepted, n, 1, 1)).collect();
        let seen: Vec<_> = [1, 3, 4, 2, 6, 5].map(|n| (Seen, n, 1, 1)).to_vec();
        let (a, b) = (ledger(dir.path(), "a", 1, &sent), ledger(dir.path(), "b", 1, &seen));
        let account = join(&[&a], &[&b]).unwrap();
        assert!(account.is_clean());
        assert_eq!(account.reordered_messages, 2);
        // Two sinks have an order each.
        let (c, d) = (ledger(dir.path(), "c", 1, &seen[..3]), ledger(dir.path(), "d", 1, &seen[3..5]));
        assert_eq!(join(&[&a], &[&c, &d]).unwrap().reordered_messages, 0);
    }

    #[test]
    fn sinks_and_readers_stand_side_by_side() {
        use Fate::*;
        let dir = tempfile::tempdir().unwrap();
        let sent = [(Accepted, 1, 10, 1), (Accepted, 2, 20, 1)];
        let seen = [(Seen, 1, 10, 1), (Seen, 2, 20, 1)];
        let paths = [("a", &sent[..]), ("b", &seen[..]), ("c", &seen[..1])];
        let [a, b, c] = paths.map(|(name, lines)| ledger(dir.path(), name, 1, lines));
        let both = accounts(&[&a], &[&b], &[&c]).unwrap();
        assert!(both.first.is_clean() && !both.is_clean());
        assert_eq!(both.read.as_ref().map(|r| r.lost), Some(1));
        let text = both.to_string();
        assert!(text.contains("sinks     readers") && text.contains("readers: lost 00000001-0-2"), "{text}");
        let json = serde_json::to_value(&both).unwrap();
        assert_eq!((&json["lost"], &json["read"]["lost"]), (&0.into(), &1.into()));
        assert_eq!(accounts(&[&a], &[], &[&c]).unwrap().first.lost, 1);
    }
}
