//! TLS and logins: the sender against the sink under both drivers, in every combination a run may ask for.

#![allow(clippy::unwrap_used)] // helpers of tests, outside #[test] functions

use gatepost::reactor::{Driver, Io, ReactorKnobs};
use gatepost_load::ledger;
use gatepost_load::report::SendReport;
use gatepost_load::send::session::{Transfer, Work};
use gatepost_load::send::{self, Logins, Mechanism, Options, Pace, Users};
use gatepost_load::sink::session::Tally;
use gatepost_load::sink::{self, Accounts, Behaviour, Offers, TlsOffer};
use gatepost_load::stop::Stop;
use std::sync::Arc;
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

fn run(io: Io, behaviour: Behaviour, change: impl FnOnce(Options) -> Options) -> (SendReport, Tally) {
    let listen = "127.0.0.1:0".parse().unwrap();
    let sink = sink::start(&sink::Options { listen, cores: 1, io, behaviour, ledger: None }, &Stop::default()).unwrap();
    let options = change(Options { io, ..Options::to(sink.address) });
    let report = send::run(&options, &Stop::default()).unwrap();
    (report, sink.finish().unwrap())
}

fn accounts() -> Arc<Accounts> {
    Arc::new(Accounts::new((0..3).map(|n| (format!("u{n}"), "secret".to_owned())).collect()).unwrap())
}

fn logins(mechanism: Mechanism, share: f64, wrong: f64) -> Option<Arc<Logins>> {
    let users = Users::Numbered { pattern: "u{}".into(), count: 3, password: "secret".into() };
    Some(Arc::new(Logins { mechanism, share, users, wrong }))
}

#[test]
fn mail_goes_through_tls_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (sent, seen) = (dir.path().join("sent"), dir.path().join("seen"));
    for io in drivers() {
        for (tls, transfer, size) in
            [(TlsOffer::StartTls, Transfer::Data, 500), (TlsOffer::Implicit, Transfer::Bdat, 200_000)]
        {
            let behaviour = Behaviour::offering(&Offers { tls, ..Offers::default() });
            let listen = "127.0.0.1:0".parse().unwrap();
            let options = sink::Options { listen, cores: 1, io, behaviour, ledger: Some(seen.clone()) };
            let sink = sink::start(&options, &Stop::default()).unwrap();
            let options = Options {
                io,
                connections: 4,
                messages: Some(40),
                messages_per_connection: 4,
                content: gatepost_load::message::Content::Made(gatepost_load::size::Sizes::Fixed(size)),
                transfer,
                implicit_tls: tls == TlsOffer::Implicit,
                starttls: if tls == TlsOffer::StartTls { 1.0 } else { 0.0 },
                ledger: Some(sent.clone()),
                ..Options::to(sink.address)
            };
            let report = send::run(&options, &Stop::default()).unwrap();
            let tally = sink.finish().unwrap();
            let mode = format!("{io:?} {tls:?}");
            assert!(report.is_clean(), "{mode}: {report}");
            assert_eq!((report.messages, tally.messages, tally.errors), (40, 40, 0), "{mode}: {tally}");
            // At least 40 / 4; a connection may come up when the last message is already on its way.
            assert!((10..=14).contains(&report.sessions), "{mode}: {report}");
            assert_eq!((tally.tls_sessions, tally.tls_failures), (report.sessions, 0), "{mode}");
            assert_eq!(
                report.tls_sessions.get("TLSv1.3"),
                Some(&report.sessions),
                "{mode}: whole handshakes: {report}"
            );
            assert_eq!(report.phases["tls"].count, report.sessions, "{mode}");
            assert_eq!(report.phases.contains_key("starttls"), tls == TlsOffer::StartTls, "{mode}");
            let account = ledger::join(&[&sent], &[&seen]).unwrap();
            assert!(account.is_clean() && account.accepted == 40, "{mode}: {account}");
        }
    }
}

