//! What a sink has counted.
//!
//! How it fails: it does not.

use std::collections::BTreeMap;
use std::fmt;

/// A sink that is busier than this is the limit.
const BUSY_PERMILLE_MAX: u64 = 950;

/// What all sessions of a core have counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Connections.
    pub sessions: u64,
    /// TLS handshakes that were finished.
    pub tls_sessions: u64,
    /// TLS handshakes that failed.
    pub tls_failures: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins that did not.
    pub logins_refused: u64,
    /// Commands taken.
    pub commands: u64,
    /// Messages answered with 250.
    pub messages: u64,
    /// Recipients of those.
    pub recipients: u64,
    /// Octets of those, as they were on the wire.
    pub octets: u64,
    /// Recipients refused on purpose with a 5xx.
    pub rejected: u64,
    /// Recipients put off on purpose with a 4xx; greylisted ones are counted apart.
    pub deferred: u64,
    /// Recipients put off because they were not seen before.
    pub greylisted: u64,
    /// Connections dropped on purpose.
    pub disconnected: u64,
    /// Connections on which the sink stopped reading.
    pub stalled: u64,
    /// Sessions that got every reply late.
    pub tarpitted: u64,
    /// Everything that went wrong on purpose, by stage and action.
    pub faults: BTreeMap<String, u64>,
    /// Commands out of order, unknown or malformed.
    pub errors: u64,
    /// Messages without a readable id, when a ledger is kept.
    pub unmarked: u64,
    /// Thousandths of its busiest second in which a core had work, or waited for its processor. Near 1000 the sink was the limit.
    pub busiest_second_permille: u64,
}

impl Tally {
    /// Adds what another core counted.
    pub fn add(&mut self, other: &Tally) {
        self.sessions += other.sessions;
        self.tls_sessions += other.tls_sessions;
        self.tls_failures += other.tls_failures;
        self.logins += other.logins;
        self.logins_refused += other.logins_refused;
        self.commands += other.commands;
        self.messages += other.messages;
        self.recipients += other.recipients;
        self.octets += other.octets;
        self.rejected += other.rejected;
        self.deferred += other.deferred;
        self.greylisted += other.greylisted;
        self.disconnected += other.disconnected;
        self.stalled += other.stalled;
        self.tarpitted += other.tarpitted;
        other.faults.iter().for_each(|(what, n)| *self.faults.entry(what.clone()).or_insert(0) += n);
        self.errors += other.errors;
        self.unmarked += other.unmarked;
        self.busiest_second_permille = self.busiest_second_permille.max(other.busiest_second_permille);
    }

    /// Why the sink was the limit, when it was.
    pub fn limit(&self) -> Option<String> {
        let percent = self.busiest_second_permille as f64 / 10.0;
        (self.busiest_second_permille > BUSY_PERMILLE_MAX)
            .then(|| format!("a core of the sink had work for {percent:.0} % of a second"))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} sessions, {} messages, {} recipients, {} octets, {} commands",
            self.sessions, self.messages, self.recipients, self.octets, self.commands
        )?;
        if self.tls_sessions + self.tls_failures + self.logins + self.logins_refused > 0 {
            writeln!(
                f,
                "TLS {}, failed {}; logins {}, refused {}",
                self.tls_sessions, self.tls_failures, self.logins, self.logins_refused
            )?;
        }
        self.faults.iter().try_for_each(|(what, n)| writeln!(f, "on purpose: {what}: {n}"))?;
        if self.greylisted + self.tarpitted > 0 {
            writeln!(f, "greylisted {}, tarpitted {}", self.greylisted, self.tarpitted)?;
        }
        writeln!(f, "errors {}, unmarked {}", self.errors, self.unmarked)?;
        self.limit().iter().try_for_each(|why| writeln!(f, "the harness was the limit: {why}"))
    }
}
