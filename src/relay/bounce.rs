//! Delivery status notifications (RFC 3464 in the form of RFC 6522) as RFC 3461 wants them: failures, delays, successes.
//!
//! Composed from values only: the envelope, the header section or the message, what became of each recipient, ids and
//! time. How it fails: what must not be reported is an [`Unreported`] that says why; a report about a report (null
//! sender) never leaves, the caller logs it.

mod lines;
mod status;
#[cfg(test)]
mod tests;
mod text;

use crate::base::address::{Domain, Mailbox, ReversePath};
use crate::base::body::BodyShape;
use crate::base::envelope::{BodyType, Envelope, MailParameters, Origin, Protocol, Recipient, Ret};
use crate::base::id::SpoolId;
use crate::base::time::WallTime;
use crate::relay::knobs::RelayKnobs;
use crate::wire::reply::Reply;

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Delivery was given up.
    Failure,
    /// Delivery is late and goes on.
    Delay {
        /// Until when it is tried (`Will-Retry-Until`).
        until: WallTime,
    },
    /// What became of recipients that asked for NOTIFY=SUCCESS.
    Success,
}

/// What became of a recipient (RFC 3464 §2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Given up.
    Failed,
    /// Not yet.
    Delayed,
    /// In a mailbox.
    Delivered,
    /// Handed to a server that does not report for us (no DSN offered).
    Relayed,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Action::Failed => "failed",
            Action::Delayed => "delayed",
            Action::Delivered => "delivered",
            Action::Relayed => "relayed",
        }
    }
}

/// One recipient of the message that is reported about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reported {
    /// Index into the envelope's recipients.
    pub recipient: u32,
    /// What became of it.
    pub action: Action,
    /// The reply that decided, or the last one.
    pub reply: Option<Reply>,
    /// Whose reply it was, when it was not our own.
    pub remote: Option<String>,
    /// When it was last tried.
    pub last_attempt: Option<WallTime>,
}

/// What is returned of the message.
#[derive(Clone, Copy, Debug)]
pub struct Returned<'a> {
    /// Its header section with or without the empty line, trace fields first.
    pub header: &'a [u8],
    /// All of it, where it is at hand: sent back only when RET=FULL asks for it and the size allows it.
    pub message: Option<&'a [u8]>,
}

/// Who reports.
#[derive(Clone, Debug)]
pub struct Reporter<'a> {
    /// Our name.
    pub hostname: &'a Domain,
    /// The notification's own id, for its boundary and Message-ID.
    pub id: SpoolId,
    /// Now.
    pub now: WallTime,
    /// Sizes.
    pub knobs: &'a RelayKnobs,
}

/// A notification, ready to be put into the spool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// From the null path to the sender.
    pub envelope: Envelope,
    /// The message, lines ended by CRLF.
    pub message: Vec<u8>,
    /// What a receiver would have learnt about it.
    pub shape: BodyShape,
}

/// Why nothing is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreported {
    /// The message came from the null path: a report would be a report about a report (RFC 3461 §6.1).
    NullSender,
    /// Nobody wants to know (NOTIFY=NEVER or other events only).
    NobodyAsked,
}

impl std::fmt::Display for Unreported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Unreported::NullSender => "the message came from the null sender",
            Unreported::NobodyAsked => "no recipient's NOTIFY asks for it",
        })
    }
}

/// Whether the sender wants to know (RFC 3461 §4.1). Without NOTIFY: failures and delays.
pub fn is_wanted(recipient: &Recipient, kind: Kind) -> bool {
    match (recipient.notify, kind) {
        (None, Kind::Failure | Kind::Delay { .. }) => true,
        (None, Kind::Success) => false,
        (Some(notify), Kind::Failure) => notify.failure,
        (Some(notify), Kind::Delay { .. }) => notify.delay,
        (Some(notify), Kind::Success) => notify.success,
    }
}

/// Composes one notification about all of `reported` that the sender wants to know of.
pub fn compose(
    kind: Kind,
    envelope: &Envelope,
    reported: &[Reported],
    returned: Returned<'_>,
    reporter: &Reporter<'_>,
) -> Result<Notification, Unreported> {
    let ReversePath::Mailbox(sender) = &envelope.sender else { return Err(Unreported::NullSender) };
    let wanted: Vec<(&Recipient, &Reported)> = reported
        .iter()
        .filter_map(|r| envelope.recipients.get(r.recipient as usize).map(|recipient| (recipient, r)))
        .filter(|(recipient, _)| is_wanted(recipient, kind))
        .collect();
    if wanted.is_empty() {
        return Err(Unreported::NobodyAsked);
    }
    let report = Report { kind, envelope, sender, wanted, reporter };
    let message = report.message(returned);
    let shape = shape_of(&message);
    Ok(Notification { envelope: report.own_envelope(&shape), message, shape })
}

/// A notification being composed.
struct Report<'a> {
    kind: Kind,
    envelope: &'a Envelope,
    sender: &'a Mailbox,
    wanted: Vec<(&'a Recipient, &'a Reported)>,
    reporter: &'a Reporter<'a>,
}

/// A MIME part without its boundary.
struct Part {
    content_type: &'static str,
    description: &'static str,
    body: Vec<u8>,
}

