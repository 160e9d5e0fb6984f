//! A cache of what was made from contents, bounded by its octets: two generations, of which the older one is dropped as a
//! whole when the younger is full. What is used moves to the younger, so what is asked for again and again stays.
//!
//! How it fails: it does not; what is not there is made again.

use crate::base::mailbox::ContentId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Octets that an entry costs beside its value.
const ENTRY_OCTETS: u64 = 64;

/// See the module. Values are cheap to clone.
pub(super) struct Warm<V> {
    generations: Mutex<Generations<V>>,
    octets_max: u64,
}

struct Generations<V> {
    young: HashMap<ContentId, (V, u64)>,
    old: HashMap<ContentId, (V, u64)>,
    young_octets: u64,
}

impl<V: Clone> Warm<V> {
    pub fn new(octets_max: u64) -> Warm<V> {
        let generations = Generations { young: HashMap::new(), old: HashMap::new(), young_octets: 0 };
        Warm { generations: Mutex::new(generations), octets_max }
    }

    pub fn get(&self, content: ContentId) -> Option<V> {
        let mut all = self.generations.lock();
        if let Some((value, _)) = all.young.get(&content) {
            return Some(value.clone());
        }
        let (value, octets) = all.old.remove(&content)?;
        all.keep(content, value.clone(), octets, self.octets_max);
        Some(value)
    }

    /// Remembers a value of about so many octets, in place of the one before.
    pub fn put(&self, content: ContentId, value: V, octets: u64) {
        let mut all = self.generations.lock();
        all.old.remove(&content);
        all.keep(content, value, octets + ENTRY_OCTETS, self.octets_max);
    }
}

impl<V> Generations<V> {
    fn keep(&mut self, content: ContentId, value: V, octets: u64, octets_max: u64) {
        if self.young_octets + octets > octets_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_octets = 0;
        }
        if octets > octets_max / 2 {
            return;
        }
        self.young_octets += octets;
        if let Some((_, before)) = self.young.insert(content, (value, octets)) {
            self.young_octets -= before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_what_is_used_and_stays_within_its_bound() {
        let warm = Warm::new(100 * (ENTRY_OCTETS + 36));
        for n in 0..1000 {
            warm.put(ContentId(n), n, 36);
            assert_eq!(warm.get(ContentId(0)), Some(0), "used after each of {n}");
            let all = warm.generations.lock();
            assert!(all.young.len() + all.old.len() <= 100);
        }
        assert_eq!(warm.get(ContentId(500)), None);
        assert_eq!(warm.get(ContentId(999)), Some(999));
        warm.put(ContentId(999), 7, 36);
        assert_eq!(warm.get(ContentId(999)), Some(7));
        warm.put(ContentId(5000), 1, u64::MAX / 4);
        assert_eq!(warm.get(ContentId(5000)), None);
    }
}
