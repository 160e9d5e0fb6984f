//! When messages are due: as fast as replies come (closed loop), at a rate nobody slows down (open loop), or never (hold).
//!
//! In the open loop a message's latency counts from its place in the schedule, whether a connection was free or not;
//! anything else would leave out exactly the waits that matter. How it fails: it does not.

use super::session::{Feed, Job};
use crate::message::Id;
use gatepost::base::time::Instant;
use std::collections::VecDeque;
use std::time::Duration;

/// How messages come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// A connection that is free takes the next message.
    Closed,
    /// So many messages a second on this core.
    Open(f64),
    /// None: connections are held idle.
    Hold,
}

/// One core's share of the messages.
#[derive(Debug)]
pub struct Schedule {
    pace: Pace,
    start: Instant,
    ends: Instant,
    left: u64,
    id: Id,
    /// Open loop: messages made due so far, and those that wait for a connection.
    made: u64,
    due: VecDeque<Instant>,
    over: bool,
}

impl Schedule {
    /// From `start` on, until `messages` were handed out or `ends` is reached.
    pub fn new(pace: Pace, start: Instant, ends: Instant, messages: Option<u64>, first: Id) -> Schedule {
        let left = messages.unwrap_or(u64::MAX);
        Schedule { pace, start, ends, left, id: first, made: 0, due: VecDeque::new(), over: false }
    }

    /// Place of the `n`th message of an open loop.
    fn place(&self, n: u64, rate: f64) -> Instant {
        self.start + Duration::from_secs_f64(n as f64 / rate)
    }

    /// Moves what has become due into the queue; tells `late` how long after its time each was noticed, which is the
    /// harness's own share of the latency.
    pub fn tick(&mut self, now: Instant, mut late: impl FnMut(Duration)) {
        if let Pace::Open(rate) = self.pace {
            while self.left > 0 && !self.over {
                let place = self.place(self.made, rate);
                if place > now || place >= self.ends {
                    break;
                }
                self.made += 1;
                self.left -= 1;
                late(now.since(place));
                self.due.push_back(place);
            }
        }
        self.over |= now >= self.ends;
    }

    /// When [`Schedule::tick`] has work again.
    pub fn next(&self) -> Option<Instant> {
        match self.pace {
            _ if self.over => None,
            Pace::Open(rate) if self.left > 0 => Some(self.place(self.made, rate).min(self.ends)),
            _ => Some(self.ends),
        }
    }

    /// Messages that are due and have no connection.
    pub fn waiting(&self) -> usize {
        self.due.len()
    }

    /// Whether a new connection would find work.
    pub fn wants(&self) -> bool {
        match self.pace {
            Pace::Closed => !self.over && self.left > 0,
            Pace::Open(_) => !self.due.is_empty(),
            Pace::Hold => !self.over,
        }
    }

    /// Messages a closed loop has left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Stops making messages; those that are due are given up.
    pub fn stop(&mut self) {
        self.over = true;
        self.due.clear();
    }

    /// The next message for a connection that is free; `since` is when a closed loop's message began.
    pub fn feed(&mut self, since: Instant) -> Feed {
        let scheduled = match self.pace {
            Pace::Closed if self.over || self.left == 0 => return Feed::Over,
            Pace::Closed => {
                self.left -= 1;
                since
            }
            Pace::Open(_) => match self.due.pop_front() {
                Some(scheduled) => scheduled,
                None if self.over || self.left == 0 => return Feed::Over,
                None => return Feed::Later,
            },
            Pace::Hold if self.over => return Feed::Over,
            Pace::Hold => return Feed::Later,
        };
        let id = self.id;
        self.id.seq += 1;
        Feed::Job(Job { id, scheduled })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }
    fn id() -> Id {
        Id { run: 1, core: 0, seq: 0 }
    }

    #[test]
    fn an_open_loop_keeps_its_places_when_it_is_noticed_late() {
        let mut s = Schedule::new(Pace::Open(100.0), at(0), at(1000), None, id());
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
        assert!(matches!(s.feed(at(5000)), Feed::Over));
    }

    #[test]
    fn a_closed_loop_hands_out_its_number_and_no_more() {
        let mut s = Schedule::new(Pace::Closed, at(0), Instant::FAR, Some(2), id());
        assert!(matches!(s.feed(at(1)), Feed::Job(j) if j.id.seq == 0 && j.scheduled == at(1)));
        assert!(matches!(s.feed(at(2)), Feed::Job(j) if j.id.seq == 1));
        assert!(matches!(s.feed(at(2)), Feed::Over) && !s.wants());
        let mut s = Schedule::new(Pace::Closed, at(0), at(10), None, id());
        s.tick(at(10), |_| {});
        assert!(matches!(s.feed(at(10)), Feed::Over));
    }
}
