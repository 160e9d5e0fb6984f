//! The sender's session against the sink's, both as machines, in every mode.

use super::*;
use crate::chance::Zipf;
use crate::message::{Factory, Id};
use crate::send::phases::Phases;
use crate::sink::session as sink;
use crate::sink::{Behaviour, Offers};
use crate::size::Sizes;
use gatepost::base::buf::Chain;
use std::time::Duration;

fn one(address: &str) -> Population {
    Population { first: address.into(), domains: Vec::new(), ranks: Zipf::new(1, 0.0) }
}

fn script(pipeline: bool, transfer: Transfer) -> Script {
    Script {
        lmtp: false,
        pipeline,
        transfer,
        work: Work::Mail,
        messages_per_connection: 0,
        from_free: true,
        envelopes: Envelopes::new(one("a@a.test"), one("b@b.test"), 2),
        factory: Factory::made(Sizes::Fixed(900)),
        openings: Openings::default(),
        seed: 1,
    }
}

struct Talk {
    outcomes: Vec<Outcome>,
    tally: sink::Tally,
    received: Vec<sink::Received>,
    phases: Phases,
    round_trips: usize,
    end: Next,
}

/// Lets `jobs` messages go through a session and a sink, replies cut into pieces of `step` octets.
fn talk(script: &Script, behaviour: &Behaviour, jobs: u64, step: usize) -> Talk {
    let (mut client, mut server) = (Session::new(Plan::default(), Instant::ZERO), sink::Session::new());
    let mut t = Talk {
        outcomes: Vec::new(),
        tally: sink::Tally::default(),
        received: Vec::new(),
        phases: Phases::default(),
        round_trips: 0,
        end: Next::Wait,
    };
    let mut rng = fastrand::Rng::with_seed(3);
    let mut given = 0;
    let mut feed = || {
        given += 1;
        let id = Id { run: 1, core: 0, seq: given };
        if given > jobs { Feed::Over } else { Feed::Job(Job::new(id, Instant::ZERO)) }
    };
    let mut said = Vec::new();
    let mut answers =
        sink::Shared { now: Instant::ZERO, behaviour, tally: &mut t.tally, rng: &mut rng, received: &mut t.received };
    server.greet(&mut answers, &mut said);
    while t.end == Next::Wait {
        let mut out = Chain::new();
        let mut shared = Shared {
            now: Instant::ZERO + Duration::from_millis(5),
            script,
            feed: &mut feed,
            chain: true,
            outcomes: &mut t.outcomes,
            phases: &mut t.phases,
            out: &mut out,
        };
        for piece in said.chunks(step) {
            t.end = client.input(piece, &mut shared);
            if t.end != Next::Wait {
                return t;
            }
        }
        assert!(!out.is_empty(), "both sides wait");
        t.round_trips += 1;
        said.clear();
        let (_, next) = server.input(&out.to_vec(), &mut answers, &mut said);
        if next == sink::Next::Drop {
            let mut shared = Shared {
                now: Instant::ZERO,
                script,
                feed: &mut feed,
                chain: true,
                outcomes: &mut t.outcomes,
                phases: &mut t.phases,
                out: &mut out,
            };
            client.lost(&mut shared);
            return t;
        }
    }
    t
}

#[test]
fn every_mode_delivers_every_message_whole() {
    for (pipeline, transfer, lmtp) in [
        (true, Transfer::Data, false),
        (true, Transfer::Bdat, false),
        (false, Transfer::Data, false),
        (false, Transfer::Bdat, false),
        (true, Transfer::Data, true),
        (false, Transfer::Data, true),
    ] {
        let script = Script { lmtp, ..script(pipeline, transfer) };
        let offers = Offers { lmtp, ..Offers::default() };
        let behaviour = Behaviour { ledger: true, ..Behaviour::offering(&offers) };
        for step in [1, 7, 10_000] {
            let t = talk(&script, &behaviour, 5, step);
            let mode = format!("pipeline {pipeline}, {transfer:?}, lmtp {lmtp}, step {step}");
            assert_eq!(t.end, Next::Close, "{mode}");
            assert_eq!((t.tally.messages, t.tally.recipients, t.tally.errors), (5, 10, 0), "{mode}");
            assert!(t.outcomes.iter().all(|o| o.verdict == Verdict::Accepted(2)), "{mode}");
            assert_eq!(t.outcomes[0].latency, Duration::from_millis(5));
            let sent: Vec<_> = t.outcomes.iter().map(|o| (o.job.id, o.crc)).collect();
            let seen: Vec<_> = t.received.iter().map(|r| (r.id, r.crc)).collect();
            assert_eq!(sent, seen, "{mode}");
        }
    }
}

