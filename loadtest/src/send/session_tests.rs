//! The sender's session against the sink's, both as machines, in every mode.

use super::*;
use crate::message::Id;
use crate::sink::session as sink;
use crate::sink::{Behaviour, Offers};

fn script(pipeline: bool, transfer: Transfer) -> Script {
    Script {
        lmtp: false,
        pipeline,
        transfer,
        work: Work::Mail,
        messages_per_connection: 0,
        from_free: true,
        mail: b"MAIL FROM:<a@a.test>\r\n".to_vec(),
        rcpts: vec![b"RCPT TO:<b@b.test>\r\n".to_vec(), b"RCPT TO:<c@b.test>\r\n".to_vec()],
        factory: Factory::new("a@a.test", "b@b.test", 900),
    }
}

struct Talk {
    outcomes: Vec<Outcome>,
    tally: sink::Tally,
    received: Vec<sink::Received>,
    round_trips: usize,
    end: Next,
}

/// Lets `jobs` messages go through a session and a sink, replies cut into pieces of `step` octets.
fn talk(script: &Script, behaviour: &Behaviour, jobs: u64, step: usize) -> Talk {
    let (mut client, mut server) = (Session::new(), sink::Session::new());
    let mut t = Talk {
        outcomes: Vec::new(),
        tally: sink::Tally::default(),
        received: Vec::new(),
        round_trips: 0,
        end: Next::Wait,
    };
    let mut rng = fastrand::Rng::with_seed(3);
    let mut given = 0;
    let mut feed = || {
        given += 1;
        let id = Id { run: 1, core: 0, seq: given };
        if given > jobs { Feed::Over } else { Feed::Job(Job { id, scheduled: Instant::ZERO }) }
    };
    let mut said = Vec::new();
    let mut answers = sink::Shared { behaviour, tally: &mut t.tally, rng: &mut rng, received: &mut t.received };
    server.greet(&mut answers, &mut said);
    while t.end == Next::Wait {
        let mut out = Chain::new();
        let mut shared = Shared {
            now: Instant::ZERO + Duration::from_millis(5),
            script,
            feed: &mut feed,
            outcomes: &mut t.outcomes,
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
            let mut shared =
                Shared { now: Instant::ZERO, script, feed: &mut feed, outcomes: &mut t.outcomes, out: &mut out };
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
    for bad in [b"hello\r\n".as_slice(), b"99 x\r\n", b"\r\n", &[b'2'; 5000], b"2500"] {
        let mut out = Chain::new();
        let mut feed = || Feed::Over;
        let mut outcomes = Vec::new();
        let mut shared =
            Shared { now: Instant::ZERO, script: &s, feed: &mut feed, outcomes: &mut outcomes, out: &mut out };
        let mut session = Session::new();
        let end = session.input(bad, &mut shared);
        assert!(end == Next::Broken || (bad == b"2500" && end == Next::Wait), "{bad:?}: {end:?}");
    }
    let busy = talk(&s, &Behaviour { greeting: "421 too busy\r\n".into(), ..Behaviour::default() }, 1, 100);
    assert_eq!(busy.end, Next::Refused(421));
}
