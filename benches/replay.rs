//! What a replay costs, and what recording costs.
//!
//! `cargo bench --bench replay` measures sessions a second: from a journal in memory, from a file, and without a replay
//! (reading alone), and a session with and without a recorder. Every bench asserts that the verdicts are those that were
//! recorded. Targets: 1,000,000 sessions a second and core from memory, 300,000 from disk.
//!
//! `cargo bench --bench replay -- equality [SESSIONS]` makes up a day (a million sessions unless told otherwise) on a policy
//! whose limits are met all day, replays it and compares every decision.
//! `-- profile` replays for ten seconds and does nothing else, for `perf` and `valgrind --tool=callgrind`.

#[path = "replay/day.rs"]
mod day;

use criterion::{Criterion, Throughput};
use day::{Day, Nowhere, Verdicts, day};
use gatepost::policy::journal::{Keep, Run, read_line};
use gatepost::policy::replay::{Diff, Replay, Seen, Visitor};
use gatepost::policy::{Builtins, NoFiles, Policy};
use std::borrow::Cow;
use std::hint::black_box;
use std::io::BufRead;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const SESSIONS: usize = 100_000;

/// Limits of every kind, tight enough to be met all day.
const BUSY: &str = r#"
[limit.open]
per = "client/24"
counts = "concurrency"
most = 2
[limit.connections]
per = "client/20"
counts = "connection"
rate = "300/hour"
burst = 40
[limit.guesses]
per = "client/16"
counts = "auth-failure"
rate = "200/hour"
[limit.senders]
per = "sender"
counts = "message"
rate = "3/hour"
burst = 2
[limit.recipients]
per = "client/24"
counts = "recipient"
rate = "12/hour"
burst = 3
[limit.octets]
per = "sender.domain"
counts = "octets"
rate = "100MiB/hour"
[[rule]]
name = "early"
stage = "connect"
when = "early_talker"
then = "drop 554 5.5.1 Early"
[[rule]]
name = "connections"
stage = "connect"
then = ["limit connections", "limit open else drop 421 4.7.0 Too many at once"]
[[rule]]
name = "nameless"
stage = "helo"
when = "client.ptr == ''"
then = ["tag \"X-Nameless: yes\"", "tarpit 1s"]
[[rule]]
name = "guesses"
stage = "auth"
then = "limit guesses else drop 421 4.7.0 Too many guesses"
[[rule]]
name = "senders"
stage = "mail"
then = "limit senders"
[[rule]]
name = "unknown"
stage = "rcpt"
when = "rcpt.exists == false"
then = "reject 550 5.1.1 No such recipient"
[[rule]]
name = "local"
stage = "rcpt"
when = "rcpt.domain in @local-domains"
then = ["limit recipients else defer 452 4.5.3 Slower", "accept"]
[[rule]]
name = "large"
stage = "message"
when = "message.size > 1900KiB"
then = "reject 552 5.3.4 Too large"
[[rule]]
name = "octets"
stage = "message"
then = "limit octets"
"#;

fn policy(source: &str) -> Arc<Policy> {
    let builtins = Builtins::new(["example.test"]).expect("a domain");
    Arc::new(Policy::compile("bench.toml", source, &NoFiles, &builtins).expect("it compiles"))
}

/// Counts what the replay says, and whether it is what was recorded.
#[derive(Default)]
struct Watch {
    verdicts: Verdicts,
    decisions: u64,
    first: Option<String>,
}

impl Visitor for Watch {
    fn decision(&mut self, seen: &Seen<'_>) {
        self.decisions += 1;
        if seen.new != Some(seen.old) && self.first.is_none() {
            self.first = Some(format!("{seen:?}"));
        }
        let word = ["accept", "reject", "defer", "drop", "discard"].into_iter().find(|w| *w == seen.old.verdict);
        *self.verdicts.entry((seen.stage, word.unwrap_or("?"))).or_default() += 1;
    }
}

fn play(policy: &Arc<Policy>, journal: &str, visitor: &mut impl Visitor) -> u64 {
    let mut replay = Replay::new(policy.clone(), 1 << 18);
    journal.lines().for_each(|line| replay.feed(Cow::Borrowed(line), visitor));
    replay.finish(visitor);
    let counts = replay.counts();
    assert_eq!((counts.unread(), counts.late, counts.orphans), (0, 0, 0));
    counts.sessions
}

/// Every decision of a day, with the policy that decided it: nothing may differ.
fn assert_equal(policy: &Arc<Policy>, day: &Day, sessions: usize) -> u64 {
    let mut watch = Watch::default();
    assert_eq!(play(policy, &day.journal, &mut watch), sessions as u64);
    assert_eq!(watch.first, None);
    assert_eq!(watch.verdicts, day.verdicts);
    watch.decisions
}

fn equality(sessions: usize) {
    let policy = policy(BUSY);
    let began = Instant::now();
    let day = day(&policy, sessions, 42, false);
    let made = began.elapsed();
    let began = Instant::now();
    let decisions = assert_equal(&policy, &day, sessions);
    println!(
        "equality: {decisions} decisions of {sessions} sessions ({} MiB) are what was recorded; made in {made:.1?}, replayed in {:.1?}",
        day.journal.len() >> 20,
        began.elapsed()
    );
    for ((stage, verdict), count) in &day.verdicts {
        println!("  {stage:<8} {verdict:<8} {count}");
    }
    let met = |stage, verdict| day.verdicts.get(&(stage, verdict)).copied().unwrap_or(0) > 0;
    assert!(met("connect", "drop") && met("connect", "defer") | met("mail", "defer") && met("rcpt", "defer"));
}