#[test]
fn pipelining_costs_one_round_trip_a_message() {
    let friendly = Behaviour::default();
    // Greeting and EHLO: 1; then the first envelope, each body with the next envelope, and the farewell.
    assert_eq!(talk(&script(true, Transfer::Data), &friendly, 10, 10_000).round_trips, 1 + 1 + 10 + 1);
    assert_eq!(talk(&script(true, Transfer::Bdat), &friendly, 10, 10_000).round_trips, 1 + 10 + 1);
    // MAIL, RCPT, RCPT, DATA, body.
    assert_eq!(talk(&script(false, Transfer::Data), &friendly, 10, 10_000).round_trips, 1 + 10 * 5 + 1);
    let one = Script { messages_per_connection: 1, ..script(true, Transfer::Data) };
    assert_eq!(talk(&one, &friendly, 10, 10_000).round_trips, 3, "the farewell rides with the body");
    let unoffered = Behaviour::offering(&Offers { pipelining: false, chunking: false, ..Offers::default() });
    assert_eq!(talk(&script(true, Transfer::Bdat), &unoffered, 10, 10_000).round_trips, 1 + 10 * 5 + 1);
}

#[test]
fn refusals_are_outcomes_with_their_code() {
    for (pipeline, transfer) in
        [(true, Transfer::Data), (true, Transfer::Bdat), (false, Transfer::Data), (false, Transfer::Bdat)]
    {
        let mode = format!("pipeline {pipeline}, {transfer:?}");
        let refusing = Behaviour { reject_rcpt: 1.0, ..Behaviour::default() };
        let t = talk(&script(pipeline, transfer), &refusing, 4, 10_000);
        assert_eq!(t.end, Next::Close, "{mode}");
        assert_eq!(t.outcomes.len(), 4, "{mode}");
        assert!(t.outcomes.iter().all(|o| o.verdict == Verdict::Refused(550)), "{mode}: {:?}", t.outcomes);
        // Half of the recipients refused: what is accepted is what the sink counts.
        let half = Behaviour { defer: 0.5, ..Behaviour::default() };
        let t = talk(&script(pipeline, transfer), &half, 200, 10_000);
        let accepted: u64 =
            t.outcomes.iter().map(|o| if let Verdict::Accepted(n) = o.verdict { n.into() } else { 0 }).sum();
        assert_eq!((t.outcomes.len(), accepted), (200, t.tally.recipients), "{mode}");
        assert!(t.outcomes.iter().any(|o| o.verdict == Verdict::Refused(450)), "{mode}");
    }
}

#[test]
fn a_reject_test_ends_after_the_recipient() {
    for pipeline in [true, false] {
        let script = Script { work: Work::Reject, messages_per_connection: 1, ..script(pipeline, Transfer::Data) };
        let refusing = Behaviour { reject_rcpt: 1.0, ..Behaviour::default() };
        let t = talk(&script, &refusing, 5, 10_000);
        assert_eq!((t.end, t.outcomes.len()), (Next::Close, 1));
        assert_eq!(t.outcomes[0].verdict, Verdict::Refused(550));
        assert_eq!((t.tally.rejected, t.tally.errors), (2, 0));
    }
}

#[test]
fn a_lost_connection_leaves_the_message_unknown() {
    let dropping = Behaviour { disconnect: 1.0, ..Behaviour::default() };
    for transfer in [Transfer::Data, Transfer::Bdat] {
        let t = talk(&script(true, transfer), &dropping, 5, 10_000);
        assert_eq!(t.outcomes[0].verdict, Verdict::Unknown);
        let rest: Vec<_> = t.outcomes[1..].iter().map(|o| o.verdict).collect();
        assert!(rest.is_empty() || rest == [Verdict::NotSent], "{rest:?}");
    }
}

