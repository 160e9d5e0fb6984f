//! What the policy remembers of clients, senders and recipients longer than a connection: greylisting and reputation. A
//! table of a fixed size for all cores, that outlives the policy and, as a snapshot, the process.
//!
//! An [`Entry`] is four numbers under a keyed hash; what they mean is the business of `greylist` and `reputation`. Times in
//! them are calendar time, so that they hold after a restart. Shards are locked one at a time and only for a look; who is
//! not looked at for longest goes when a shard is full. Nothing is allocated until something is remembered.
//!
//! How it fails: a full table forgets the oldest entry and counts it (`evicted`); a snapshot that is torn, foreign or newer
//! is an error in words, and the caller begins with an empty memory.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is remembered under one key.
pub type Entry = [u64; 4];

const SHARDS: usize = 64; // more than cores, so that they seldom meet
/// First octets of a snapshot, with the version of its form.
const MAGIC: &[u8; 20] = b"gatepost-memory-v1\0\n";
/// Octets of the checksum at the end of a snapshot.
const SUM_OCTETS: usize = 16;
/// Octets of an entry in a snapshot: table, key, four numbers.
const ENTRY_OCTETS: usize = 1 + 8 + 4 * 8;

/// Entries that the tables may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySize {
    /// Of greylisting: triplets and networks.
    pub greylist: usize,
    /// Of reputation: addresses, networks, domains.
    pub reputation: usize,
}

impl Default for MemorySize {
    fn default() -> MemorySize {
        MemorySize { greylist: 1_000_000, reputation: 1_000_000 }
    }
}

/// See the module's head.
#[derive(Debug)]
pub struct Memory {
    secret: u64,
    pub(super) greylist: Table,
    pub(super) reputation: Table,
}

impl Memory {
    /// An empty memory. `secret` goes into the keys.
    pub fn new(size: MemorySize, secret: u64) -> Memory {
        Memory { secret, greylist: Table::new(size.greylist), reputation: Table::new(size.reputation) }
    }

    /// The secret that goes into keys. It is kept in snapshots, else nothing would be found again.
    pub fn secret(&self) -> u64 {
        self.secret
    }

    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.greylist.len() + self.reputation.len() == 0
    }

    /// Everything as octets, the oldest first. Locks one shard at a time.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + (self.greylist.len() + self.reputation.len()) * ENTRY_OCTETS);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.secret.to_le_bytes());
        for (number, table) in [&self.greylist, &self.reputation].into_iter().enumerate() {
            table.each(|key, entry| {
                out.push(number as u8);
                out.extend_from_slice(&key.to_le_bytes());
                entry.iter().for_each(|n| out.extend_from_slice(&n.to_le_bytes()));
            });
        }
        let sum = checksum(&out);
        out.extend_from_slice(&sum);
        out
    }

    /// From a snapshot. What does not fit is forgotten, the oldest first. The error says what is wrong with it.
    pub fn restore(size: MemorySize, snapshot: &[u8]) -> Result<Memory, String> {
        let Some(rest) = snapshot.strip_prefix(MAGIC) else {
            return Err(match snapshot.starts_with(b"gatepost-memory-") {
                true => "it is of another version of this program".into(),
                false => "it is no snapshot of this program".into(),
            });
        };
        let torn = || format!("it is torn: {} octets with a wrong checksum", snapshot.len());
        let body = rest.len().checked_sub(SUM_OCTETS + 8).ok_or_else(torn)?;
        let (content, sum) = snapshot.split_at(MAGIC.len() + 8 + body);
        if checksum(content) != sum || body % ENTRY_OCTETS != 0 {
            return Err(torn());
        }
        let number = |octets: &[u8]| octets.try_into().map_or(0, u64::from_le_bytes);
        let memory = Memory::new(size, number(&rest[..8]));
        for record in rest[8..8 + body].chunks_exact(ENTRY_OCTETS) {
            let table = if record[0] == 0 { &memory.greylist } else { &memory.reputation };
            let word = |i: usize| number(&record[9 + i * 8..17 + i * 8]);
            table.restore(number(&record[1..9]), [word(0), word(1), word(2), word(3)]);
        }
        Ok(memory)
    }
}

fn checksum(octets: &[u8]) -> [u8; SUM_OCTETS] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
    let mut sum = [0; SUM_OCTETS];
    sum.copy_from_slice(&digest.as_ref()[..SUM_OCTETS]);
    sum
}

/// What became of a look at an entry.
pub enum Look {
    /// It stays as it is; a key without entry stays without.
    Leave,
    /// It is this from now on.
    Put(Entry),
}

