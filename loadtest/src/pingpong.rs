//! `ping-pong`: what this machine can do at all, and how much of it the sender makes of it.
//!
//! The same octets that a message and its replies are go to and fro on the same number of connections, between two threads
//! on the same driver, and nothing in them is understood. Then the sender sends such messages to a sink; both in turns. At
//! last the sender keeps a schedule at seven tenths of what it reached. How it fails: a connection that breaks ends it with
//! what happened; a sender that is told to send nothing is refused.

use crate::cli;
use crate::message::Content;
use crate::proc;
use crate::send::{self, Options, Pace};
use crate::sink::{self, Behaviour};
use crate::size::Sizes;
use crate::stop::Stop;
use crate::table::Table;
use clap::Args;
use gatepost::base::buf::{Chain, Segment};
use gatepost::base::time::Instant;
use gatepost::reactor::{Done, Driver, Io, ReactorKnobs, clock};
use serde::Serialize;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// What a sink says to a message on a kept connection: to MAIL, RCPT, the end of data, and DATA of the next.
const PONG_OCTETS: usize = 75;
/// What goes with a message on a kept connection: MAIL, RCPT, DATA and the end of data.
const ENVELOPE_OCTETS: u64 = 74;
/// Part of its highest rate at which the sender has to keep its schedule.
const SCHEDULED_SHARE: f64 = 0.7;

/// `ping-pong`
#[derive(Args, Debug)]
pub struct PingPongArgs {
    /// Octets of a message.
    #[arg(long, default_value = "1KiB", value_parser = cli::octets)]
    size: u64,
    /// Connections.
    #[arg(long, short = 'c', default_value_t = 100)]
    connections: usize,
    /// Seconds of each trial.
    #[arg(long, short = 's', default_value_t = 2.0)]
    seconds: f64,
    /// Trials of each.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Driver.
    #[arg(long, default_value = "auto")]
    io: Io,
    /// Write the result as JSON here; `-` is standard output.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// What was found; medians of the rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PingPong {
    /// The machine it ran on.
    pub machine: String,
    /// Octets of a message.
    pub size: u64,
    /// Connections.
    pub connections: usize,
    /// Pings answered per second.
    pub ping_per_s: f64,
    /// Processor time of the thread that sends pings, each, in microseconds.
    pub ping_cpu_us: f64,
    /// Messages per second.
    pub messages_per_s: f64,
    /// Processor time of the sender, a message, in microseconds.
    pub message_cpu_us: f64,
    /// Messages in a second of the sender's processor time: what one core can offer.
    pub messages_per_cpu_s: f64,
    /// Messages beside pings: rates, and pings' processor time beside messages'.
    pub of_ping_pong: (f64, f64),
    /// The rate of the schedule.
    pub scheduled_per_s: f64,
    /// How late the sender was in it, p99, in milliseconds.
    pub late_p99_ms: f64,
    /// Why the schedule was not kept.
    pub harness_limit: Option<String>,
}

impl std::fmt::Display for PingPong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}; {} octets, {} connections", self.machine, self.size, self.connections)?;
        writeln!(f, "ping-pong: {:.0}/s, {:.2} us CPU each", self.ping_per_s, self.ping_cpu_us)?;
        writeln!(
            f,
            "messages:  {:.0}/s, {:.2} us CPU each: {:.0} in a second of one core",
            self.messages_per_s, self.message_cpu_us, self.messages_per_cpu_s
        )?;
        let (rate, cpu) = self.of_ping_pong;
        writeln!(f, "that is {:.0} % of the ping-pong's rate, {:.0} % by processor time", rate * 100.0, cpu * 100.0)?;
        writeln!(f, "at {:.0}/s the schedule was kept within {:.2} ms (p99)", self.scheduled_per_s, self.late_p99_ms)?;
        self.harness_limit.iter().try_for_each(|why| writeln!(f, "the harness was the limit: {why}"))
    }
}

