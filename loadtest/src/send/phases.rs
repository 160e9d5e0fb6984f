//! The times of single steps: from each command's sending to its reply.
//!
//! With pipelining the commands of a group are sent at once, so each one's time is that from the group's sending to its own
//! reply. How it fails: it does not.

use super::tally::Times;
use std::time::Duration;

/// A step of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The TCP connection.
    Connect,
    /// The TLS handshake, without STARTTLS itself.
    Tls,
    /// From the connection to the greeting.
    Greeting,
    /// EHLO or LHLO.
    Ehlo,
    /// STARTTLS, up to the 220.
    StartTls,
    /// AUTH with all its challenges.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT, each.
    Rcpt,
    /// DATA, up to the 354.
    Data,
    /// From the body (with BDAT: from the group it travels in) to the final reply.
    Final,
}

/// Every phase with its name, in the order of a session.
pub const PHASES: [(Phase, &str); 10] = [
    (Phase::Connect, "connect"),
    (Phase::Tls, "tls"),
    (Phase::Greeting, "greeting"),
    (Phase::Ehlo, "ehlo"),
    (Phase::StartTls, "starttls"),
    (Phase::Auth, "auth"),
    (Phase::Mail, "mail"),
    (Phase::Rcpt, "rcpt"),
    (Phase::Data, "data"),
    (Phase::Final, "final"),
];

/// The times of every phase.
#[derive(Clone, Debug, Default)]
pub struct Phases([Times; PHASES.len()]);

impl Phases {
    /// Adds one.
    pub fn record(&mut self, phase: Phase, time: Duration) {
        // The variants are numbered as the table is.
        self.0[phase as usize].record(time);
    }
    /// Adds another core's.
    pub fn add(&mut self, other: &Phases) {
        self.0.iter_mut().zip(&other.0).for_each(|(mine, others)| mine.add(others));
    }
    /// Those that happened, with their names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &Times)> {
        PHASES.iter().zip(&self.0).map(|((_, name), times)| (*name, times)).filter(|(_, times)| times.count() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_numbered_as_their_table_is() {
        for (at, (phase, name)) in PHASES.iter().enumerate() {
            assert_eq!(*phase as usize, at);
            let mut phases = Phases::default();
            phases.record(*phase, Duration::from_millis(1));
            assert_eq!(phases.iter().map(|(n, _)| n).collect::<Vec<_>>(), [*name]);
        }
    }
}
