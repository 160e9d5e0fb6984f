//! Helpers that do everything wrong: hang, close, half an answer, garbage, at every step; what is made of it, and that
//! nobody else has to wait for them.

use crate::fake::{
    Fake, Line, MESSAGE, Notes, address, advice, body_in, case, consult, decided, hang, helpers, knobs, nobody,
    runtime, unknown,
};
use crate::filter::{all, go_on};
use crate::support::wait_for;
use gatepost::base::inquiry::{Action, Finding, Inquiry};
use gatepost::lookup::helpers::{HelperConfig, HelperKind, Helpers, OnFailure};
use gatepost::lookup::{Asked, Inquired, Lane, LookupKnobs, NameServer, Question, Reply};
use gatepost::wire::milter::{Command, Response, Steps, frame};
use proptest::prelude::*;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    Close,
    Hang,
    Half,
    Garbage,
    Endless,
    Twice,
}

const FAULTS: [Fault; 6] = [Fault::Close, Fault::Hang, Fault::Half, Fault::Garbage, Fault::Endless, Fault::Twice];

/// Answers as it should until command number `step` that has an answer; then goes wrong.
fn faulty_filter(step: usize, fault: Fault) -> Fake {
    Fake::start(move |line, _, notes| {
        let mut answered = 0;
        let mut input = Vec::new();
        loop {
            while let Some((found, taken)) = frame(&input).unwrap() {
                let command = Command::parse(found).unwrap();
                let mut output = Vec::new();
                match &command {
                    Command::Negotiate(_) => Response::Negotiated(all()).put(&mut output),
                    other => go_on(other, Steps::SKIP).iter().for_each(|r| r.put(&mut output)),
                }
                input.drain(..taken);
                if !output.is_empty() && answered == step {
                    notes.note("wrong");
                    return go_wrong(line, fault, &output);
                }
                answered += usize::from(!output.is_empty());
                if line.write_all(&output).is_err() {
                    return;
                }
            }
            let mut some = [0; 4096];
            match line.read(&mut some) {
                Ok(n) if n > 0 => input.extend_from_slice(&some[..n]),
                _ => return,
            }
        }
    })
}

fn go_wrong(line: &mut dyn Line, fault: Fault, right: &[u8]) {
    let _ = match fault {
        Fault::Close => return,
        Fault::Hang => Ok(()),
        Fault::Half => {
            let _ = line.write_all(&right[..right.len() - 1]);
            return;
        }
        Fault::Garbage => line.write_all(b"220 smtp.example.org ESMTP\r\n"),
        Fault::Endless => line.write_all(b"\x00\x10\x00\x00bxxxxxxxxxxxxxxxx"),
        Fault::Twice => line.write_all(&[right, b"\0\0\0\x01Z"].concat()),
    };
    hang(line);
}

#[test]
fn every_fault_at_every_step() {
    // Negotiation, connect, helo, mail, two rcpt, data, four fields, end of header, body, end of message.
    for step in 0..14 {
        for fault in FAULTS {
            let fake = faulty_filter(step, fault);
            let mut knobs = fake.knobs(HelperKind::Milter);
            let waits = matches!(fault, Fault::Hang | Fault::Endless);
            knobs.answer_timeout = Duration::from_millis(if waits { 60 } else { 10_000 });
            let started = Instant::now();
            let finding = consult(&helpers(knobs), &case(MESSAGE));
            if fault == Fault::Twice && step == 13 {
                // The answer was whole; what stands behind it costs the connection.
                advice(finding);
                continue;
            }
            let why = unknown(finding);
            let said = match fault {
                Fault::Close | Fault::Half => "connection closed instead of",
                Fault::Hang | Fault::Endless => "within 60ms",
                Fault::Garbage | Fault::Twice => "not understood",
            };
            assert!(why.contains(said), "{fault:?} at {step}: {why}");
            assert!(started.elapsed() < Duration::from_secs(8), "{fault:?} at {step} took {:?}", started.elapsed());
            assert_eq!(fake.heard(), ["wrong"]);
        }
    }
}

#[test]
fn the_whole_time_is_limited_too() {
    // Every answer comes in time, but there are many.
    let fake = Fake::start(|line, _, notes| {
        crate::filter::serve(line, notes, &all(), &|command| {
            std::thread::sleep(Duration::from_millis(40));
            go_on(command, Steps::SKIP)
        });
    });
    let mut knobs = fake.knobs(HelperKind::Milter);
    knobs.timeout = Duration::from_millis(200);
    let why = unknown(consult(&helpers(knobs), &case(MESSAGE)));
    assert!(why.contains("no end of the consultation within 200ms"), "{why}");
}

