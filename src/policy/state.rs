//! What a session has told so far: the raw material of facts. Split by lifetime, so that reset drops what it must.
//!
//! Texts are kept in buffers that are used again, so that a session does not allocate once they have grown.
//! How it fails: it does not.

use super::facts::FactId;
use super::found::Found;
use super::memory::Prior;
use super::missing::Missing;
use super::reputation::Standing;
use super::score::Scores;
use super::texts::normal_domain;
use super::value::Value;
use crate::base::address::{Host, Mailbox};
use crate::base::body::BodyShape;
use crate::base::envelope::BodyType;
use crate::base::time::{Instant, WallTime};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// What is known of a client when its session begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFacts {
    /// Where it comes from, after PROXY and XCLIENT.
    pub client: SocketAddr,
    /// The service of the listener: `mx`, `submission`, `lmtp`, or its name.
    pub listener: Arc<str>,
    /// TLS, as far as it is up already (implicit TLS); see [`super::Session::tls_started`].
    pub tls: Option<TlsFacts>,
}

impl Default for ClientFacts {
    fn default() -> ClientFacts {
        let client = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        ClientFacts { client, listener: Arc::from("mx"), tls: None }
    }
}

/// What is known of a session's TLS.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TlsFacts {
    /// `TLSv1.2`, `TLSv1.3`.
    pub version: String,
    /// Cipher suite by its IANA name.
    pub cipher: String,
    /// Name in a client certificate that was verified; empty without one.
    pub client_name: String,
}

/// How busy the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Load {
    /// Connections open now, all clients.
    pub connections: u64,
    /// Share of the memory budget in use, in percent.
    pub memory_percent: u64,
    /// Messages waiting in the spool.
    pub queued: u64,
}

/// What a client did against the protocol so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Faults {
    /// Negative replies.
    pub errors: u64,
    /// Commands sent in a group where they must come last or alone (RFC 2920 §3.1).
    pub pipelining: u64,
    /// Lines of commands that ended in a bare line feed (RFC 5321 §2.3.8).
    pub bare_lf: u64,
    /// Commands that are none of SMTP.
    pub foreign: u64,
}

/// Everything of the connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    pub(super) facts: ClientFacts,
    pub(super) ip: Option<IpAddr>,
    pub(super) opened: Instant,
    pub(super) opened_wall: WallTime,
    pub(super) early_talker: bool,
    pub(super) faults: Faults,
    pub(super) unknown_recipients: u64,
    pub(super) auth_failures: u64,
    pub(super) messages: u64,
    pub(super) user: String,
    pub(super) load: Load,
    pub(super) standing: Standing,
    pub(super) network: Option<u8>,
    /// The standing was told from outside: it is not looked up.
    pub(super) standing_given: bool,
    /// The same of the sender's domain.
    pub(super) domain_given: Option<u8>,
}

/// Everything since HELO or EHLO.
#[derive(Clone, Debug, Default)]
pub struct Greeting {
    pub(super) name: String,
    pub(super) extended: bool,
}

/// A mail address as rules see it: the local part as written, the domain normalised.
#[derive(Clone, Debug, Default)]
pub struct Address {
    text: String,
    at: usize,
}

impl Address {
    /// Forgets the address, keeps its buffer.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.at = 0;
    }
    /// From the text that [`Address::all`] gave: nothing is normalised again.
    pub(super) fn set_normal(&mut self, text: &str) {
        self.text.clear();
        self.text.push_str(text);
        // A domain has no `@`, an unquoted local part may.
        self.at = text.rfind('@').unwrap_or(0);
    }
    pub(super) fn set(&mut self, mailbox: &Mailbox) {
        self.text.clear();
        self.text.push_str(mailbox.local());
        self.at = self.text.len();
        self.text.push('@');
        push_host(&mut self.text, mailbox.host());
    }
    /// From `local@domain` as a case file writes it; `false` when there is no `@`.
    pub(super) fn set_text(&mut self, text: &str) -> bool {
        let Some((local, domain)) = text.rsplit_once('@') else { return false };
        self.text = format!("{local}@{}", normal_domain(domain).unwrap_or_else(|| domain.to_lowercase()));
        self.at = local.len();
        true
    }
    pub(super) fn all(&self) -> &str {
        &self.text
    }
    pub(super) fn local(&self) -> &str {
        &self.text[..self.at]
    }
    pub(super) fn domain(&self) -> &str {
        self.text.get(self.at + 1..).unwrap_or_default()
    }
}

