//! Which backend gets the next connection: the healthy ones of the lowest priority number share it by weight; one that
//! fails is set aside by a circuit breaker, and let back by one probe at a time.
//!
//! A [`Pool`] belongs to one core and counts its connections; the [`Health`] behind it is shared by all cores, written
//! only when a backend changes its mood, so nothing hot is shared. How it fails: with nobody to pick, [`Pick`] says
//! whether waiting for a free connection helps or when the next backend is worth a try.

use crate::base::time::Instant;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Limits and times of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Connections of one core to one backend at most.
    pub connections_max: usize,
    /// Failures in a row that set a backend aside.
    pub failures_max: u32,
    /// How long a backend stays aside before it is probed; doubles with each failed probe up to sixteen times.
    pub retry_after: Duration,
    /// How long a probe may take before another core or connection may try.
    pub probe_timeout: Duration,
    /// Time without news after which a backend is due for a check; zero for never.
    pub check_interval: Duration,
}

/// Doublings of [`PoolLimits::retry_after`] at most.
const RETRY_DOUBLINGS_MAX: u32 = 4;

/// A backend's place in the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Share of the work among healthy backends of the same priority; at least 1.
    pub weight: u32,
    /// Lower is tried first.
    pub priority: u32,
}

/// What a failure says about a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It could not be reached, did not answer in time or broke the connection: one strike.
    Unreachable,
    /// It said 421 or refused the greeting, or login and TLS cannot work: aside at once.
    Unwilling,
}

/// How a backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Takes connections.
    Healthy,
    /// Set aside until then.
    Aside {
        /// When it is probed.
        until: Instant,
    },
    /// Its time aside is over: the next connection is a probe.
    Due,
    /// A probe is under way.
    Probing,
}

/// Whom to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// This one, by its place. The connection counts from now on until [`Pool::released`].
    Take(usize),
    /// Healthy ones have as many connections as they may: wait for one of those.
    Busy,
    /// All are set aside.
    Down {
        /// When the first of them is worth a try; never in the past.
        until: Instant,
    },
}

/// The health of each backend, shared by all cores. Relaxed everywhere: each value stands for itself, and a core that
/// sees one late makes one connection more or less.
#[derive(Debug)]
pub struct Health(Box<[Breaker]>);

/// Times are nanoseconds of [`Instant`]; zero is "not".
#[derive(Debug, Default)]
struct Breaker {
    failures: AtomicU32,
    trips: AtomicU32,
    aside_until: AtomicU64,
    probing_until: AtomicU64,
    last_news: AtomicU64,
}

impl Health {
    /// All healthy, with the last news at `now`.
    pub fn new(members: usize, now: Instant) -> Arc<Health> {
        let breaker = || Breaker { last_news: AtomicU64::new(now.as_nanos()), ..Breaker::default() };
        Arc::new(Health((0..members).map(|_| breaker()).collect()))
    }

    /// How the backend at `place` is.
    pub fn mood(&self, place: usize, now: Instant) -> Mood {
        let b = &self.0[place];
        let aside_until = b.aside_until.load(Ordering::Relaxed);
        if aside_until == 0 {
            Mood::Healthy
        } else if now.as_nanos() < aside_until {
            Mood::Aside { until: Instant::from_nanos(aside_until) }
        } else if now.as_nanos() < b.probing_until.load(Ordering::Relaxed) {
            Mood::Probing
        } else {
            Mood::Due
        }
    }

    /// Failures in a row.
    pub fn failures(&self, place: usize) -> u32 {
        self.0[place].failures.load(Ordering::Relaxed)
    }

    /// The backend answered. `true` when it had been set aside until now.
    pub fn succeeded(&self, place: usize, now: Instant, limits: &PoolLimits) -> bool {
        let b = &self.0[place];
        // The one write of good days, once in a while: otherwise all cores would fight for the line.
        let stale = Duration::from_nanos(now.as_nanos().saturating_sub(b.last_news.load(Ordering::Relaxed)));
        if stale * 4 > limits.check_interval {
            b.last_news.store(now.as_nanos(), Ordering::Relaxed);
        }
        if b.failures.load(Ordering::Relaxed) == 0 && b.aside_until.load(Ordering::Relaxed) == 0 {
            return false;
        }
        b.failures.store(0, Ordering::Relaxed);
        b.trips.store(0, Ordering::Relaxed);
        b.probing_until.store(0, Ordering::Relaxed);
        b.aside_until.swap(0, Ordering::Relaxed) != 0
    }

