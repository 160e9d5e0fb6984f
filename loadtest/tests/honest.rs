//! The harness measured by itself: known distributions in, the same percentiles out; known faults counted exactly; the
//! schedule kept, and said when it was not.

#![allow(clippy::unwrap_used)] // helpers of tests, outside #[test] functions

use gatepost::reactor::Io;
use gatepost_load::ledger;
use gatepost_load::message::Content;
use gatepost_load::report::SendReport;
use gatepost_load::send::session::Work;
use gatepost_load::send::{self, Arrivals, Curve, Logins, Mechanism, Options, Pace, Spacing, Users};
use gatepost_load::sink::session::Tally;
use gatepost_load::sink::{self, Accounts, Behaviour, Delay, Greylist, Offers};
use gatepost_load::size::Sizes;
use gatepost_load::stop::Stop;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

fn run(behaviour: Behaviour, seen: Option<&Path>, change: impl FnOnce(Options) -> Options) -> (SendReport, Tally) {
    let listen = "127.0.0.1:0".parse().unwrap();
    let options = sink::Options { listen, cores: 1, io: Io::Auto, behaviour, ledger: seen.map(Path::to_owned) };
    let sink = sink::start(&options, &Stop::default()).unwrap();
    let content = Content::Made(Sizes::Fixed(1000));
    let options = change(Options { content, ..Options::to(sink.address) });
    let report = send::run(&options, &Stop::default()).unwrap();
    (report, sink.finish().unwrap())
}

/// Over real sockets a known distribution comes out no faster than it went in; that it comes out as the same percentiles is
/// shown to the histogram's precision on a virtual clock (`send/virtual_tests.rs`).
#[test]
fn nothing_is_measured_faster_than_it_was() {
    for (delay, p50, p90) in [
        (Delay::Exponential(Duration::from_millis(40)), 27.7, 92.1),
        (Delay::Lognormal(Duration::from_millis(40), 0.5), 40.0, 75.9),
    ] {
        let (report, _) = run(Behaviour { delay, ..Behaviour::default() }, None, |o| Options {
            pace: Pace::Open(400.0),
            messages: Some(1200),
            connections: 300,
            ..o
        });
        assert_eq!(report.messages, 1200, "{report}");
        // Five deviations of a quantile of 1200 draws.
        for (found, known) in [(report.latency.p50_ms, p50), (report.latency.p90_ms, p90)] {
            assert!(found > known * 0.84 - 1.0, "{delay:?}: {found} for {known}: {report}");
        }
    }
}

#[test]
fn poisson_arrivals_and_curves_offer_what_they_promise() {
    let poisson = Arrivals { spacing: Spacing::Poisson, seed: 3, ..Arrivals::default() };
    let (report, _) = run(Behaviour::default(), None, |o| Options {
        pace: Pace::Open(500.0),
        arrivals: poisson,
        duration: Some(Duration::from_secs(2)),
        messages: None,
        connections: 50,
        cores: 2,
        ..o
    });
    assert!(report.messages.abs_diff(1000) < 160, "five deviations: {report}");
    assert_eq!(report.arrivals.as_deref(), Some("poisson"));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ramp.csv");
    std::fs::write(&path, "0,0\n2,400\n2,50\n4,50\n").unwrap();
    let curve = Curve::from_file(&path).unwrap();
    let (report, _) = run(Behaviour::default(), None, |o| Options {
        pace: Pace::Open(curve.mean()),
        duration: Some(curve.duration()),
        arrivals: Arrivals { curve: Some(Arc::new(curve)), ..Arrivals::default() },
        messages: None,
        connections: 50,
        ..o
    });
    assert!(report.messages.abs_diff(500) <= 2, "{report}");
    let per_second: Vec<u64> = report.seconds.iter().map(|s| s.accepted).collect();
    for (second, wanted) in [100, 300, 50, 50].into_iter().enumerate() {
        assert!(per_second[second].abs_diff(wanted) < 60, "{per_second:?}");
    }
}

