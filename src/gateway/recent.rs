//! What happened lately: the last sessions whole, and the last decisions, for whoever asks why something was refused.
//!
//! Each core has two rings that it writes without waiting; what is pushed out of a full ring is the oldest. A reader moves
//! what it finds to a shelf of its own, bounded in number and octets. The record of a session is a line of the journal,
//! so that it can be judged again with an explanation. How it fails: nothing here holds up a core; decisions that came
//! faster than a follower asks are counted as missed.

use super::admin::Decided;
use super::metrics::Count;
use crate::policy::journal::{self, Keep, Run, Sink};
use crossbeam::queue::ArrayQueue;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

thread_local! {
    /// The core that this thread is.
    static CORE: Cell<usize> = const { Cell::new(0) };
}

/// Decisions that may wait for a reader on one core, when fewer are to be kept.
const DECISIONS_WAITING_MIN: usize = 1024;
/// Octets of lines that wait for a reader, on one core.
const LINES_OCTETS_MAX: u64 = 4 << 20;

/// Says which core this thread is from now on.
pub(super) fn this_is_core(number: u16) {
    CORE.set(usize::from(number));
}

/// The core this thread is.
#[inline]
pub(super) fn core() -> usize {
    CORE.get()
}

/// See the module's head.
pub struct Recent {
    cores: Box<[CoreRecent]>,
    runs: Vec<Arc<Run>>,
    shelf: Mutex<Shelf>,
    /// Readers that want to hear of every decision, not of refusals alone.
    followers: AtomicUsize,
    sessions_max: usize,
    decisions_max: usize,
    octets_max: u64,
}

struct CoreRecent {
    lines: ArrayQueue<Vec<u8>>,
    octets: AtomicU64,
    decisions: ArrayQueue<Box<Decided>>,
    missed: Count,
}

/// What readers have taken from the cores.
#[derive(Default)]
struct Shelf {
    sessions: VecDeque<Recorded>,
    octets: u64,
    decisions: VecDeque<Arc<Decided>>,
    next: u64,
}

/// A session that has ended, or a part of one.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its id.
    pub session: String,
    /// Which part of it.
    pub part: u64,
    /// When it began, milliseconds since 1970.
    pub at_ms: u64,
    /// Its line in the journal's format.
    pub line: Arc<str>,
}

/// Lines of a core's sessions that no journal wants.
struct Tap(std::sync::Weak<Recent>);

impl Sink for Tap {
    fn line(&self, line: Vec<u8>) {
        if let Some(recent) = self.0.upgrade() {
            recent.line(line);
        }
    }
}

impl Recent {
    /// Room for so many sessions and decisions. Without sessions nothing of them is recorded.
    pub fn new(cores: usize, sessions_max: usize, decisions_max: usize, octets_max: u64) -> Arc<Recent> {
        let core = |_| CoreRecent {
            lines: ArrayQueue::new(sessions_max.max(1)),
            octets: AtomicU64::new(0),
            decisions: ArrayQueue::new(decisions_max.max(DECISIONS_WAITING_MIN)),
            missed: Count::default(),
        };
        Arc::new_cyclic(|recent| Recent {
            cores: (0..cores).map(core).collect(),
            // A run for each core: its counter is written for everything that happens.
            runs: (0..cores)
                .map(|n| Run::new(format!("core{n}"), None, Keep::default(), Box::new(Tap(recent.clone()))))
                .collect(),
            shelf: Mutex::default(),
            followers: AtomicUsize::new(0),
            sessions_max,
            decisions_max,
            octets_max,
        })
    }

    /// What sessions of the calling core are recorded into, when they are kept and no journal records them.
    pub fn run(&self) -> Option<&Arc<Run>> {
        if self.sessions_max == 0 { None } else { self.runs.get(core()) }
    }

