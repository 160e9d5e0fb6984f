//! What a core gives up first when it is nearly full: it stops reading from clients that may wait, then it stops taking new
//! ones, then it sends new ones away (421). Never the other way round, and never past its memory.
//!
//! Who waits first: clients that have not logged in and have no message under way, the newest first. What is under way goes
//! on, because only its end gives memory back. The fuller the core, the more of them wait. How it fails: it does not; who
//! waits too long is closed by the time limits of the session.

use super::core::{Core, End};
use super::state::Serves;
use crate::base::id::SessionId;
use crate::base::time::Instant;
use crate::reactor::Id;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Percent by which it must get better before it counts as better, so that a core does not go to and fro.
const SLACK: u64 = 5;
/// Time that new clients wait to be taken; then they are sent away, as they would give up themselves soon (RFC 5321
/// §4.5.3.2.1 has them wait for five minutes, most wait for less).
const WAIT_MAX: Duration = Duration::from_secs(20);

/// What a core does about its load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Nothing.
    #[default]
    Calm,
    /// The newest clients that have not logged in are not read from.
    Reading,
    /// New clients wait to be taken, since then.
    Accepting,
    /// New clients are sent away.
    Refusing,
}

/// The state of it.
#[derive(Debug, Default)]
pub(super) struct Shedding {
    stage: Stage,
    since: Instant,
    /// Clients that are not read from.
    held: Vec<Id>,
}

impl Shedding {
    /// Whether a new client is sent away.
    pub fn refuses(&self) -> bool {
        self.stage == Stage::Refusing
    }
}

/// What to do at this much of the budget, when it was `before` since then.
fn next(before: Stage, percent: u64, (reading, accepting): (u64, u64), waited: Duration) -> Stage {
    let above = |limit: u64, at: Stage| percent >= limit.saturating_sub(if before >= at { SLACK } else { 0 });
    if !above(reading, Stage::Reading) {
        return Stage::Calm;
    }
    if !above(accepting.max(reading), Stage::Accepting) {
        return Stage::Reading;
    }
    match before {
        Stage::Refusing => Stage::Refusing,
        Stage::Accepting if waited >= WAIT_MAX => Stage::Refusing,
        _ => Stage::Accepting,
    }
}

/// How many of `candidates` wait at this much of the budget: none at `reading`, all at 100 %.
fn share(candidates: usize, percent: u64, reading: u64) -> usize {
    let (over, room) = (percent.min(100).saturating_sub(reading), 100u64.saturating_sub(reading).max(1));
    candidates.min((candidates as u64 * over).div_ceil(room) as usize)
}

impl Core {
    /// How full the core's memory for bodies is, in percent. Connections have a limit of their own, and who is one too
    /// many is told at once.
    fn fullness(&self) -> u64 {
        self.load().memory_percent
    }

    /// Looks at the load, with every tick and when it has grown.
    pub(super) fn shed(&mut self) {
        let settings = &self.shared.config.settings.server;
        let limits = (u64::from(settings.shed_reading), u64::from(settings.shed_accepting));
        let percent = self.fullness();
        if self.shedding.stage == Stage::Calm && percent < limits.0 {
            return;
        }
        let before = self.shedding.stage;
        let stage = next(before, percent, limits, self.now.since(self.shedding.since));
        if stage != before {
            (self.shedding.stage, self.shedding.since) = (stage, self.now);
            tracing::warn!(target: "load", core = self.number, percent, ?before, now = ?stage, "load");
            let waits = stage == Stage::Accepting;
            if waits != (before == Stage::Accepting) {
                self.pause_listeners(waits);
            }
        }
        match stage {
            Stage::Calm => self.hold(&[]),
            _ => {
                let mut candidates = self.candidates();
                // The newest first.
                candidates.sort_unstable_by_key(|(session, _)| std::cmp::Reverse(*session));
                candidates.truncate(share(candidates.len(), percent, limits.0));
                let held: Vec<Id> = candidates.into_iter().map(|(_, id)| id).collect();
                self.hold(&held);
            }
        }
    }

    /// Clients that may wait.
    fn candidates(&self) -> Vec<(SessionId, Id)> {
        let clients = self.ends().filter_map(|(id, end)| match end {
            End::Client(client) if client.machine.user().is_none() && client.reserved_octets == 0 => {
                Some((client.session, id))
            }
            _ => None,
        });
        clients.collect()
    }

    /// These are not read from, all others are.
    fn hold(&mut self, held: &[Id]) {
        let before = std::mem::take(&mut self.shedding.held);
        for id in before.iter().filter(|id| !held.contains(id)) {
            self.hold_one(*id, false);
        }
        for id in held.iter().filter(|id| !before.contains(id)) {
            self.hold_one(*id, true);
            self.shared.counters.held.fetch_add(1, Ordering::Relaxed);
        }
        self.shedding.held = held.to_vec();
    }

    fn hold_one(&mut self, id: Id, on: bool) {
        match self.take(id) {
            Some(End::Client(mut client)) => {
                client.pipe.hold(&mut self.driver, on);
                self.put(id, End::Client(client));
            }
            Some(other) => self.put(id, other),
            None => {}
        }
    }

    fn pause_listeners(&mut self, on: bool) {
        let smtp: Vec<Id> = self
            .listeners()
            .filter(|(_, listener)| matches!(listener.serves, Serves::Smtp(_)))
            .map(|(id, _)| *id)
            .collect();
        smtp.into_iter().for_each(|id| self.driver.pause_accept(id, on));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_reading_then_accepting_then_refusing_and_back() {
        let (limits, short, long) = ((80, 90), Duration::from_secs(1), WAIT_MAX);
        let mut stage = Stage::Calm;
        let mut at = |percent, waited| {
            stage = next(stage, percent, limits, waited);
            stage
        };
        assert_eq!(at(79, long), Stage::Calm);
        assert_eq!(at(80, long), Stage::Reading);
        assert_eq!(at(76, long), Stage::Reading); // not better enough
        assert_eq!(at(95, short), Stage::Accepting);
        assert_eq!(at(86, short), Stage::Accepting);
        assert_eq!(at(100, long), Stage::Refusing);
        assert_eq!(at(99, short), Stage::Refusing);
        assert_eq!(at(84, short), Stage::Reading);
        assert_eq!(at(74, short), Stage::Calm);
        assert_eq!(at(200, long), Stage::Accepting); // never past a step
    }

    #[test]
    fn the_fuller_the_more_wait() {
        assert_eq!([80, 81, 90, 100, 300].map(|p| share(10, p, 80)), [0, 1, 5, 10, 10]);
        assert_eq!((share(0, 100, 80), share(7, 100, 100)), (0, 0));
    }
}