#[test]
fn nobody_listens() {
    let here = format!("inet:{}", nobody());
    let missing = "unix:/nonexistent/helper.sock".to_owned();
    for (kind, at) in [
        (HelperKind::Milter, &here),
        (HelperKind::Milter, &missing),
        (HelperKind::Rspamd, &here),
        (HelperKind::Policy, &missing),
    ] {
        let mut knobs = knobs(kind, address(at));
        for (on_failure, action, reply) in [
            (OnFailure::Accept, Action::Accept, None),
            (OnFailure::Defer, Action::Defer, Some("451 4.7.1 message cannot be checked now, try again later")),
            (OnFailure::Reject, Action::Reject, Some("550 5.7.1 message cannot be checked")),
            (OnFailure::Failed, Action::Failed, None),
        ] {
            knobs.on_failure = on_failure;
            let advice = advice(consult(&helpers(knobs.clone()), &case(MESSAGE)));
            assert_eq!((advice.action, advice.reply.as_deref()), (action, reply));
            assert!(advice.symbols[0].starts_with("failed: cannot connect: "), "{:?}", advice.symbols);
        }
        knobs.on_failure = OnFailure::Unknown;
        assert!(unknown(consult(&helpers(knobs), &case(MESSAGE))).starts_with("helper h: cannot connect: "));
    }
    assert!(unknown(runtime().block_on(Helpers::default().consult("x", &case(MESSAGE)))).contains("no [helper.x]"));
}

#[test]
fn one_that_fails_is_left_alone_and_found_again() {
    // The first three connections are closed at once.
    let fake = Fake::start(|line, number, notes| {
        if number >= 3 {
            crate::filter::serve(line, notes, &all(), &|command| go_on(command, Steps::SKIP));
        }
    });
    let mut knobs = fake.knobs(HelperKind::Milter);
    (knobs.failures_max, knobs.retry_after) = (2, Duration::from_millis(150));
    let helpers = helpers(knobs);
    let runtime = runtime();
    let ask = || runtime.block_on(helpers.consult("h", &case(MESSAGE)));
    let counters = || helpers.counters().next().unwrap().1;
    for _ in 0..2 {
        assert!(unknown(ask()).contains("connection "));
    }
    for _ in 0..50 {
        assert!(unknown(ask()).contains("not asked for another"));
    }
    assert_eq!((fake.connections(), counters().aside, counters().is_aside), (2, 50, true));
    std::thread::sleep(Duration::from_millis(160));
    assert!(unknown(ask()).contains("connection "), "it tries, and fails");
    assert!(unknown(ask()).contains("not asked for another"));
    std::thread::sleep(Duration::from_millis(310));
    advice(ask());
    advice(ask());
    assert_eq!((fake.connections(), counters().is_aside, counters().answered), (4, false, 2));
}

#[test]
fn consultations_side_by_side_are_bounded() {
    let fake = Fake::start(|line, _, notes| {
        crate::filter::serve(line, notes, &all(), &|command| {
            if matches!(command, Command::EndOfMessage(_)) {
                std::thread::sleep(Duration::from_millis(60));
            }
            go_on(command, Steps::SKIP)
        });
    });
    let mut knobs = fake.knobs(HelperKind::Milter);
    (knobs.connections_max, knobs.waiting_max) = (2, 3);
    let helpers = Arc::new(helpers(knobs));
    let findings = runtime().block_on(async {
        let asking: Vec<_> = (0..9)
            .map(|_| {
                let helpers = helpers.clone();
                tokio::spawn(async move { helpers.consult("h", &case(MESSAGE)).await })
            })
            .collect();
        let mut findings = Vec::new();
        for one in asking {
            findings.push(one.await.unwrap());
        }
        findings
    });
    let answered = findings.iter().filter(|f| matches!(f, Finding::Advice(_))).count();
    let busy = findings.iter().filter(|f| matches!(f, Finding::Unknown(why) if why.contains("waiting_max"))).count();
    assert_eq!((answered, busy, fake.open_max()), (5, 4, 2));
    let counters = helpers.counters().next().unwrap().1;
    assert_eq!((counters.busy, counters.is_aside, counters.waiting), (4, false, 0), "not the helper's fault");
}

#[test]
fn a_message_whose_file_is_gone() {
    let fake = crate::filter::filter(all(), |command| go_on(command, Steps::SKIP));
    let dir = tempfile::tempdir().unwrap();
    let mut case = case(MESSAGE);
    case.body = Some(body_in(dir.path(), MESSAGE.as_bytes()));
    std::fs::remove_file(dir.path().join("body")).unwrap();
    let mut knobs = fake.knobs(HelperKind::Milter);
    knobs.failures_max = 1;
    let helpers = helpers(knobs);
    assert!(unknown(consult(&helpers, &case)).contains("the message cannot be read"));
    assert!(!helpers.counters().next().unwrap().1.is_aside, "not the helper's fault");
    let fake = Fake::start(|line, _, _| hang(line));
    let helpers = crate::fake::helpers(fake.knobs(HelperKind::Rspamd));
    assert!(unknown(consult(&helpers, &case)).contains("the message cannot be read"));
}