#[test]
fn greylisted_messages_are_tried_again_and_arrive_once() {
    let dir = tempfile::tempdir().unwrap();
    let (sent, seen) = (dir.path().join("sent"), dir.path().join("seen"));
    let greylist = Some(Arc::new(Greylist::new(Duration::from_millis(300))));
    let (report, tally) = run(Behaviour { greylist, ..Behaviour::default() }, Some(&seen), |o| Options {
        messages: Some(100),
        connections: 5,
        mailboxes: 1_000_000,
        retries: 5,
        retry_pause: Duration::from_millis(350),
        ledger: Some(sent.clone()),
        ..o
    });
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.messages, report.retried, tally.greylisted), (100, 100, 100), "{report}{tally}");
    assert!(report.latency.p50_ms > 340.0, "the wait counts: {report}");
    let account = ledger::join(&[&sent], &[&seen]).unwrap();
    assert!(account.is_clean() && account.accepted == 100 && account.duplicated == 0, "{account}");
}

#[test]
fn known_faults_are_counted_on_both_sides() {
    let faults = ["mail:451:0.05", "rcpt:554:0.1", "data:drop:0.02", "body:452:0.05"];
    let faults = faults.map(|f| f.parse().unwrap()).to_vec();
    let (report, tally) = run(Behaviour { faults, ..Behaviour::default() }, None, |o| Options {
        messages: Some(1500),
        connections: 10,
        pipeline: false,
        ..o
    });
    let count = |what: &str| tally.faults.get(what).copied().unwrap_or(0);
    for what in ["mail:451", "rcpt:554", "data:drop", "body:452"] {
        assert!(count(what) > 10, "{what}: {tally}");
    }
    assert_eq!(report.replies.get(&451), Some(&count("mail:451")), "{report}");
    assert_eq!(report.replies.get(&554), Some(&count("rcpt:554")), "{report}");
    assert_eq!(report.replies.get(&452), Some(&count("body:452")), "{report}");
    assert_eq!(report.not_sent, count("data:drop"), "{report}");
    assert_eq!(report.messages, tally.messages);
    assert_eq!(report.messages + report.refused + report.not_sent + report.unknown, 1500, "{report}");
}

#[test]
fn known_loss_duplication_and_corruption_are_found_exactly() {
    let dir = tempfile::tempdir().unwrap();
    let (sent, seen) = (dir.path().join("sent"), dir.path().join("seen"));
    let faults = ["body:lose:0.02", "body:double:0.03", "body:spoil:0.01", "body:drop:0.01"];
    let faults = faults.map(|f| f.parse().unwrap()).to_vec();
    let (report, tally) = run(Behaviour { faults, ..Behaviour::default() }, Some(&seen), |o| Options {
        messages: Some(2000),
        connections: 10,
        recipients: 2,
        ledger: Some(sent.clone()),
        ..o
    });
    let count = |what: &str| tally.faults.get(what).copied().unwrap_or(0);
    let account = ledger::join(&[&sent], &[&seen]).unwrap();
    assert!(count("body:lose") > 10 && count("body:double") > 10 && count("body:spoil") > 5, "{tally}");
    // Recipients, of which each message has two; messages for what was changed.
    assert_eq!(account.lost, 2 * count("body:lose"), "{account}");
    assert_eq!(account.duplicated, 2 * count("body:double"), "{account}");
    assert_eq!(account.corrupted_messages, count("body:spoil"), "{account}");
    assert_eq!((account.unknown_messages, report.unknown), (count("body:drop"), count("body:drop")), "{account}");
    assert!(!account.is_clean());
}

