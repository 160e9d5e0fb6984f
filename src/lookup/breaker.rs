//! A circuit breaker for each list: one that fails again and again is left alone for a while, and reported once a minute.
//!
//! How it fails: it does not; past its bound of zones it lets everything through.

use super::records::Records;
use crate::base::time::Instant;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;

/// Zones watched at most. They come from the policy file, so that this is never reached by a sender.
const ZONES_MAX: usize = 1_000;
/// How often trouble of one zone is said.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What a list has done since the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZoneCounters {
    /// The zone.
    pub zone: Box<str>,
    /// Questions put to its name servers.
    pub asked: u64,
    /// Of those: the subject was listed.
    pub listed: u64,
    /// Of those: no usable answer.
    pub failed: u64,
    /// Questions answered with "not asked" while the circuit was open.
    pub spared: u64,
    /// Whether the circuit is open now.
    pub open: bool,
}

#[derive(Debug, Default)]
struct Zone {
    asked: u64,
    listed: u64,
    failed: u64,
    spared: u64,
    failures_in_row: u32,
    /// Until when nobody asks; then one question is let through to try.
    open_until: Option<Instant>,
    said: Option<(Instant, u64)>,
}

/// What became of a question to a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome<'a> {
    Listed,
    NotListed,
    Failed(&'a str),
}

/// The breakers of all lists.
#[derive(Debug)]
pub(super) struct Breakers {
    zones: Mutex<HashMap<Box<str>, Zone>>,
    failures_max: u32,
    retry_after: Duration,
}

impl Breakers {
    /// Opens after `failures_max` failures in a row, for `retry_after`.
    pub(super) fn new(failures_max: u32, retry_after: Duration) -> Breakers {
        Breakers { zones: Mutex::default(), failures_max, retry_after }
    }

    /// Whether nobody is to ask `zone` now. Changes nothing but a counter.
    pub(super) fn is_open(&self, zone: &str, now: Instant) -> bool {
        let mut zones = self.zones.lock();
        let Some(z) = zones.get_mut(zone) else { return false };
        let open = z.open_until.is_some_and(|until| now < until);
        z.spared += u64::from(open);
        open
    }

    /// Whether this question may go out. While the circuit is open one question in each `retry_after` may, as a trial.
    pub(super) fn admits(&self, zone: &str, now: Instant) -> bool {
        let mut zones = self.zones.lock();
        if !zones.contains_key(zone) && zones.len() >= ZONES_MAX {
            return true;
        }
        let z = zones.entry(zone.into()).or_default();
        match z.open_until {
            Some(until) if now < until => {
                z.spared += 1;
                return false;
            }
            // The trial: the others wait for its outcome.
            Some(_) => z.open_until = Some(now + self.retry_after),
            None => {}
        }
        z.asked += 1;
        true
    }

    /// What became of a question that went out.
    pub(super) fn note(&self, zone: &str, outcome: Outcome, now: Instant) {
        let mut zones = self.zones.lock();
        let Some(z) = zones.get_mut(zone) else { return };
        let why = match outcome {
            Outcome::Failed(why) => why,
            well => {
                z.listed += u64::from(well == Outcome::Listed);
                z.failures_in_row = 0;
                if z.open_until.take().is_some() {
                    tracing::info!("list {zone} answers again");
                }
                return;
            }
        };
        z.failed += 1;
        z.failures_in_row = z.failures_in_row.saturating_add(1);
        let opens = self.failures_max > 0 && z.failures_in_row >= self.failures_max;
        if opens {
            z.open_until = Some(now + self.retry_after);
        }
        if z.said.is_none_or(|(at, _)| now >= at + SAID_EVERY) {
            let before = z.said.map_or(0, |(_, failed)| failed);
            let rest = if opens { "; it is left alone for a while" } else { "" };
            tracing::warn!("list {zone}: {why} ({} failures since this was last said){rest}", z.failed - before);
            z.said = Some((now, z.failed));
        }
    }

