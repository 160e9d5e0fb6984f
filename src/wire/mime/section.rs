//! Sections of a message (RFC 9051 §6.4.5.1): which octets `BODY[1.2.HEADER.FIELDS (To)]<0.100>` and `BINARY[3]` are.
//!
//! What stands in the message in one piece is told as a range and not copied. How it fails: `None` where there is no
//! such part, [`SectionOctets::UnknownEncoding`] where a part cannot be decoded.

use super::content::{ContentFields, token};
use super::decode::{Encoding, decode};
use super::header::{fields, header_section};
use super::structure::{Kind, Part, PartId, Structure};
use crate::base::mailbox::ask::{Section, SectionWhat};
use std::ops::Range;

/// The octets of a section, `partial` applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionOctets {
    /// These of the message.
    Range(Range<usize>),
    /// Octets that do not stand in the message like that.
    Owned(Vec<u8>),
    /// A transfer encoding that is not known, or a part that has none of its own (RFC 3516 §4.3, UNKNOWN-CTE).
    UnknownEncoding,
}

/// What a section is in this message; `None` when there is no such part.
pub fn section(message: &[u8], structure: &Structure, what: &Section) -> Option<SectionOctets> {
    let place = find(structure, &what.part)?;
    let octets = whole(message, structure, what, place)?;
    Some(match what.partial {
        Some((first, octets_max)) => partial(octets, first, octets_max),
        None => octets,
    })
}

/// Where part numbers lead: to a message, or to a part.
#[derive(Clone, Copy)]
enum Place {
    /// The message itself; only without part numbers.
    Message(PartId),
    Part(PartId),
}

/// RFC 9051 §6.4.5.1: numbers go through multiparts; a message inside is gone through to its parts; what is no
/// multipart has its text as part 1.
fn find(structure: &Structure, numbers: &[u32]) -> Option<Place> {
    let mut place = Place::Message(structure.root());
    for number in numbers {
        let mut entity = match place {
            Place::Message(id) => id,
            Place::Part(id) => match structure.part(id).kind {
                Kind::Multipart => id,
                Kind::Message => structure.children(id).next()?,
                Kind::Leaf | Kind::Opaque => return None,
            },
        };
        if structure.part(entity).kind == Kind::Multipart {
            entity = structure.children(entity).nth(number.checked_sub(1)? as usize)?;
        } else if *number != 1 {
            return None;
        }
        place = Place::Part(entity);
    }
    Some(place)
}

fn whole(message: &[u8], structure: &Structure, what: &Section, place: Place) -> Option<SectionOctets> {
    let range = match (&what.what, place) {
        (SectionWhat::All, Place::Message(id)) => structure.part(id).whole(),
        (SectionWhat::All, Place::Part(id)) if what.decoded => return Some(decoded(message, structure.part(id))),
        (SectionWhat::All, Place::Part(id)) => structure.part(id).body(),
        // RFC 9051 §6.4.5.1: MIME is of parts.
        (SectionWhat::Mime, Place::Message(_)) => return None,
        (SectionWhat::Mime, Place::Part(id)) => structure.part(id).header(),
        (SectionWhat::Header, _) => message_at(structure, place)?.header(),
        (SectionWhat::Text, _) => message_at(structure, place)?.body(),
        (SectionWhat::Fields { names, not }, _) => {
            let header = message.get(message_at(structure, place)?.header())?;
            return Some(SectionOctets::Owned(some_fields(header, names, *not)));
        }
    };
    Some(SectionOctets::Range(range))
}

/// HEADER, HEADER.FIELDS and TEXT are of messages: of the whole one, or of one that a part contains.
fn message_at(structure: &Structure, place: Place) -> Option<&Part> {
    match place {
        Place::Message(id) => Some(structure.part(id)),
        Place::Part(id) if structure.part(id).kind == Kind::Message => {
            structure.children(id).next().map(|inner| structure.part(inner))
        }
        Place::Part(_) => None,
    }
}

/// The fields of these names, or all but these, and the empty line, unless the message has none (RFC 9051 §6.4.5.1).
fn some_fields(header: &[u8], names: &[String], not: bool) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields(header) {
        let named = names.iter().any(|name| field.is(name));
        if named != not {
            out.extend_from_slice(field.whole);
            if !out.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
    }
    if header_section(header).is_some() {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// BINARY: without the transfer encoding.
fn decoded(message: &[u8], part: &Part) -> SectionOctets {
    let header = message.get(part.header()).unwrap_or_default();
    let encoding = Encoding::of(ContentFields::of(header).encoding.and_then(token));
    match (part.kind, encoding) {
        // A multipart has no encoding of its own to take away (RFC 2045 §6.4).
        (Kind::Multipart, _) | (_, Encoding::Unknown) => SectionOctets::UnknownEncoding,
        (_, Encoding::Identity) => SectionOctets::Range(part.body()),
        (_, encoding) => SectionOctets::Owned(decode(message.get(part.body()).unwrap_or_default(), encoding)),
    }
}

/// RFC 9051 §6.4.5: octets beyond the end are left out; a beginning beyond it is the empty string.
fn partial(octets: SectionOctets, first: u64, octets_max: u64) -> SectionOctets {
    let cut = |length: usize| {
        let first = usize::try_from(first).unwrap_or(usize::MAX).min(length);
        let octets_max = usize::try_from(octets_max).unwrap_or(usize::MAX);
        first..first.saturating_add(octets_max).min(length)
    };
    match octets {
        SectionOctets::Range(range) => {
            let piece = cut(range.len());
            SectionOctets::Range(range.start + piece.start..range.start + piece.end)
        }
        SectionOctets::Owned(mut owned) => {
            let piece = cut(owned.len());
            owned.truncate(piece.end);
            owned.drain(..piece.start);
            SectionOctets::Owned(owned)
        }
        SectionOctets::UnknownEncoding => SectionOctets::UnknownEncoding,
    }
}