fn push_host(out: &mut String, host: &Host) {
    match host {
        Host::Domain(d) if d.as_str().is_ascii() => {
            let name = d.as_str();
            out.extend(name.strip_suffix('.').unwrap_or(name).chars().map(|c| c.to_ascii_lowercase()));
        }
        Host::Domain(d) => out.push_str(&normal_domain(d.as_str()).unwrap_or_else(|| d.lower())),
        Host::Ip(_) => {
            let start = out.len();
            // Writing to a String cannot fail.
            let _ = write!(out, "{host}");
            out[start..].make_ascii_lowercase();
        }
    }
}

/// Everything since MAIL FROM.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub(super) sender: Address,
    pub(super) declared_octets: Option<u64>,
    pub(super) body: BodyType,
    pub(super) smtputf8: bool,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) shape: BodyShape,
    /// Reputation of the sender's domain.
    pub(super) domain: Option<u8>,
    /// Whether that hangs on what a recording does not tell.
    pub(super) domain_hangs: bool,
}

/// The recipient that is being decided.
#[derive(Clone, Debug, Default)]
pub struct RecipientState {
    pub(super) address: Address,
    pub(super) exists: Option<bool>,
}

/// What a session has told so far.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) now: Instant,
    pub(super) peer: Peer,
    pub(super) greeting: Greeting,
    pub(super) transaction: Transaction,
    pub(super) recipient: RecipientState,
    /// Argument of VRFY or EXPN.
    pub(super) query: String,
    /// What was found out.
    pub(super) found: Found,
    /// What a recording could not tell; nothing in a live session.
    pub(super) missing: Missing,
    /// Points so far.
    pub(super) scores: Scores,
    /// How much of limits is in use, in percent, for conditions that ask.
    pub(super) used: Vec<(Arc<str>, Option<u64>)>,
    /// What was remembered from before the run, as a recording tells it; nothing in a live session.
    pub(super) priors: Vec<Prior>,
}

impl State {
    /// Calendar time now, from the session's start and the monotonic clock.
    pub(super) fn wall(&self) -> WallTime {
        self.peer.opened_wall + self.now.since(self.peer.opened)
    }
    /// Forgets the transaction, keeps its buffers.
    pub(super) fn reset(&mut self) {
        let t = &mut self.transaction;
        t.sender.clear();
        (t.declared_octets, t.body, t.smtputf8) = (None, BodyType::default(), false);
        (t.accepted, t.refused, t.shape) = (0, 0, BodyShape::default());
        (t.domain, t.domain_hangs) = (None, false);
        self.scores.end_transaction();
        self.recipient.address.clear();
        self.recipient.exists = None;
    }
    /// Its buffers, empty, for another session.
    pub(super) fn take_buffers(&mut self) -> [String; 5] {
        let t = &mut self.transaction;
        let all = [
            &mut self.greeting.name,
            &mut t.sender.text,
            &mut self.recipient.address.text,
            &mut self.peer.user,
            &mut self.query,
        ];
        all.map(|text| {
            text.clear();
            std::mem::take(text)
        })
    }
    /// Buffers of another session, in place of its own.
    pub(super) fn give_buffers(&mut self, [name, sender, recipient, user, query]: [String; 5]) {
        self.greeting.name = name;
        self.transaction.sender.text = sender;
        self.recipient.address.text = recipient;
        (self.peer.user, self.query) = (user, query);
    }
    /// How much of a limit is in use.
    pub(super) fn limit_used(&self, name: &str) -> Value<'_> {
        let percent = self.used.iter().find(|(known, _)| **known == *name).and_then(|(_, percent)| *percent);
        percent.map_or(Value::Unknown, Value::count)
    }
    /// The value of a fact that somebody finds out.
    pub(super) fn heard(&self, fact: FactId) -> Value<'_> {
        match self.found.fact(fact) {
            Some(given) => given.value(),
            None => {
                self.missing.unheard(fact);
                Value::Unknown
            }
        }
    }
    /// The value of a function of a name that somebody finds out.
    pub(super) fn heard_of(&self, function: &str, argument: &str) -> Value<'_> {
        match self.found.call(function, argument) {
            Some(given) => given.value(),
            None => {
                self.missing.unheard_call();
                Value::Unknown
            }
        }
    }
}

/// What facts are read from: the session, and the header section of the message where there is one.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The session.
    pub state: &'a State,
    /// Header section, from the first octet of the message.
    pub headers: &'a [u8],
}