    /// Takes the line of a session that has ended on the calling core.
    pub fn line(&self, line: Vec<u8>) {
        let Some(core) = self.cores.get(core()).filter(|_| self.sessions_max > 0) else { return };
        let mut octets = core.octets.fetch_add(line.len() as u64, Ordering::Relaxed) + line.len() as u64;
        if let Some(old) = core.lines.force_push(line) {
            octets = core.octets.fetch_sub(old.len() as u64, Ordering::Relaxed) - old.len() as u64;
        }
        while octets > LINES_OCTETS_MAX.min(self.octets_max) {
            let Some(old) = core.lines.pop() else { break };
            octets = core.octets.fetch_sub(old.len() as u64, Ordering::Relaxed) - old.len() as u64;
        }
    }

    /// Whether somebody wants to hear of decisions that let pass.
    #[inline]
    pub fn is_followed(&self) -> bool {
        self.followers.load(Ordering::Relaxed) > 0
    }

    /// Takes a decision of the calling core.
    pub fn decided(&self, decided: Box<Decided>) {
        let Some(core) = self.cores.get(core()) else { return };
        if core.decisions.force_push(decided).is_some() {
            core.missed.add(1);
        }
    }

    /// Decisions that were pushed out before anybody read them.
    pub fn missed(&self) -> u64 {
        self.cores.iter().map(|core| core.missed.read()).sum()
    }

    /// Sessions and decisions on the shelf, and octets of all records.
    pub fn holds(&self) -> (usize, usize, u64) {
        let waiting: u64 = self.cores.iter().map(|core| core.octets.load(Ordering::Relaxed)).sum();
        let shelf = self.shelf.lock();
        (shelf.sessions.len(), shelf.decisions.len(), shelf.octets + waiting)
    }

    /// Moves what the cores have to the shelf.
    fn gather(&self) -> parking_lot::MutexGuard<'_, Shelf> {
        let mut shelf = self.shelf.lock();
        let mut lines: Vec<Recorded> = Vec::new();
        let mut decisions: Vec<Box<Decided>> = Vec::new();
        for core in &self.cores {
            // As many as there are now: a core that is busy meanwhile must not keep the reader here.
            for _ in 0..core.lines.len() {
                let Some(line) = core.lines.pop() else { break };
                core.octets.fetch_sub(line.len() as u64, Ordering::Relaxed);
                lines.extend(recorded(line));
            }
            for _ in 0..core.decisions.len() {
                decisions.extend(core.decisions.pop());
            }
        }
        lines.sort_by_key(|line| line.at_ms);
        for line in lines {
            shelf.octets += line.line.len() as u64;
            shelf.sessions.push_back(line);
        }
        decisions.sort_by_key(|decided| decided.at_ms);
        for mut decided in decisions {
            shelf.next += 1;
            decided.number = shelf.next;
            shelf.decisions.push_back(Arc::from(decided));
        }
        while shelf.sessions.len() > self.sessions_max || shelf.octets > self.octets_max {
            let Some(old) = shelf.sessions.pop_front() else { break };
            shelf.octets -= old.line.len() as u64;
        }
        let excess = shelf.decisions.len().saturating_sub(self.decisions_max);
        shelf.decisions.drain(..excess);
        shelf
    }

    /// Decisions with a number above `after` that `wanted` admits, the oldest first, at most `limit`; and the number to go
    /// on from.
    pub fn since(&self, after: u64, limit: usize, wanted: impl Fn(&Decided) -> bool) -> (Vec<Arc<Decided>>, u64) {
        let shelf = self.gather();
        let begin = shelf.decisions.partition_point(|decided| decided.number <= after);
        let mut found = Vec::new();
        let mut last = after.max(shelf.next.min(after));
        for decided in shelf.decisions.range(begin..) {
            if found.len() == limit {
                break;
            }
            last = decided.number;
            if wanted(decided) {
                found.push(decided.clone());
            }
        }
        (found, last)
    }

    /// The newest decisions that `wanted` admits, the newest first.
    pub fn latest(&self, limit: usize, wanted: impl Fn(&Decided) -> bool) -> Vec<Arc<Decided>> {
        self.gather().decisions.iter().rev().filter(|decided| wanted(decided)).take(limit).cloned().collect()
    }

    /// The number of the newest decision.
    pub fn newest(&self) -> u64 {
        self.gather().next
    }

    /// The parts of a session that has ended, in order.
    pub fn session(&self, id: &str) -> Vec<Recorded> {
        let shelf = self.gather();
        let mut parts: Vec<Recorded> = shelf.sessions.iter().filter(|r| r.session == id).cloned().collect();
        parts.sort_by_key(|part| part.part);
        parts
    }

    /// The newest sessions, the newest first, at most `limit`.
    pub fn sessions(&self, limit: usize) -> Vec<Recorded> {
        self.gather().sessions.iter().rev().filter(|r| r.part == 0).take(limit).cloned().collect()
    }

    /// Hears of every decision until dropped.
    pub fn follow(self: &Arc<Recent>) -> Follower {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Follower(self.clone())
    }
}

