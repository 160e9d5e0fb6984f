//! The octets of the queue's records: the front of a message record (all but its body) and the snapshot of its state.
//!
//! How it fails: decoding returns [`CodecError`]; a front whose own checksum is wrong is an error too, so that it can be
//! read without the body behind it.

use super::index::{Entry, RecipientState, Status};
use super::report::ReportKind;
use crate::base::body::BodyShape;
use crate::base::codec::{CodecError, Reader, Writer};
use crate::base::envelope::Envelope;
use crate::base::time::WallTime;
use crate::wire::reply::{Enhanced, Reply};
use std::borrow::Cow;

pub(super) const KIND_MESSAGE: u8 = 1;
pub(super) const KIND_STATE: u8 = 2;
pub(super) const KIND_TOMBSTONE: u8 = 3;

const VERSION: u8 = 1;
/// Of a reply, as much is kept: what a report quotes, not what a hostile server would like us to store.
const REPLY_LINES_MAX: usize = 8;
const REPLY_LINE_OCTETS_MAX: usize = 512;

/// The front of a message record.
#[derive(Clone, Debug)]
pub(super) struct Front {
    pub shape: BodyShape,
    /// The body's file, when it is not behind the front.
    pub file: Option<u64>,
    pub next_attempt: WallTime,
    pub hold: Option<String>,
    pub routes: Vec<String>,
    pub prefix: Vec<u8>,
    pub envelope: Envelope,
}

/// Octets before the front: its length and checksum.
pub(super) const FRONT_HEAD_OCTETS: usize = 8;

impl Front {
    /// Appends length, checksum and front.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; FRONT_HEAD_OCTETS]);
        let mut w = Writer(out);
        w.octet(VERSION);
        write_shape(&mut w, &self.shape);
        w.option(self.file, |w, id| w.varint(id));
        w.varint(self.next_attempt.as_millis());
        w.option(self.hold.as_deref(), |w, t| w.text(t));
        write_routes(&mut w, &self.routes);
        w.bytes(&self.prefix);
        self.envelope.encode(out);
        let front = &out[start + FRONT_HEAD_OCTETS..];
        let (octets, crc) = (front.len() as u32, crc32c::crc32c(front));
        out[start..start + 4].copy_from_slice(&octets.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Octets of length, checksum and front together, from the first eight octets.
    pub fn octets(head: &[u8]) -> Option<usize> {
        let octets = head.get(..4)?.try_into().ok().map(u32::from_le_bytes)?;
        Some(FRONT_HEAD_OCTETS + octets as usize)
    }

    /// Reads what [`Front::encode`] wrote; what follows it is the body.
    pub fn decode(bytes: &[u8]) -> Result<Front, CodecError> {
        let wrong = |expected| CodecError { at: 0, expected };
        let octets = Front::octets(bytes).ok_or_else(|| wrong("the length of a front"))?;
        let front = bytes.get(FRONT_HEAD_OCTETS..octets).ok_or_else(|| wrong("a whole front"))?;
        if bytes[4..8] != crc32c::crc32c(front).to_le_bytes() {
            return Err(wrong("a front with its checksum"));
        }
        let mut r = Reader::new(front);
        if r.octet()? != VERSION {
            return Err(r.error("message version 1"));
        }
        Ok(Front {
            shape: read_shape(&mut r)?,
            file: r.option(Reader::varint)?,
            next_attempt: WallTime::from_millis(r.varint()?),
            hold: r.option(|r| r.text().map(str::to_owned))?,
            routes: read_routes(&mut r)?,
            prefix: r.bytes()?.to_vec(),
            envelope: Envelope::decode(&mut r)?,
        })
    }
}

fn write_shape(w: &mut Writer<'_>, s: &BodyShape) {
    w.varint(s.octets);
    let flags = [s.eight_bit, s.needs_stuffing, s.ends_with_crlf, s.binary];
    w.octet(flags.iter().enumerate().map(|(i, on)| u8::from(*on) << i).sum());
    w.varint(s.header_octets);
    w.varint(u64::from(s.received_fields));
}

fn read_shape(r: &mut Reader<'_>) -> Result<BodyShape, CodecError> {
    let octets = r.varint()?;
    let flags = r.octet()?;
    let on = |i: u8| flags >> i & 1 == 1;
    Ok(BodyShape {
        octets,
        eight_bit: on(0),
        needs_stuffing: on(1),
        ends_with_crlf: on(2),
        binary: on(3),
        header_octets: r.varint()?,
        received_fields: u32::try_from(r.varint()?).map_err(|_| r.error("a count of fields"))?,
    })
}

/// Each route once, then for each recipient which.
fn write_routes(w: &mut Writer<'_>, routes: &[String]) {
    let mut names: Vec<&str> = Vec::new();
    let mut known = std::collections::HashMap::new();
    let indexes: Vec<u64> = routes
        .iter()
        .map(|route| {
            *known.entry(route.as_str()).or_insert_with(|| {
                names.push(route);
                names.len() as u64 - 1
            })
        })
        .collect();
    w.varint(names.len() as u64);
    names.iter().for_each(|n| w.text(n));
    w.varint(indexes.len() as u64);
    indexes.into_iter().for_each(|i| w.varint(i));
}

fn read_routes(r: &mut Reader<'_>) -> Result<Vec<String>, CodecError> {
    let mut names = Vec::new();
    for _ in 0..r.varint()? {
        names.push(r.text()?.to_owned());
    }
    let mut routes = Vec::new();
    for _ in 0..r.varint()? {
        let index = usize::try_from(r.varint()?).unwrap_or(usize::MAX);
        routes.push(names.get(index).ok_or_else(|| r.error("the number of a route"))?.clone());
    }
    Ok(routes)
}

/// What a state record says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct State {
    pub hold: Option<String>,
    pub legs: Vec<LegSnapshot>,
    pub recipients: Vec<RecipientSnapshot>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct LegSnapshot {
    pub destination: String,
    pub due: WallTime,
    pub attempts: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct RecipientSnapshot {
    pub leg: u32,
    pub status: Status,
    pub due: Option<ReportKind>,
    pub delay_told: bool,
    pub reply: Option<Reply>,
}

/// Appends the snapshot of an entry; `name` gives the destination of a leg.
pub(super) fn encode_state<'n>(entry: &Entry, name: impl Fn(usize) -> &'n str, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    w.octet(VERSION);
    w.option(entry.hold.as_deref(), |w, t| w.text(t));
    w.varint(entry.legs.len() as u64);
    for (i, leg) in entry.legs.iter().enumerate() {
        w.text(name(i));
        w.varint(leg.due.as_millis());
        w.varint(u64::from(leg.attempts));
    }
    w.varint(entry.recipients.len() as u64);
    entry.recipients.iter().for_each(|r| write_recipient(&mut w, r));
}

fn write_recipient(w: &mut Writer<'_>, r: &RecipientState) {
    w.varint(u64::from(r.leg));
    let status = match r.status {
        Status::Waiting => 0,
        Status::Delivered => 1,
        Status::Failed => 2,
        Status::Removed => 3,
    };
    // A report that is only taken has not been sent yet.
    let report = match r.due.or(r.taken) {
        None => 0,
        Some(ReportKind::Failure) => 1,
        Some(ReportKind::Delay) => 2,
        Some(ReportKind::Success) => 3,
    };
    w.octet(status | report << 2 | u8::from(r.delay_told) << 4);
    w.option(r.reply.as_deref(), write_reply);
}

impl State {
    /// Reads what [`encode_state`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<State, CodecError> {
        let mut r = Reader::new(bytes);
        if r.octet()? != VERSION {
            return Err(r.error("state version 1"));
        }
        let hold = r.option(|r| r.text().map(str::to_owned))?;
        let mut legs = Vec::new();
        for _ in 0..r.varint()? {
            let destination = r.text()?.to_owned();
            let due = WallTime::from_millis(r.varint()?);
            let attempts = u32::try_from(r.varint()?).map_err(|_| r.error("a count of attempts"))?;
            legs.push(LegSnapshot { destination, due, attempts });
        }
        let mut recipients = Vec::new();
        for _ in 0..r.varint()? {
            recipients.push(read_recipient(&mut r, legs.len())?);
        }
        Ok(State { hold, legs, recipients })
    }
}

