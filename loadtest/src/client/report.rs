//! The result of a run of clients, as JSON and as text.
//!
//! How it fails: it does not.

use super::{Options, Pace, Tally};
use crate::report::Quantiles;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A core that is busier than this is the limit of a closed loop.
const BUSY_MAX: f64 = 0.9;
/// An open loop that notices sessions later than this at p99 does not keep its schedule.
const LATE_MAX_MS: f64 = 5.0;

/// What a run of readers or attackers found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ClientReport {
    /// Where it was measured.
    pub machine: String,
    /// What the clients were.
    pub kind: String,
    /// Where to.
    pub target: String,
    /// `closed` or `open`.
    pub loop_kind: String,
    /// Sessions per second that were asked for, in an open loop.
    pub rate_asked: Option<f64>,
    /// Threads.
    pub cores: usize,
    /// Connections at most.
    pub connections: usize,
    /// From the start to the last session's end.
    pub elapsed_s: f64,
    /// Connections that were established.
    pub connected: u64,
    /// Sessions that ended as they should.
    pub sessions: u64,
    /// Sessions that did not.
    pub failed: u64,
    /// Sessions that were due and never began.
    pub not_begun: u64,
    /// Logins that were refused.
    pub login_refused: u64,
    /// What was asked for and granted: recipients of a dictionary attack, guessed passwords, sessions of others.
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
    /// Rate of sessions.
    pub sessions_per_s: f64,
    /// Rate of messages read.
    pub messages_per_s: f64,
    /// From schedule to the end of the session.
    pub latency: Quantiles,
    /// From connect to the greeting.
    pub setup: Quantiles,
    /// How late the harness itself was, in an open loop.
    pub late: Quantiles,
    /// By command.
    pub commands: BTreeMap<String, Quantiles>,
    /// Refusals by what the server called them.
    pub replies: BTreeMap<String, u64>,
    /// Everything else that went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Processor time of the clients.
    pub cpu_s: f64,
    /// Share of its core that the busiest thread used.
    pub busiest_core: f64,
    /// Why the rate may be the harness's and not the server's.
    pub harness_limit: Option<String>,
}

impl ClientReport {
    pub(super) fn new(options: &Options, tally: &Tally, busiest: f64) -> ClientReport {
        let elapsed = tally.elapsed.as_secs_f64();
        let per_second = |n: u64| if elapsed > 0.0 { n as f64 / elapsed } else { 0.0 };
        let late = tally.late.quantiles();
        let (loop_kind, rate_asked) = match options.pace {
            Pace::Closed => ("closed", None),
            Pace::Open(rate) => ("open", Some(rate)),
        };
        let harness_limit = match options.pace {
            Pace::Open(_) if late.p99_ms > LATE_MAX_MS => {
                Some(format!("the schedule was kept only to {:.1} ms at p99", late.p99_ms))
            }
            _ if busiest > BUSY_MAX => Some(format!("a core of the clients was {:.0} % busy", busiest * 100.0)),
            _ => None,
        };
        ClientReport {
            machine: crate::proc::machine(),
            kind: options.kind.clone(),
            target: options.target.to_string(),
            loop_kind: loop_kind.into(),
            rate_asked,
            cores: options.cores,
            connections: options.connections,
            elapsed_s: elapsed,
            connected: tally.connected,
            sessions: tally.sessions,
            failed: tally.failed,
            not_begun: tally.not_begun,
            login_refused: tally.login_refused,
            accepted: tally.accepted,
            refused: tally.refused,
            cut: tally.cut,
            messages: tally.messages,
            octets: tally.octets,
            unmarked: tally.unmarked,
            pushes: tally.pushes,
            held_max: tally.held_max,
            sessions_per_s: per_second(tally.sessions),
            messages_per_s: per_second(tally.messages),
            latency: tally.session.quantiles(),
            setup: tally.greeting.quantiles(),
            late,
            commands: tally.commands.iter().map(|(name, t)| ((*name).to_owned(), t.quantiles())).collect(),
            replies: tally.replies.clone(),
            errors: tally.errors.clone(),
            cpu_s: tally.cpu.as_secs_f64(),
            busiest_core: busiest,
            harness_limit,
        }
    }

    /// Whether every session ended as it should.
    pub fn is_clean(&self) -> bool {
        self.failed == 0 && self.not_begun == 0 && self.login_refused == 0 && self.errors.is_empty()
    }
}

impl fmt::Display for ClientReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {} sessions in {:.2} s: {:.1} sessions/s, {} failed, {} ended by the server",
            self.kind, self.sessions, self.elapsed_s, self.sessions_per_s, self.failed, self.cut
        )?;
        if self.messages + self.unmarked > 0 {
            writeln!(
                f,
                "{} messages read ({:.0}/s), {} octets, {} not ours",
                self.messages, self.messages_per_s, self.octets, self.unmarked
            )?;
        }
        if self.accepted + self.refused > 0 {
            writeln!(f, "accepted {}, refused {}", self.accepted, self.refused)?;
        }
        if self.login_refused + self.not_begun + self.pushes > 0 {
            writeln!(
                f,
                "logins refused {}, never begun {}, notices {}",
                self.login_refused, self.not_begun, self.pushes
            )?;
        }
        writeln!(f, "connections up at once: {}", self.held_max)?;
        writeln!(f, "session: {}", self.latency)?;
        writeln!(f, "connect to greeting: {}", self.setup)?;
        self.commands.iter().try_for_each(|(name, q)| writeln!(f, "{name} ({}): {q}", q.count))?;
        if let Some(rate) = self.rate_asked {
            writeln!(f, "asked for {rate:.1}/s; harness late: {}", self.late)?;
        }
        self.replies.iter().try_for_each(|(what, n)| writeln!(f, "reply {what}: {n}"))?;
        self.errors.iter().try_for_each(|(what, n)| writeln!(f, "error: {what}: {n}"))?;
        writeln!(f, "clients: {:.2} s CPU, busiest core {:.0} %", self.cpu_s, self.busiest_core * 100.0)?;
        self.harness_limit.iter().try_for_each(|why| writeln!(f, "the harness was the limit: {why}"))
    }
}