/// What was found under a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The entry.
    pub entry: Entry,
    /// It comes from before this run, and nothing has been written to it since: the journal has to tell it, else a
    /// replay would not know of it.
    pub inherited: bool,
}

/// An entry from before the run that a decision met. In the journal it stands beside the decision, so that a replay knows
/// of it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prior {
    /// What it is about: `greylist NAME`, `reputation.client` …
    pub of: Box<str>,
    /// It.
    pub entry: Entry,
}

impl fmt::Display for Prior {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.entry;
        write!(f, "{a} {b} {c} {d} {}", self.of)
    }
}

impl Prior {
    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Prior> {
        let mut words = text.splitn(5, ' ');
        let mut number = || words.next().and_then(|w| w.parse().ok());
        let entry = [number()?, number()?, number()?, number()?];
        Some(Prior { of: words.next()?.into(), entry })
    }
}

/// The memory as one decision meets it: what a recording says was there before the run, and what is to be recorded.
#[derive(Debug)]
pub struct Meeting<'a> {
    /// From a recording; nothing in a live session.
    pub known: &'a [Prior],
    /// What was met.
    pub told: &'a mut Vec<Prior>,
}

impl Meeting<'_> {
    /// As [`Table::look`]; `of` says what the entry is about.
    pub fn look<R>(
        &mut self,
        table: &Table,
        key: u64,
        of: impl Fn() -> Box<str>,
        look: impl FnOnce(Option<Entry>) -> (Look, R),
    ) -> R {
        if !self.known.is_empty() {
            let of = of();
            if let Some(prior) = self.known.iter().find(|prior| prior.of == of) {
                table.restore(key, prior.entry);
            }
        }
        table.look(key, |found| {
            if let Some(found) = found.filter(|f| f.inherited) {
                let of = of();
                if !self.told.iter().any(|prior| prior.of == of) {
                    self.told.push(Prior { of, entry: found.entry });
                }
            }
            look(found.map(|f| f.entry))
        })
    }
}

/// Entries by key; see the module's head.
#[derive(Debug)]
pub struct Table {
    shards: Box<[Mutex<Shard>]>,
    per_shard_max: usize,
    evicted: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<u64, Slot>,
    /// Keys in the order of their last touch, with the touch; one that has been touched since is passed over.
    order: VecDeque<(u64, u64)>,
    touches: u64,
}

#[derive(Debug)]
struct Slot {
    found: Found,
    touch: u64,
}

