//! Lines, filters and the writer.

use super::writer::{LostLine, Output};
use super::*;
use std::io::Write;
use std::sync::Mutex;

/// What was written, readable while the log is open.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Page {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn logged(knobs: &LogKnobs, events: impl FnOnce()) -> String {
    let page = Page::default();
    let output = Output::Other(Box::new(page.clone()));
    let guard = Writer::spawn(knobs.lines_waiting_max, output, LostLine { format: knobs.format }).unwrap();
    let filter = Filter::new(knobs).unwrap();
    let log = Log { filter, format: knobs.format, colours: false, writer: guard.sender() };
    tracing::subscriber::with_default(log, events);
    drop(guard);
    page.text()
}

fn decide() {
    let reason = "relaying denied";
    tracing::info!(target: "decision", session = "0ABC", rule = "relay-denied", reason, code = 550, "refused");
}

#[test]
fn people_read_words() {
    let text = logged(&LogKnobs::default(), decide);
    let (time, rest) = text.split_once(' ').unwrap();
    assert_eq!(time.len(), "2026-11-23T12:32:01.042Z".len());
    assert_eq!(rest, "INFO  decision  refused session=0ABC rule=relay-denied reason=\"relaying denied\" code=550\n");
}

#[test]
fn programs_read_json() {
    let knobs = LogKnobs { format: LogFormat::Json, ..LogKnobs::default() };
    let text = logged(&knobs, || {
        decide();
        tracing::warn!(target: "x", time = "mine", quote = "a\"b\\c\u{1}\n", ok = true, n = -3, "odd");
    });
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines[0]["message"], "refused");
    assert_eq!(lines[0]["level"], "info");
    assert_eq!(lines[0]["reason"], "relaying denied");
    assert_eq!(lines[0]["code"], 550);
    assert_eq!(lines[1]["time_"], "mine");
    assert_eq!(lines[1]["quote"], "a\"b\\c\u{1}\n");
    assert_eq!(lines[1]["ok"], true);
    assert_eq!(lines[1]["n"], -3);
}

#[test]
fn a_peer_cannot_forge_a_line_or_steer_a_terminal() {
    let text = logged(&LogKnobs::default(), || {
        let evil = "x\r\n2026-11-23T00:00:00.000Z INFO  decision  accepted \u{1b}[2J\u{202e}";
        tracing::info!(helo = evil, "{evil}");
        tracing::info!(helo = %evil, sender = "");
    });
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(!text.contains(['\u{1b}', '\r', '\u{202e}']));
    assert!(text.ends_with("sender=\"\"\n"), "{text}");
}

#[test]
fn long_values_are_cut() {
    let long = "ü".repeat(100_000);
    for format in [LogFormat::Human, LogFormat::Json] {
        let text = logged(&LogKnobs { format, ..LogKnobs::default() }, || tracing::info!(long, more = 1, "m"));
        assert!(text.len() < 40_000, "{}", text.len());
        assert_eq!(text.lines().count(), 1);
        if format == LogFormat::Json {
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
        }
    }
}

#[test]
fn levels_by_target() {
    let knobs = LogKnobs {
        level: LogLevel::Info,
        targets: vec!["decision=warn".into(), "gatepost::control=trace".into(), "hickory_net=info".into()],
        ..LogKnobs::default()
    };
    let filter = Filter::new(&knobs).unwrap();
    for (target, level) in [
        ("decision", LevelFilter::WARN),
        ("gatepost::control::log", LevelFilter::TRACE),
        ("gatepost::gateway", LevelFilter::INFO),
        ("session", LevelFilter::INFO),
        ("hickory_resolver::caching", LevelFilter::WARN),
        ("hickory_net::udp", LevelFilter::INFO),
        ("some_crate::part", LevelFilter::WARN),
    ] {
        assert_eq!(filter.level(target), level, "{target}");
    }
    assert_eq!(filter.most(), LevelFilter::TRACE);
    assert_eq!(filter::parse_target("a=wran").unwrap_err().split("; ").nth(1), Some("did you mean \"warn\"?"));
    assert!(filter::parse_target("warn").is_err());
    assert!(filter::parse_target("=warn").is_err());
}

#[test]
fn formatting_is_skipped_when_the_level_is_off() {
    struct Bomb;
    impl std::fmt::Display for Bomb {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("formatted although the level is off")
        }
    }
    let text = logged(&LogKnobs::default(), || tracing::debug!(value = %Bomb, "never"));
    assert_eq!(text, "");
}

/// An output that does not move until it is let go.
struct Stuck(std::sync::mpsc::Receiver<()>, Page);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.recv();
        self.1.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_output_loses_lines_but_holds_up_nobody() {
    let (go, wait) = std::sync::mpsc::channel();
    let page = Page::default();
    let output = Output::Other(Box::new(Stuck(wait, page.clone())));
    let guard = Writer::spawn(64, output, LostLine { format: LogFormat::Human }).unwrap();
    let writer = guard.sender();
    let started = std::time::Instant::now();
    for n in 0..100_000 {
        writer.push(format!("line {n}\n"));
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(5));
    drop(go);
    drop(guard);
    let text = page.text();
    let kept = text.lines().filter(|l| l.starts_with("line ")).count();
    let lost: usize = text.lines().last().unwrap().split("lines=").nth(1).unwrap().parse().unwrap();
    assert!(kept >= 64 && kept + lost == 100_000, "{kept} + {lost}");
}

#[test]
fn many_threads_lose_no_line_that_fits() {
    let page = Page::default();
    let guard = Writer::spawn(100_000, Output::Other(Box::new(page.clone())), LostLine { format: LogFormat::Human });
    let guard = guard.unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let writer = guard.sender();
            scope.spawn(move || {
                for n in 0..5000 {
                    writer.push(format!("{thread} {n}\n"));
                }
            });
        }
    });
    drop(guard);
    let text = page.text();
    for thread in 0..4 {
        let numbers: Vec<usize> =
            text.lines().filter_map(|l| l.strip_prefix(&format!("{thread} "))?.parse().ok()).collect();
        assert_eq!(numbers, (0..5000).collect::<Vec<_>>(), "each thread's lines stay in order");
    }
}

#[test]
fn a_rotated_file_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let knobs = LogKnobs { file: Some(path.clone()), ..LogKnobs::default() };
    let guard = Writer::start(&knobs).unwrap();
    guard.sender().push("one\n".into());
    while std::fs::read_to_string(&path).unwrap() != "one\n" {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    std::fs::rename(&path, dir.path().join("log.1")).unwrap();
    guard.reopen();
    while !path.exists() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    guard.sender().push("two\n".into());
    drop(guard);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "two\n");
    let missing = LogKnobs { file: Some(dir.path().join("no/where")), ..LogKnobs::default() };
    assert!(Writer::start(&missing).unwrap_err().contains("no/where"));
}
