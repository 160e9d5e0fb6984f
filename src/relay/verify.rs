//! What backends have said about recipients: learnt from callouts and from deliveries, believed for a while.
//!
//! Two generations bound the memory: when the young one holds half of the limit it becomes the old one, and the old one
//! is forgotten; an entry that is used moves to the young one. How it fails: it does not; what is forgotten is asked
//! again.

use crate::base::address::Mailbox;
use crate::base::time::Instant;
use crate::relay::knobs::RelayKnobs;
use crate::wire::reply::Reply;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// What is known about a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// The backend takes it.
    Accepted,
    /// The backend refuses it: its 5xx.
    Refused(Arc<Reply>),
    /// The backend does not take it now: its 4xx.
    Deferred(Arc<Reply>),
}

/// How long each kind of answer is believed.
#[derive(Clone, Copy, Debug)]
pub struct VerifyTimes {
    /// 2xx
    pub positive: Duration,
    /// 5xx
    pub negative: Duration,
    /// 4xx
    pub transient: Duration,
}

impl From<&RelayKnobs> for VerifyTimes {
    fn from(knobs: &RelayKnobs) -> VerifyTimes {
        VerifyTimes {
            positive: knobs.verify_positive_time,
            negative: knobs.verify_negative_time,
            transient: knobs.verify_transient_time,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    known: Known,
    until: Instant,
}

/// Remembered answers of one core.
#[derive(Debug)]
pub struct RecipientCache {
    times: VerifyTimes,
    generation_max: usize,
    young: HashMap<String, Entry>,
    old: HashMap<String, Entry>,
}

impl RecipientCache {
    /// An empty cache for at most `entries_max` recipients.
    pub fn new(times: VerifyTimes, entries_max: usize) -> RecipientCache {
        RecipientCache { times, generation_max: (entries_max / 2).max(1), young: HashMap::new(), old: HashMap::new() }
    }

    /// The key of a question, for the cache and for callouts under way. Case is folded in the local part too: backends
    /// that tell `Ann` from `ann` are not known, and asking twice would only cost.
    pub fn key(route: &str, recipient: &Mailbox) -> String {
        format!("{route} {}", recipient.lower())
    }

    /// What is known now.
    pub fn lookup(&mut self, now: Instant, key: &str) -> Option<Known> {
        if let Some(entry) = self.young.get(key) {
            return (now < entry.until).then(|| entry.known.clone());
        }
        let (key, entry) = self.old.remove_entry(key)?;
        if now >= entry.until {
            return None;
        }
        let known = entry.known.clone();
        self.insert(key, entry);
        Some(known)
    }

    /// The backend said `reply` to RCPT, in a callout or a delivery. 421 is about the backend, not the recipient.
    pub fn learn(&mut self, now: Instant, key: String, reply: &Reply) {
        let (known, time) = match reply.code / 100 {
            2 => (Known::Accepted, self.times.positive),
            5 => (Known::Refused(Arc::new(reply.clone())), self.times.negative),
            4 if reply.code != 421 => (Known::Deferred(Arc::new(reply.clone())), self.times.transient),
            _ => return,
        };
        self.old.remove(&key);
        if time.is_zero() {
            self.young.remove(&key);
            return;
        }
        self.insert(key, Entry { known, until: now + time });
    }

    /// Forgets everything, after a reload or at the administrator's wish.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    /// How many recipients are remembered, also those no longer believed.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
    /// Whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn insert(&mut self, key: String, entry: Entry) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::parse_mailbox;

    fn cache(entries_max: usize) -> RecipientCache {
        RecipientCache::new(VerifyTimes::from(&RelayKnobs::default()), entries_max)
    }
    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }
    fn reply(code: u16) -> Reply {
        Reply::new(code, None, "x")
    }

    #[test]
    fn answers_are_believed_for_their_time() {
        let mut c = cache(100);
        for (code, secs) in [(250, 3600), (550, 600), (450, 30)] {
            c.learn(at(0), "k".into(), &reply(code));
            let known = c.lookup(at(secs - 1), "k").unwrap();
            match (code, known) {
                (250, Known::Accepted) => {}
                (550, Known::Refused(r)) | (450, Known::Deferred(r)) => assert_eq!(r.code, code),
                (_, other) => panic!("{code} was learnt as {other:?}"),
            }
            assert_eq!(c.lookup(at(secs), "k"), None);
        }
        c.learn(at(0), "k".into(), &reply(250));
        c.learn(at(0), "k".into(), &reply(421));
        assert_eq!(c.lookup(at(1), "k"), Some(Known::Accepted), "421 says nothing about the recipient");
    }

    #[test]
    fn a_time_of_zero_is_not_to_remember() {
        let times = VerifyTimes { positive: Duration::ZERO, negative: Duration::ZERO, transient: Duration::ZERO };
        let mut c = RecipientCache::new(times, 10);
        c.learn(at(0), "k".into(), &reply(250));
        assert!(c.is_empty());
    }

    #[test]
    fn memory_is_bounded_and_what_is_used_stays() {
        let mut c = cache(100);
        c.learn(at(0), "used".into(), &reply(250));
        for i in 0..100_000 {
            c.learn(at(0), format!("k{i}"), &reply(550));
            assert!(c.len() <= 100);
            if i % 20 == 0 {
                assert_eq!(c.lookup(at(1), "used"), Some(Known::Accepted), "after {i}");
            }
        }
        assert_eq!(c.lookup(at(1), "k0"), None);
        c.clear();
        assert!(c.is_empty());
    }

    #[test]
    fn keys_tell_routes_apart_and_fold_case() {
        let m = |t: &str| parse_mailbox(t).unwrap();
        assert_eq!(RecipientCache::key("a", &m("Bob@X.test")), RecipientCache::key("a", &m("bob@x.TEST")));
        assert_ne!(RecipientCache::key("a", &m("bob@x.test")), RecipientCache::key("b", &m("bob@x.test")));
    }
}