impl Table {
    /// A table for `entries_max` entries at most.
    pub fn new(entries_max: usize) -> Table {
        Table {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            per_shard_max: entries_max.div_ceil(SHARDS).max(1),
            evicted: AtomicU64::new(0),
        }
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.lock().entries.len()).sum()
    }
    /// Entries that were forgotten because the table was full.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Looks at the entry of `key`, and leaves or changes it.
    pub fn look<R>(&self, key: u64, look: impl FnOnce(Option<Found>) -> (Look, R)) -> R {
        let mut shard = self.shard(key).lock();
        let (then, result) = look(shard.entries.get(&key).map(|slot| slot.found));
        if let Look::Put(entry) = then {
            self.put(&mut shard, key, Found { entry, inherited: false });
        }
        result
    }

    /// Puts an entry from before this run, unless there is one already.
    pub fn restore(&self, key: u64, entry: Entry) {
        let mut shard = self.shard(key).lock();
        if !shard.entries.contains_key(&key) {
            self.put(&mut shard, key, Found { entry, inherited: true });
        }
    }

    fn put(&self, shard: &mut Shard, key: u64, found: Found) {
        shard.touches += 1;
        let touch = shard.touches;
        shard.order.push_back((key, touch));
        shard.entries.insert(key, Slot { found, touch });
        while shard.entries.len() > self.per_shard_max {
            let Some((key, touch)) = shard.order.pop_front() else { break };
            if shard.entries.get(&key).is_some_and(|slot| slot.touch == touch) {
                shard.entries.remove(&key);
                self.evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
        // Touches that were overtaken are swept out now and then, so that the order stays within twice the entries.
        if shard.order.len() > 2 * shard.entries.len() + 16 {
            let entries = &shard.entries;
            shard.order.retain(|(key, touch)| entries.get(key).is_some_and(|slot| slot.touch == *touch));
        }
    }

    fn each(&self, mut each: impl FnMut(u64, &Entry)) {
        for shard in &self.shards {
            let shard = shard.lock();
            for (key, touch) in &shard.order {
                if let Some(slot) = shard.entries.get(key).filter(|slot| slot.touch == *touch) {
                    each(*key, &slot.found.entry);
                }
            }
        }
    }

    fn shard(&self, key: u64) -> &Mutex<Shard> {
        &self.shards[(key >> 32) as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(table: &Table, key: u64, entry: Entry) {
        table.look(key, |_| (Look::Put(entry), ()));
    }
    fn found(table: &Table, key: u64) -> Option<Found> {
        table.look(key, |found| (Look::Leave, found))
    }

    #[test]
    fn the_oldest_goes_first_and_a_touch_makes_young() {
        let table = Table::new(3 * SHARDS);
        (1..=3).for_each(|key| put(&table, key, [key; 4])); // one shard: the upper half is zero
        put(&table, 1, [9; 4]);
        put(&table, 4, [4; 4]);
        assert_eq!((found(&table, 2), table.evicted(), table.len()), (None, 1, 3));
        assert_eq!(found(&table, 1), Some(Found { entry: [9; 4], inherited: false }));
        (0..10_000).for_each(|n| put(&table, 1, [n; 4]));
        assert!(table.shard(1).lock().order.len() < 32);
    }

    #[test]
    fn a_meeting_tells_what_is_from_before_the_run_once() {
        let table = Table::new(100);
        table.restore(7, [1, 2, 3, 4]);
        let mut told = Vec::new();
        let mut meeting = Meeting { known: &[], told: &mut told };
        assert_eq!(meeting.look(&table, 7, || "x y".into(), |e| (Look::Leave, e)), Some([1, 2, 3, 4]));
        meeting.look(&table, 7, || "x y".into(), |_| (Look::Put([0; 4]), ()));
        let prior = Prior { of: "x y".into(), entry: [1, 2, 3, 4] };
        assert_eq!(Prior::parse(&prior.to_string()).as_ref(), Some(&prior));
        assert_eq!(told, std::slice::from_ref(&prior));
        // In a replay the entry is there when it is first met, and is told again.
        let (replayed, mut told) = (Table::new(100), Vec::new());
        let mut meeting = Meeting { known: std::slice::from_ref(&prior), told: &mut told };
        assert_eq!(meeting.look(&replayed, 9, || "x y".into(), |e| (Look::Put([5; 4]), e)), Some([1, 2, 3, 4]));
        assert_eq!(meeting.look(&replayed, 9, || "x y".into(), |e| (Look::Leave, e)), Some([5; 4]));
        assert_eq!(told, [prior]);
        assert!(Prior::parse("1 2 3 x").is_none() && Prior::parse("1 2 3 4").is_none());
    }

    #[test]
    fn a_snapshot_comes_back_and_anything_else_is_said_to_be_none() {
        let memory = Memory::new(MemorySize::default(), 77);
        (0..500u64).for_each(|i| put(&memory.greylist, i << 31, [i, 1, 2, 3]));
        put(&memory.reputation, 5, [u64::MAX; 4]);
        let snapshot = memory.snapshot();
        let back = Memory::restore(MemorySize::default(), &snapshot).unwrap();
        assert_eq!((back.secret(), back.greylist.len(), back.reputation.len()), (77, 500, 1));
        assert_eq!(found(&back.greylist, 7 << 31), Some(Found { entry: [7, 1, 2, 3], inherited: true }));
        assert_eq!(back.snapshot(), snapshot);
        // A smaller table keeps what is youngest.
        let small = Memory::restore(MemorySize { greylist: SHARDS, reputation: 1 }, &snapshot).unwrap();
        assert!(small.greylist.len() <= SHARDS && found(&small.greylist, 499 << 31).is_some());
        for cut in [0, 10, 25, 30, snapshot.len() - 1] {
            assert!(Memory::restore(MemorySize::default(), &snapshot[..cut]).is_err(), "{cut}");
        }
        let said = |octets: &[u8]| Memory::restore(MemorySize::default(), octets).unwrap_err();
        assert!(said(b"SQLite format 3\0").contains("no snapshot"));
        assert!(said(b"gatepost-memory-v2\0\n....").contains("another version"));
        let mut flipped = snapshot.clone();
        flipped[40] ^= 1;
        assert!(said(&flipped).contains("torn"));
    }

    proptest! {
        /// The naive twin: a list, the youngest last.
        #[test]
        fn it_forgets_as_a_list_would(keys in prop::collection::vec(0u64..12, 1..200)) {
            let table = Table::new(5 * SHARDS);
            let mut naive: Vec<u64> = Vec::new();
            for key in keys {
                put(&table, key, [key; 4]);
                naive.retain(|k| *k != key);
                naive.push(key);
                if naive.len() > 5 { naive.remove(0); }
                for key in 0..12 {
                    prop_assert_eq!(found(&table, key).is_some(), naive.contains(&key));
                }
            }
        }
    }
}
