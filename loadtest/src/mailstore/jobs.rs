//! The jobs: deliveries, commands of IMAP and POP3, memory of idle sessions, disk per message.
//!
//! How it fails: the first unexpected answer ends the run.

use super::client::Line;
use super::peer::{ACCOUNTS, PASSWORD, Running, account};
use super::{Cost, MailstoreArgs, timed};
use crate::proc;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One figure of the table. Smaller is better, except for rates.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Which job.
    pub job: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

impl Figure {
    /// As the table shows it.
    pub fn show(&self) -> String {
        match self.value {
            v if v >= 100.0 => format!("{v:.0} {}", self.unit),
            v => format!("{v:.2} {}", self.unit),
        }
    }
}

/// A client that is busier than this is the limit.
const BUSY_MAX: f64 = 0.9;
/// The word that one message in a hundred has in its text, and the number in subjects.
const NEEDLE: &str = "xylophone";

/// Message `n`: its subject tells it, and what is in it does not compress to nothing.
fn message(n: u64, size: usize) -> Vec<u8> {
    let mut text = format!(
        "From: Sender {} <sender{}@example.org>\r\nTo: Reader <reader@example.test>\r\nSubject: message {n} of many\r\n\
         Date: Mon, 5 Jan 2026 10:00:00 +0000\r\nMessage-ID: <{n}@example.org>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\r\n",
        n % 97,
        n % 97
    );
    if n % 100 == 7 {
        text.push_str(NEEDLE);
        text.push_str("\r\n");
    }
    let mut random = fastrand::Rng::with_seed(n);
    while text.len() + 72 < size {
        for _ in 0..10 {
            (0..random.usize(3..9)).for_each(|_| text.push(random.lowercase()));
            text.push(' ');
        }
        text.truncate(text.trim_end().len());
        text.push_str("\r\n");
    }
    text.into_bytes()
}

fn deliver_one(line: &mut Line, to: &str, n: u64, size: usize) -> Result<(), String> {
    line.send(b"MAIL FROM:<sender@example.org>\r\n")?;
    line.reply("250")?;
    line.send(format!("RCPT TO:<{to}>\r\n").as_bytes())?;
    line.reply("250")?;
    line.send(b"DATA\r\n")?;
    line.reply("354")?;
    let mut text = message(n, size);
    text.extend_from_slice(b".\r\n");
    line.send(&text)?;
    line.reply("250")
}

fn lmtp(to: SocketAddr) -> Result<Line, String> {
    let mut line = Line::connect(to)?;
    line.reply("220")?;
    line.send(b"LHLO client.example\r\n")?;
    line.reply("250")?;
    Ok(line)
}

/// `connections` deliver at once, until `until` says stop; messages delivered.
fn deliver(
    running: &Running,
    args: &MailstoreArgs,
    to: impl Fn(u64) -> String + Sync,
    more: impl Fn(u64) -> bool + Sync,
) -> Result<u64, String> {
    let (next, done, failed) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let results: Vec<Result<(), String>> = std::thread::scope(|scope| {
        let work = || {
            let mut line = lmtp(running.lmtp)?;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if failed.load(Ordering::Relaxed) || !more(n) {
                    return Ok(());
                }
                if let Err(error) = deliver_one(&mut line, &to(n), n, args.size) {
                    failed.store(true, Ordering::Relaxed);
                    return Err(error);
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
        };
        let threads: Vec<_> = (0..args.connections).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|t| t.join().unwrap_or_else(|_| Err("a sender panicked".into()))).collect()
    });
    results.into_iter().collect::<Result<Vec<()>, String>>()?;
    Ok(done.into_inner())
}

/// A server under measurement, and what was found so far.
pub struct Measuring {
    running: Running,
    imap: Option<Line>,
    /// What was found.
    pub figures: Vec<Figure>,
    /// Where the client was the limit.
    pub limits: Vec<String>,
}

/// One job; all servers do it before any does the next.
#[derive(Clone, Copy, Debug)]
pub enum Job {
    /// Accounts exist and processes are up before anything counts.
    WarmUp,
    /// Deliveries to everybody, for a time.
    Deliver,
    /// The mailbox that is read, and what it takes on disk.
    Fill,
    /// A command of IMAP, with its name.
    Imap(&'static str, &'static str),
    /// Flags on and off again, on all messages.
    Store,
    /// Messages put there by IMAP.
    Append,
    /// POP3: listings and everything.
    Pop,
    /// Idle sessions.
    Idle,
}