    /// The backend failed. `true` when that sets it aside now.
    pub fn failed(&self, place: usize, now: Instant, trouble: Trouble, limits: &PoolLimits) -> bool {
        let b = &self.0[place];
        b.last_news.store(now.as_nanos(), Ordering::Relaxed);
        let failures = b.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let aside_until = b.aside_until.load(Ordering::Relaxed);
        if aside_until > now.as_nanos() {
            return false; // one of the connections that were under way when it was set aside
        }
        let probe_failed = aside_until != 0;
        if !probe_failed && trouble == Trouble::Unreachable && failures < limits.failures_max {
            return false;
        }
        let trips = b.trips.fetch_add(1, Ordering::Relaxed).min(RETRY_DOUBLINGS_MAX);
        let until = now + limits.retry_after * (1 << trips);
        b.probing_until.store(0, Ordering::Relaxed);
        b.aside_until.store(until.as_nanos().max(1), Ordering::Relaxed);
        !probe_failed
    }

    /// Takes the one probe of a backend whose time aside is over; `false` when somebody else has it.
    fn claim_probe(&self, place: usize, now: Instant, limits: &PoolLimits) -> bool {
        let b = &self.0[place];
        let seen = b.probing_until.load(Ordering::Relaxed);
        let until = (now + limits.probe_timeout).as_nanos();
        now.as_nanos() >= seen
            && b.probing_until.compare_exchange(seen, until, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Takes the check of a backend without news for a check interval; `false` when somebody else has it.
    fn claim_check(&self, place: usize, now: Instant, limits: &PoolLimits) -> bool {
        let b = &self.0[place];
        let seen = b.last_news.load(Ordering::Relaxed);
        let due = Instant::from_nanos(seen) + limits.check_interval <= now;
        due && b.last_news.compare_exchange(seen, now.as_nanos(), Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// One core's view of a pool.
#[derive(Debug)]
pub struct Pool {
    limits: PoolLimits,
    members: Vec<Counted>,
    health: Arc<Health>,
}

#[derive(Debug)]
struct Counted {
    member: Member,
    /// Smooth weighted round robin: grows by the weight, shrinks by the total when picked.
    credit: i64,
    connections: usize,
}

impl Pool {
    /// A pool over `health`, which has a place for each member.
    pub fn new(limits: PoolLimits, members: &[Member], health: Arc<Health>) -> Pool {
        debug_assert_eq!(members.len(), health.0.len());
        let members = members.iter().map(|m| Counted { member: *m, credit: 0, connections: 0 }).collect();
        Pool { limits, members, health }
    }

    /// The shared health.
    pub fn health(&self) -> &Arc<Health> {
        &self.health
    }

    /// Connections of this core to the backend at `place`.
    pub fn connections(&self, place: usize) -> usize {
        self.members[place].connections
    }

    /// Whom to connect to now.
    pub fn pick(&mut self, now: Instant) -> Pick {
        // A backend whose time aside is over gets one connection, whatever its turn would be: nothing else lets it back.
        // Standbys are not probed by mail while a better one is healthy; `due_checks` does that.
        let best = self.best_healthy_priority(now);
        if let Some(place) = self.due_before(best, now) {
            self.members[place].connections += 1;
            return Pick::Take(place);
        }
        let Some(priority) = best else { return Pick::Down { until: self.first_return(now) } };
        let fit = |c: &Counted| c.member.priority == priority && c.connections < self.limits.connections_max;
        let mut total = 0;
        let mut chosen: Option<usize> = None;
        for place in 0..self.members.len() {
            let counted = &self.members[place];
            if !fit(counted) || self.health.mood(place, now) != Mood::Healthy {
                continue;
            }
            let weight = i64::from(counted.member.weight.max(1));
            total += weight;
            self.members[place].credit += weight;
            if chosen.is_none_or(|best| self.members[place].credit > self.members[best].credit) {
                chosen = Some(place);
            }
        }
        let Some(place) = chosen else { return Pick::Busy };
        self.members[place].credit -= total;
        self.members[place].connections += 1;
        Pick::Take(place)
    }

    fn best_healthy_priority(&self, now: Instant) -> Option<u32> {
        let healthy = (0..self.members.len()).filter(|place| self.health.mood(*place, now) == Mood::Healthy);
        healthy.map(|place| self.members[place].member.priority).min()
    }

    /// Whether a healthy backend of a lower priority number should have the work of the one at `place`.
    pub fn is_outdone(&self, place: usize, now: Instant) -> bool {
        self.best_healthy_priority(now).is_some_and(|best| best < self.members[place].member.priority)
    }

    fn due_before(&self, best: Option<u32>, now: Instant) -> Option<usize> {
        (0..self.members.len()).find(|place| {
            let counted = &self.members[*place];
            best.is_none_or(|best| counted.member.priority <= best)
                && counted.connections < self.limits.connections_max
                && self.health.mood(*place, now) == Mood::Due
                && self.health.claim_probe(*place, now, &self.limits)
        })
    }

    /// When the first backend is worth a try. With a probe under way nobody knows; its end will tell, or its timeout.
    fn first_return(&self, now: Instant) -> Instant {
        let times = (0..self.members.len()).map(|place| match self.health.mood(place, now) {
            Mood::Aside { until } => until,
            Mood::Probing => Instant::from_nanos(self.health.0[place].probing_until.load(Ordering::Relaxed)),
            Mood::Healthy | Mood::Due => now,
        });
        times.min().unwrap_or(Instant::FAR).max(now)
    }

    /// A connection is ready, or something was answered on it. `true` when the backend is back from being set aside.
    pub fn succeeded(&mut self, place: usize, now: Instant) -> bool {
        self.health.succeeded(place, now, &self.limits)
    }

    /// A connection could not be made, broke or was refused. `true` when that sets the backend aside. The connection
    /// counts until [`Pool::released`].
    pub fn failed(&mut self, place: usize, now: Instant, trouble: Trouble) -> bool {
        self.health.failed(place, now, trouble, &self.limits)
    }

    /// A connection is gone, whatever the reason.
    pub fn released(&mut self, place: usize) {
        debug_assert!(self.members[place].connections > 0);
        self.members[place].connections = self.members[place].connections.saturating_sub(1);
    }

    /// Backends this core is to check now by a connection of its own (greeting, EHLO, QUIT), telling the result by
    /// [`Pool::succeeded`] or [`Pool::failed`]: those whose time aside is over, and those without news for a check
    /// interval. Each counts as a connection until [`Pool::released`]; only one core gets it.
    pub fn due_checks(&mut self, now: Instant) -> Vec<usize> {
        if self.limits.check_interval.is_zero() {
            return Vec::new();
        }
        let due: Vec<usize> = (0..self.members.len())
            .filter(|place| match self.health.mood(*place, now) {
                Mood::Healthy => self.health.claim_check(*place, now, &self.limits),
                Mood::Due => self.health.claim_probe(*place, now, &self.limits),
                Mood::Aside { .. } | Mood::Probing => false,
            })
            .collect();
        due.iter().for_each(|place| self.members[*place].connections += 1);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PoolLimits = PoolLimits {
        connections_max: 1000,
        failures_max: 3,
        retry_after: Duration::from_secs(5),
        probe_timeout: Duration::from_secs(10),
        check_interval: Duration::from_secs(30),
    };

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    /// A pool of (weight, priority).
    fn pool(members: &[(u32, u32)]) -> Pool {
        let members: Vec<Member> =
            members.iter().map(|(weight, priority)| Member { weight: *weight, priority: *priority }).collect();
        Pool::new(LIMITS, &members, Health::new(members.len(), at(1)))
    }

    fn take(pool: &mut Pool, now: Instant) -> usize {
        match pool.pick(now) {
            Pick::Take(place) => place,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn weights_share_the_work_smoothly() {
        let mut p = pool(&[(5, 0), (1, 0), (1, 0), (9, 1)]);
        let picks: Vec<usize> = (0..14).map(|_| take(&mut p, at(1))).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_standby_serves_while_the_best_are_aside_and_not_while_they_are_busy() {
        let mut p = pool(&[(1, 0), (1, 5)]);
        p.limits.connections_max = 1;
        assert_eq!(take(&mut p, at(1)), 0);
        assert_eq!(p.pick(at(1)), Pick::Busy);
        assert!(p.failed(0, at(1), Trouble::Unwilling));
        assert_eq!(take(&mut p, at(1)), 1);
        p.released(0);
        p.released(1);
        assert_eq!(take(&mut p, at(6)), 0, "its time aside is over: a probe");
        assert_eq!(take(&mut p, at(6)), 1, "only one probe at a time");
        assert!(p.succeeded(0, at(7)));
        p.released(0);
        assert_eq!(take(&mut p, at(7)), 0);
    }

    #[test]
    fn failures_in_a_row_set_aside_and_one_success_forgives() {
        let mut p = pool(&[(1, 0)]);
        for _ in 0..2 {
            assert!(!p.failed(0, at(1), Trouble::Unreachable));
        }
        p.succeeded(0, at(1));
        for _ in 0..2 {
            assert!(!p.failed(0, at(2), Trouble::Unreachable));
        }
        assert!(p.failed(0, at(2), Trouble::Unreachable));
        assert_eq!(p.pick(at(2)), Pick::Down { until: at(7) });
        assert!(!p.failed(0, at(3), Trouble::Unreachable), "a connection that was under way changes nothing");
        assert_eq!(p.health().mood(0, at(3)), Mood::Aside { until: at(7) });
    }

    #[test]
    fn each_failed_probe_doubles_the_time_up_to_sixteen_times() {
        let mut p = pool(&[(1, 0)]);
        let mut now = at(1);
        p.failed(0, now, Trouble::Unwilling);
        for times in [1, 2, 4, 8, 16, 16] {
            let Pick::Down { until } = p.pick(now) else { panic!("not down") };
            assert_eq!(until - now, LIMITS.retry_after * times);
            now = until;
            assert_eq!(take(&mut p, now), 0);
            assert_eq!(p.health().mood(0, now), Mood::Probing);
            assert_eq!(p.pick(now), Pick::Down { until: now + LIMITS.probe_timeout });
            p.failed(0, now, Trouble::Unreachable);
            p.released(0);
        }
        // A probe that is never heard of again does not block for ever.
        let Pick::Down { until } = p.pick(now) else { panic!("not down") };
        assert_eq!(take(&mut p, until), 0);
        assert_eq!(take(&mut p, until + LIMITS.probe_timeout), 0);
    }

    #[test]
    fn cores_share_health_and_the_probe() {
        let mut a = pool(&[(1, 0)]);
        let mut b = Pool::new(LIMITS, &[Member { weight: 1, priority: 0 }], a.health().clone());
        assert!(a.failed(0, at(1), Trouble::Unwilling));
        assert!(matches!(b.pick(at(1)), Pick::Down { .. }));
        assert_eq!(take(&mut a, at(6)), 0);
        assert!(matches!(b.pick(at(6)), Pick::Down { .. }));
        assert!(a.succeeded(0, at(6)) && !b.succeeded(0, at(6)));
        assert_eq!(take(&mut b, at(6)), 0);
    }

    #[test]
    fn a_backend_without_news_is_checked_by_one_core() {
        let mut a = pool(&[(1, 0), (1, 3)]);
        let mut b = Pool::new(LIMITS, &[Member { weight: 1, priority: 0 }; 2], a.health().clone());
        assert!(a.due_checks(at(30)).is_empty());
        a.succeeded(0, at(25));
        assert_eq!(a.due_checks(at(31)), [1], "the other has been heard of");
        assert!(b.due_checks(at(31)).is_empty());
        assert_eq!(a.connections(1), 1);
        a.failed(1, at(31), Trouble::Unwilling);
        a.released(1);
        assert!(b.due_checks(at(35)).is_empty());
        assert_eq!(b.due_checks(at(36)), [1], "a standby is let back by checks");
        a.limits.check_interval = Duration::ZERO;
        assert!(a.due_checks(at(1000)).is_empty());
    }

    #[test]
    fn a_standby_is_outdone_once_a_better_one_is_healthy() {
        let mut pool = pool(&[(1, 0), (1, 10)]);
        assert!(pool.is_outdone(1, at(1)) && !pool.is_outdone(0, at(1)));
        pool.failed(0, at(2), Trouble::Unwilling);
        assert!(!pool.is_outdone(1, at(3)));
        pool.succeeded(0, at(9));
        assert!(pool.is_outdone(1, at(9)));
    }
}
