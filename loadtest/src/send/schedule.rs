//! When messages are due: as fast as replies come (closed loop), at a rate nobody slows down (open loop), or never (hold).
//!
//! In the open loop a message's latency counts from its place in the schedule, whether a connection was free or not;
//! anything else would leave out exactly the waits that matter. How it fails: it does not; messages that are put off by the
//! server wait here for their next try, at most [`RETRIES_WAITING_MAX`] of them.

use super::arrivals::Times;
use super::script::{Feed, Job};
use crate::message::Id;
use gatepost::base::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// Messages of one core that wait for another try at most; further ones are given up.
pub const RETRIES_WAITING_MAX: usize = 1_000_000;

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// A connection that is free takes the next message.
    Closed,
    /// So many messages a second, on average, all cores together.
    Open(f64),
    /// None: connections are held idle.
    Hold,
}

/// One core's share of the messages.
#[derive(Debug)]
pub struct Schedule {
    source: Source,
    start: Instant,
    ends: Instant,
    left: u64,
    id: Id,
    /// Messages that are due and wait for a connection.
    due: VecDeque<Job>,
    /// Messages that were put off, in the order in which they are due again (the pause is the same for all).
    put_off: VecDeque<(Instant, Job)>,
    /// Nothing new is made.
    over: bool,
    /// Nothing is tried again, either.
    stopped: bool,
}

#[derive(Debug)]
enum Source {
    Closed,
    /// And the place of the next message, unless there is none.
    Open(Box<Times>, Option<Instant>),
    Hold,
}

impl Schedule {
    /// From `start` on, until `messages` were handed out or `ends` is reached.
    pub(super) fn new(
        times: Option<Times>,
        hold: bool,
        start: Instant,
        ends: Instant,
        messages: Option<u64>,
        first: Id,
    ) -> Schedule {
        let source = match times {
            Some(mut times) => {
                let next = times.next().map(|d| start + d);
                Source::Open(Box::new(times), next)
            }
            None if hold => Source::Hold,
            None => Source::Closed,
        };
        let left = messages.unwrap_or(u64::MAX);
        Schedule {
            source,
            start,
            ends,
            left,
            id: first,
            due: VecDeque::new(),
            put_off: VecDeque::new(),
            over: false,
            stopped: false,
        }
    }

    /// Moves what has become due into the queue; tells `late` how long after its time each was noticed, which is the
    /// harness's own share of the latency.
    pub fn tick(&mut self, now: Instant, mut late: impl FnMut(Duration)) {
        if let Source::Open(times, next) = &mut self.source {
            while let Some(place) = next.filter(|p| *p <= now && *p < self.ends)
                && self.left > 0
                && !self.over
            {
                *next = times.next().map(|d| self.start + d);
                self.left -= 1;
                late(now.since(place));
                self.due.push_back(Job::new(self.id, place));
                self.id.seq += 1;
            }
        }
        while let Some((_, job)) = self.put_off.pop_front_if(|(at, _)| *at <= now) {
            self.due.push_back(job);
        }
        self.over |= now >= self.ends;
    }

    /// When [`Schedule::tick`] has work again.
    pub fn next(&self) -> Option<Instant> {
        let again = self.put_off.front().map(|(at, _)| *at);
        let fresh = match &self.source {
            _ if self.over => None,
            Source::Open(_, next) if self.left > 0 => next.map(|at| at.min(self.ends)),
            Source::Open(..) => None,
            Source::Closed | Source::Hold => Some(self.ends),
        };
        again.into_iter().chain(fresh).min()
    }

    /// Messages that are due and have no connection.
    pub fn waiting(&self) -> usize {
        self.due.len()
    }

    /// Messages that could be sent now if there were connections for them.
    pub fn ready(&self) -> u64 {
        match self.source {
            Source::Closed if !self.over => self.left.saturating_add(self.due.len() as u64),
            _ => self.due.len() as u64,
        }
    }

    /// Whether nothing is due, and nothing will be.
    pub fn is_done(&self) -> bool {
        let fresh = match &self.source {
            _ if self.over => false,
            Source::Open(_, next) => self.left > 0 && next.is_some_and(|at| at < self.ends),
            Source::Closed => self.left > 0,
            Source::Hold => true,
        };
        !fresh && self.due.is_empty() && self.put_off.is_empty()
    }

