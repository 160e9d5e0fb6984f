//! Records for whoever needs them: the static table first, then the cache, then one query that everybody who asks the
//! same meanwhile shares.
//!
//! How it fails: it answers always; what went wrong is the answer's [`Miss::Temporary`]. A query that is given up while
//! others wait for it is taken over by one of them.

use super::cache::Cache;
use super::counters::{Tally, count};
use super::dns::Dns;
use super::question::{Answer, ClientName, Found, Key, Miss, Source, Trouble};
use super::statics::Statics;
use crate::base::address::Domain;
use crate::base::time::Instant;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::pending;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{OnceCell, Semaphore};

/// PTR names of a client that are confirmed at most (RFC 7208 §4.6.4 limits the same work to 10).
const CLIENT_NAMES_MAX: usize = 10;

/// Where every answer of the lane comes from.
pub(super) struct Records {
    statics: Statics,
    cache: Cache,
    dns: Option<Dns>,
    flights: Mutex<HashMap<Key, Arc<OnceCell<Answer>>>>,
    /// Queries that may be under way at once.
    places: Semaphore,
    started: std::time::Instant,
    pub(super) tally: Tally,
    /// Whether the last query failed, so that the log says it once.
    sick: AtomicBool,
}

impl Records {
    pub(super) fn new(statics: Statics, cache: Cache, dns: Option<Dns>, in_flight_max: usize) -> Records {
        Records {
            statics,
            cache,
            dns,
            flights: Mutex::default(),
            places: Semaphore::new(in_flight_max),
            started: std::time::Instant::now(),
            tally: Tally::default(),
            sick: AtomicBool::new(false),
        }
    }

    pub(super) fn now(&self) -> Instant {
        Instant::ZERO + self.started.elapsed()
    }

    pub(super) fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The answer when it is at hand: no wait, no query.
    pub(super) fn local(&self, key: &Key) -> Option<Answer> {
        if let Some(answer) = self.statics.answer(key) {
            count(&self.tally.from_static);
            return Some(answer);
        }
        let answer = self.cache.get(key, self.now())?;
        count(&self.tally.from_cache);
        Some(answer)
    }

    /// The answer, at hand or asked for.
    pub(super) async fn get(&self, key: &Key) -> Answer {
        if let Some(answer) = self.local(key) {
            return answer;
        }
        match key {
            Key::ClientName(ip) => {
                let answer = self.client_name(*ip).await;
                self.cache.put(key, &answer, self.now());
                answer
            }
            _ => self.fetch(key).await,
        }
    }

    async fn plain(&self, key: &Key) -> Answer {
        match self.local(key) {
            Some(answer) => answer,
            None => self.fetch(key).await,
        }
    }

    async fn fetch(&self, key: &Key) -> Answer {
        let Some(dns) = &self.dns else {
            return Answer::trouble(Trouble::NoServers);
        };
        let flight = Flight::join(&self.flights, key);
        let mut asked = false;
        let answer = flight
            .cell
            .get_or_init(|| async {
                asked = true;
                let _place = self.places.acquire().await;
                count(&self.tally.queried);
                let answer = dns.answer(key).await;
                self.note(key, &answer);
                self.cache.put(key, &answer, self.now());
                answer
            })
            .await
            .clone();
        if !asked {
            count(&self.tally.shared);
        }
        answer
    }

    /// Names of the address that resolve back to it (RFC 8601 §3). A name whose addresses cannot be found out right now
    /// makes the whole answer temporary unless another name is confirmed.
    async fn client_name(&self, ip: IpAddr) -> Answer {
        let pointers = self.plain(&Key::Ptr(ip)).await;
        let Ok(Found::Names(claimed)) = &pointers.result else {
            return Answer { source: Source::Dns, ..pointers };
        };
        let claimed: Arc<[Domain]> = claimed.iter().take(CLIENT_NAMES_MAX).cloned().collect();
        let mut ttl = pointers.ttl;
        let (mut trouble, mut confirmed) = (None, None);
        for name in claimed.iter() {
            let answer = self.plain(&Key::of_family(ip, name.as_str())).await;
            ttl = ttl.min(answer.ttl);
            match answer.result {
                Ok(Found::Addresses(ips)) if ips.contains(&ip) => {
                    confirmed = Some(name.clone());
                    break;
                }
                Err(Miss::Temporary(t)) => trouble = Some(t),
                _ => {}
            }
        }
        let result = match (confirmed, trouble) {
            (None, Some(t)) => Err(Miss::Temporary(t)),
            (confirmed, _) => Ok(Found::Client(ClientName { confirmed, claimed })),
        };
        Answer { result, ttl, source: Source::Dns }
    }

    /// Counts, and logs the passage from well to sick and back.
    fn note(&self, key: &Key, answer: &Answer) {
        let sick = match &answer.result {
            Ok(_) => {
                count(&self.tally.found);
                false
            }
            Err(Miss::Temporary(trouble)) => {
                count(&self.tally.failed);
                // SERVFAIL may well be the fault of one domain; silence is the name servers' own.
                if !matches!(trouble, Trouble::Timeout | Trouble::Unreachable) {
                    return;
                }
                if !self.sick.load(Ordering::Relaxed) {
                    tracing::warn!("lookup of {key}: {trouble}; further failures are only counted");
                }
                true
            }
            Err(_) => {
                count(&self.tally.none);
                false
            }
        };
        if self.sick.swap(sick, Ordering::Relaxed) && !sick {
            tracing::info!("name servers answer again");
        }
    }
}

/// One who waits for a query; the last to leave clears the place.
struct Flight<'a> {
    flights: &'a Mutex<HashMap<Key, Arc<OnceCell<Answer>>>>,
    key: &'a Key,
    cell: Arc<OnceCell<Answer>>,
}

impl<'a> Flight<'a> {
    fn join(flights: &'a Mutex<HashMap<Key, Arc<OnceCell<Answer>>>>, key: &'a Key) -> Flight<'a> {
        let cell = flights.lock().entry(key.clone()).or_default().clone();
        Flight { flights, key, cell }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        // Answered: whoever comes now finds the cache. Given up by the last one: nobody is left to finish it. Handles are
        // only made under the lock, so the count (the map's and ours) cannot change meanwhile.
        let ours = flights.get(self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        if ours && (self.cell.initialized() || Arc::strong_count(&self.cell) <= 2) {
            flights.remove(self.key);
        }
    }
}

/// How far somebody may go for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// What is at hand only: a question that needs more stays pending for ever, so that a core that polls once learns
    /// that it must hand the inquiry to the lane.
    Local,
    /// The name servers too.
    All,
}

/// Records within reach.
#[derive(Clone)]
pub(super) struct Resolve {
    pub records: Arc<Records>,
    pub reach: Reach,
}

impl Resolve {
    /// The answer to `key`.
    pub(super) async fn get(&self, key: &Key) -> Answer {
        match self.reach {
            Reach::All => self.records.get(key).await,
            Reach::Local => match self.records.local(key) {
                Some(answer) => answer,
                None => pending().await,
            },
        }
    }
}
