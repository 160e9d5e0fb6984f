//! The jobs: deliveries, commands of IMAP and POP3, memory of idle sessions, disk per message.
//!
//! How it fails: the first unexpected answer ends the run.

use super::client::Line;
use super::peer::{ACCOUNTS, PASSWORD, Running, account};
use super::{MailstoreArgs, timed};
use crate::proc;
use serde::Serialize;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// One figure of the table. Smaller is better, except for rates.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// Which job.
    pub job: String,
    /// The value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
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

/// All jobs on one server.
pub fn run(running: &Running, args: &MailstoreArgs) -> Result<Vec<Figure>, String> {
    let mut figures = Vec::new();
    let mut add = |job: &str, value: f64, unit: &'static str| {
        let figure = Figure { job: job.to_owned(), value, unit };
        eprintln!("{job}: {}", figure.show());
        figures.push(figure);
    };
    // Accounts exist and processes are up before anything counts.
    let one = MailstoreArgs { connections: 4, ..args.clone() };
    deliver(running, &one, |n| account(1 + n as usize % (ACCOUNTS - 1)), |n| n < 100)?;
    let end = Instant::now() + Duration::from_secs(args.seconds);
    let everybody = |n: u64| account(1 + n as usize % (ACCOUNTS - 1));
    let (n, cpu, took) = timed(running.pid, || deliver(running, args, everybody, |_| Instant::now() < end))?;
    add("LMTP, messages per second", n as f64 / took.as_secs_f64(), "/s");
    add("LMTP, CPU per message", cpu.as_secs_f64() * 1e6 / n.max(1) as f64, "µs");

    let before = disk_octets(&running.mail);
    deliver(running, args, |_| account(0), |n| n < u64::from(args.messages))?;
    std::thread::sleep(Duration::from_secs(3));
    let grown = disk_octets(&running.mail).saturating_sub(before);
    add("disk per message", grown as f64 / f64::from(args.messages), "octets");

    let mut imap = login(running)?;
    imap.imap("SELECT INBOX")?;
    let commands = [
        ("SELECT", "SELECT INBOX"),
        ("FETCH flags", "FETCH 1:* (UID FLAGS)"),
        ("FETCH envelopes", "FETCH 1:* (ENVELOPE)"),
        ("FETCH headers", "FETCH 1:* (BODY.PEEK[HEADER])"),
        ("FETCH bodies", "FETCH 1:* (BODY.PEEK[])"),
        ("SEARCH by header", "SEARCH SUBJECT \"message 4711 of\""),
        ("SEARCH by text", "SEARCH TEXT xylophone"),
    ];
    for (job, command) in commands {
        // The first answer warms the index.
        imap.imap(command)?;
        let (rounds, cpu, took) = timed(running.pid, || again(args, || imap.imap(command).map(|_| ())))?;
        add(&format!("IMAP {job}, CPU"), cpu.as_secs_f64() * 1e3 / f64::from(rounds), "ms");
        add(&format!("IMAP {job}, time"), took.as_secs_f64() * 1e3 / f64::from(rounds), "ms");
    }
    // There and back, so that each changes every message.
    let (rounds, cpu, took) = timed(running.pid, || {
        again(args, || {
            imap.imap("STORE 1:* +FLAGS.SILENT (\\Seen)")?;
            imap.imap("STORE 1:* -FLAGS.SILENT (\\Seen)").map(|_| ())
        })
    })?;
    add("IMAP STORE, CPU", cpu.as_secs_f64() * 1e3 / f64::from(2 * rounds), "ms");
    add("IMAP STORE, time", took.as_secs_f64() * 1e3 / f64::from(2 * rounds), "ms");
    let appended = 200;
    let (_, cpu, took) = timed(running.pid, || {
        for n in 0..appended {
            let text = message(n, args.size);
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
    add("IMAP APPEND, CPU each", cpu.as_secs_f64() * 1e6 / appended as f64, "µs");
    add("IMAP APPEND, time each", took.as_secs_f64() * 1e6 / appended as f64, "µs");
    pop(running, args, &mut add)?;

    let held = proc::tree_memory_octets(running.pid);
    let sessions: Vec<Line> = (0..args.idle)
        .map(|_| {
            let mut line = login(running)?;
            line.imap("SELECT Archive")?;
            line.send(b"x IDLE\r\n")?;
            line.line()?;
            Ok(line)
        })
        .collect::<Result<_, String>>()?;
    std::thread::sleep(Duration::from_secs(1));
    let grown = proc::tree_memory_octets(running.pid).saturating_sub(held);
    add("memory of an idle IMAP session", grown as f64 / sessions.len().max(1) as f64, "octets");
    Ok(figures)
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

fn pop(running: &Running, args: &MailstoreArgs, add: &mut impl FnMut(&str, f64, &'static str)) -> Result<(), String> {
    let begin = || {
        let mut pop = Line::connect(running.pop3)?;
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
        let (rounds, cpu, took) = timed(running.pid, || {
            again(args, || {
                let mut pop = begin()?;
                pop.send(format!("{command}\r\n").as_bytes())?;
                let lines = pop.pop_text()?;
                pop.pop("QUIT")?;
                if lines == u64::from(args.messages) { Ok(()) } else { Err(format!("{command}: {lines} lines")) }
            })
        })?;
        add(&format!("POP3 login and {command}, CPU"), cpu.as_secs_f64() * 1e3 / f64::from(rounds), "ms");
        add(&format!("POP3 login and {command}, time"), took.as_secs_f64() * 1e3 / f64::from(rounds), "ms");
    }
    let mut pop = begin()?;
    let (_, cpu, took) = timed(running.pid, || {
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
    add("POP3 RETR of all, CPU", cpu.as_secs_f64() * 1e3, "ms");
    add("POP3 RETR of all, time", took.as_secs_f64() * 1e3, "ms");
    Ok(())
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
