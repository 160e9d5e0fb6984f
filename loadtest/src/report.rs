//! Results of the sender as JSON, as text and as `.hgrm` files, and the harness's judgement of itself.
//!
//! How it fails: writing a result file fails with its name.

use crate::message::Content;
use crate::send::session::{Transfer, Work};
use crate::send::{Options, Pace, Tally};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// A core that worked, or waited for its processor, for more than this share of the time had no time for more.
const TAKEN_MAX: f64 = 0.9;
/// A core that could not run for more than this share of the time, because its processor had other work, was held up.
const HELD_UP_MAX: f64 = 0.1;
/// An open loop that notices messages later than this at p99 does not keep its schedule.
const LATE_MAX_MS: f64 = 5.0;
/// Replies that may have been noticed later than this at p99 spoil the latencies.
const TURN_MAX_MS: f64 = 5.0;

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
    /// The whole of it: share of all that is faster (0 to 1) and milliseconds, closer together towards 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<(f64, f64)>,
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

/// One second of a run, by when messages ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Messages accepted.
    pub accepted: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages without a reply, or not sent at all, since their connection was lost.
    pub lost: u64,
    /// Latency of those accepted; with several cores, of the slowest.
    pub p50_ms: f64,
    /// 99 in 100 are faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

/// What a run of the sender found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SendReport {
    /// The machine it ran on.
    pub machine: String,
    /// Where to.
    pub target: String,
    /// `closed`, `open` or `hold`.
    pub loop_kind: String,
    /// Messages per second that were asked for on average, in an open loop.
    pub rate_asked: Option<f64>,
    /// In an open loop `constant` or `poisson`, and whether along a curve.
    pub arrivals: Option<String>,
    /// For everything that was drawn; the same seed makes the same messages.
    pub seed: u64,
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
    /// Sizes of messages, as they were asked for; or how many real ones there are.
    pub size: String,
    /// Recipients of a message.
    pub recipients_per_message: usize,
    /// From the start to the last message's end.
    pub elapsed_s: f64,
    /// Connections that were established.
    pub sessions: u64,
    /// TLS handshakes by version, resumed ones apart.
    pub tls_sessions: BTreeMap<String, u64>,
    /// Messages accepted; in a test of refusals those refused as they should be; in a test of logins the logins.
    pub messages: u64,
    /// Recipients accepted.
    pub recipients: u64,
    /// Octets of accepted messages.
    pub octets: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages handed over without a reply.
    pub unknown: u64,
    /// Messages whose connection was lost before they were handed over.
    pub not_sent: u64,
    /// Tries that were put off with 4xx and made again.
    pub retried: u64,
    /// Most connections that were up at once.
    pub held_max: u64,
    /// Rate of accepted messages.
    pub messages_per_s: f64,
    /// Rate of connections.
    pub sessions_per_s: f64,
    /// From schedule to last reply.
    pub latency: Quantiles,
    /// From connect until a message may be sent.
    pub setup: Quantiles,
    /// Single steps, from the sending of the group a command was in to its reply: connect, tls, greeting, ehlo, starttls,
    /// auth, mail, rcpt, data, final.
    pub phases: BTreeMap<String, Quantiles>,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// How late the harness itself was, in an open loop.
    pub late: Quantiles,
    /// How long a turn of the harness took, by which a reply may have been noticed late.
    pub turn: Quantiles,
    /// Refusals by code.
    pub replies: BTreeMap<u16, u64>,
    /// Everything else that went wrong.
    pub errors: BTreeMap<String, u64>,
    /// Processor time of the sender.
    pub cpu_s: f64,
    /// Share of its core that the busiest thread used.
    pub busiest_core: f64,
    /// Share of the time in which a thread could not run because its core had other work, the worst one's.
    pub held_up: f64,
    /// Why the rate is the harness's and not the server's.
    pub harness_limit: Option<String>,
    /// What makes latencies look longer than the server's are.
    pub doubts: Vec<String>,
}

