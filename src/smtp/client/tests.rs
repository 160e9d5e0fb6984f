//! Dialogues as tests. Each trace runs with the server's bytes whole, octet by octet and at random cuts, with a roomy
//! and a tiny output, and must say and report the same each time.
//!
//! ```text
//! S: 220 mx                what the server says
//! C: EHLO gate             what the client must have said, exactly that and no more before the next S
//! = ready                  what it must have reported, in order
//! > deliver all 0,1        what is done to it: see `Run::act`
//! ```

mod delivery;
mod failures;
mod hostile;
mod opening;

use super::*;
use crate::base::address::ReversePath;
use crate::base::body::{Body, BodyFile, BodyShape, Store};
use crate::base::envelope::{BodyType, Envelope, MailParameters, Origin, Protocol, Recipient};
use crate::base::id::SessionId;
use crate::base::time::WallTime;
use crate::wire::address::parse_mailbox;
use std::time::Duration;

/// How the bytes of the server are cut, and how large the output is.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    Octets,
    Random(u64),
}

/// Runs a trace under each cut.
fn trace(config: ClientConfig, script: &str) {
    for cut in [Cut::Whole, Cut::Octets].into_iter().chain((1..=8).map(Cut::Random)) {
        for high_water_octets in [1 << 20, 5] {
            Run::new(config.clone(), cut, high_water_octets).script(script);
        }
    }
}

fn plain() -> ClientConfig {
    ClientConfig::new("gate.example.test")
}

/// A trace on a connection that offers `keywords`.
fn with_extensions(keywords: &str, script: &str) {
    trace(plain(), &(greeting(keywords) + script));
}

fn greeting(keywords: &str) -> String {
    let mut lines = String::from("S: 220 mx.example.test ESMTP\nC: EHLO gate.example.test\nS: 250-mx.example.test\n");
    keywords.split(',').for_each(|k| lines.push_str(&format!("S: 250-{}\n", k.trim())));
    lines + "S: 250 HELP\n= ready\n"
}

const ALL: &str = "PIPELINING,CHUNKING,8BITMIME,SIZE 1000000,DSN,SMTPUTF8,BINARYMIME,ENHANCEDSTATUSCODES";

#[derive(Debug)]
struct TestFile;
impl BodyFile for TestFile {
    fn id(&self) -> u64 {
        1
    }
}

struct Run {
    client: Client,
    now: Instant,
    cut: Cut,
    high_water_octets: usize,
    inbox: Vec<u8>,
    said: Vec<u8>,
    reported: VecDeque<String>,
    parameters: MailParameters,
    body: Vec<u8>,
    binary: bool,
    in_file: bool,
    addresses: Vec<&'static str>,
    client_address: Option<std::net::SocketAddr>,
    rng: fastrand::Rng,
    trail: String,
}

impl Run {
    fn new(config: ClientConfig, cut: Cut, high_water_octets: usize) -> Run {
        let now = Instant::from_nanos(1_000_000_000);
        let seed = if let Cut::Random(seed) = cut { seed } else { 0 };
        let mut run = Run {
            client: Client::new(Arc::new(config), [7; 32], now),
            now,
            cut,
            high_water_octets,
            inbox: vec![],
            said: vec![],
            reported: VecDeque::new(),
            parameters: MailParameters::default(),
            body: b"Subject: x\r\n\r\nhello\r\n".to_vec(),
            binary: false,
            in_file: false,
            addresses: vec!["a@example.test", "b@example.test", "c@example.test"],
            client_address: None,
            rng: fastrand::Rng::with_seed(seed),
            trail: String::new(),
        };
        run.collect();
        run
    }

