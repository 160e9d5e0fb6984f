//! One row of FETCH: its attributes in the order in which they were asked for.
//!
//! How it fails: a large literal whose octets cannot be had closes the connection, because its length has been told.

use super::{Run, write_rows};
use crate::base::mailbox::ask::{Octets, Query, Reply, Row, SectionData, Stored, StructureForm};
use crate::imap::config::PIECE_OCTETS_MAX;
use crate::imap::session::Session;
use crate::imap::state::Phase;
use crate::wire::imap::{FetchAttribute, emit};
use crate::wire::mime;
use memchr::memchr;

/// A row and how far it has been written.
pub(super) struct Cursor {
    row: Row,
    at: usize,
    /// FLAGS are to be told though nobody asked: the command changed them.
    flags_due: bool,
    first: bool,
}

impl Cursor {
    pub fn new(row: Row, flags_due: bool) -> Box<Cursor> {
        Box::new(Cursor { row, at: 0, flags_due, first: true })
    }
}

/// Writes attributes up to the end of the row, or up to a literal that has to be read.
pub(super) fn write(session: &mut Session, run: &mut Run, mut cursor: Box<Cursor>) -> Option<(Box<Cursor>, Stored)> {
    let attributes = run.attributes.clone();
    while let Some(attribute) = attributes.get(cursor.at) {
        cursor.at += 1;
        if let Some(stored) = write_attribute(session, run, &mut cursor, attribute) {
            return Some((cursor, stored));
        }
    }
    if cursor.flags_due {
        write_attribute(session, run, &mut cursor, &FetchAttribute::Flags);
        if session.enabled.condstore && !attributes.contains(&FetchAttribute::ModSeq) {
            write_attribute(session, run, &mut cursor, &FetchAttribute::ModSeq); // RFC 7162 §3.1
        }
        if session.enabled.qresync && !attributes.contains(&FetchAttribute::Uid) {
            write_attribute(session, run, &mut cursor, &FetchAttribute::Uid); // RFC 7162 §3.2.4
        }
    }
    session.out.line(")");
    None
}

fn write_attribute(
    session: &mut Session,
    run: &mut Run,
    cursor: &mut Cursor,
    attribute: &FetchAttribute,
) -> Option<Stored> {
    let (utf8, rev2) = (session.mode().utf8, session.enabled.rev2);
    let recent = !rev2 && session.mailbox().is_some_and(|m| m.recent.contains(cursor.row.uid));
    if !std::mem::replace(&mut cursor.first, false) {
        session.out.say(" ");
    }
    let row = &cursor.row;
    let out = &mut session.out.text;
    let mut name = |text: &str| out.extend_from_slice(text.as_bytes());
    match attribute {
        FetchAttribute::Uid => {
            name("UID ");
            emit::number(out, u64::from(row.uid));
        }
        FetchAttribute::Flags => {
            name("FLAGS ");
            emit::message_flags(out, row.flags, &run.keywords, recent);
            cursor.flags_due = false;
        }
        FetchAttribute::InternalDate => {
            name("INTERNALDATE ");
            emit::date_time(out, row.internal_date);
        }
        FetchAttribute::Size => {
            name("RFC822.SIZE ");
            emit::number(out, row.octets);
        }
        FetchAttribute::Envelope => {
            name("ENVELOPE ");
            out.extend_from_slice(row.envelope.as_deref().unwrap_or(b"NIL"));
        }
        FetchAttribute::BodyStructure => {
            name("BODYSTRUCTURE ");
            out.extend_from_slice(row.structure.as_deref().unwrap_or(b"NIL"));
        }
        FetchAttribute::Body => {
            name("BODY ");
            match &row.structure {
                // The store answers one form; where both are wanted it is the extended one.
                Some(s) if run.items.structure == Some(StructureForm::Extended) => {
                    out.extend_from_slice(&mime::basic_structure(s));
                }
                other => out.extend_from_slice(other.as_deref().unwrap_or(b"NIL")),
            }
        }
        FetchAttribute::ModSeq => {
            name("MODSEQ (");
            emit::number(out, row.mod_seq);
            out.push(b')');
        }
        FetchAttribute::EmailId => {
            name("EMAILID (");
            emit::email_id(out, row.content);
            out.push(b')');
        }
        FetchAttribute::ThreadId => match row.thread {
            Some(thread) => {
                name("THREADID (");
                emit::thread_id(out, thread);
                out.push(b')');
            }
            None => name("THREADID NIL"),
        },
        FetchAttribute::SaveDate => {
            name("SAVEDATE ");
            emit::date_time_utc(out, row.saved);
        }
        FetchAttribute::Preview => {
            name("PREVIEW ");
            emit::nstring(out, row.preview.as_deref().map(str::as_bytes), utf8);
        }
        FetchAttribute::Section { label, index } => {
            name(label);
            name(" ");
            return write_section(session, run, &cursor.row, *index);
        }
    }
    None
}

fn write_section(session: &mut Session, run: &mut Run, row: &Row, index: usize) -> Option<Stored> {
    let decoded = run.items.sections.get(index).is_some_and(|s| s.decoded);
    let text = &mut session.out.text;
    match row.sections.get(index) {
        None | Some(SectionData::Nothing) => session.out.say("NIL"),
        Some(SectionData::UnknownEncoding) => {
            run.unknown_encoding = true;
            session.out.say("NIL");
        }
        Some(SectionData::Size(octets)) => emit::number(text, *octets),
        Some(SectionData::Octets(octets)) if octets.is_empty() => session.out.say("\"\""),
        Some(SectionData::Octets(octets @ Octets::Memory { bytes, start, end })) => {
            // RFC 3516 §4.5: what is decoded may hold NUL, and literal8 says so.
            if decoded && memchr(0, &bytes[*start..*end]).is_some() {
                emit::literal8_start(text, octets.len());
            } else {
                emit::literal_start(text, octets.len());
            }
            session.out.share(bytes, *start, *end);
        }
        Some(SectionData::Octets(Octets::Stored(stored))) => {
            match decoded {
                true => emit::literal8_start(text, stored.octets),
                false => emit::literal_start(text, stored.octets),
            }
            return Some(*stored);
        }
    }
    None
}

/// The next piece of a large literal, then the rest of the row.
pub(super) fn read_piece(session: &mut Session, run: Box<Run>, cursor: Box<Cursor>, stored: Stored, offset: u64) {
    session.query(Query::Read { stored, offset, octets_max: PIECE_OCTETS_MAX }, move |s, reply| {
        let left = stored.octets.saturating_sub(offset);
        match reply {
            Ok(Reply::Octets(bytes)) if !bytes.is_empty() && bytes.len() as u64 <= left => {
                s.out.share(&bytes, 0, bytes.len());
                go_on(s, run, cursor, stored, offset + bytes.len() as u64);
            }
            // Whatever is said now would be taken for octets of the message.
            _ => s.close(),
        }
    });
}

fn go_on(session: &mut Session, mut run: Box<Run>, cursor: Box<Cursor>, stored: Stored, offset: u64) {
    if offset < stored.octets {
        session.phase = Phase::Drain(Box::new(move |s| read_piece(s, run, cursor, stored, offset)));
        return;
    }
    match write(session, &mut run, cursor) {
        Some((cursor, stored)) => {
            session.phase = Phase::Drain(Box::new(move |s| read_piece(s, run, cursor, stored, 0)));
        }
        None => write_rows(session, run),
    }
}