/// Runs `ping-pong`.
pub(crate) fn run(args: &PingPongArgs) -> Result<ExitCode, String> {
    let text = |e: io::Error| e.to_string();
    let duration = Duration::try_from_secs_f64(args.seconds).map_err(|e| format!("--seconds: {e}"))?;
    if duration.is_zero() || args.connections == 0 || args.rounds == 0 {
        return Err("ping-pong: expected at least one connection, one round and some seconds".into());
    }
    let (mut pings, mut messages) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        pings.push(ping_pong(args, duration).map_err(text)?);
        messages.push(message(args, duration, Pace::Closed).map_err(text)?.0);
    }
    let (ping, message_each) = (middle(&mut pings), middle(&mut messages));
    let rate = message_each.per_s * SCHEDULED_SHARE;
    let (_, scheduled) = message(args, duration, Pace::Open(rate)).map_err(text)?;
    let found = PingPong {
        machine: proc::machine(),
        size: args.size,
        connections: args.connections,
        ping_per_s: ping.per_s,
        ping_cpu_us: ping.cpu_us,
        messages_per_s: message_each.per_s,
        message_cpu_us: message_each.cpu_us,
        messages_per_cpu_s: 1e6 / message_each.cpu_us.max(1e-9),
        of_ping_pong: (message_each.per_s / ping.per_s.max(1e-9), ping.cpu_us / message_each.cpu_us.max(1e-9)),
        scheduled_per_s: rate,
        late_p99_ms: scheduled.late.p99_ms,
        harness_limit: scheduled.harness_limit,
    };
    cli::save(&found, args.json.as_deref())?;
    Ok(ExitCode::SUCCESS)
}

/// What one trial came to.
#[derive(Clone, Copy, Debug)]
struct Each {
    per_s: f64,
    cpu_us: f64,
}

fn middle(trials: &mut [Each]) -> Each {
    trials.sort_by(|a, b| a.per_s.total_cmp(&b.per_s));
    trials[trials.len() / 2]
}

/// The sender to a sink of its own.
fn message(args: &PingPongArgs, duration: Duration, pace: Pace) -> io::Result<(Each, crate::report::SendReport)> {
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = sink::Options { listen, cores: 1, io: args.io, behaviour: Behaviour::default(), ledger: None };
    let stop = Stop::default();
    let sink = sink::start(&options, &stop)?;
    let options = Options {
        io: args.io,
        pace,
        connections: args.connections,
        messages: None,
        duration: Some(duration),
        content: Content::Made(Sizes::Fixed(args.size)),
        ..Options::to(sink.address)
    };
    let report = send::run(&options, &Stop::default())?;
    sink.finish()?;
    if report.messages == 0 {
        return Err(io::Error::other(format!("no message went through: {:?}", report.errors)));
    }
    let each = Each { per_s: report.messages_per_s, cpu_us: report.cpu_s * 1e6 / report.messages as f64 };
    Ok((each, report))
}

/// One end of a connection: what is still to come before it answers, and what waits for the open send.
struct End {
    left: usize,
    sending: bool,
    queued: Chain,
}

/// Both ends do the same: so many octets in, so many out.
struct Side {
    driver: Driver,
    ends: Table<End>,
    takes: usize,
    gives: Arc<Vec<u8>>,
    turns: u64,
}

impl Side {
    fn open(io: Io, takes: usize, gives: usize) -> io::Result<Side> {
        let (driver, _) = Driver::open(&ReactorKnobs { driver: io, ..ReactorKnobs::default() })?;
        Ok(Side { driver, ends: Table::default(), takes, gives: Arc::new(vec![b'x'; gives]), turns: 0 })
    }

    fn begun(&mut self, id: gatepost::reactor::Id) {
        self.ends.insert(id, End { left: self.takes, sending: false, queued: Chain::new() });
        self.driver.recv(id, true);
    }

    fn give(&mut self, id: gatepost::reactor::Id) {
        let Some(end) = self.ends.get_mut(id) else { return };
        let mut chain = Chain::new();
        chain.push(Segment::shared(self.gives.clone()));
        if end.sending {
            end.queued.append(chain);
        } else {
            end.sending = true;
            self.driver.send(id, chain);
        }
    }

