//! A day of an MX, made up, judged and recorded by the engine itself: clients that talk too early, scanners, guessers of
//! addresses, and mail that is taken; several at the same time, and limits that are met.
//!
//! How it fails: it panics; the policies compile and the addresses are addresses.

use gatepost::base::address::ReversePath;
use gatepost::base::body::BodyShape;
use gatepost::base::envelope::{MailParameters, Recipient};
use gatepost::base::time::{Instant, WallTime};
use gatepost::policy::journal::{Keep, Run, Sink};
use gatepost::policy::{Authentication, ClientFacts, Decision, Given, Limits, Load, Policy, Session, TlsFacts};
use gatepost::wire::address::parse_mailbox;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

/// Sessions that are open at the same time.
const OPEN: usize = 24;
/// Of 100 sessions: how many talk too early, leave after HELO, guess addresses; the rest sends mail.
const MIX: [u32; 3] = [10, 15, 50];
const HEADERS: &str = "Received: from mail.example.net (mail.example.net [192.0.2.1])\r\n\tby mx1.example.test with ESMTPS;\r\n\tMon, 23 Nov 2026 12:00:00 +0000\r\nFrom: Ann Example <ann@example.net>\r\nTo: Bob <bob@example.test>\r\nSubject: The minutes of Monday's meeting\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <4f1a7b20-1c7e@example.net>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n";

/// Decisions by stage and verdict.
pub type Verdicts = BTreeMap<(&'static str, &'static str), u64>;

/// What was recorded.
pub struct Day {
    /// The journal, one line a session.
    pub journal: String,
    /// What was decided then.
    pub verdicts: Verdicts,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Sink for Kept {
    fn line(&self, mut line: Vec<u8>) {
        line.push(b'\n');
        self.0.lock().append(&mut line);
    }
}

/// A sink that forgets, for what recording by itself costs.
pub struct Nowhere(pub Arc<std::sync::atomic::AtomicU64>);

impl Sink for Nowhere {
    fn line(&self, line: Vec<u8>) {
        self.0.fetch_add(line.len() as u64, std::sync::atomic::Ordering::Relaxed);
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Early,
    Scanner,
    Guesser,
    Sender,
}

struct Client {
    session: Session,
    kind: Kind,
    step: u32,
    sender: usize,
    taken: bool,
}

/// Makes up a day. `taken_only`: every session brings a message that is taken.
pub fn day(policy: &Arc<Policy>, sessions: usize, seed: u64, taken_only: bool) -> Day {
    let kept = Kept::default();
    let run = Run::new("bench", None, Keep::default(), Box::new(kept.clone()));
    let limits = Limits::new(1 << 18, seed);
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut verdicts = Verdicts::new();
    let wall = WallTime::from_millis(1_795_392_000_000);
    let (mut now, mut begun) = (Instant::from_nanos(1_000_000_000), 0);
    let step = (Duration::from_secs(86_400) / (sessions as u32 * 8)).min(Duration::from_secs(2));
    let mut open: Vec<Client> = Vec::new();
    while begun < sessions || !open.is_empty() {
        now = now + step.mul_f64(rng.f64() * 2.0);
        if begun < sessions && open.len() < OPEN {
            begun += 1;
            let kind = match rng.u32(..100) {
                _ if taken_only => Kind::Sender,
                n if n < MIX[0] => Kind::Early,
                n if n < MIX[0] + MIX[1] => Kind::Scanner,
                n if n < MIX[0] + MIX[1] + MIX[2] => Kind::Guesser,
                _ => Kind::Sender,
            };
            let ip = Ipv4Addr::new(198, rng.u8(18..20), rng.u8(..), rng.u8(1..));
            let facts = ClientFacts { client: (ip, rng.u16(1024..)).into(), listener: "mx".into(), tls: None };
            let wall = wall + now.since(Instant::ZERO);
            let mut session = Session::new(policy.clone(), limits.clone(), facts, now, wall);
            session.record(&run, format_args!("{begun:012X}"));
            open.push(Client { session, kind, step: 0, sender: rng.usize(..5000), taken: false });
            continue;
        }
        let chosen = rng.usize(..open.len());
        if !open[chosen].go_on(&mut rng, now, &mut verdicts) {
            open.swap_remove(chosen);
        }
    }
    drop(run);
    let journal = std::mem::take(&mut *kept.0.lock());
    Day { journal: String::from_utf8(journal).expect("lines are text"), verdicts }
}

fn told<G>(verdicts: &mut Verdicts, stage: &'static str, decision: &Decision<G>) -> bool {
    *verdicts.entry((stage, decision.verdict.word())).or_default() += 1;
    decision.verdict.passes()
}

impl Client {
    /// Does the next thing; `false` when the session is over.
    fn go_on(&mut self, rng: &mut fastrand::Rng, now: Instant, verdicts: &mut Verdicts) -> bool {
        self.step += 1;
        let s = &mut self.session;
        match (self.step, self.kind) {
            (1, kind) => {
                s.set_load(Load { connections: rng.u64(..200), memory_percent: 7, queued: 3 });
                let name = if rng.bool() { Given::Text("mail.example.net".into()) } else { Given::Text(String::new()) };
                s.set_fact("client.ptr", name).expect("a fact");
                let d = s.connect(now, matches!(kind, Kind::Early));
                told(verdicts, "connect", &d)
            }
            (2, kind) => {
                let d = s.helo(now, "mail.example.net", true);
                told(verdicts, "helo", &d) && !matches!(kind, Kind::Scanner)
            }
            (3, Kind::Sender) if self.sender.is_multiple_of(3) => {
                let version = TlsFacts { version: "TLSv1.3".into(), ..TlsFacts::default() };
                s.tls_started(version);
                self.step = 1;
                self.sender += 1;
                true
            }
            (3, Kind::Sender) if self.sender.is_multiple_of(16) => {
                let d = s.auth(now, Authentication::Failed);
                told(verdicts, "auth", &d)
            }
            (3 | 4, _) => self.mail(rng, now, verdicts),
            (_, Kind::Guesser) => {
                for _ in 0..rng.u8(1..4) {
                    if !self.recipient(rng, now, false, verdicts) {
                        return false;
                    }
                }
                false
            }
            (5, _) => self.recipient(rng, now, true, verdicts),
            (6, _) => self.text(rng, now, verdicts),
            _ => false,
        }
    }

