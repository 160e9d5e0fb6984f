//! The sender against the sink, as a user runs them, in every mode and under both drivers: what is counted agrees, the
//! ledgers join without loss, known behaviour comes out as measured.

#![allow(clippy::unwrap_used)] // helpers of tests, outside #[test] functions

use gatepost::reactor::{Driver, Io, ReactorKnobs};
use gatepost_load::ledger;
use gatepost_load::message::Content;
use gatepost_load::report::SendReport;
use gatepost_load::send::session::{Transfer, Work};
use gatepost_load::send::{self, Options, Pace};
use gatepost_load::sink::session::Tally;
use gatepost_load::sink::{self, Behaviour, Offers};
use gatepost_load::size::Sizes;
use gatepost_load::stop::Stop;
use std::path::Path;
use std::time::Duration;

/// Both drivers, or one of them with the reason said.
fn drivers() -> Vec<Io> {
    let uring = ReactorKnobs { driver: Io::Uring, ..ReactorKnobs::default() };
    match Driver::open(&uring) {
        Ok(_) => vec![Io::Epoll, Io::Uring],
        Err(why) => {
            println!("skipped: io_uring: {why}");
            vec![Io::Epoll]
        }
    }
}

fn with_sink(
    io: Io,
    behaviour: Behaviour,
    ledger: Option<&Path>,
    send: impl FnOnce(Options) -> SendReport,
) -> (SendReport, Tally) {
    let options = sink::Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        cores: 1,
        io,
        behaviour,
        ledger: ledger.map(Path::to_owned),
    };
    let running = sink::start(&options, &Stop::default()).unwrap();
    let report = send(Options { io, ..Options::to(running.address) });
    (report, running.finish().unwrap())
}

fn octets(n: u64) -> Content {
    Content::Made(Sizes::Fixed(n))
}

fn run(options: Options) -> SendReport {
    send::run(&options, &Stop::default()).unwrap()
}

#[test]
fn every_mode_loses_nothing_under_both_drivers() {
    let dir = tempfile::tempdir().unwrap();
    let (sent, seen) = (dir.path().join("sent"), dir.path().join("seen"));
    for io in drivers() {
        for (pipeline, transfer, per_connection, lmtp, size) in [
            (true, Transfer::Data, 0, false, 10_240),
            (true, Transfer::Bdat, 0, false, 100_000),
            (false, Transfer::Data, 1, false, 500),
            (true, Transfer::Data, 1, false, 10_240),
            (false, Transfer::Bdat, 7, false, 2000),
            (true, Transfer::Data, 3, true, 10_240),
            (true, Transfer::Data, 0, false, 3_000_000),
        ] {
            let messages = if size > 1_000_000 { 20 } else { 300 };
            let behaviour = Behaviour::offering(&Offers { lmtp, ..Offers::default() });
            let (report, tally) = with_sink(io, behaviour, Some(&seen), |o| {
                run(Options {
                    lmtp,
                    connections: 8,
                    messages: Some(messages),
                    pipeline,
                    transfer,
                    messages_per_connection: per_connection,
                    content: octets(size),
                    recipients: 2,
                    cores: 2,
                    ledger: Some(sent.clone()),
                    ..o
                })
            });
            let mode = format!("{io:?} pipeline {pipeline} {transfer:?} per {per_connection} lmtp {lmtp} size {size}");
            assert!(report.is_clean(), "{mode}: {report:?}");
            assert_eq!(
                (report.messages, tally.messages, tally.recipients),
                (messages, messages, 2 * messages),
                "{mode}"
            );
            assert_eq!((tally.errors, tally.unmarked), (0, 0), "{mode}");
            let account = ledger::join(&[&sent], &[&seen]).unwrap();
            assert!(
                account.is_clean() && account.duplicated == 0 && account.foreign_messages == 0,
                "{mode}: {account}"
            );
            assert_eq!(account.accepted, 2 * messages, "{mode}");
            if per_connection == 1 {
                assert_eq!(report.sessions, messages, "{mode}");
            }
        }
    }
}

/// Over real sockets nothing is faster than the delay, however busy the machine; that nothing is slower than it has to be is
/// shown on a virtual clock, beside the sender (`send/virtual_tests.rs`).
#[test]
fn a_known_delay_is_the_latency_that_is_measured() {
    for io in drivers() {
        let slow = Behaviour { delay: Duration::from_millis(40).into(), ..Behaviour::default() };
        let (report, _) = with_sink(io, slow, None, |o| {
            run(Options { connections: 10, messages: Some(200), content: octets(1000), ..o })
        });
        // Ten connections, 40 ms each: 250 a second at most.
        assert_eq!(report.messages, 200, "{io:?}: {report}");
        assert!(report.latency.p50_ms > 39.0, "{io:?}: {}", report.latency);
        assert!(report.messages_per_s < 260.0, "{io:?}: {}", report.messages_per_s);
        // What was slow is the last reply, whatever else was.
        assert!(report.phases["final"].p50_ms > 39.0, "{io:?}: {report}");
    }
}

