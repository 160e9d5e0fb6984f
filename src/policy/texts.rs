//! Sets of words, addresses and domains, asked without regard to ASCII case and without making a lower-case copy.
//!
//! One open-addressing table over one string: 1,000,000 domains take their own length and 20 octets each. A text is
//! hashed from its end, so that all parent domains of a name are tried in one pass over it.
//!
//! How it fails: building and asking are total; [`DomainEntry::parse`] says what was expected.

/// An entry stands for itself.
pub const EXACT: u8 = 1;
/// An entry stands for every name below it.
pub const BELOW: u8 = 2;

/// A domain in a list: `example.org` is that name, `.example.org` it and all below it, `*.example.org` only those below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainEntry {
    /// In lower case, A-labels.
    pub name: String,
    /// [`EXACT`], [`BELOW`] or both.
    pub reach: u8,
}

impl DomainEntry {
    /// Reads an entry.
    pub fn parse(text: &str) -> Result<DomainEntry, String> {
        let (name, reach) = match (text.strip_prefix("*."), text.strip_prefix('.')) {
            (Some(rest), _) => (rest, BELOW),
            (None, Some(rest)) => (rest, EXACT | BELOW),
            (None, None) => (text, EXACT),
        };
        match normal_domain(name) {
            Some(name) => Ok(DomainEntry { name, reach }),
            None => {
                Err(format!("expected a domain such as example.org, .example.org or *.example.org, found {text:?}"))
            }
        }
    }
}

