//! A day is made up, judged and recorded by the engine, and replayed: with the same policy every decision is the same,
//! limits and concurrency included; with another one the differences are those that were made.

use super::*;
use crate::base::address::ReversePath;
use crate::base::body::BodyShape;
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::time::{Instant, WallTime};
use crate::policy::journal::{Keep, Run as Journal, Scrub, Sink};
use crate::policy::{
    Authentication, Builtins, ClientFacts, Given, Limits, Load, NoFiles, Policy, Session, Stage, TlsFacts,
};
use crate::wire::address::parse_mailbox;
use parking_lot::Mutex;
use std::collections::BTreeMap;

/// Rules of every kind over every stage; the limits are tight enough to be met all day.
const BUSY: &str = r#"
[greylist.default]
delay = "2m"
retry-window = "6h"
auto-allow = 3
exempt = "@friends"
[reputation]
half-life = "2h"
at-least = 2
[threshold.mail]
observe = 3
defer = 9
[threshold.data]
tag = 1.5
reject = 6
mode = "60 %"
[[rule]]
name = "disliked"
stage = "connect"
when = "reputation.client < 40 or reputation.network < 10"
then = "score +2.5 bad past"
[[rule]]
name = "new"
stage = "connect"
when = "not client.seen"
then = "score 0.5"
[[rule]]
name = "watched"
stage = "helo"
mode = "observe"
when = "helo.valid"
then = ["score 100", "reject"]
[[rule]]
name = "domain"
stage = "mail"
when = "reputation.domain < 60"
then = ["score 4", "score reputation.domain"]
[[rule]]
name = "half"
stage = "rcpt"
mode = "50 %"
when = "score > 2 and limit_used('recipients') > 20"
then = "score 1.25"
[[rule]]
name = "guarded"
stage = "rcpt"
when = "sender.local == 'sender+1'"
guard = { most = "20 %", of = "rcpt.local == 'bob'", over = "2h", at-least = 5, back = "1h" }
then = "reject 550 5.7.1 Guarded"
[[rule]]
name = "grey"
stage = "rcpt"
when = "not sender.null and time.hour > 6"
then = "greylist"
[list.friends]
networks = ["10.1.0.0/16"]
[limit.open]
per = "client"
counts = "concurrency"
most = 2
[limit.connections]
per = "client/24"
counts = "connection"
rate = "20/minute"
[limit.guesses]
per = "client"
counts = "auth-failure"
rate = "2/day"
[limit.senders]
per = "sender"
counts = "message"
rate = "6/hour"
burst = 3
[limit.recipients]
per = "client"
counts = "recipient"
rate = "12/hour"
burst = 3
[limit.octets]
per = "sender.domain"
counts = "octets"
rate = "1MiB/hour"
[[rule]]
name = "friends"
stage = "connect"
when = "client in @friends"
then = "trust"
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
when = "client.ptr == '' and not helo.valid"
then = ["tag \"X-Nameless: yes\"", "tarpit 1s"]
[[rule]]
name = "guesses"
stage = "auth"
then = "limit guesses else drop 421 4.7.0 Too many guesses"
[[rule]]
name = "night"
stage = "mail"
when = "time.hour < 5 and sender.null"
then = "defer 450 4.7.1 Later"
[[rule]]
name = "senders"
stage = "mail"
then = "limit senders"
[[rule]]
name = "harvest"
stage = "rcpt"
when = "rcpt.refused >= 1 and not authenticated and sender.null"
then = "drop 421 4.7.1 Enough"
[[rule]]
name = "unknown"
stage = "rcpt"
when = "rcpt.exists == false"
then = "reject 550 5.1.1 No such recipient"
[[rule]]
name = "users"
stage = "rcpt"
when = "authenticated"
then = "accept"
[[rule]]
name = "local"
stage = "rcpt"
when = "rcpt.domain in @local-domains"
then = ["limit recipients else defer 452 4.5.3 Slower", "accept"]
[[rule]]
name = "loop"
stage = "data"
when = "message.hops > 3"
then = "reject 554 5.4.6 Loop"
[[rule]]
name = "viagra"
stage = "data"
when = "header('subject') contains 'pills' or header_count('x-odd') > 1"
then = "quarantine subject"
[[rule]]
name = "large"
stage = "message"
when = "message.size > 900KiB"
then = "reject 552 5.3.4 Too large"
[[rule]]
name = "octets"
stage = "message"
then = "limit octets"
"#;