#[test]
fn an_open_loop_counts_the_wait_for_a_server_that_is_too_slow() {
    for io in drivers() {
        let slow = Behaviour { delay: Duration::from_millis(20).into(), ..Behaviour::default() };
        // One connection does 50 a second; 100 a second are asked for, so after one second half of them wait.
        let (report, _) = with_sink(io, slow, None, |o| {
            run(Options {
                pace: Pace::Open(100.0),
                connections: 1,
                messages: None,
                duration: Some(Duration::from_secs(1)),
                content: octets(1000),
                ..o
            })
        });
        assert_eq!(report.messages, 100, "{io:?}: every message of the schedule is sent, late or not");
        assert!(report.latency.max_ms > 900.0, "{io:?}: {}", report.latency);
        assert!(report.latency.p50_ms > 400.0, "{io:?}: {}", report.latency);
    }
}

#[test]
fn an_open_loop_sends_its_schedule_and_no_faster() {
    for io in drivers() {
        let (report, _) = with_sink(io, Behaviour::default(), None, |o| {
            run(Options {
                pace: Pace::Open(500.0),
                connections: 50,
                messages: None,
                duration: Some(Duration::from_secs(1)),
                content: octets(1000),
                ..o
            })
        });
        assert_eq!(report.messages, 500, "{io:?}: {report:?}");
        assert!(report.messages_per_s < 550.0, "{io:?}: {report:?}");
        // Whoever was late says so: the latency holds what the harness itself lost.
        assert!(report.latency.max_ms >= report.late.p50_ms, "{io:?}: {report:?}");
    }
}

#[test]
fn shares_of_trouble_come_out_as_they_went_in() {
    let dir = tempfile::tempdir().unwrap();
    let (sent, seen) = (dir.path().join("sent"), dir.path().join("seen"));
    for io in drivers() {
        let bad = Behaviour { reject_rcpt: 0.2, disconnect: 0.1, ..Behaviour::default() };
        let (report, tally) = with_sink(io, bad, Some(&seen), |o| {
            run(Options { connections: 5, messages: Some(1000), content: octets(600), ledger: Some(sent.clone()), ..o })
        });
        assert_eq!(report.messages, tally.messages, "{io:?}");
        assert_eq!(report.refused, tally.rejected, "{io:?}");
        assert_eq!(report.unknown, tally.disconnected, "{io:?}");
        assert_eq!(report.messages + report.refused + report.unknown + report.not_sent, 1000, "{io:?}: {report:?}");
        assert!((120..280).contains(&report.refused) && (40..130).contains(&report.unknown), "{io:?}: {report:?}");
        assert_eq!(report.replies.get(&550), Some(&report.refused));
        let account = ledger::join(&[&sent], &[&seen]).unwrap();
        assert!(account.is_clean(), "{io:?}: {account}");
        assert_eq!(account.unknown_messages, report.unknown);
    }
}

#[test]
fn refused_recipients_end_sessions() {
    for io in drivers() {
        let refusing = Behaviour { reject_rcpt: 1.0, ..Behaviour::default() };
        let (report, tally) = with_sink(io, refusing, None, |o| {
            run(Options { connections: 10, messages: Some(500), work: Work::Reject, pipeline: false, ..o })
        });
        assert_eq!((report.messages, report.sessions, tally.rejected), (500, 500, 500), "{io:?}: {report:?}");
        assert!(report.errors.is_empty(), "{io:?}: {report:?}");
    }
}

#[test]
fn connections_are_held_from_many_addresses() {
    for io in drivers() {
        let (report, tally) = with_sink(io, Behaviour::default(), None, |o| {
            run(Options {
                pace: Pace::Hold,
                connections: 600,
                messages: None,
                duration: Some(Duration::from_millis(900)),
                sources: Some("127.1.0.0/24".parse().unwrap()),
                ..o
            })
        });
        assert_eq!((report.held_max, report.sessions, tally.sessions), (600, 600, 600), "{io:?}: {report:?}");
        assert!(report.errors.is_empty(), "{io:?}: {report:?}");
    }
}

#[test]
fn a_server_that_is_not_there_is_an_error_and_not_a_busy_loop() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for io in drivers() {
        let report = run(Options {
            io,
            messages: Some(10),
            duration: Some(Duration::from_millis(300)),
            connections: 3,
            ..Options::to(closed)
        });
        assert_eq!(report.messages, 0);
        let failures: u64 = report.errors.values().sum();
        assert!((1..100).contains(&failures), "{io:?}: {report:?}");
        assert!(report.cpu_s < 0.2, "{io:?}: {report:?}");
    }
}

#[test]
fn a_silent_server_times_out() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for io in drivers() {
        let report = run(Options {
            io,
            duration: Some(Duration::from_millis(700)),
            messages: None,
            timeout: Duration::from_millis(200),
            ..Options::to(silent.local_addr().unwrap())
        });
        assert!(report.errors.contains_key("timed out"), "{io:?}: {report:?}");
    }
}
