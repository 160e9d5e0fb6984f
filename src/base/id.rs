//! Ids: sessions, queued messages, and slots that are reused with a generation.
//!
//! How it fails: parsing a foreign id returns `None`.

use std::fmt;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"; // Crockford: no I, L, O, U

fn write_base32(f: &mut fmt::Formatter<'_>, value: u64) -> fmt::Result {
    let mut text = [b'0'; 13];
    for (i, slot) in text.iter_mut().enumerate() {
        *slot = DIGITS[(value >> (60 - 5 * i as u32) & 31) as usize];
    }
    // The alphabet above is ASCII.
    f.write_str(std::str::from_utf8(&text).unwrap_or_default())
}

fn parse_base32(text: &str) -> Option<u64> {
    if text.len() != 13 {
        return None;
    }
    text.bytes().try_fold(0u64, |acc, b| {
        let digit = DIGITS.iter().position(|d| *d == b.to_ascii_uppercase())?;
        acc.checked_mul(32)?.checked_add(digit as u64)
    })
}

macro_rules! number_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        pub struct $name(pub u64);

        impl $name {
            /// Reads the 13 characters that `Display` writes.
            pub fn parse(text: &str) -> Option<$name> {
                parse_base32(text).map($name)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base32(f, self.0)
            }
        }
    };
}

number_id!(
    /// One client connection; unique over restarts because it starts from the wall clock (see [`IdSource`]).
    SessionId
);
number_id!(
    /// One message in the spool; unique over restarts and cores.
    SpoolId
);

/// Makes ids that no other core and no earlier run has made: milliseconds of start, core, counter.
///
/// 41 bits of milliseconds since 2020, then 6 bits of core, then 17 bits of counter that carries into the
/// milliseconds: a core would have to make more than 131 ids per millisecond for longer than it has run to collide.
#[derive(Debug)]
pub struct IdSource {
    next: u64,
    core: u64,
}

impl IdSource {
    /// Cores that can make ids side by side.
    pub const CORES_MAX: u16 = 64;
    const EPOCH_MS: u64 = 1_577_836_800_000; // 2020-01-01

    /// A source for `core` in a process started at `start`.
    pub fn new(core: u16, start: crate::base::time::WallTime) -> IdSource {
        debug_assert!(core < Self::CORES_MAX);
        IdSource { next: start.as_millis().saturating_sub(Self::EPOCH_MS) << 17, core: u64::from(core) & 63 }
    }

    /// The next id.
    pub fn next_id(&mut self) -> u64 {
        let n = self.next;
        self.next += 1;
        // millis(41) | core(6) | counter(17), so that ids of one core sort by age
        (n >> 17 << 23) | (self.core << 17) | (n & 0x1_FFFF)
    }
}

/// A place in a table that is reused: the generation tells a late answer that its asker is gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Slot {
    /// Index in the table.
    pub index: u32,
    /// How often the index had been reused.
    pub generation: u32,
}

impl Slot {
    /// As one number, for user data of the drivers.
    pub const fn pack(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }
    /// The inverse of [`Slot::pack`].
    pub const fn unpack(n: u64) -> Slot {
        Slot { index: n as u32, generation: (n >> 32) as u32 }
    }
}

/// A table of reused slots. Look-ups with an old generation find nothing.
#[derive(Debug)]
pub struct Slots<T> {
    entries: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { entries: Vec::new(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slots<T> {
    /// How many slots are taken.
    pub fn len(&self) -> usize {
        self.len
    }
    /// Whether no slot is taken.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
    /// Takes a slot for `value`.
    pub fn insert(&mut self, value: T) -> Slot {
        self.len += 1;
        match self.free.pop() {
            Some(index) => {
                let entry = &mut self.entries[index as usize];
                entry.1 = Some(value);
                Slot { index, generation: entry.0 }
            }
            None => {
                let index = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
                self.entries.push((0, Some(value)));
                Slot { index, generation: 0 }
            }
        }
    }
    /// The value in `slot`, unless it is gone.
    pub fn get(&self, slot: Slot) -> Option<&T> {
        self.entries.get(slot.index as usize).filter(|e| e.0 == slot.generation)?.1.as_ref()
    }
    /// The value in `slot`, unless it is gone.
    pub fn get_mut(&mut self, slot: Slot) -> Option<&mut T> {
        self.entries.get_mut(slot.index as usize).filter(|e| e.0 == slot.generation)?.1.as_mut()
    }
    /// Gives the slot back.
    pub fn remove(&mut self, slot: Slot) -> Option<T> {
        let entry = self.entries.get_mut(slot.index as usize).filter(|e| e.0 == slot.generation)?;
        let value = entry.1.take()?;
        entry.0 = entry.0.wrapping_add(1);
        self.free.push(slot.index);
        self.len -= 1;
        Some(value)
    }
    /// All taken slots.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.entries.iter().enumerate().filter_map(|(i, (generation, v))| {
            v.as_ref().map(|v| (Slot { index: i as u32, generation: *generation }, v))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::WallTime;

    #[test]
    fn ids_read_back_and_do_not_collide() {
        let mut a = IdSource::new(0, WallTime::from_millis(1_795_437_121_000));
        let mut b = IdSource::new(1, WallTime::from_millis(1_795_437_121_000));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..300_000 {
            assert!(seen.insert(a.next_id()) && seen.insert(b.next_id()));
        }
        let id = SessionId(a.next_id());
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        assert_eq!(SessionId::parse("nonsense"), None);
        assert_eq!(SpoolId::parse(&SpoolId(u64::MAX).to_string()), Some(SpoolId(u64::MAX)));
    }

    #[test]
    fn a_late_answer_finds_nobody() {
        let mut t = Slots::default();
        let a = t.insert("a");
        assert_eq!(t.remove(a), Some("a"));
        let b = t.insert("b");
        assert_eq!(a.index, b.index);
        assert_eq!(t.get(a), None);
        assert_eq!(t.remove(a), None);
        assert_eq!(t.get(Slot::unpack(b.pack())), Some(&"b"));
        assert_eq!(t.len(), 1);
    }
}