/// How hard the harness itself had it: of its threads, the worst one each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Strain {
    /// Share of its core that a thread used.
    pub busiest: f64,
    /// Share of the time in which it could not run.
    pub held_up: f64,
    /// Both together.
    pub taken: f64,
}

impl Strain {
    /// Why the rate is the harness's and not the server's, if it is.
    fn limit(&self, open: bool, late: &Quantiles) -> Option<String> {
        if open && late.p99_ms > LATE_MAX_MS {
            return Some(format!("the schedule was kept only to {:.1} ms at p99", late.p99_ms));
        }
        let taken = self.taken * 100.0;
        (self.taken > TAKEN_MAX).then(|| format!("a core of the sender had work for {taken:.0} % of the time"))
    }

    /// What makes latencies look longer than the server's are.
    fn doubts(&self, turn: &Quantiles) -> Vec<String> {
        let held_up = self.held_up * 100.0;
        let held_up = (self.held_up > HELD_UP_MAX)
            .then(|| format!("a core of the sender waited for its processor {held_up:.0} % of the time"));
        let slow = (turn.p99_ms > TURN_MAX_MS)
            .then(|| format!("replies may have been noticed {:.1} ms late, the length of a turn at p99", turn.p99_ms));
        held_up.into_iter().chain(slow).collect()
    }
}

