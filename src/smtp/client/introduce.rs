//! XCLIENT: telling the backend for whom the next message is, so that its own checks and logs see the real client.
//!
//! The backend forgets the session and greets again (Postfix, XCLIENT_README), so each change of client costs two round
//! trips; what was told last is not told twice. How it fails: a backend that was to be told and does not listen gets no
//! message, because it would take the client for us, whom it trusts.

use crate::base::envelope::Origin;
use crate::base::time::Instant;
use crate::smtp::client::event::{ClientError, Delivery, Fate, Outcome, Phase};
use crate::smtp::client::{Client, Owed, State};
use crate::wire::reply::Reply;
use crate::wire::response::Capabilities;
use crate::wire::xtext;
use std::fmt::Write;
use std::net::IpAddr;

/// Whether the backend is told about the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Introduce {
    /// It sees our own address.
    #[default]
    Never,
    /// By XCLIENT, which it must offer.
    Xclient,
}

/// What stands for an attribute nobody knows.
const UNAVAILABLE: &str = "[UNAVAILABLE]";
/// Longer names are not told: the command line has 512 octets (RFC 5321 §4.5.3.1.4).
const NAME_OCTETS_MAX: usize = 128;

impl Client {
    /// Begins a delivery, after telling the backend about its client where that is wanted and not yet done.
    pub(super) fn introduce(&mut self, now: Instant, delivery: Delivery) {
        if self.config.introduce == Introduce::Xclient {
            let line = xclient_line(&delivery.envelope.origin, &self.offered);
            if self.session.introduced.as_deref() != Some(line.as_str()) {
                if !self.owed.is_empty() && !self.offered.pipelining {
                    // XCLIENT between RSET and its reply would need PIPELINING; the reply continues here.
                    self.state = State::Introducing(Box::new(delivery), Some(line));
                    return;
                }
                return self.say_xclient(delivery, line);
            }
        }
        self.begin(now, delivery);
    }

    fn say_xclient(&mut self, delivery: Delivery, line: String) {
        self.say(Owed::Xclient, &line);
        self.session.introduced = Some(line);
        self.state = State::Introducing(Box::new(delivery), None);
    }

    /// The reply to RSET came while a client waited to be introduced.
    pub(super) fn introduce_now(&mut self) {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Introducing(delivery, Some(line)) => self.say_xclient(*delivery, line),
            other => self.state = other,
        }
    }

    /// The reply to XCLIENT, or to the EHLO after it.
    pub(super) fn xclient_reply(&mut self, now: Instant, owed: Owed, reply: Reply) {
        match (owed, reply.code) {
            (Owed::Xclient, 220) => self.say_hello(Owed::EhloAgain),
            (Owed::EhloAgain, 250) => {
                self.offered = Capabilities::from_ehlo(&reply);
                if let State::Introducing(delivery, _) = std::mem::replace(&mut self.state, State::Ready) {
                    self.begin(now, *delivery);
                }
            }
            (_, 400..) => self.fail(ClientError::Unwelcome { at: Phase::Xclient, reply }),
            _ => self.fail(ClientError::Senseless { at: Phase::Xclient, reply }),
        }
    }
}

/// The end of a delivery that was never begun. `answered` keeps it from being tried again as if the connection had
/// merely been closed meanwhile.
pub(super) fn not_begun(delivery: &Delivery, at: Phase, error: &ClientError) -> Outcome {
    let refused = match error {
        ClientError::Unwelcome { reply, .. } => Some(reply),
        _ => None,
    };
    let fate = match refused {
        Some(reply) => Fate::Refused { reply: reply.clone(), at },
        None => Fate::Lost { at, committed_unknown: false, error: error.clone() },
    };
    let recipients = delivery.recipients.iter().map(|i| (*i, fate.clone())).collect();
    Outcome { recipients, reusable: false, answered: refused.is_some() }
}

fn xclient_line(origin: &Origin, offered: &Capabilities) -> String {
    let mut line = String::from("XCLIENT");
    for name in &offered.xclient {
        let value = match (name.as_str(), &origin.client) {
            ("ADDR", Some(client)) => match client.ip().to_canonical() {
                IpAddr::V4(ip) => ip.to_string(),
                IpAddr::V6(ip) => format!("IPV6:{ip}"),
            },
            ("PORT", Some(client)) => client.port().to_string(),
            ("HELO", _) => known(&origin.helo),
            ("LOGIN", _) => origin.user.as_deref().map_or_else(|| UNAVAILABLE.into(), known),
            ("PROTO", _) => if origin.protocol.extended { "ESMTP" } else { "SMTP" }.into(),
            // What the last client had must not stay in force for this one.
            ("ADDR" | "PORT" | "NAME", _) => UNAVAILABLE.into(),
            _ => continue,
        };
        // Writing to a String cannot fail.
        let _ = write!(line, " {name}={value}");
    }
    line.push_str("\r\n");
    line
}

fn known(text: &str) -> String {
    if text.is_empty() || text.len() > NAME_OCTETS_MAX { UNAVAILABLE.into() } else { xtext::encode(text) }
}