/// Starts a lane that tells a channel what it finds.
fn lane(helpers: Helpers) -> (Lane, gatepost::lookup::Asker<u32>, std::sync::mpsc::Receiver<(u32, Reply)>) {
    let knobs = LookupKnobs {
        servers: vec![NameServer(nobody())],
        timeout: Duration::from_millis(100),
        attempts: 0,
        ..LookupKnobs::default()
    };
    let (tell, told) = std::sync::mpsc::channel();
    let (lane, asker) = Lane::start_with(&knobs, Arc::new(helpers), move |token, reply| {
        let _ = tell.send((token, reply));
    })
    .unwrap();
    (lane, asker, told)
}

#[test]
fn the_lane_asks_helpers_and_one_that_hangs_holds_up_nobody() {
    let slow = Fake::start(|line, _, _| hang(line));
    let quick = crate::filter::filter(all(), |command| match command {
        Command::EndOfMessage(_) => vec![Response::Reject],
        other => go_on(other, Steps::SKIP),
    });
    let mut hangs = slow.knobs(HelperKind::Milter);
    hangs.answer_timeout = Duration::from_secs(5);
    (hangs.connections_max, hangs.waiting_max) = (4, 10_000);
    let config = |name: &str, knobs| HelperConfig { name: name.into(), knobs };
    let configs = [config("hangs", hangs), config("quick", quick.knobs(HelperKind::Milter))];
    let (lane, asker, told) = lane(Helpers::load(&configs).unwrap());
    let about = Arc::new(case(MESSAGE));
    let started = Instant::now();
    // More than any other bound of the lane would let through.
    for token in 0..1200 {
        let asked = asker.inquire(token, &Inquiry::Consult("hangs".into()), Some(about.clone()));
        assert!(matches!(asked, Inquired::Waiting));
    }
    let name = gatepost::wire::address::parse_domain("elsewhere.example").unwrap();
    assert!(matches!(asker.ask(5000, &Question::Addresses(name)), Asked::Waiting));
    assert!(matches!(asker.inquire(5001, &Inquiry::Consult("quick".into()), Some(about.clone())), Inquired::Waiting));
    let mut quick = Vec::new();
    while quick.len() < 2 {
        let (token, reply) = told.recv_timeout(Duration::from_secs(20)).unwrap();
        quick.push(token);
        if token == 5001 {
            let Reply::Finding(finding) = reply else { panic!("{reply:?}") };
            assert_eq!(decided(finding), (Action::Reject, None));
        }
    }
    quick.sort_unstable();
    assert_eq!(quick, [5000, 5001], "before any of those that hang");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    // The rest is answered when the lane stops, each once.
    drop(lane);
    let mut rest: Vec<u32> = told.try_iter().map(|(token, _)| token).collect();
    rest.sort_unstable();
    assert_eq!(rest, (0..1200).collect::<Vec<_>>());
    wait_for("closed connections", || (slow.connections() <= 4).then_some(()));
}

#[test]
fn failures_are_logged_once_a_minute() {
    // The daemon's own log is looked at in the daemon tests; here: what the counters say the report is made of.
    let mut knobs = knobs(HelperKind::Policy, address(&format!("inet:{}", nobody())));
    knobs.on_failure = OnFailure::Failed;
    let helpers = helpers(knobs);
    for _ in 0..20 {
        consult(&helpers, &case(MESSAGE));
    }
    let counters = helpers.counters().next().unwrap().1;
    assert_eq!((counters.asked, counters.failed, counters.answered), (20, 20, 0));
}

/// A helper that answers every connection with these octets and then closes or hangs.
fn babbler(octets: Vec<u8>, closes: bool) -> Fake {
    Fake::start(move |line: &mut dyn Line, _, _: &Notes| {
        let mut some = [0; 512];
        let _ = line.read(&mut some);
        let _ = line.write_all(&octets);
        if !closes {
            hang(line);
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn whatever_it_says_there_is_a_finding(
        octets in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            // Something that begins right.
            proptest::collection::vec(any::<u8>(), 0..60).prop_map(|tail| {
                let mut all = Vec::new();
                Response::Negotiated(crate::filter::all()).put(&mut all);
                Response::Continue.put(&mut all);
                all.extend(tail);
                all
            }),
            "HTTP/1.1 200 OK\r\nContent-Length: [0-9]{1,3}\r\n\r\n.{0,80}".prop_map(String::into_bytes),
            "action=[A-Z0-9 ]{0,20}\n{1,2}".prop_map(String::into_bytes),
        ],
        kind in prop_oneof![Just(HelperKind::Milter), Just(HelperKind::Rspamd), Just(HelperKind::Policy)],
        closes: bool,
    ) {
        let fake = babbler(octets, closes);
        let mut knobs = fake.knobs(kind);
        knobs.answer_timeout = Duration::from_millis(80);
        let started = Instant::now();
        let _: Finding = consult(&helpers(knobs), &case(MESSAGE));
        prop_assert!(started.elapsed() < Duration::from_secs(8));
    }
}