    fn script(mut self, script: &str) {
        let mut heard = Vec::new();
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (kind, text) = line.split_once(' ').unwrap_or((line, ""));
            if kind != "S:" {
                self.hear(std::mem::take(&mut heard));
            }
            self.trail.push_str(line);
            self.trail.push('\n');
            match kind {
                "S:" => {
                    self.nothing_more_said();
                    heard.extend_from_slice(unescape(text).as_slice());
                    heard.extend_from_slice(b"\r\n");
                }
                "C:" => self.expect_said(&[unescape(text).as_slice(), b"\r\n"].concat()),
                "C+" => self.expect_said(&unescape(text)),
                "=" => self.expect_reported(text),
                ">" => self.act(text),
                _ => panic!("a trace line begins with S:, C:, C+, = or >: {line}"),
            }
        }
        self.hear(heard);
        self.nothing_more_said();
        assert!(self.reported.is_empty(), "{:?}\n{}unexpected reports {:?}", self.cut, self.trail, self.reported);
    }

    fn hear(&mut self, bytes: Vec<u8>) {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let n = match self.cut {
                Cut::Whole => rest.len(),
                Cut::Octets => 1,
                Cut::Random(_) => self.rng.usize(1..=rest.len()),
            };
            self.inbox.extend_from_slice(&rest[..n]);
            rest = &rest[n..];
            let mut input = Input::new(&self.inbox);
            self.client.handle_bytes(self.now, &mut input);
            let consumed = input.consumed();
            self.inbox.drain(..consumed);
            self.collect();
        }
    }

    fn collect(&mut self) {
        loop {
            while let Some(event) = self.client.poll_event() {
                if let Event::NeedBody { offset, octets_max } = event {
                    let start = offset as usize;
                    let end = self.body.len().min(start + octets_max.min(7));
                    let piece = self.body[start..end].to_vec();
                    self.client.supply_body(self.now, piece, end == self.body.len());
                    continue;
                }
                self.reported.push_back(show(&event));
            }
            let mut out = Output::new(self.high_water_octets);
            self.client.poll_transmit(&mut out);
            if out.is_empty() {
                return;
            }
            self.said.extend(out.take().to_vec());
        }
    }

    fn expect_said(&mut self, expected: &[u8]) {
        let n = self.said.len().min(expected.len());
        let found = self.said.drain(..n).collect::<Vec<u8>>();
        assert_eq!(
            String::from_utf8_lossy(&found),
            String::from_utf8_lossy(expected),
            "{:?}\n{}",
            self.cut,
            self.trail
        );
    }

    fn nothing_more_said(&self) {
        assert_eq!(String::from_utf8_lossy(&self.said), "", "{:?} said too much\n{}", self.cut, self.trail);
    }

    fn expect_reported(&mut self, expected: &str) {
        let found = self.reported.pop_front().unwrap_or_else(|| "nothing".into());
        assert_eq!(found, expected, "{:?}\n{}", self.cut, self.trail);
    }

    fn act(&mut self, text: &str) {
        let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
        match verb {
            "deliver" => self.deliver(argument),
            "body" => self.body = unescape(argument),
            "binary" => self.binary = true,
            "file" => self.in_file = true,
            "to" => self.addresses = argument.split(',').map(|a| &*Box::leak(a.to_owned().into_boxed_str())).collect(),
            "from" => self.client_address = argument.parse().ok(),
            "utf8" => self.parameters.smtputf8 = true,
            "ret" => self.parameters.ret = Some(crate::base::envelope::Ret::Headers),
            "declare-binary" => self.parameters.body = BodyType::BinaryMime,
            "verify" => {
                self.client.verify(self.now, ReversePath::Null, parse_mailbox(argument).unwrap()).unwrap();
            }
            "tls" => self.client.tls_started(self.now, None),
            "tls-failed" => self.client.tls_failed(self.now, argument),
            "eof" => self.client.handle_eof(self.now),
            "error" => self.client.handle_error(self.now, argument),
            "quit" => self.client.quit(self.now),
            "abandon" => self.client.abandon(argument),
            "timeout" => {
                while let Some(at) = self.client.poll_timeout() {
                    self.now = at;
                    self.client.handle_timeout(at);
                }
            }
            "wait" => {
                let ms: u64 = argument.parse().unwrap();
                self.now = self.now + Duration::from_millis(ms);
                self.client.handle_timeout(self.now);
            }
            _ => panic!("unknown action {text}"),
        }
        self.collect();
    }

    fn deliver(&mut self, argument: &str) {
        let (unity, indexes) = argument.split_once(' ').unwrap();
        let recipients = self.addresses.iter().map(|a| Recipient::plain(parse_mailbox(a).unwrap())).collect();
        let envelope = Envelope {
            origin: Origin {
                session: SessionId(1),
                received: WallTime::default(),
                client: self.client_address,
                helo: "h".into(),
                protocol: Protocol::default(),
                user: None,
            },
            sender: ReversePath::Mailbox(parse_mailbox("s@example.org").unwrap()),
            parameters: self.parameters.clone(),
            recipients,
        };
        let delivery = Delivery {
            envelope: Arc::new(envelope),
            recipients: indexes.split(',').map(|i| i.parse().unwrap()).collect(),
            prefix: b"P: q\r\n".to_vec(),
            body: self.message(),
            unity: if unity == "all" { Unity::AllOrNone } else { Unity::Each },
        };
        self.client.submit(self.now, delivery).unwrap();
    }

    fn message(&self) -> Body {
        let b = &self.body;
        let header = b.windows(4).position(|w| w == b"\r\n\r\n").map_or(b.len(), |at| at + 4);
        let shape = BodyShape {
            octets: b.len() as u64,
            eight_bit: !b.is_ascii(),
            needs_stuffing: b.starts_with(b".") || b.windows(3).any(|w| w == b"\r\n."),
            ends_with_crlf: b.is_empty() || b.ends_with(b"\r\n"),
            binary: self.binary,
            header_octets: header as u64,
            received_fields: 0,
        };
        let store = match self.in_file {
            true => Store::File { file: Arc::new(TestFile), head: Arc::new(b[..header].to_vec()) },
            false => Store::Memory(b.chunks(9).map(|c| Arc::new(c.to_vec())).collect()),
        };
        Body { shape, store }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    text.replace("\\r", "\r").replace("\\n", "\n").replace("\\0", "\0").into_bytes()
}

fn show(event: &Event) -> String {
    match event {
        Event::StartTls => "starttls".into(),
        Event::Ready => "ready".into(),
        Event::NeedBody { offset, octets_max } => format!("need {offset} {octets_max}"),
        Event::Verified(Verification::Recipient(reply)) => format!("verified {reply}"),
        Event::Verified(Verification::Unable(reply)) => format!("unable {reply}"),
        Event::Verified(Verification::Lost(error)) => format!("verification lost: {error}"),
        Event::Finished(outcome) => {
            let fates: Vec<String> = outcome.recipients.iter().map(|(i, f)| format!("{i} {}", show_fate(f))).collect();
            let reusable = if outcome.reusable { "reusable" } else { "spent" };
            let stale = if outcome.answered { "" } else { ", stale" };
            format!("finished {}; {reusable}{stale}", fates.join("; "))
        }
        Event::Closed(error) => format!("closed: {error}"),
    }
}

fn show_fate(fate: &Fate) -> String {
    match fate {
        Fate::Accepted(accepted) => format!("accepted {}", accepted.text()),
        Fate::Refused { reply, at } => format!("refused at {at}: {reply}"),
        Fate::Withheld => "withheld".into(),
        Fate::Lost { at, committed_unknown: true, .. } => format!("unknown at {at}"),
        Fate::Lost { at, .. } => format!("lost at {at}"),
    }
}