    /// Whether connections are only to be held.
    pub fn is_holding(&self) -> bool {
        matches!(self.source, Source::Hold) && !self.over
    }

    /// Stops making messages; those that are due are given up.
    pub fn stop(&mut self) {
        (self.over, self.stopped) = (true, true);
        self.due.clear();
        self.put_off.clear();
    }

    /// Tries a message again at `at`; whether there was room for it.
    pub fn put_off(&mut self, job: Job, at: Instant) -> bool {
        let room = self.put_off.len() < RETRIES_WAITING_MAX && !self.stopped;
        if room {
            self.put_off.push_back((at, Job { tries: job.tries + 1, ..job }));
        }
        room
    }

    /// The next message for a connection that is free; `since` is when a closed loop's message began.
    pub fn feed(&mut self, since: Instant) -> Feed {
        if let Some(job) = self.due.pop_front() {
            return Feed::Job(job);
        }
        if self.is_done() {
            return Feed::Over;
        }
        if !matches!(self.source, Source::Closed) || self.over || self.left == 0 {
            return Feed::Later;
        }
        self.left -= 1;
        let job = Job::new(self.id, since);
        self.id.seq += 1;
        Feed::Job(job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::arrivals::Arrivals;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }
    fn id() -> Id {
        Id { run: 1, core: 0, seq: 0 }
    }
    fn open(rate: f64, ends: Instant) -> Schedule {
        let times = Times::new(&Arrivals::default(), rate, 0, 1);
        Schedule::new(Some(times), false, at(0), ends, None, id())
    }

    #[test]
    fn an_open_loop_keeps_its_places_when_it_is_noticed_late() {
        let mut s = open(100.0, at(1000));
        let mut late = Vec::new();
        s.tick(at(25), |d| late.push(d.as_millis()));
        assert_eq!(late, [25, 15, 5]);
        assert_eq!(s.next(), Some(at(30)));
        for expected in [0, 10, 20] {
            let Feed::Job(job) = s.feed(at(25)) else { panic!("due") };
            assert_eq!(job.scheduled, at(expected));
        }
        assert!(matches!(s.feed(at(25)), Feed::Later));
        s.tick(at(5000), |_| {});
        assert_eq!(s.waiting(), 97, "100 in all, whatever happened meanwhile");
        (0..97).for_each(|_| assert!(matches!(s.feed(at(5000)), Feed::Job(_))));
        assert!(matches!(s.feed(at(5000)), Feed::Over) && s.is_done());
    }

    #[test]
    fn a_closed_loop_hands_out_its_number_and_no_more() {
        let mut s = Schedule::new(None, false, at(0), Instant::FAR, Some(2), id());
        assert!(matches!(s.feed(at(1)), Feed::Job(j) if j.id.seq == 0 && j.scheduled == at(1)));
        assert!(matches!(s.feed(at(2)), Feed::Job(j) if j.id.seq == 1));
        assert!(matches!(s.feed(at(2)), Feed::Over) && s.is_done());
        let mut s = Schedule::new(None, false, at(0), at(10), None, id());
        s.tick(at(10), |_| {});
        assert!(matches!(s.feed(at(10)), Feed::Over));
    }

    #[test]
    fn what_is_put_off_comes_again_and_keeps_its_place() {
        let mut s = Schedule::new(None, false, at(0), Instant::FAR, Some(1), id());
        let Feed::Job(job) = s.feed(at(1)) else { panic!("one") };
        assert!(s.put_off(job, at(500)));
        assert!(matches!(s.feed(at(2)), Feed::Later) && !s.is_done());
        assert_eq!((s.next(), s.ready()), (Some(at(500)), 0));
        s.tick(at(500), |_| {});
        assert!(matches!(s.feed(at(500)), Feed::Job(j) if j.scheduled == at(1) && j.tries == 1 && j.id == job.id));
        assert!(s.is_done());
    }

    #[test]
    fn holding_ends_with_its_time() {
        let mut s = Schedule::new(None, true, at(0), at(10), None, id());
        assert!(s.is_holding() && !s.is_done());
        assert!(matches!(s.feed(at(1)), Feed::Later));
        s.tick(at(10), |_| {});
        assert!(s.is_done() && matches!(s.feed(at(10)), Feed::Over));
    }
}