impl SendReport {
    pub(crate) fn new(options: &Options, tally: &Tally, strain: Strain) -> SendReport {
        let elapsed = tally.elapsed.as_secs_f64();
        let per_second = |n: u64| if elapsed > 0.0 { n as f64 / elapsed } else { 0.0 };
        let (late, turn) = (tally.late.quantiles(), tally.turn.quantiles());
        let (loop_kind, rate_asked) = match options.pace {
            Pace::Closed => ("closed", None),
            Pace::Open(rate) => ("open", Some(rate)),
            Pace::Hold => ("hold", None),
        };
        let curve = if options.arrivals.curve.is_some() { ", along a curve" } else { "" };
        SendReport {
            machine: crate::proc::machine(),
            target: options.target.to_string(),
            loop_kind: loop_kind.into(),
            arrivals: rate_asked.map(|_| format!("{:?}{curve}", options.arrivals.spacing).to_lowercase()),
            rate_asked,
            seed: options.seed,
            cores: options.cores,
            connections: options.connections,
            messages_per_connection: if options.work == Work::Mail { options.messages_per_connection } else { 1 },
            pipeline: options.pipeline,
            transfer: if options.transfer == Transfer::Bdat { "bdat" } else { "data" }.into(),
            size: match &options.content {
                Content::Made(sizes) => sizes.to_string(),
                Content::Corpus(corpus) => format!("{} real messages", corpus.len()),
            },
            recipients_per_message: options.recipients,
            elapsed_s: elapsed,
            sessions: tally.sessions,
            tls_sessions: tally.tls_sessions.clone(),
            messages: tally.accepted,
            recipients: tally.recipients,
            octets: tally.octets,
            refused: tally.refused,
            unknown: tally.unknown,
            not_sent: tally.not_sent,
            retried: tally.retried,
            held_max: tally.held_max,
            messages_per_s: per_second(tally.accepted),
            sessions_per_s: per_second(tally.sessions),
            latency: tally.latency.quantiles(),
            setup: tally.setup.quantiles(),
            phases: tally.phases.iter().map(|(name, times)| (name.to_owned(), times.quantiles())).collect(),
            seconds: tally.series.seconds().to_vec(),
            harness_limit: strain.limit(rate_asked.is_some(), &late),
            doubts: strain.doubts(&turn),
            late,
            turn,
            replies: tally.replies.clone(),
            errors: tally.errors.clone(),
            cpu_s: tally.cpu.as_secs_f64(),
            busiest_core: strain.busiest,
            held_up: strain.held_up,
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
        self.tls_sessions.iter().try_for_each(|(kind, n)| writeln!(f, "{kind}: {n} sessions"))?;
        writeln!(f, "message: {}", self.latency)?;
        writeln!(f, "until ready: {}", self.setup)?;
        for (_, name) in crate::send::PHASES {
            if let Some(q) = self.phases.get(name) {
                writeln!(f, "  {name:8} {q}")?;
            }
        }
        if let Some(rate) = self.rate_asked {
            let arrivals = self.arrivals.as_deref().unwrap_or_default();
            writeln!(f, "asked for {rate:.0}/s, {arrivals}; harness late: {}", self.late)?;
        }
        if self.refused + self.unknown + self.not_sent + self.retried > 0 {
            let (refused, unknown, not_sent) = (self.refused, self.unknown, self.not_sent);
            writeln!(f, "refused {refused}, no reply {unknown}, not sent {not_sent}, tried again {}", self.retried)?;
        }
        self.replies.iter().try_for_each(|(code, n)| writeln!(f, "reply {code}: {n}"))?;
        self.errors.iter().try_for_each(|(what, n)| writeln!(f, "error: {what}: {n}"))?;
        let (busiest, held_up) = (self.busiest_core * 100.0, self.held_up * 100.0);
        writeln!(f, "sender: {:.2} s CPU, busiest core {busiest:.0} %, held up {held_up:.0} %", self.cpu_s)?;
        self.doubts.iter().try_for_each(|why| writeln!(f, "latencies are in doubt: {why}"))?;
        if let Some(why) = &self.harness_limit {
            writeln!(f, "the harness was the limit: {why}")?;
        }
        Ok(())
    }
}

/// Writes `latency.hgrm` and one file for each phase into the folder `dir`, which is made when it is missing.
pub(crate) fn write_hgrm(tally: &Tally, dir: &Path) -> io::Result<()> {
    let named = |e: io::Error| io::Error::other(format!("{}: {e}", dir.display()));
    fs::create_dir_all(dir).map_err(named)?;
    let all = [("latency", &tally.latency), ("late", &tally.late), ("setup", &tally.setup)];
    for (name, times) in all.into_iter().chain(tally.phases.iter()).filter(|(_, times)| times.count() > 0) {
        let mut out = io::BufWriter::new(fs::File::create(dir.join(format!("{name}.hgrm"))).map_err(named)?);
        times.write_hgrm(&mut out).and_then(|()| out.flush()).map_err(named)?;
    }
    Ok(())
}

/// Writes a result as JSON to `path`, or to standard output for `-`.
pub fn write_json<T: Serialize>(value: &T, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    if path == Path::new("-") {
        crate::cli::show(&text);
        return Ok(());
    }
    std::fs::write(path, text).map_err(|e| io::Error::other(format!("{}: {e}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_harness_says_when_it_is_the_limit_itself() {
        let q = |p99_ms| Quantiles { p99_ms, ..Quantiles::default() };
        let easy = Strain { busiest: 0.5, held_up: 0.01, taken: 0.51 };
        assert_eq!((easy.limit(true, &q(1.0)), easy.doubts(&q(1.0))), (None, vec![]));
        assert_eq!(easy.limit(false, &q(100.0)), None, "a closed loop has no schedule");
        assert!(easy.limit(true, &q(9.0)).unwrap().contains("kept only to 9.0 ms"));
        let busy = Strain { busiest: 0.65, held_up: 0.3, taken: 0.95 };
        assert!(busy.limit(false, &q(1.0)).unwrap().contains("had work for 95 %"));
        let doubts = busy.doubts(&q(20.0)).join("; ");
        assert!(
            doubts.contains("waited for its processor 30 %") && doubts.contains("noticed 20.0 ms late"),
            "{doubts}"
        );
    }

    #[test]
    fn reports_of_earlier_versions_are_read() {
        let old = r#"{"target":"127.0.0.1:25","messages":5,"latency":{"count":5,"mean_ms":1.0,"p50_ms":1.0,"p90_ms":1.0,"p99_ms":1.0,"p999_ms":1.0,"max_ms":1.0}}"#;
        let report: SendReport = serde_json::from_str(old).unwrap();
        assert_eq!((report.messages, report.latency.count), (5, 5));
    }
}