#[test]
fn what_is_no_reply_breaks_the_session() {
    let s = script(true, Transfer::Data);
    for bad in [b"hello\r\n".as_slice(), b"99 x\r\n", b"\r\n", &[b'2'; 20_000], b"2500"] {
        let mut out = Chain::new();
        let mut feed = || Feed::Over;
        let (mut outcomes, mut phases) = (Vec::new(), Phases::default());
        let mut shared = Shared {
            now: Instant::ZERO,
            script: &s,
            feed: &mut feed,
            chain: true,
            outcomes: &mut outcomes,
            phases: &mut phases,
            out: &mut out,
        };
        let mut session = Session::new(Plan::default(), Instant::ZERO);
        let end = session.input(bad, &mut shared);
        assert!(end == Next::Broken || (bad == b"2500" && end == Next::Wait), "{bad:?}: {end:?}");
    }
    let busy = talk(&s, &Behaviour { greeting: "421 too busy\r\n".into(), ..Behaviour::default() }, 1, 100);
    assert_eq!(busy.end, Next::Refused(421));
}

/// Lets a session hear `said`, one piece after the other; what it says, and what it wants last.
fn hear(session: &mut Session, script: &Script, said: &[&[u8]]) -> (String, Next) {
    let mut out = Chain::new();
    let (mut outcomes, mut phases) = (Vec::new(), Phases::default());
    let mut feed = || Feed::Over;
    let mut shared = Shared {
        now: Instant::ZERO,
        script,
        feed: &mut feed,
        chain: true,
        outcomes: &mut outcomes,
        phases: &mut phases,
        out: &mut out,
    };
    let mut next = Next::Wait;
    for piece in said {
        next = match *piece {
            b"<TLS>" => session.tls_started(None, &mut shared),
            words => session.input(words, &mut shared),
        };
    }
    (String::from_utf8(out.to_vec()).unwrap(), next)
}

fn logged_in(mechanism: Mechanism, starttls: bool) -> Session {
    let credentials = gatepost::sasl::client::ClientCredentials {
        user: "ann".into(),
        password: "secret".to_owned().into(),
        authzid: None,
    };
    let plan = Plan { starttls, credentials: Some(credentials), mechanism, ..Plan::default() };
    Session::new(plan, Instant::ZERO)
}

#[test]
fn tls_then_ehlo_again_then_login() {
    let s = script(true, Transfer::Data);
    let hello: &[u8] = b"250-x\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n";
    let mut session = logged_in(Mechanism::Best, true);
    let (said, next) = hear(&mut session, &s, &[b"220 x\r\n", hello, b"220 go\r\n"]);
    assert_eq!((said.as_str(), next), ("EHLO load.example.test\r\nSTARTTLS\r\n", Next::StartTls));
    let (said, next) = hear(&mut session, &s, &[b"<TLS>", hello, b"235 ok\r\n"]);
    assert_eq!(
        (said.as_str(), next),
        ("EHLO load.example.test\r\nAUTH PLAIN AGFubgBzZWNyZXQ=\r\nQUIT\r\n", Next::Wait)
    );
    assert!(session.is_ready() && session.is_parting());

    let mut session = logged_in(Mechanism::Best, true);
    let (_, next) = hear(&mut session, &s, &[b"220 x\r\n", hello, b"220 go\r\n250 injected\r\n"]);
    assert_eq!(next, Next::Broken, "RFC 3207: words behind the 220 are somebody else's");
}

#[test]
fn a_login_that_cannot_be_is_said() {
    let s = script(true, Transfer::Data);
    let hear = |mechanism, said: &[&[u8]]| hear(&mut logged_in(mechanism, false), &s, said);
    // A password is not shown to the wire, unless the mechanism was named.
    let (_, next) = hear(Mechanism::Best, &[b"220 x\r\n", b"250 AUTH PLAIN\r\n"]);
    assert_eq!(next, Next::Unfit("no fit AUTH mechanism offered"));
    let login: &[&[u8]] = &[b"220 x\r\n", b"250 AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"];
    let (said, next) = hear(Mechanism::Named("LOGIN"), login);
    assert!(said.ends_with("YW5u\r\nc2VjcmV0\r\n") && next == Next::Wait, "{said}");
    let (_, next) = hear(Mechanism::Named("PLAIN"), &[b"220 x\r\n", b"250 AUTH PLAIN\r\n", b"535 no\r\n"]);
    assert_eq!(next, Next::Refused(535));
    let scram: &[&[u8]] = &[b"220 x\r\n", b"250 AUTH SCRAM-SHA-256\r\n", b"235 fine\r\n"];
    let (_, next) = hear(Mechanism::Best, scram);
    assert_eq!(next, Next::Unfit("the server did not prove that it knows the password"));
    let (_, next) = hear(Mechanism::Best, &[b"220 x\r\n", b"250 AUTH SCRAM-SHA-256\r\n", b"334 !!\r\n"]);
    assert_eq!(next, Next::Unfit("a challenge is not base64"));
}