fn read_recipient(r: &mut Reader<'_>, legs: usize) -> Result<RecipientSnapshot, CodecError> {
    let leg = u32::try_from(r.varint()?).ok().filter(|l| (*l as usize) < legs);
    let leg = leg.ok_or_else(|| r.error("the number of a leg"))?;
    let bits = r.octet()?;
    let status = match bits & 3 {
        0 => Status::Waiting,
        1 => Status::Delivered,
        2 => Status::Failed,
        _ => Status::Removed,
    };
    let due = match bits >> 2 & 3 {
        0 => None,
        1 => Some(ReportKind::Failure),
        2 => Some(ReportKind::Delay),
        _ => Some(ReportKind::Success),
    };
    Ok(RecipientSnapshot { leg, status, due, delay_told: bits >> 4 & 1 == 1, reply: r.option(read_reply)? })
}

fn write_reply(w: &mut Writer<'_>, reply: &Reply) {
    w.varint(u64::from(reply.code));
    w.option(reply.enhanced, |w, e| {
        w.octet(e.0);
        w.varint(u64::from(e.1));
        w.varint(u64::from(e.2));
    });
    let lines = reply.lines.iter().take(REPLY_LINES_MAX);
    w.varint(lines.len() as u64);
    for line in lines {
        w.text(&line[..line.floor_char_boundary(REPLY_LINE_OCTETS_MAX)]);
    }
}

fn read_reply(r: &mut Reader<'_>) -> Result<Reply, CodecError> {
    let part = |r: &mut Reader<'_>| u16::try_from(r.varint()?).map_err(|_| r.error("a number below 65536"));
    let code = part(r)?;
    let enhanced = r.option(|r| Ok(Enhanced(r.octet()?, part(r)?, part(r)?)))?;
    let mut lines = Vec::new();
    for _ in 0..r.varint()? {
        lines.push(Cow::Owned(r.text()?.to_owned()));
    }
    Ok(Reply { code, enhanced, lines })
}

/// A reply as it is kept, cut to size.
pub(super) fn kept_reply(reply: Reply) -> Box<Reply> {
    let mut reply = reply;
    reply.lines.truncate(REPLY_LINES_MAX);
    for line in &mut reply.lines {
        if line.len() > REPLY_LINE_OCTETS_MAX {
            let cut = line.floor_char_boundary(REPLY_LINE_OCTETS_MAX);
            line.to_mut().truncate(cut);
        }
    }
    Box::new(reply)
}