    fn mail(&mut self, rng: &mut fastrand::Rng, now: Instant, verdicts: &mut Verdicts) -> bool {
        self.step = 4;
        let text = format!("ann.{}@mail{}.example.net", self.sender, self.sender % 97);
        let sender = match rng.u8(..10) {
            0 => ReversePath::Null,
            _ => ReversePath::Mailbox(parse_mailbox(&text).expect("an address")),
        };
        self.session.set_load(Load { connections: rng.u64(..200), memory_percent: 7, queued: 3 });
        let parameters = MailParameters { size: Some(rng.u64(500..20_000)), ..MailParameters::default() };
        let d = self.session.mail(now, &sender, &parameters);
        told(verdicts, "mail", &d)
    }

    fn recipient(&mut self, rng: &mut fastrand::Rng, now: Instant, good: bool, verdicts: &mut Verdicts) -> bool {
        let domain = if good || rng.bool() { "example.test" } else { "elsewhere.example" };
        let to = Recipient::plain(parse_mailbox(&format!("user{}@{domain}", rng.u16(..500))).expect("an address"));
        if let Some(d) = self.session.probe_rcpt(now, &to) {
            told(verdicts, "probe", &d);
            return !matches!(d.verdict, gatepost::policy::Verdict::Drop(_));
        }
        *verdicts.entry(("probe", "accept")).or_default() += 1;
        let d = self.session.rcpt(now, &to, Some(good));
        self.taken |= told(verdicts, "rcpt", &d);
        !matches!(d.verdict, gatepost::policy::Verdict::Drop(_))
    }

    fn text(&mut self, rng: &mut fastrand::Rng, now: Instant, verdicts: &mut Verdicts) -> bool {
        if !self.taken {
            return false;
        }
        let d = self.session.data(now, HEADERS.as_bytes());
        if !told(verdicts, "data", &d) {
            return false;
        }
        let shape = BodyShape {
            octets: rng.u64(1000..2_000_000),
            header_octets: HEADERS.len() as u64,
            received_fields: 1,
            ..BodyShape::default()
        };
        let d = self.session.message(now, &shape, HEADERS.as_bytes());
        if told(verdicts, "message", &d) {
            self.session.settled(now, "delivered", "250 2.0.0 Ok: queued as 4f1a7b20");
        }
        self.session.reset();
        false
    }
}

/// One session that brings a message which is taken, with or without a recorder.
pub fn one(policy: &Arc<Policy>, run: Option<&Arc<Run>>) {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut verdicts = Verdicts::new();
    let facts = ClientFacts { client: ([127, 0, 0, 1], 4000).into(), listener: "mx".into(), tls: None };
    let now = Instant::from_nanos(1_000_000_000);
    let mut session = Session::new(policy.clone(), LIMITS.clone(), facts, now, WallTime::default());
    if let Some(run) = run {
        session.record(run, "0000000000AB");
    }
    let mut client = Client { session, kind: Kind::Sender, step: 0, sender: 1, taken: false };
    while client.go_on(&mut rng, now, &mut verdicts) {}
    assert!(client.taken);
}

/// Shared by the sessions of [`one`]; its keys are those of loopback, which nothing limits.
static LIMITS: std::sync::LazyLock<Arc<Limits>> = std::sync::LazyLock::new(|| Limits::new(1 << 16, 1));