    fn turn(&mut self, batch: &mut Vec<Done>, wait: Duration) -> io::Result<()> {
        self.driver.poll(batch, Some(wait))?;
        for done in batch.drain(..) {
            match done {
                Done::Accepted { conn, .. } => self.begun(conn),
                Done::Connected { conn, result } => {
                    result?;
                    self.begun(conn);
                    self.give(conn);
                }
                Done::Recv { conn, buf } => {
                    let Some(end) = self.ends.get_mut(conn) else { continue };
                    let mut came = buf.len();
                    let mut answers = 0;
                    while came >= end.left {
                        came -= end.left;
                        end.left = self.takes;
                        answers += 1;
                    }
                    end.left -= came;
                    self.turns += answers;
                    (0..answers).for_each(|_| self.give(conn));
                }
                Done::Sent { conn, .. } => {
                    let Some(end) = self.ends.get_mut(conn) else { continue };
                    end.sending = !end.queued.is_empty();
                    if end.sending {
                        let queued = std::mem::take(&mut end.queued);
                        self.driver.send(conn, queued);
                    }
                }
                Done::AcceptFailed { error, .. } => return Err(error),
                Done::RecvEnd { .. } | Done::Closed { .. } => {}
            }
        }
        Ok(())
    }
}

fn ping_pong(args: &PingPongArgs, duration: Duration) -> io::Result<Each> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = listener.local_addr()?;
    let ping = usize::try_from(args.size + ENVELOPE_OCTETS).map_err(io::Error::other)?;
    let stop = Stop::default();
    let (io, stopped) = (args.io, stop.clone());
    let pong = std::thread::spawn(move || -> io::Result<()> {
        let mut side = Side::open(io, ping, PONG_OCTETS)?;
        side.driver.listen(listener)?;
        let mut batch = Vec::new();
        while !stopped.is_stopped() {
            side.turn(&mut batch, Duration::from_millis(50))?;
        }
        Ok(())
    });
    let pinged = pings(args, to, ping, duration);
    stop.stop();
    pong.join().map_err(|_| io::Error::other("the pong side panicked"))??;
    pinged
}

fn pings(args: &PingPongArgs, to: SocketAddr, ping: usize, duration: Duration) -> io::Result<Each> {
    let io = args.io;
    let connections = args.connections;
    // A thread of its own, as the sender's cores have: its processor time is read for it alone.
    let side = std::thread::spawn(move || -> io::Result<Each> {
        let mut side = Side::open(io, PONG_OCTETS, ping)?;
        for _ in 0..connections {
            side.driver.connect(to, None)?;
        }
        let mut batch = Vec::new();
        let begun = clock::now();
        let end: Instant = begun + duration;
        let (before, _) = proc::thread_times();
        while clock::now() < end {
            side.turn(&mut batch, Duration::from_millis(50))?;
        }
        let (after, _) = proc::thread_times();
        let took = clock::now().since(begun).as_secs_f64();
        let turns = side.turns.max(1) as f64;
        Ok(Each { per_s: turns / took, cpu_us: (after - before).as_secs_f64() * 1e6 / turns })
    });
    side.join().map_err(|_| io::Error::other("the ping side panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_and_messages_are_counted_on_both_drivers() {
        let args = PingPongArgs { size: 1000, connections: 4, seconds: 0.1, rounds: 1, io: Io::Epoll, json: None };
        let duration = Duration::from_millis(100);
        let ping = ping_pong(&args, duration).unwrap();
        let (message, report) = message(&args, duration, Pace::Closed).unwrap();
        assert!(ping.per_s > 100.0 && message.per_s > 100.0, "{ping:?} {message:?}");
        assert_eq!(report.unknown, 0);
        assert!(run(&PingPongArgs { connections: 0, ..args }).is_err());
    }

    #[test]
    fn the_envelope_is_what_the_sender_sends() {
        let envelope = "MAIL FROM:<load@load.example.test>\r\nRCPT TO:<user@example.test>\r\nDATA\r\n.\r\n";
        assert_eq!(envelope.len() as u64, ENVELOPE_OCTETS);
    }
}
