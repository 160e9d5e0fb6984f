//! What a core of clients has counted and timed.
//!
//! How it fails: it does not; beyond [`KINDS_MAX`] kinds of errors the rest is counted together.

use crate::send::Times;
use gatepost::base::time::Instant;
use std::collections::BTreeMap;
use std::time::Duration;

/// Kinds of errors and of replies kept apart.
const KINDS_MAX: usize = 100;

/// One core's, then everybody's.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Connections that were established.
    pub connected: u64,
    /// Sessions that ended as they should.
    pub sessions: u64,
    /// Sessions that did not.
    pub failed: u64,
    /// Sessions that were due and never began, because the run ended.
    pub not_begun: u64,
    /// Logins that were refused.
    pub login_refused: u64,
    /// What an attacker or user asked for and got (recipients, logins, sessions: see the kind).
    pub accepted: u64,
    /// What was refused.
    pub refused: u64,
    /// Sessions that the server ended.
    pub cut: u64,
    /// Messages read.
    pub messages: u64,
    /// Octets of them.
    pub octets: u64,
    /// Messages read that are not ours.
    pub unmarked: u64,
    /// Notices during IDLE.
    pub pushes: u64,
    /// Most connections that were up at once.
    pub held_max: u64,
    /// From schedule to the end of the session.
    pub session: Times,
    /// From connect to the greeting.
    pub greeting: Times,
    /// How late the harness itself noticed that a session was due.
    pub late: Times,
    /// By command.
    pub commands: BTreeMap<&'static str, Times>,
    /// Refusals by what the server called them.
    pub replies: BTreeMap<String, u64>,
    /// Everything else that went wrong.
    pub errors: BTreeMap<String, u64>,
    /// When the last session ended.
    pub last: Instant,
    /// From the start to the last session's end.
    pub elapsed: Duration,
    /// Processor time of the core's thread.
    pub cpu: Duration,
}

fn count(kinds: &mut BTreeMap<String, u64>, what: &str, n: u64) {
    let known = kinds.contains_key(what) || kinds.len() < KINDS_MAX;
    *kinds.entry(if known { what.to_owned() } else { "others".to_owned() }).or_insert(0) += n;
}

impl Tally {
    /// Counts an error.
    pub fn error(&mut self, what: &str) {
        count(&mut self.errors, what, 1);
    }
    /// Counts a refusal.
    pub fn reply(&mut self, what: &str) {
        count(&mut self.replies, what, 1);
    }
    /// Times a command.
    pub fn command(&mut self, name: &'static str, time: Duration) {
        self.commands.entry(name).or_default().record(time);
    }

    /// Adds another core's. Cores run side by side, so the longest time is the run's.
    pub fn add(&mut self, other: &Tally) {
        self.connected += other.connected;
        self.sessions += other.sessions;
        self.failed += other.failed;
        self.not_begun += other.not_begun;
        self.login_refused += other.login_refused;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.cut += other.cut;
        self.messages += other.messages;
        self.octets += other.octets;
        self.unmarked += other.unmarked;
        self.pushes += other.pushes;
        self.held_max += other.held_max;
        self.session.add(&other.session);
        self.greeting.add(&other.greeting);
        self.late.add(&other.late);
        other.commands.iter().for_each(|(name, times)| self.commands.entry(name).or_default().add(times));
        other.replies.iter().for_each(|(what, n)| count(&mut self.replies, what, *n));
        other.errors.iter().for_each(|(what, n)| count(&mut self.errors, what, *n));
        self.elapsed = self.elapsed.max(other.elapsed);
        self.cpu += other.cpu;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_bounded_and_none_is_lost() {
        let mut t = Tally::default();
        (0..500).for_each(|n| t.error(&format!("error {n}")));
        assert!(t.errors.len() <= KINDS_MAX + 1);
        assert_eq!(t.errors.values().sum::<u64>(), 500);
        let mut both = t.clone();
        both.add(&t);
        assert_eq!(both.errors.values().sum::<u64>(), 1000);
    }
}