fn policy(source: &str) -> Arc<Policy> {
    let builtins = Builtins::new(["example.test"]).unwrap();
    Arc::new(Policy::compile("test.toml", source, &NoFiles, &builtins).unwrap_or_else(|e| panic!("{e:?}")))
}

/// Keeps lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Sink for Lines {
    fn line(&self, line: Vec<u8>) {
        self.0.lock().push(String::from_utf8(line).unwrap());
    }
}

/// One client of the made-up day, a step at a time.
struct Client {
    session: Session,
    steps: u32,
    sender: usize,
    passed: u32,
}

/// Makes up a day of sessions, several at a time, and has the policy judge them.
fn day(policy: &Arc<Policy>, sessions: usize, seed: u64, scrub: Option<Scrub>) -> Vec<String> {
    let lines = Lines::default();
    let journal = Journal::new("run", scrub, Keep::default(), Box::new(lines.clone()));
    let limits = Limits::new(1 << 16, seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let wall = WallTime::from_millis(1_795_392_000_000);
    let mut clients: Vec<Client> = Vec::new();
    let (mut begun, mut now) = (0, Instant::from_nanos(5_000_000_000));
    // As in life, no client is silent for long while its session is open.
    let step = (Duration::from_secs(86_400) / (sessions as u32 * 8)).min(Duration::from_secs(2));
    while begun < sessions || !clients.is_empty() {
        now = now + step.mul_f64(rng.f64() * 2.0);
        if begun < sessions && (clients.len() < 3 || clients.len() < 12 && rng.u8(..8) == 0) {
            begun += 1;
            let mut client = connect(policy, &limits, &mut rng, now, wall + now.since(Instant::ZERO));
            client.session.record(&journal, format!("S{begun}"));
            if client.step(&mut rng, now) {
                clients.push(client);
            }
            continue;
        }
        let chosen = rng.usize(..clients.len());
        if !clients[chosen].step(&mut rng, now) {
            clients.swap_remove(chosen);
        }
    }
    drop(clients);
    Arc::try_unwrap(lines.0).map_or_else(|shared| shared.lock().clone(), Mutex::into_inner)
}

fn connect(
    policy: &Arc<Policy>,
    limits: &Arc<Limits>,
    rng: &mut fastrand::Rng,
    now: Instant,
    wall: WallTime,
) -> Client {
    let ip = std::net::Ipv4Addr::new(10, rng.u8(1..4), rng.u8(..3), rng.u8(..6));
    let tls = (rng.u8(..3) == 0).then(|| TlsFacts { version: "TLSv1.3".into(), ..TlsFacts::default() });
    let facts = ClientFacts { client: (ip, rng.u16(1024..)).into(), listener: "mx".into(), tls };
    let session = Session::new(policy.clone(), limits.clone(), facts, now, wall);
    Client { session, steps: 0, sender: rng.usize(..20), passed: 0 }
}

impl Client {
    /// Does the next thing; `false` when the session is over.
    fn step(&mut self, rng: &mut fastrand::Rng, now: Instant) -> bool {
        let step = self.steps;
        self.steps += 1;
        let s = &mut self.session;
        match step {
            0 => {
                s.set_load(Load { connections: rng.u64(..50), memory_percent: 3, queued: 0 });
                match rng.u8(..3) {
                    0 => s.set_fact("client.ptr", Given::Text(String::new())).unwrap(),
                    1 => s.set_fact("client.ptr", Given::Text("mx.example.net".into())).unwrap(),
                    _ => s.set_fact("client.ptr", Given::Unknown).unwrap(),
                }
                s.connect(now, rng.u8(..40) == 0).verdict.passes()
            }
            1 => s.helo(now, ["mx.example.net", "localhost", "[10.1.0.1]"][rng.usize(..3)], true).verdict.passes(),
            2 if rng.u8(..6) == 0 => {
                let outcome =
                    if rng.bool() { Authentication::Failed } else { Authentication::Succeeded("ann@example.test") };
                s.auth(now, outcome).verdict.passes()
            }
            2 if rng.u8(..6) == 0 => {
                s.tls_started(TlsFacts { version: "TLSv1.2".into(), ..TlsFacts::default() });
                self.steps = 1;
                true
            }
            3 if rng.u8(..20) == 0 => {
                s.vrfy(now, "ann");
                true
            }
            _ => self.message(rng, now, (step.max(2) - 2) % 6),
        }
    }

    fn message(&mut self, rng: &mut fastrand::Rng, now: Instant, step: u32) -> bool {
        let s = &mut self.session;
        match step {
            0 | 1 => {
                if step == 0 && rng.bool() {
                    return true;
                }
                self.passed = 0;
                let text = format!("Sender+{}@Example{}.NET", rng.u8(..3), self.sender);
                let sender = match self.sender {
                    0 => ReversePath::Null,
                    _ => ReversePath::Mailbox(parse_mailbox(&text).unwrap()),
                };
                let parameters =
                    MailParameters { size: rng.bool().then_some(rng.u64(..5000)), ..MailParameters::default() };
                s.set_load(Load { connections: rng.u64(..50), memory_percent: 3, queued: 0 });
                s.mail_told(&sender, &parameters);
                let spf = ["pass", "fail", "none", "pass"][rng.usize(..4)];
                s.set_fact("spf", Given::Text(spf.into())).unwrap();
                if !s.mail(now, &sender, &parameters).verdict.passes() {
                    self.steps += 4;
                }
                true
            }
            2 | 3 => {
                let to = ["bob@example.test", "Eve@Example.Test", "x@elsewhere.example", "\"a@b\"@example.test"];
                let to = Recipient::plain(parse_mailbox(to[rng.usize(..4)]).unwrap());
                if rng.bool() && s.probe_rcpt(now, &to).is_some() {
                    return true;
                }
                let exists = [None, Some(true), Some(true), Some(false)][rng.usize(..4)];
                let d = s.rcpt(now, &to, exists);
                if d.verdict.passes() {
                    if rng.u8(..10) == 0 { s.recipient_refused() } else { self.passed += 1 }
                }
                !matches!(d.verdict, crate::policy::Verdict::Drop(_))
            }
            4 => {
                if self.passed == 0 {
                    s.reset();
                    return rng.bool();
                }
                let subject =
                    ["Subject: hello\r\n", "SUBJECT : cheap\r\n pills\r\n", "", "Subject:x\r\nX-Odd: 1\r\nX-odd:\r\n"];
                let headers = "Received: by x\r\n".repeat(rng.usize(..6)) + subject[rng.usize(..4)] + "\r\n";
                if s.data(now, headers.as_bytes()).verdict.passes() {
                    let shape = BodyShape {
                        octets: rng.u64(100..1_000_000),
                        header_octets: headers.len() as u64,
                        received_fields: headers.matches("Received").count() as u32,
                        ..BodyShape::default()
                    };
                    if s.message(now, &shape, headers.as_bytes()).verdict.passes() {
                        s.settled(now, "delivered", "250 2.0.0 ok");
                    }
                }
                s.reset();
                true
            }
            _ => rng.u8(..4) > 0,
        }
    }
}

/// Counts changes and keeps the first that is one.
#[derive(Default)]
struct Watch {
    decisions: u64,
    by_stage: BTreeMap<(String, String), u64>,
    first: Option<String>,
    doubts: u64,
}

impl Visitor for Watch {
    fn decision(&mut self, seen: &Seen<'_>) {
        self.decisions += 1;
        self.doubts += u64::from(seen.doubt.is_some());
        let verdict = seen.old.verdict.to_string();
        *self.by_stage.entry((format!("{} {}", seen.stage, seen.old.rule), verdict)).or_default() += 1;
        if seen.new != Some(seen.old) && self.first.is_none() {
            self.first = Some(format!("{seen:?}"));
        }
    }
}

fn replay(policy: &Arc<Policy>, lines: &[String], visitor: &mut impl Visitor) -> Counts {
    let mut replay = Replay::new(policy.clone(), 1 << 16);
    lines.iter().for_each(|line| replay.feed(Cow::Borrowed(line), visitor));
    replay.finish(visitor);
    replay.counts().clone()
}

#[track_caller]
fn equal(sessions: usize, seed: u64) {
    let policy = policy(BUSY);
    let lines = day(&policy, sessions, seed, None);
    let mut watch = Watch::default();
    let counts = replay(&policy, &lines, &mut watch);
    assert_eq!(watch.first, None, "seed {seed}");
    assert_eq!((counts.unread(), counts.late, counts.orphans), (0, 0, 0));
    // Sessions that end before they are judged leave no line; none do here.
    assert_eq!(counts.sessions as usize, sessions);
    assert_eq!(watch.doubts, 0);
    if sessions >= 10_000 {
        // The day meets every rule, and every limit is met and exceeded.
        for rule in policy.rules() {
            let met = watch.by_stage.iter().any(|((place, _), _)| place.ends_with(&format!(" {}", rule.name)));
            let goes_on = rule.outcomes.iter().all(|outcome| matches!(outcome.word(), "score" | "tarpit" | "tag"));
            assert!(met || goes_on || &*rule.name == "watched", "{} never decided: {:?}", rule.name, watch.by_stage);
        }
    }
}

#[test]
fn a_day_replayed_with_its_policy_is_the_same_day() {
    equal(10_000, 7);
}

#[test]
fn short_days_of_many_seeds() {
    (0..20).for_each(|seed| equal(300, seed));
}

/// The size the issue asks for; minutes without optimisation.
#[test]
#[ignore = "a million sessions take minutes in a debug build"]
fn a_day_of_a_million_sessions() {
    equal(1_000_000, 42);
}

#[test]
fn another_policy_differs_where_it_was_changed() {
    let before = policy(BUSY);
    let lines = day(&before, 3000, 3, None);
    let after = policy(
        &BUSY
            .replace("message.size > 900KiB", "message.size > 300KiB")
            .replace("rate = \"20/minute\"", "rate = \"2/minute\""),
    );
    let mut diff = Diff::default();
    replay(&after, &lines, &mut diff);
    assert!(diff.same < diff.decisions && diff.verdicts_changed > 0);
    let tightened = |stage: &str, rule: &str| {
        let flows =
            diff.flows.iter().filter(|(f, _)| f.change == Change::Tightened && f.stage == stage && f.now.1 == rule);
        flows.map(|(_, t)| t.count).sum::<u64>()
    };
    assert!(tightened("message", "large") > 0 && tightened("connect", "connections") > 0, "{:?}", diff.flows);
    assert!(diff.messages_now < diff.messages_then && diff.not_reached > 0 && diff.messages_delivered_stopped > 0);
    let stopped: u64 = diff.messages_stopped.values().sum();
    assert!(stopped >= diff.messages_then - diff.messages_now);
    assert!(!diff.tightened.clients.is_empty() && diff.timeline.buckets().iter().any(|b| b.tightened > 0));
    // The other way round: what was refused passes.
    let mut back = Diff::default();
    replay(&before, &day(&after, 3000, 3, None), &mut back);
    assert!(back.flows.keys().any(|f| f.change == Change::Loosened && f.then.1 == "large"));
    let example = back.flows.iter().find(|(f, _)| f.then.1 == "large").unwrap().1.examples[0].clone();
    assert!(
        example.then.starts_with("552") && example.now.is_empty() && example.session.starts_with('S'),
        "{example:?}"
    );
}

#[test]
fn digests_of_persons_leave_limits_as_they_were_and_rules_about_persons_in_doubt() {
    let source = BUSY.to_owned()
        + "[[rule]]\nname = \"eve\"\nstage = \"rcpt\"\nwhen = \"rcpt.local == 'nobody'\"\nthen = \"reject\"\n";
    // What other rules ask about persons would be in doubt as well.
    let source = source
        .replace("header('subject') contains 'pills' or ", "")
        .replace("sender.local == 'sender+1'", "sender.domain == 'example1.net'")
        .replace("rcpt.local == 'bob'", "sender.domain == 'example2.net'");
    let policy = policy(&source);
    let lines = day(&policy, 2000, 5, Some(Scrub::new(b"key")));
    assert!(!lines.iter().any(|l| l.contains("Sender") || l.contains("pills") || l.contains("ann@")));
    let mut watch = Watch::default();
    replay(&policy, &lines, &mut watch);
    assert_eq!(watch.first, None);
    assert!(watch.doubts > 0);
}

#[test]
fn torn_and_foreign_lines_are_counted_and_the_rest_is_played() {
    let policy = policy(BUSY);
    let mut lines = day(&policy, 200, 9, None);
    let torn = lines[50][..lines[50].len() / 2].to_owned();
    lines.insert(51, torn);
    lines.insert(0, "Nov 23 postfix".into());
    lines.insert(10, String::new());
    lines.insert(20, "{\"v\":9}".into());
    let mut watch = Watch::default();
    let counts = replay(&policy, &lines, &mut watch);
    assert_eq!((counts.torn, counts.foreign, counts.newer, counts.sessions), (1, 1, 1, 200));
    assert_eq!(counts.first_unread.unwrap().0, 1);
    assert_eq!(watch.first, None);
}

#[test]
fn a_long_session_in_parts_is_one_session() {
    let policy = policy(
        "[limit.m]\nper = \"client\"\ncounts = \"message\"\nrate = \"1000/hour\"\n[[rule]]\nname = \"m\"\nstage = \"mail\"\nthen = \"limit m\"\n[[rule]]\nname = \"s\"\nstage = \"mail\"\nwhen = \"session.messages > 1500\"\nthen = \"reject\"\n",
    );
    let lines = Lines::default();
    let journal = Journal::new("r", None, Keep::default(), Box::new(lines.clone()));
    let now = Instant::from_nanos(1);
    let mut session =
        Session::new(policy.clone(), Limits::new(1024, 1), ClientFacts::default(), now, WallTime::default());
    session.record(&journal, "S");
    session.connect(now, false);
    session.helo(now, "a.example", true);
    for i in 0..2000u64 {
        let at = now + Duration::from_secs(i);
        session.mail(at, &ReversePath::Null, &MailParameters::default());
        session.rcpt(at, &Recipient::plain(parse_mailbox("a@example.test").unwrap()), None);
        session.message(at, &BodyShape::default(), b"");
        session.reset();
    }
    drop(session);
    let lines = lines.0.lock().clone();
    assert!(lines.len() > 3 && lines.iter().all(|l| l.len() < 70_000), "{}", lines.len());
    let mut watch = Watch::default();
    let counts = replay(&policy, &lines, &mut watch);
    assert_eq!((watch.first.as_deref(), counts.sessions, counts.orphans), (None, 1, 0));
    assert!(watch.by_stage[&("mail s".to_owned(), "reject".to_owned())] > 0);
    // Without its beginning, the rest is nobody's.
    assert_eq!(replay(&policy, &lines[1..], &mut Watch::default()).orphans as usize, lines.len() - 1);
}

#[test]
fn what_a_line_does_not_tell_is_in_doubt_and_not_guessed() {
    let source = "[[rule]]\nname = \"ptr\"\nstage = \"connect\"\nwhen = \"client.ptr == ''\"\nthen = \"reject\"\n[[rule]]\nname = \"known\"\nstage = \"connect\"\nwhen = \"client in 192.0.2.0/24 or client.ptr == 'x'\"\nthen = \"tarpit 1s\"\n";
    let line = |ip: &str, facts: &str| {
        format!(
            "{{\"v\":1,\"run\":\"i\",\"session\":\"{ip}\",\"at_ms\":1,\"start_ns\":1,\"seq\":1,\"client\":\"{ip}\",\"events\":[{facts}\
             {{\"event\":\"connect\",\"after_ns\":0,\"seq\":2}}],\"end\":{{\"after_ns\":1,\"seq\":3}}}}"
        )
    };
    let fact = "{\"event\":\"fact\",\"after_ns\":0,\"seq\":1,\"name\":\"client.ptr\",\"text\":\"mx.example\"},";
    let lines = [line("192.0.2.1", ""), line("198.51.100.1", fact)];
    let mut diff = Diff::default();
    replay(&policy(source), &lines, &mut diff);
    // The second knows its name; the first is in doubt about the first rule, and surely slowed down by the second.
    assert_eq!(diff.doubts, BTreeMap::from([(("ptr".to_owned(), "client.ptr".to_owned()), 1)]));
    assert_eq!(diff.flows.len(), 1);
    assert_eq!(policy(source).needs(Stage::Connect).names().count(), 2);
}