    /// A question was given up before it was answered: a failure, of which nothing more is known.
    fn abandoned(&self, zone: &str, now: Instant) {
        if let Some(z) = self.zones.lock().get_mut(zone) {
            z.failed += 1;
            z.failures_in_row = z.failures_in_row.saturating_add(1);
            if self.failures_max > 0 && z.failures_in_row >= self.failures_max {
                z.open_until = Some(now + self.retry_after);
            }
        }
    }

    pub(super) fn read(&self, now: Instant) -> Vec<ZoneCounters> {
        let zones = self.zones.lock();
        let mut read: Vec<ZoneCounters> = zones
            .iter()
            .map(|(zone, z)| ZoneCounters {
                zone: zone.clone(),
                asked: z.asked,
                listed: z.listed,
                failed: z.failed,
                spared: z.spared,
                open: z.open_until.is_some_and(|until| now < until),
            })
            .collect();
        read.sort_by(|a, b| a.zone.cmp(&b.zone));
        read
    }
}

/// A question that is out; one that nobody waits for any more counts as failed.
pub(super) struct Trial<'a> {
    breakers: &'a Breakers,
    zone: &'a str,
    clock: &'a Records,
    noted: bool,
}

impl<'a> Trial<'a> {
    pub(super) fn new(breakers: &'a Breakers, zone: &'a str, clock: &'a Records) -> Trial<'a> {
        Trial { breakers, zone, clock, noted: false }
    }

    /// What became of it.
    pub(super) fn ended(mut self, outcome: Outcome) {
        self.noted = true;
        self.breakers.note(self.zone, outcome, self.clock.now());
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if !self.noted {
            self.breakers.abandoned(self.zone, self.clock.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn it_opens_tries_and_closes() {
        let b = Breakers::new(2, Duration::from_secs(60));
        for secs in 0..2 {
            assert!(b.admits("z.test", at(secs)));
            b.note("z.test", Outcome::Failed("silence"), at(secs));
        }
        assert!(b.is_open("z.test", at(2)) && !b.admits("z.test", at(60)), "open for a minute from the last failure");
        assert!(!b.is_open("other.test", at(2)) && b.admits("other.test", at(2)));
        assert!(b.admits("z.test", at(61)), "a trial");
        assert!(!b.admits("z.test", at(61)), "one at a time");
        b.note("z.test", Outcome::Failed("silence"), at(62));
        assert!(!b.admits("z.test", at(121)));
        assert!(b.admits("z.test", at(122)));
        b.note("z.test", Outcome::Listed, at(122));
        assert!(b.admits("z.test", at(122)) && !b.is_open("z.test", at(122)));
        let read = b.read(at(122));
        let z = read.iter().find(|z| &*z.zone == "z.test").unwrap();
        assert_eq!((z.asked, z.listed, z.failed, z.open), (5, 1, 3, false));
        assert!(z.spared >= 3);
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed_and_zero_turns_it_off() {
        let b = Breakers::new(2, Duration::from_secs(60));
        for secs in 0..10 {
            assert!(b.admits("z", at(secs)));
            b.note("z", if secs % 2 == 0 { Outcome::Failed("x") } else { Outcome::NotListed }, at(secs));
        }
        let off = Breakers::new(0, Duration::from_secs(60));
        for secs in 0..10 {
            assert!(off.admits("z", at(secs)));
            off.note("z", Outcome::Failed("x"), at(secs));
        }
    }

    #[test]
    fn it_is_bounded() {
        let b = Breakers::new(1, Duration::from_secs(60));
        for n in 0..2 * ZONES_MAX {
            assert!(b.admits(&format!("z{n}"), at(0)));
            b.note(&format!("z{n}"), Outcome::Failed("x"), at(0));
        }
        assert_eq!(b.read(at(0)).len(), ZONES_MAX);
    }
}
