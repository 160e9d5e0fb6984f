//! Results as JSON and as text.
//!
//! How it fails: writing a result file fails with its name.

use crate::send::session::{Transfer, Work};
use crate::send::{Options, Pace, Tally};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

/// A core that is busier than this is the limit of a closed loop.
const BUSY_MAX: f64 = 0.9;
/// An open loop that notices messages later than this at p99 does not keep its schedule.
const LATE_MAX_MS: f64 = 5.0;

/// Quantiles of a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many were timed.
    pub count: u64,
    /// Mean, in milliseconds.
    pub mean_ms: f64,
    /// Median.
    pub p50_ms: f64,
    /// Nine in ten are faster.
    pub p90_ms: f64,
    /// 99 in 100 are faster.
    pub p99_ms: f64,
    /// 999 in 1000 are faster.
    pub p999_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.2} ms, p90 {:.2}, p99 {:.2}, p99.9 {:.2}, max {:.2}, mean {:.2}",
            self.p50_ms, self.p90_ms, self.p99_ms, self.p999_ms, self.max_ms, self.mean_ms
        )
    }
}

/// What a run of the sender found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SendReport {
    /// Where to.
    pub target: String,
    /// `closed`, `open` or `hold`.
    pub loop_kind: String,
    /// Messages per second that were asked for, in an open loop.
    pub rate_asked: Option<f64>,
    /// Threads.
    pub cores: usize,
    /// Connections at most.
    pub connections: usize,
    /// Messages per connection; 0 keeps it.
    pub messages_per_connection: u64,
    /// Whether PIPELINING was used when offered.
    pub pipeline: bool,
    /// `data` or `bdat`.
    pub transfer: String,
    /// Octets of a message.
    pub size_octets: usize,
    /// Recipients of a message.
    pub recipients_per_message: usize,
    /// From the start to the last message's end.
    pub elapsed_s: f64,
    /// Connections that were established.
    pub sessions: u64,
    /// Messages accepted; in a test of refusals those refused as they should be.
    pub messages: u64,
    /// Recipients accepted.
    pub recipients: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages handed over without a reply.
    pub unknown: u64,
    /// Messages whose connection was lost before they were handed over.
    pub not_sent: u64,
    /// Most connections that were up at once.
    pub held_max: u64,
    /// Rate of accepted messages.
    pub messages_per_s: f64,
    /// Rate of connections.
    pub sessions_per_s: f64,
    /// From schedule to last reply.
    pub latency: Quantiles,
    /// From connect to the reply to EHLO.
    pub setup: Quantiles,
    /// How late the harness itself was, in an open loop.
    pub late: Quantiles,
    /// Refusals by code.
    pub replies: BTreeMap<u16, u64>,
    /// Everything else that went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Processor time of the sender.
    pub cpu_s: f64,
    /// Share of its core that the busiest thread used.
    pub busiest_core: f64,
    /// Why the rate may be the harness's and not the server's.
    pub harness_limit: Option<String>,
}

impl SendReport {
    pub(crate) fn new(options: &Options, tally: &Tally, busiest: f64) -> SendReport {
        let elapsed = tally.elapsed.as_secs_f64();
        let per_second = |n: u64| if elapsed > 0.0 { n as f64 / elapsed } else { 0.0 };
        let late = tally.late.quantiles();
        let (loop_kind, rate_asked) = match options.pace {
            Pace::Closed => ("closed", None),
            Pace::Open(rate) => ("open", Some(rate)),
            Pace::Hold => ("hold", None),
        };
        let harness_limit = match options.pace {
            Pace::Open(_) if late.p99_ms > LATE_MAX_MS => {
                Some(format!("the schedule was kept only to {:.1} ms at p99", late.p99_ms))
            }
            _ if busiest > BUSY_MAX => Some(format!("a core of the sender was {:.0} % busy", busiest * 100.0)),
            _ => None,
        };
        SendReport {
            target: options.target.to_string(),
            loop_kind: loop_kind.into(),
            rate_asked,
            cores: options.cores,
            connections: options.connections,
            messages_per_connection: if options.work == Work::Reject { 1 } else { options.messages_per_connection },
            pipeline: options.pipeline,
            transfer: if options.transfer == Transfer::Bdat { "bdat" } else { "data" }.into(),
            size_octets: options.size_octets,
            recipients_per_message: options.recipients,
            elapsed_s: elapsed,
            sessions: tally.sessions,
            messages: tally.accepted,
            recipients: tally.recipients,
            refused: tally.refused,
            unknown: tally.unknown,
            not_sent: tally.not_sent,
            held_max: tally.held_max,
            messages_per_s: per_second(tally.accepted),
            sessions_per_s: per_second(tally.sessions),
            latency: tally.latency.quantiles(),
            setup: tally.setup.quantiles(),
            late,
            replies: tally.replies.clone(),
            errors: tally.errors.clone(),
            cpu_s: tally.cpu.as_secs_f64(),
            busiest_core: busiest,
            harness_limit,
        }
    }

    /// Whether everything that was sent was accepted.
    pub fn is_clean(&self) -> bool {
        self.refused == 0 && self.unknown == 0 && self.not_sent == 0 && self.errors.is_empty()
    }
}

impl fmt::Display for SendReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} messages in {:.2} s: {:.0} messages/s, {} sessions, {:.0} sessions/s",
            self.messages, self.elapsed_s, self.messages_per_s, self.sessions, self.sessions_per_s
        )?;
        if self.held_max > 1 || self.loop_kind == "hold" {
            writeln!(f, "connections up at once: {}", self.held_max)?;
        }
        writeln!(f, "message: {}", self.latency)?;
        writeln!(f, "connect to EHLO: {}", self.setup)?;
        if self.loop_kind == "open" {
            writeln!(f, "asked for {:.0}/s; harness late: {}", self.rate_asked.unwrap_or_default(), self.late)?;
        }
        if self.refused + self.unknown + self.not_sent > 0 {
            writeln!(f, "refused {}, no reply {}, not sent {}", self.refused, self.unknown, self.not_sent)?;
        }
        self.replies.iter().try_for_each(|(code, n)| writeln!(f, "reply {code}: {n}"))?;
        self.errors.iter().try_for_each(|(what, n)| writeln!(f, "error: {what}: {n}"))?;
        writeln!(f, "sender: {:.2} s CPU, busiest core {:.0} %", self.cpu_s, self.busiest_core * 100.0)?;
        if let Some(why) = &self.harness_limit {
            writeln!(f, "the harness was the limit: {why}")?;
        }
        Ok(())
    }
}

/// Writes a result as JSON to `path`, or to standard output for `-`.
pub fn write_json<T: Serialize>(value: &T, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    if path == Path::new("-") {
        print!("{text}");
        return Ok(());
    }
    std::fs::write(path, text).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}