/// Somebody who wants to hear of every decision, until dropped.
pub struct Follower(Arc<Recent>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) fn recorded(line: Vec<u8>) -> Option<Recorded> {
    let line = String::from_utf8(line).ok()?;
    let (session, part, at_ms) = {
        let (head, _) = journal::read_line(&line, &mut Vec::new()).ok()?;
        (head.session.to_string(), head.part, head.at_ms)
    };
    Some(Recorded { session, part, at_ms, line: line.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let head = journal::Head { session: format!("S{n}").into(), at_ms: n, ..journal::Head::default() };
        journal::begin(&head, &mut out);
        journal::end(1, 1, false, &mut out);
        out
    }

    fn decided(n: u64) -> Box<Decided> {
        Box::new(Decided { at_ms: n, rule: format!("r{}", n % 2), ..Decided::default() })
    }

    #[test]
    fn the_last_are_kept_and_the_oldest_go() {
        let recent = Recent::new(1, 3, 4, 1 << 20);
        (0..10).for_each(|n| recent.line(line(n)));
        assert_eq!(recent.sessions(9).iter().map(|r| r.session.as_str()).collect::<Vec<_>>(), ["S9", "S8", "S7"]);
        assert_eq!(recent.session("S8").len(), 1);
        assert!(recent.session("S2").is_empty());
        (0..10).for_each(|n| recent.decided(decided(n)));
        let (all, last) = recent.since(0, 100, |_| true);
        assert_eq!((all.len(), last), (4, 10));
        let (few, last) = recent.since(6, 1, |d| d.rule == "r1");
        assert_eq!((few.len(), few[0].at_ms, last), (1, 7, 8));
        assert_eq!(recent.latest(1, |d| d.rule == "r0")[0].at_ms, 8);
        assert_eq!(recent.since(10, 9, |_| true), (Vec::new(), 10));
    }

    #[test]
    fn octets_are_bounded_and_missed_decisions_counted() {
        let recent = Recent::new(1, 100_000, 10, 64 * 1024);
        let mut huge = line(1);
        huge.extend(std::iter::repeat_n(b' ', 30_000));
        (0..20).for_each(|_| recent.line(huge.clone()));
        assert!(recent.holds().2 <= 64 * 1024, "{:?}", recent.holds());
        recent.sessions(1);
        assert!(recent.holds().2 <= 64 * 1024, "{:?}", recent.holds());
        (0..DECISIONS_WAITING_MIN as u64 + 7).for_each(|n| recent.decided(decided(n)));
        assert_eq!(recent.missed(), 7);
        assert!(!recent.is_followed());
        let follower = recent.follow();
        assert!(recent.is_followed());
        drop(follower);
        assert!(!recent.is_followed());
    }

    #[test]
    fn what_is_not_kept_costs_nothing() {
        let recent = Recent::new(2, 0, 10, 1 << 20);
        assert!(recent.run().is_none());
        recent.line(line(1));
        assert!(recent.sessions(9).is_empty());
    }
}