#[test]
fn sessions_are_resumed_when_asked() {
    let behaviour = Behaviour::offering(&Offers { tls: TlsOffer::Implicit, ..Offers::default() });
    let (report, _) = run(Io::Epoll, behaviour, |o| Options {
        implicit_tls: true,
        resumption: true,
        messages: Some(10),
        messages_per_connection: 1,
        ..o
    });
    assert_eq!(report.tls_sessions.get("TLSv1.3 resumed"), Some(&9), "{report}");
}

#[test]
fn every_mechanism_logs_in() {
    for io in drivers() {
        for (mechanism, tls) in [
            (Mechanism::Best, TlsOffer::None),
            (Mechanism::Best, TlsOffer::Implicit),
            (Mechanism::Named("PLAIN"), TlsOffer::StartTls),
            (Mechanism::Named("LOGIN"), TlsOffer::None),
            (Mechanism::Named("SCRAM-SHA-256"), TlsOffer::StartTls),
        ] {
            let behaviour = Behaviour::offering(&Offers { tls, accounts: Some(accounts()), ..Offers::default() });
            let (report, tally) = run(io, behaviour, |o| Options {
                logins: logins(mechanism, 1.0, 0.0),
                implicit_tls: tls == TlsOffer::Implicit,
                starttls: if tls == TlsOffer::StartTls { 1.0 } else { 0.0 },
                messages: Some(6),
                messages_per_connection: 1,
                ..o
            });
            assert!(report.is_clean(), "{io:?} {mechanism:?} {tls:?}: {report}");
            assert_eq!(
                (tally.logins, tally.messages, tally.errors),
                (6, 6, 0),
                "{io:?} {mechanism:?} {tls:?}: {tally}"
            );
            assert_eq!(report.phases["auth"].count, 6);
        }
    }
}

#[test]
fn logins_are_a_load_of_their_own() {
    let behaviour = Behaviour::offering(&Offers { accounts: Some(accounts()), ..Offers::default() });
    let (report, tally) = run(Io::Auto, behaviour, |o| Options {
        logins: logins(Mechanism::Named("PLAIN"), 1.0, 0.5),
        work: Work::Login,
        pace: Pace::Open(400.0),
        messages: Some(200),
        connections: 50,
        ..o
    });
    assert_eq!(report.messages + report.refused, 200, "{report}");
    assert_eq!((report.messages, report.refused), (tally.logins, tally.logins_refused), "{report}");
    assert_eq!(report.replies.get(&535), Some(&report.refused));
    assert!((60..140).contains(&report.refused), "half of them with a wrong password: {report}");
    assert!(report.errors.is_empty() && report.sessions >= 200, "{report}");
}

#[test]
fn what_the_server_does_not_offer_is_said() {
    for (change, wanted) in [
        (Options { starttls: 1.0, ..Options::to("127.0.0.1:1".parse().unwrap()) }, "STARTTLS not offered"),
        (
            Options { logins: logins(Mechanism::Best, 1.0, 0.0), ..Options::to("127.0.0.1:1".parse().unwrap()) },
            "no fit AUTH mechanism offered",
        ),
    ] {
        let (report, _) = run(Io::Auto, Behaviour::default(), |o| Options {
            target: o.target,
            duration: Some(Duration::from_millis(300)),
            messages: None,
            ..change
        });
        assert_eq!(report.messages, 0);
        assert!(report.errors.contains_key(wanted), "{report}");
    }
    // A server that speaks no TLS at all.
    let (report, _) = run(Io::Auto, Behaviour::default(), |o| Options {
        implicit_tls: true,
        duration: Some(Duration::from_millis(300)),
        messages: None,
        ..o
    });
    assert!(report.errors.keys().any(|e| e.starts_with("TLS: ")), "{report}");
}

#[test]
fn encrypted_connections_are_held() {
    for io in drivers() {
        let behaviour = Behaviour::offering(&Offers { tls: TlsOffer::StartTls, ..Offers::default() });
        let (report, tally) = run(io, behaviour, |o| Options {
            starttls: 1.0,
            pace: Pace::Hold,
            connections: 100,
            messages: None,
            duration: Some(Duration::from_secs(3)),
            ..o
        });
        assert_eq!((report.held_max, tally.tls_sessions), (100, 100), "{io:?}: {report}");
        assert!(report.errors.is_empty(), "{io:?}: {report}");
    }
}