impl Report<'_> {
    /// Whether the types of RFC 6533 are needed: an address or the returned header is not ASCII.
    fn is_international(&self) -> bool {
        self.envelope.parameters.smtputf8
            || self.sender.is_international()
            || self.wanted.iter().any(|(recipient, _)| recipient.mailbox.is_international())
    }

    fn message(&self, returned: Returned<'_>) -> Vec<u8> {
        let international = self.is_international();
        let parts = [self.text_part(), self.status_part(international), self.returned_part(returned, international)];
        let boundary = boundary(self.reporter.id, &parts);
        let mut out = self.header(returned.header, &boundary, parts.iter().any(|p| !p.body.is_ascii()));
        out.extend_from_slice(b"This is a report in several parts (MIME).\r\n");
        for part in &parts {
            out.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
            part.emit(&mut out);
        }
        out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        out
    }

    fn header(&self, original: &[u8], boundary: &str, eight_bit: bool) -> Vec<u8> {
        let (host, now) = (self.reporter.hostname, self.reporter.now);
        let mut out = String::new();
        out.push_str(&format!("Date: {}\r\n", now.rfc5322()));
        out.push_str(&format!("From: Mail Delivery System <MAILER-DAEMON@{host}>\r\n"));
        out.push_str(&format!("To: <{}>\r\n", self.sender));
        out.push_str(&format!("Subject: {}\r\n", text::subject(self.kind)));
        out.push_str(&format!("Message-ID: <{}.dsn@{host}>\r\n", self.reporter.id));
        if let Some(id) = lines::message_id(original) {
            out.push_str(&format!("In-Reply-To: {id}\r\nReferences: {id}\r\n"));
        }
        out.push_str("Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"); // RFC 3834 §5
        out.push_str("Content-Type: multipart/report; report-type=delivery-status;\r\n");
        out.push_str(&format!("\tboundary=\"{boundary}\"\r\n"));
        if eight_bit {
            out.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        out.push_str("\r\n");
        out.into_bytes()
    }

    fn text_part(&self) -> Part {
        let body = text::body(self.kind, self.reporter, &self.wanted).into_bytes();
        let content_type = if body.is_ascii() { "text/plain; charset=us-ascii" } else { "text/plain; charset=utf-8" };
        Part { content_type, description: "Notification", body }
    }

    fn status_part(&self, international: bool) -> Part {
        let content_type = if international { "message/global-delivery-status" } else { "message/delivery-status" };
        let body = status::body(self.kind, self.envelope, self.reporter, &self.wanted, international);
        Part { content_type, description: "Delivery report", body }
    }

    /// The message where RET=FULL asks for it and it is a failure (RFC 3461 §4.3, §6.2), else its header section. RET
    /// left out means the header section: mail with a forged sender should not carry its payload to the victim.
    fn returned_part(&self, returned: Returned<'_>, international: bool) -> Part {
        let full = self.kind == Kind::Failure && self.envelope.parameters.ret == Some(Ret::Full);
        let limit = self.reporter.knobs.bounce_message_octets_max.0;
        let message = returned.message.filter(|m| full && m.len() as u64 <= limit && lines::is_text(m));
        if let Some(message) = message {
            let content_type = if international { "message/global" } else { "message/rfc822" };
            return Part { content_type, description: "Undelivered message", body: message.to_vec() };
        }
        let octets_max = usize::try_from(self.reporter.knobs.bounce_headers_octets_max.0).unwrap_or(usize::MAX);
        let content_type = if international { "message/global-headers" } else { "text/rfc822-headers" };
        let body = lines::header_section(returned.header, octets_max);
        Part { content_type, description: "Headers of the message", body }
    }

    fn own_envelope(&self, shape: &BodyShape) -> Envelope {
        let body = if shape.eight_bit { BodyType::EightBitMime } else { BodyType::SevenBit };
        // Only the sender's address stands in our header section; the parts get by with 8BITMIME.
        let smtputf8 = self.sender.is_international();
        Envelope {
            origin: Origin {
                session: self.envelope.origin.session,
                received: self.reporter.now,
                client: None,
                helo: self.reporter.hostname.as_str().to_owned(),
                protocol: Protocol::default(),
                user: None,
            },
            sender: ReversePath::Null, // RFC 3461 §6.1
            parameters: MailParameters { size: Some(shape.octets), body, smtputf8, ..MailParameters::default() },
            recipients: vec![Recipient::plain(self.sender.clone())],
        }
    }
}

impl Part {
    fn emit(&self, out: &mut Vec<u8>) {
        let mut header =
            format!("Content-Type: {}\r\nContent-Description: {}\r\n", self.content_type, self.description);
        if !self.body.is_ascii() {
            header.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.body);
        if !self.body.ends_with(b"\r\n") {
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A boundary that stands in none of the parts: the returned one is written by others, who may have guessed it.
fn boundary(id: SpoolId, parts: &[Part]) -> String {
    let mut boundary = format!("gatepost-{id}");
    for number in 0u32.. {
        if parts.iter().all(|p| memchr::memmem::find(&p.body, boundary.as_bytes()).is_none()) {
            break;
        }
        boundary = format!("gatepost-{id}-{number}");
    }
    boundary
}

fn shape_of(message: &[u8]) -> BodyShape {
    debug_assert!(lines::is_text(message));
    let header = memchr::memmem::find(message, b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    BodyShape {
        octets: message.len() as u64,
        eight_bit: !message.is_ascii(),
        needs_stuffing: memchr::memmem::find(message, b"\r\n.").is_some(),
        ends_with_crlf: true,
        binary: false,
        header_octets: header as u64,
        received_fields: 0,
    }
}
