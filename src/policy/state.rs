//! What a session has told so far: the raw material of facts. Split by lifetime, so that reset drops what it must.
//!
//! Texts are kept in buffers that are used again, so that a session does not allocate once they have grown.
//! How it fails: it does not.

use super::missing::Missing;
use super::texts::normal_domain;
use super::value::{Given, Value};
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

/// Everything of the connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    pub(super) facts: ClientFacts,
    pub(super) ip: Option<IpAddr>,
    pub(super) opened: Instant,
    pub(super) opened_wall: WallTime,
    pub(super) early_talker: bool,
    pub(super) errors: u64,
    pub(super) auth_failures: u64,
    pub(super) messages: u64,
    pub(super) user: String,
    pub(super) load: Load,
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
    /// Answers of lookups, by fact.
    pub(super) looked: Vec<(u16, Given)>,
    /// What a recording could not tell; nothing in a live session.
    pub(super) missing: Missing,
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
        self.recipient.address.clear();
        self.recipient.exists = None;
    }
    pub(super) fn looked(&self, fact: u16) -> Value<'_> {
        self.looked.iter().find(|(id, _)| *id == fact).map_or(Value::Unknown, |(_, given)| given.value())
    }
    pub(super) fn set_looked(&mut self, fact: u16, given: Given) {
        match self.looked.iter_mut().find(|(id, _)| *id == fact) {
            Some(slot) => slot.1 = given,
            None => self.looked.push((fact, given)),
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