fn from_memory(c: &mut Criterion) {
    let policy = policy(Policy::DEFAULT);
    for (name, taken_only) in [("a day of an MX", false), ("mail that is taken", true)] {
        let day = day(&policy, SESSIONS, 7, taken_only);
        assert_equal(&policy, &day, SESSIONS);
        println!("replay/{name}: {} octets a session", day.journal.len() / SESSIONS);
        let mut group = c.benchmark_group("replay");
        group.throughput(Throughput::Elements(SESSIONS as u64)).sample_size(10);
        group.bench_function(format!("{name}, from memory"), |b| {
            b.iter(|| {
                let mut diff = Diff::default();
                assert_eq!(play(&policy, &day.journal, &mut diff), SESSIONS as u64);
                assert_eq!((diff.same, diff.verdicts_changed, diff.not_reached), (diff.decisions, 0, 0));
            });
        });
        group.bench_function(format!("{name}, lines read only"), |b| {
            let mut places = Vec::new();
            b.iter(|| {
                let read = day.journal.lines().filter(|line| read_line(black_box(line), &mut places).is_ok()).count();
                assert_eq!(read, SESSIONS);
            });
        });
        group.finish();
    }
}

/// As the server writes it: zstd, frames of a mebibyte.
fn from_disk(c: &mut Criterion) {
    let policy = policy(Policy::DEFAULT);
    let day = day(&policy, SESSIONS, 7, false);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("journal-1-bench.jsonl.zst");
    let mut packed = Vec::new();
    let mut rest = day.journal.as_bytes();
    while !rest.is_empty() {
        let end = rest[..rest.len().min(1 << 20)].iter().rposition(|b| *b == b'\n').map_or(rest.len(), |at| at + 1);
        packed.extend(zstd::bulk::compress(&rest[..end], 3).expect("it compresses"));
        rest = &rest[end..];
    }
    println!("replay/disk: {} octets a session, {} compressed", day.journal.len() / SESSIONS, packed.len() / SESSIONS);
    std::fs::write(&path, packed).expect("it is written");
    let mut group = c.benchmark_group("replay");
    group.throughput(Throughput::Elements(SESSIONS as u64)).sample_size(10);
    group.bench_function("a day of an MX, from disk, compressed", |b| {
        b.iter(|| {
            let file = std::fs::File::open(&path).expect("it opens");
            let mut lines = std::io::BufReader::with_capacity(1 << 20, zstd::Decoder::new(file).expect("a frame"));
            let mut replay = Replay::new(policy.clone(), 1 << 18);
            let mut diff = Diff::default();
            loop {
                let mut line = Vec::new();
                if lines.read_until(b'\n', &mut line).expect("it reads") == 0 {
                    break;
                }
                line.pop();
                replay.feed(Cow::Owned(String::from_utf8(line).expect("text")), &mut diff);
            }
            replay.finish(&mut diff);
            assert_eq!((replay.counts().sessions, diff.same), (SESSIONS as u64, diff.decisions));
        });
    });
    group.finish();
}

/// What a core spends on a session's line, beside what it spends on judging the session.
fn recorder(c: &mut Criterion) {
    let policy = policy(Policy::DEFAULT);
    let mut group = c.benchmark_group("journal");
    let octets = Arc::new(AtomicU64::new(0));
    let run = Run::new("bench", None, Keep::default(), Box::new(Nowhere(octets.clone())));
    let mut sessions = 0u64;
    group.bench_function("a session that brings a message, judged", |b| b.iter(|| day::one(&policy, None)));
    group.bench_function("a session that brings a message, judged and recorded", |b| {
        b.iter(|| {
            sessions += 1;
            day::one(&policy, Some(&run));
        });
    });
    group.finish();
    println!("journal/octets a session: {}", octets.load(Ordering::Relaxed) / sessions.max(1));
    let day = day(&policy, 20_000, 7, true);
    let chunk = &day.journal.as_bytes()[..1 << 20];
    let lines = chunk.iter().filter(|b| **b == b'\n').count();
    let began = Instant::now();
    let packed = zstd::bulk::compress(chunk, 3).expect("it compresses").len();
    let took = began.elapsed() / lines as u32;
    println!("journal/the lane: {took:?} and {} octets on disk a session", packed / lines);
}

fn profile() {
    let policy = policy(Policy::DEFAULT);
    let day = day(&policy, SESSIONS, 7, std::env::args().any(|a| a == "taken"));
    let (began, mut rounds) = (Instant::now(), 0u32);
    while began.elapsed() < Duration::from_secs(10) {
        let mut diff = Diff::default();
        play(&policy, &day.journal, &mut diff);
        rounds += 1;
    }
    println!("{:?} a session", began.elapsed() / rounds / SESSIONS as u32);
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    match args.first().map(String::as_str) {
        Some("equality") => equality(args.get(1).and_then(|n| n.parse().ok()).unwrap_or(1_000_000)),
        Some("profile") => profile(),
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            from_memory(&mut criterion);
            from_disk(&mut criterion);
            recorder(&mut criterion);
            criterion.final_summary();
        }
    }
}