/// All of them, in order.
pub const JOBS: [Job; 14] = [
    Job::WarmUp,
    Job::Deliver,
    Job::Fill,
    Job::Imap("SELECT", "SELECT INBOX"),
    Job::Imap("FETCH flags", "FETCH 1:* (UID FLAGS)"),
    Job::Imap("FETCH envelopes", "FETCH 1:* (ENVELOPE)"),
    Job::Imap("FETCH headers", "FETCH 1:* (BODY.PEEK[HEADER])"),
    Job::Imap("FETCH bodies", "FETCH 1:* (BODY.PEEK[])"),
    Job::Imap("SEARCH by header", "SEARCH SUBJECT \"message 471 of\""),
    Job::Imap("SEARCH by text", "SEARCH TEXT xylophone"),
    Job::Store,
    Job::Append,
    Job::Pop,
    Job::Idle,
];

impl Measuring {
    /// A server that is up.
    pub fn new(running: Running) -> Measuring {
        Measuring { running, imap: None, figures: Vec::new(), limits: Vec::new() }
    }

    fn add(&mut self, job: &str, value: f64, unit: &str) {
        let figure = Figure { job: job.to_owned(), value, unit: unit.to_owned() };
        eprintln!("{job}: {}", figure.show());
        self.figures.push(figure);
    }

    /// Processor time and time on the clock of a job, divided by how often it was done.
    fn both(&mut self, job: &str, cost: &Cost, times: u32, each: &str) {
        let (scale, unit) = if each.is_empty() { (1e3, "ms") } else { (1e6, "µs") };
        let of = |d: Duration| d.as_secs_f64() * scale / f64::from(times.max(1));
        self.add(&format!("{job}, CPU{each}"), of(cost.cpu), unit);
        self.add(&format!("{job}, time{each}"), of(cost.took), unit);
        let busy = cost.own.as_secs_f64() / cost.took.as_secs_f64().max(1e-9);
        if busy > BUSY_MAX {
            self.limits.push(format!("{job}: the client was the limit, busy {:.0} % of the time", busy * 100.0));
        }
    }

    /// Does one job.
    pub fn step(&mut self, job: Job, args: &MailstoreArgs) -> Result<(), String> {
        match job {
            Job::WarmUp => {
                let one = MailstoreArgs { connections: 4, ..args.clone() };
                deliver(&self.running, &one, |n| account(1 + n as usize % (ACCOUNTS - 1)), |n| n < 100).map(|_| ())
            }
            Job::Deliver => self.deliveries(args),
            Job::Fill => self.fill(args),
            Job::Imap(name, command) => self.command(name, command, args),
            Job::Store => self.flags(args),
            Job::Append => self.append(args),
            Job::Pop => self.pop(args),
            Job::Idle => self.idle(args),
        }
    }

    fn imap(&mut self) -> Result<&mut Line, String> {
        if self.imap.is_none() {
            let mut imap = login(&self.running)?;
            imap.imap("SELECT INBOX")?;
            self.imap = Some(imap);
        }
        self.imap.as_mut().ok_or_else(|| "no connection".into())
    }