/// A domain in lower case with A-labels and without a final dot; an address literal as it is. `None` if it is neither.
pub fn normal_domain(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    if text.starts_with('[') && text.ends_with(']') {
        return Some(text.to_ascii_lowercase());
    }
    let ascii = if text.is_ascii() { text.to_ascii_lowercase() } else { idna::domain_to_ascii(text).ok()? };
    let label = |l: &str| {
        !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    (ascii.len() <= 253 && ascii.split('.').all(label)).then_some(ascii)
}

/// A set of texts with marks.
#[derive(Debug, Default)]
pub struct TextSet {
    arena: String,
    entries: Vec<Entry>,
    /// Index into `entries` plus one; zero is free. Length is a power of two, at most half full.
    table: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    start: u32,
    octets: u16,
    marks: u8,
    /// Eight more bits of the hash, so that few texts are compared in vain.
    tag: u8,
}

const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

fn step(hash: u64, octet: u8) -> u64 {
    (hash.rotate_left(5) ^ u64::from(octet.to_ascii_lowercase())).wrapping_mul(0x517c_c1b7_2722_0a95)
}

fn finish(hash: u64) -> u64 {
    hash ^ (hash >> 29)
}

fn hash_all(text: &[u8]) -> u64 {
    finish(text.iter().rev().fold(SEED, |h, b| step(h, *b)))
}

impl TextSet {
    /// Longest entry; nothing in SMTP's addresses is longer (RFC 5321 §4.5.3.1).
    pub const OCTETS_MAX: usize = 1024;
    /// Entries at most.
    pub const ENTRIES_MAX: usize = 1 << 28;

    /// Builds the set; marks of equal texts are joined. Texts beyond [`TextSet::OCTETS_MAX`] are left out (the reader of
    /// lists refuses them before).
    pub fn new<S: AsRef<str>>(texts: impl IntoIterator<Item = (S, u8)>) -> TextSet {
        let mut set = TextSet::default();
        for (text, marks) in texts {
            let text = text.as_ref();
            let full = set.arena.len() + text.len() > u32::MAX as usize || set.entries.len() >= Self::ENTRIES_MAX;
            if text.len() > Self::OCTETS_MAX || full {
                continue;
            }
            if (set.entries.len() + 1) * 2 > set.table.len() {
                set.grow();
            }
            set.insert(text, marks);
        }
        set.arena.shrink_to_fit();
        set.entries.shrink_to_fit();
        set
    }

    fn insert(&mut self, text: &str, marks: u8) {
        let hash = hash_all(text.as_bytes());
        let mut slot = self.home(hash);
        while self.table[slot] != 0 {
            let entry = (self.table[slot] - 1) as usize;
            if self.text(&self.entries[entry]).eq_ignore_ascii_case(text) {
                self.entries[entry].marks |= marks;
                return;
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
        let start = self.arena.len() as u32;
        self.arena.push_str(text);
        self.entries.push(Entry { start, octets: text.len() as u16, marks, tag: (hash >> 56) as u8 });
        self.table[slot] = self.entries.len() as u32;
    }

    fn grow(&mut self) {
        self.table = vec![0; (self.table.len() * 2).max(16)];
        for i in 0..self.entries.len() {
            let mut slot = self.home(hash_all(self.text(&self.entries[i]).as_bytes()));
            while self.table[slot] != 0 {
                slot = (slot + 1) & (self.table.len() - 1);
            }
            self.table[slot] = i as u32 + 1;
        }
    }

    fn home(&self, hash: u64) -> usize {
        hash as usize & (self.table.len() - 1)
    }

    fn text(&self, e: &Entry) -> &str {
        &self.arena[e.start as usize..e.start as usize + usize::from(e.octets)]
    }

    /// The marks of `text`, zero when it is not in the set.
    fn marks(&self, hash: u64, text: &[u8]) -> u8 {
        let mut slot = self.home(hash);
        while self.table[slot] != 0 {
            let e = &self.entries[(self.table[slot] - 1) as usize];
            if e.tag == (hash >> 56) as u8 && self.text(e).as_bytes().eq_ignore_ascii_case(text) {
                return e.marks;
            }
            slot = (slot + 1) & (self.table.len() - 1);
        }
        0
    }

    /// Whether `text` itself is in the set.
    pub fn contains(&self, text: &str) -> bool {
        !self.entries.is_empty() && self.marks(hash_all(text.as_bytes()), text.as_bytes()) & EXACT != 0
    }

    /// Whether `name` is covered: it is there, or a domain above it is there with [`BELOW`].
    pub fn covers_domain(&self, name: &str) -> bool {
        if self.entries.is_empty() || name.is_empty() {
            return false;
        }
        let bytes = name.as_bytes();
        let mut hash = SEED;
        for (i, b) in bytes.iter().enumerate().rev() {
            if *b == b'.' && self.marks(finish(hash), &bytes[i + 1..]) & BELOW != 0 {
                return true;
            }
            hash = step(hash, *b);
        }
        self.marks(finish(hash), bytes) & EXACT != 0
    }

    /// How many texts are in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domains(entries: &[&str]) -> TextSet {
        TextSet::new(entries.iter().map(|e| DomainEntry::parse(e).unwrap()).map(|e| (e.name, e.reach)))
    }

    #[test]
    fn the_three_reaches_of_a_domain() {
        let set = domains(&["a.test", ".b.test", "*.c.test", "Straße.test"]);
        for (name, covered) in [
            ("A.test", true),
            ("x.a.test", false),
            ("b.test", true),
            ("x.y.B.test", true),
            ("c.test", false),
            ("x.c.test", true),
            ("xb.test", false),
            ("test", false),
            ("", false),
            ("xn--strae-oqa.test", true),
        ] {
            assert_eq!(set.covers_domain(name), covered, "{name}");
        }
        assert!(DomainEntry::parse("a..b").is_err() && DomainEntry::parse("a b").is_err());
        assert_eq!(domains(&["a.test", "*.a.test"]).len(), 1);
    }

    fn naive(entries: &[(String, u8)], name: &str) -> bool {
        entries.iter().any(|(e, reach)| {
            (reach & EXACT != 0 && e == name) || (reach & BELOW != 0 && name.ends_with(&format!(".{e}")))
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_twin(
            entries in prop::collection::vec(("[ab]{1,2}(\\.[ab]{1,2}){0,3}", 1u8..=3), 0..50),
            asked in prop::collection::vec("[ab]{1,2}(\\.[ab]{1,2}){0,4}", 50),
        ) {
            let set = TextSet::new(entries.iter().map(|(e, r)| (e, *r)));
            for name in &asked {
                prop_assert_eq!(set.covers_domain(&name.to_uppercase()), naive(&entries, name), "{}", name);
                let exact = entries.iter().any(|(e, r)| e == name && r & EXACT != 0);
                prop_assert_eq!(set.contains(name), exact);
            }
        }
    }
}