#[test]
fn a_tarpit_slows_every_reply() {
    let tarpit = Some("30ms".parse().unwrap());
    let (report, tally) = run(Behaviour { tarpit, ..Behaviour::default() }, None, |o| Options {
        messages: Some(1),
        pipeline: false,
        ..o
    });
    assert_eq!((report.messages, tally.tarpitted), (1, 1));
    // The server may have been at it before the client noticed that it is connected.
    let greeting = report.phases["connect"].p50_ms + report.phases["greeting"].p50_ms;
    assert!(greeting >= 29.0, "{report}");
    for step in ["ehlo", "mail", "rcpt", "data", "final"] {
        assert!(report.phases[step].p50_ms >= 29.0, "{step}: {report}");
    }
}

#[test]
fn who_stops_reading_is_timed_out() {
    let faults = vec!["body:stall".parse().unwrap()];
    let (report, tally) = run(Behaviour { faults, ..Behaviour::default() }, None, |o| Options {
        messages: Some(1),
        timeout: Duration::from_millis(300),
        ..o
    });
    assert_eq!((report.unknown, tally.stalled), (1, 1), "{report}");
    assert_eq!(report.errors.get("timed out"), Some(&1));
}

#[test]
fn the_same_seed_makes_the_same_messages() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = |seed| {
        let sent = dir.path().join("sent");
        let (report, _) = run(Behaviour::default(), None, |o| Options {
            messages: Some(200),
            connections: 7,
            content: Content::Made("lognormal:3000,1".parse().unwrap()),
            mailboxes: 50,
            zipf: 1.0,
            recipients: 3,
            seed,
            ledger: Some(sent.clone()),
            ..o
        });
        (report.octets, report.recipients)
    };
    let (octets, recipients) = bytes(1);
    assert_eq!((bytes(1), recipients), ((octets, recipients), 600));
    assert_ne!(bytes(2).0, octets);
}

#[test]
fn a_schedule_that_is_not_kept_is_said() {
    // A login by SCRAM costs the client some thousand hashes and the server, which has its keys, a few: the client is the limit.
    let accounts = Arc::new(Accounts::new(vec![("ann".into(), "secret".into())]).unwrap());
    let users = Users::Numbered { pattern: "ann".into(), count: 1, password: "secret".into() };
    let logins = Logins { mechanism: Mechanism::Named("SCRAM-SHA-256"), share: 1.0, users, wrong: 0.0 };
    let behaviour = Behaviour::offering(&Offers { accounts: Some(accounts), ..Offers::default() });
    let (report, _) = run(behaviour, None, |o| Options {
        pace: Pace::Open(50_000.0),
        messages: Some(1500),
        connections: 100,
        work: Work::Login,
        logins: Some(Arc::new(logins)),
        ..o
    });
    assert_eq!(report.messages, 1500, "late, but all of them: {report}");
    assert!(report.harness_limit.is_some(), "{report}");
    assert!(report.latency.p50_ms > 20.0, "the wait for the harness counts as well: {report}");
}

#[test]
fn hgrm_files_are_written() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("h");
    let (report, _) =
        run(Behaviour::default(), None, |o| Options { messages: Some(20), hgrm: Some(folder.clone()), ..o });
    for name in ["latency", "connect", "greeting", "ehlo", "mail", "rcpt", "data", "final"] {
        let text = std::fs::read_to_string(folder.join(format!("{name}.hgrm"))).unwrap();
        assert!(text.contains("1/(1-Percentile)") && text.contains("#[Max"), "{name}");
    }
    assert_eq!(report.latency.points.last(), Some(&(1.0 - 0.5 / 20.0, report.latency.max_ms)));
}

#[test]
fn a_server_that_never_comes_ends_an_open_loop() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = Options {
        pace: Pace::Open(100.0),
        duration: Some(Duration::from_millis(300)),
        messages: None,
        timeout: Duration::from_millis(500),
        ..Options::to(closed)
    };
    let report = send::run(&options, &Stop::default()).unwrap();
    assert_eq!((report.messages, report.not_sent), (0, 30), "{report}");
    assert!(report.errors.contains_key("gave up: no session came up"), "{report}");
}