    fn deliveries(&mut self, args: &MailstoreArgs) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(args.seconds);
        let everybody = |n: u64| account(1 + n as usize % (ACCOUNTS - 1));
        let running = &self.running;
        let (n, cost) = timed(running.pid, || deliver(running, args, everybody, |_| Instant::now() < end))?;
        self.add("LMTP, messages per second", n as f64 / cost.took.as_secs_f64(), "/s");
        self.add("LMTP, CPU per message", cost.cpu.as_secs_f64() * 1e6 / n.max(1) as f64, "µs");
        Ok(())
    }

    fn fill(&mut self, args: &MailstoreArgs) -> Result<(), String> {
        let before = disk_octets(&self.running.mail);
        deliver(&self.running, args, |_| account(0), |n| n < u64::from(args.messages))?;
        // Until what is written behind the reply is on the disk, too.
        std::thread::sleep(Duration::from_secs(2));
        let grown = disk_octets(&self.running.mail).saturating_sub(before);
        self.add("disk per message", grown as f64 / f64::from(args.messages), "octets");
        Ok(())
    }

    fn command(&mut self, name: &str, command: &str, args: &MailstoreArgs) -> Result<(), String> {
        let pid = self.running.pid;
        let imap = self.imap()?;
        // The first answer warms the index.
        imap.imap(command)?;
        let (rounds, cost) = timed(pid, || again(args, || imap.imap(command).map(|_| ())))?;
        self.both(&format!("IMAP {name}"), &cost, rounds, "");
        Ok(())
    }

    fn flags(&mut self, args: &MailstoreArgs) -> Result<(), String> {
        let pid = self.running.pid;
        let imap = self.imap()?;
        // There and back, so that each changes every message.
        let (rounds, cost) = timed(pid, || {
            again(args, || {
                imap.imap("STORE 1:* +FLAGS.SILENT (\\Seen)")?;
                imap.imap("STORE 1:* -FLAGS.SILENT (\\Seen)").map(|_| ())
            })
        })?;
        self.both("IMAP STORE", &cost, 2 * rounds, "");
        Ok(())
    }

    fn append(&mut self, args: &MailstoreArgs) -> Result<(), String> {
        let (pid, appended, size) = (self.running.pid, 200, args.size);
        let imap = self.imap()?;
        let ((), cost) = timed(pid, || {
            for n in 0..appended {
                let text = message(n, size);
                imap.send(format!("x APPEND Archive {{{}}}\r\n", text.len()).as_bytes())?;
                let go = imap.line()?;
                if !go.starts_with(b"+") {
                    return Err(format!("APPEND: {}", String::from_utf8_lossy(go)));
                }
                imap.send(&text)?;
                imap.send(b"\r\n")?;
                imap.imap_answer("APPEND")?;
            }
            Ok(())
        })?;
        self.both("IMAP APPEND", &cost, appended as u32, " each");
        Ok(())
    }

    fn idle(&mut self, args: &MailstoreArgs) -> Result<(), String> {
        let held = proc::tree_memory_octets(self.running.pid);
        let sessions: Vec<Line> = (0..args.idle)
            .map(|_| {
                let mut line = login(&self.running)?;
                line.imap("SELECT Archive")?;
                line.send(b"x IDLE\r\n")?;
                line.line()?;
                Ok(line)
            })
            .collect::<Result<_, String>>()?;
        std::thread::sleep(Duration::from_secs(1));
        let grown = proc::tree_memory_octets(self.running.pid).saturating_sub(held);
        self.add("memory of an idle IMAP session", grown as f64 / sessions.len().max(1) as f64, "octets");
        Ok(())
    }

    fn pop(&mut self, args: &MailstoreArgs) -> Result<(), String> {
        let (pid, address) = (self.running.pid, self.running.pop3);
        let begin = || {
            let mut pop = Line::connect(address)?;
            pop.line()?;
            pop.pop(&format!("USER {}", account(0)))?;
            pop.pop(&format!("PASS {PASSWORD}"))?;
            Ok::<Line, String>(pop)
        };
        for command in ["LIST", "UIDL"] {
            let mut warm = begin()?;
            warm.send(format!("{command}\r\n").as_bytes())?;
            warm.pop_text()?;
            warm.pop("QUIT")?;
            let (rounds, cost) = timed(pid, || {
                again(args, || {
                    let mut pop = begin()?;
                    pop.send(format!("{command}\r\n").as_bytes())?;
                    let lines = pop.pop_text()?;
                    pop.pop("QUIT")?;
                    if lines == u64::from(args.messages) { Ok(()) } else { Err(format!("{command}: {lines} lines")) }
                })
            })?;
            self.both(&format!("POP3 login and {command}"), &cost, rounds, "");
        }
        let mut pop = begin()?;
        let ((), cost) = timed(pid, || {
            for first in (1..=args.messages).step_by(100) {
                let last = (first + 99).min(args.messages);
                let commands: String = (first..=last).map(|n| format!("RETR {n}\r\n")).collect();
                pop.send(commands.as_bytes())?;
                for _ in first..=last {
                    pop.pop_text()?;
                }
            }
            Ok(())
        })?;
        pop.pop("QUIT")?;
        self.both("POP3 RETR of all", &cost, 1, "");
        Ok(())
    }
}

/// Does it as often as asked for, and on until a second has passed: the kernel counts processor time in hundredths. How
/// often that was.
fn again(args: &MailstoreArgs, mut work: impl FnMut() -> Result<(), String>) -> Result<u32, String> {
    let begun = Instant::now();
    let mut rounds = 0;
    while rounds < args.rounds.max(1) || begun.elapsed() < Duration::from_secs(1) {
        work()?;
        rounds += 1;
    }
    Ok(rounds)
}

fn login(running: &Running) -> Result<Line, String> {
    let mut imap = Line::connect(running.imap)?;
    imap.line()?;
    imap.imap(&format!("LOGIN {} {PASSWORD}", account(0)))?;
    // Not every store makes it by itself.
    let _ = imap.imap("CREATE Archive");
    Ok(imap)
}

/// Octets that the files below a directory take on disk.
fn disk_octets(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => disk_octets(&entry.path()),
            Ok(m) => std::os::unix::fs::MetadataExt::blocks(&m) * 512,
            Err(_) => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_their_size_and_end_in_a_line() {
        for n in [0, 7, 107] {
            let text = message(n, 10_240);
            assert!((10_000..=10_240).contains(&text.len()), "{}", text.len());
            assert!(text.ends_with(b"\r\n"));
            assert_eq!(String::from_utf8_lossy(&text).contains(NEEDLE), n % 100 == 7);
            assert!(!text.windows(3).any(|w| w == b"\n.\r"));
        }
    }
}
