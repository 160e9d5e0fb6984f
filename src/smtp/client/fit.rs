//! Whether a message fits what a backend offers, before a word of it is said. We never convert a body or an address:
//! what does not fit is refused with the code its RFC names, rather than corrupted.
//!
//! How it fails: nothing here fails; a misfit is a [`Reply`] in the backend's place.

use crate::base::body::{Body, Store};
use crate::base::envelope::{BodyType, Envelope};
use crate::smtp::client::config::ClientKnobs;
use crate::smtp::client::event::Delivery;
use crate::wire::reply::{Enhanced, Reply};
use crate::wire::response::Capabilities;

/// How a message will be declared to the backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fit {
    /// BODY= to declare.
    pub body: BodyType,
    /// Whether to declare SMTPUTF8.
    pub smtputf8: bool,
    /// Octets to be sent, trace fields included.
    pub octets: u64,
}

/// How the message fits, or the reply that every recipient gets.
pub(super) fn message(delivery: &Delivery, offered: &Capabilities, knobs: &ClientKnobs) -> Result<Fit, Reply> {
    let octets = delivery.prefix.len() as u64 + delivery.body.shape.octets;
    if let Some(limit) = offered.size.filter(|n| *n > 0 && octets > *n) {
        // RFC 1870 §6.1 (3): the fixed maximum is known, so the answer is too.
        let text = format!("the message of {octets} octets is larger than the {limit} the next server takes");
        return Err(Reply::new(552, Some(Enhanced(5, 3, 4)), text));
    }
    let body = body_type(&delivery.envelope, &delivery.body, offered, knobs)?;
    let smtputf8 = smtputf8(delivery, offered)?;
    Ok(Fit { body, smtputf8, octets })
}

/// What one recipient gets instead of RCPT, when it cannot be sent as it is.
pub(super) fn recipient(is_international: bool, offered: &Capabilities) -> Result<(), Reply> {
    if is_international && !offered.smtputf8 {
        return Err(foreign_address()); // RFC 6531 §3.2
    }
    Ok(())
}

/// Recipients beyond RCPTMAX of RFC 9422 §4.2: another transaction has room for them.
pub(super) fn one_too_many(rcptmax: u64) -> Reply {
    let text = format!("the next server takes {rcptmax} recipients at a time");
    Reply::new(452, Some(Enhanced(4, 5, 3)), text)
}

fn body_type(envelope: &Envelope, body: &Body, offered: &Capabilities, knobs: &ClientKnobs) -> Result<BodyType, Reply> {
    if body.shape.binary || envelope.parameters.body == BodyType::BinaryMime {
        if offered.binarymime {
            return Ok(BodyType::BinaryMime);
        }
        // RFC 3030 §3: without BINARYMIME convert or return it; 5.6.3 is "conversion required but not supported".
        let text = "the message is binary and the next server does not offer BINARYMIME";
        return Err(Reply::new(554, Some(Enhanced(5, 6, 3)), text));
    }
    if !body.shape.eight_bit {
        return Ok(BodyType::SevenBit);
    }
    if !offered.eight_bit_mime && !knobs.eight_bit_anyway {
        // RFC 6152 §3: without 8BITMIME convert or return it.
        let text = "the message has 8-bit octets and the next server does not offer 8BITMIME";
        return Err(Reply::new(554, Some(Enhanced(5, 6, 3)), text));
    }
    Ok(BodyType::EightBitMime)
}

/// Whether SMTPUTF8 is to be declared; what came with it and does not need it may go to any server.
fn smtputf8(delivery: &Delivery, offered: &Capabilities) -> Result<bool, Reply> {
    let asked = delivery.envelope.parameters.smtputf8;
    let foreign_sender = delivery.envelope.sender.mailbox().is_some_and(|m| m.is_international());
    if offered.smtputf8 {
        let foreign = foreign_sender || recipients(delivery).any(|international| international);
        return Ok(asked || foreign);
    }
    if foreign_sender {
        return Err(foreign_address());
    }
    if asked && header_is_eight_bit(&delivery.body) {
        let text = "the message has non-ASCII header fields and the next server does not offer SMTPUTF8";
        return Err(Reply::new(554, Some(Enhanced(5, 6, 9)), text)); // RFC 6531 §3.5
    }
    Ok(false)
}

fn recipients(delivery: &Delivery) -> impl Iterator<Item = bool> + '_ {
    let all = &delivery.envelope.recipients;
    delivery.recipients.iter().filter_map(|i| all.get(*i as usize)).map(|r| r.mailbox.is_international())
}

fn foreign_address() -> Reply {
    let text = "the address has non-ASCII characters and the next server does not offer SMTPUTF8";
    Reply::new(553, Some(Enhanced(5, 6, 7)), text)
}

fn header_is_eight_bit(body: &Body) -> bool {
    let mut left = usize::try_from(body.shape.header_octets).unwrap_or(usize::MAX);
    let mut any = |octets: &[u8]| {
        let n = octets.len().min(left);
        left -= n;
        !octets[..n].is_ascii()
    };
    match &body.store {
        Store::Memory(chunks) => chunks.iter().any(|c| any(c)),
        Store::File { head, .. } => any(head),
    }
}
