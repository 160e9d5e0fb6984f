//! FETCH: attributes, macros, sections and modifiers (RFC 9051 §6.4.5, RFC 3516, RFC 7162, RFC 8474, RFC 8514, RFC 8970).
//!
//! How it fails: unknown attributes, too many of them, section numbers deeper than any message is read.

use super::command::{Command, FetchAttribute, FetchCommand, SequenceSet};
use super::emit;
use super::reader::{Fault, Read, Reader};
use super::search::partial_range;
use super::set::sequence_set;
use crate::base::mailbox::ask::{FetchItems, Section, SectionWhat, StructureForm};
use std::fmt::Write;

/// Attributes of one FETCH at most.
pub const FETCH_ATTRIBUTES_MAX: usize = 256;
/// Field names of one HEADER.FIELDS at most.
pub const FETCH_FIELDS_MAX: usize = 500;
/// Numbers of one section at most; no message is read deeper.
pub const SECTION_DEPTH_MAX: usize = 128;

pub(super) fn fetch(r: &mut Reader<'_>, uid: bool) -> Read<Command> {
    r.sp()?;
    let messages = sequence_set(r)?;
    r.sp()?;
    let mut fetch = new(messages, uid);
    if r.peek() == Some(b'(') {
        r.list(FETCH_ATTRIBUTES_MAX, |r| attribute(r, &mut fetch))?;
    } else if !eat_macro(r, &mut fetch) {
        attribute(r, &mut fetch)?;
    }
    if r.eat(b' ') {
        modifiers(r, &mut fetch)?;
    }
    if uid {
        // RFC 9051 §6.4.9: the UID is answered whether asked for or not.
        once(&mut fetch, FetchAttribute::Uid, true);
    }
    if fetch.changed_since.is_some() {
        // RFC 7162 §3.1.4.1
        once(&mut fetch, FetchAttribute::ModSeq, false);
    }
    Ok(Command::Fetch(fetch))
}

fn new(messages: SequenceSet, uid: bool) -> FetchCommand {
    FetchCommand {
        messages,
        uid,
        attributes: Vec::new(),
        items: FetchItems::default(),
        sets_seen: false,
        changed_since: None,
        vanished: false,
        partial: None,
    }
}

/// Adds an attribute unless it is there.
fn once(fetch: &mut FetchCommand, attribute: FetchAttribute, first: bool) {
    if !fetch.attributes.contains(&attribute) {
        let at = if first { 0 } else { fetch.attributes.len() };
        fetch.attributes.insert(at, attribute);
    }
}

/// ALL, FULL, FAST
fn eat_macro(r: &mut Reader<'_>, fetch: &mut FetchCommand) -> bool {
    use FetchAttribute::{Body, Envelope, Flags, InternalDate, Size};
    let (envelope, body) = match () {
        () if r.eat_word("FAST") => (false, false),
        () if r.eat_word("ALL") => (true, false),
        () if r.eat_word("FULL") => (true, true),
        () => return false,
    };
    fetch.attributes.extend([Flags, InternalDate, Size]);
    fetch.attributes.extend(envelope.then_some(Envelope));
    fetch.attributes.extend(body.then_some(Body));
    fetch.items.envelope = envelope;
    fetch.items.structure = body.then_some(StructureForm::Basic);
    true
}

/// fetch-att
fn attribute(r: &mut Reader<'_>, fetch: &mut FetchCommand) -> Read<()> {
    let start = r.clone();
    let name = r.run_of(|b| b.is_ascii_alphanumeric() || b == b'.', "a FETCH attribute")?.to_ascii_uppercase();
    let section = r.peek() == Some(b'[');
    let simple = match (name.as_str(), section) {
        ("UID", false) => FetchAttribute::Uid,
        ("FLAGS", false) => FetchAttribute::Flags,
        ("INTERNALDATE", false) => FetchAttribute::InternalDate,
        ("RFC822.SIZE", false) => FetchAttribute::Size,
        ("ENVELOPE", false) => {
            fetch.items.envelope = true;
            FetchAttribute::Envelope
        }
        ("BODY", false) => {
            structure(fetch, StructureForm::Basic);
            FetchAttribute::Body
        }
        ("BODYSTRUCTURE", false) => {
            structure(fetch, StructureForm::Extended);
            FetchAttribute::BodyStructure
        }
        ("MODSEQ", false) => FetchAttribute::ModSeq,
        ("EMAILID", false) => FetchAttribute::EmailId,
        ("THREADID", false) => {
            fetch.items.thread = true;
            FetchAttribute::ThreadId
        }
        ("SAVEDATE", false) => FetchAttribute::SaveDate,
        ("PREVIEW", false) => {
            fetch.items.preview = true;
            // RFC 8970 §3.1: LAZY allows to answer NIL; previews are always at hand.
            r.eat_exactly(" (LAZY)");
            FetchAttribute::Preview
        }
        ("RFC822", false) => return whole(fetch, "RFC822", SectionWhat::All, true),
        ("RFC822.HEADER", false) => return whole(fetch, "RFC822.HEADER", SectionWhat::Header, false),
        ("RFC822.TEXT", false) => return whole(fetch, "RFC822.TEXT", SectionWhat::Text, true),
        ("BODY", true) => return body_section(r, fetch, true),
        ("BODY.PEEK", true) => return body_section(r, fetch, false),
        ("BINARY", true) => return binary_section(r, fetch, Binary::Seen),
        ("BINARY.PEEK", true) => return binary_section(r, fetch, Binary::Peek),
        ("BINARY.SIZE", true) => return binary_section(r, fetch, Binary::Size),
        _ => return Err(start.expected("a FETCH attribute")),
    };
    once(fetch, simple, false);
    Ok(())
}

/// The store answers one form of the structure for a message. Where both are wanted it is the extended one, and
/// [`basic_structure`](crate::wire::mime::basic_structure) makes the other of it.
fn structure(fetch: &mut FetchCommand, form: StructureForm) {
    if fetch.items.structure != Some(StructureForm::Extended) {
        fetch.items.structure = Some(form);
    }
}

/// Adds a section with its label.
fn push(fetch: &mut FetchCommand, label: String, section: Section, sets_seen: bool) -> Read<()> {
    fetch.sets_seen |= sets_seen;
    let attributes = &fetch.attributes;
    let same = |a: &FetchAttribute| match a {
        FetchAttribute::Section { label: known, index } => *known == label && fetch.items.sections[*index] == section,
        _ => false,
    };
    if !attributes.iter().any(same) {
        let index = fetch.items.sections.len();
        fetch.items.sections.push(section);
        fetch.attributes.push(FetchAttribute::Section { label, index });
    }
    Ok(())
}

/// RFC822 and its kin (RFC 3501 §6.4.5; obsolete in RFC 9051, where servers may keep them).
fn whole(fetch: &mut FetchCommand, label: &str, what: SectionWhat, sets_seen: bool) -> Read<()> {
    let section = Section { part: Vec::new(), what, partial: None, decoded: false, size_only: false };
    push(fetch, label.to_owned(), section, sets_seen)
}

fn body_section(r: &mut Reader<'_>, fetch: &mut FetchCommand, sets_seen: bool) -> Read<()> {
    r.expect(b'[')?;
    let mut label = String::from("BODY[");
    let part = part(r, &mut label)?;
    let mut what = SectionWhat::All;
    if r.peek() != Some(b']') && (part.is_empty() || label.ends_with('.')) {
        what = text(r, &part, &mut label)?;
    }
    r.expect(b']')?;
    label.push(']');
    let partial = partial(r, &mut label)?;
    // The answer cannot tell PEEK: the label is the same, and one of them is enough.
    push(fetch, label, Section { part, what, partial, decoded: false, size_only: false }, sets_seen)
}

/// section-part; the label keeps the dot where something follows it.
fn part(r: &mut Reader<'_>, label: &mut String) -> Read<Vec<u32>> {
    let mut part = Vec::new();
    while r.peek().is_some_and(|b| b.is_ascii_digit()) {
        if part.len() == SECTION_DEPTH_MAX {
            return Err(Fault::new(format!("a section has at most {SECTION_DEPTH_MAX} numbers")));
        }
        let n = r.nz_number("a part number")?;
        // Writing to a String cannot fail.
        let _ = write!(label, "{n}");
        part.push(n);
        if r.peek() != Some(b'.') {
            break;
        }
        r.expect(b'.')?;
        label.push('.');
        if r.peek() == Some(b']') {
            return Err(r.expected("a part number or HEADER, TEXT, MIME"));
        }
    }
    Ok(part)
}

/// section-msgtext, and MIME behind a part number.
fn text(r: &mut Reader<'_>, part: &[u32], label: &mut String) -> Read<SectionWhat> {
    let start = r.clone();
    let word = r.run_of(|b| b.is_ascii_alphabetic() || b == b'.', "HEADER, HEADER.FIELDS, TEXT or MIME")?;
    let word = word.to_ascii_uppercase();
    label.push_str(&word);
    match word.as_str() {
        "HEADER" => Ok(SectionWhat::Header),
        "TEXT" => Ok(SectionWhat::Text),
        "MIME" if !part.is_empty() => Ok(SectionWhat::Mime),
        "HEADER.FIELDS" => fields(r, label, false),
        "HEADER.FIELDS.NOT" => fields(r, label, true),
        _ => Err(start.expected("HEADER, HEADER.FIELDS, TEXT or MIME")),
    }
}

/// ` (From To)`
fn fields(r: &mut Reader<'_>, label: &mut String, not: bool) -> Read<SectionWhat> {
    r.sp()?;
    let names = r.list(FETCH_FIELDS_MAX, |r| {
        let start = r.clone();
        let name = r.astring("a field name")?;
        // RFC 5322 §2.2: printable ASCII without the colon. Nothing else can be found, or stand in a label.
        let valid = !name.is_empty() && name.bytes().all(|b| matches!(b, 0x21..=0x7e) && b != b':');
        if valid { Ok(name) } else { Err(start.expected("a field name")) }
    })?;
    let mut list = b" (".to_vec();
    for (i, name) in names.iter().enumerate() {
        if i > 0 {
            list.push(b' ');
        }
        emit::astring(&mut list, name.as_bytes(), false);
    }
    list.push(b')');
    label.push_str(&String::from_utf8_lossy(&list));
    Ok(SectionWhat::Fields { names, not })
}

/// `<0.2048>`; the answer tells only where it begins (RFC 9051 §7.5.2).
fn partial(r: &mut Reader<'_>, label: &mut String) -> Read<Option<(u64, u64)>> {
    if !r.eat(b'<') {
        return Ok(None);
    }
    let first = r.number64("the first octet")?;
    r.expect(b'.')?;
    let start = r.clone();
    let octets = r.number64("a number of octets")?;
    if octets == 0 {
        return Err(start.expected("a number of octets"));
    }
    r.expect(b'>')?;
    let _ = write!(label, "<{first}>");
    Ok(Some((first, octets)))
}

#[derive(Clone, Copy, PartialEq)]
enum Binary {
    Seen,
    Peek,
    Size,
}

/// BINARY, BINARY.PEEK and BINARY.SIZE (RFC 3516 §4.2, RFC 9051 §6.4.5)
fn binary_section(r: &mut Reader<'_>, fetch: &mut FetchCommand, form: Binary) -> Read<()> {
    r.expect(b'[')?;
    let mut label = String::from(if form == Binary::Size { "BINARY.SIZE[" } else { "BINARY[" });
    let part = part(r, &mut label)?;
    r.expect(b']')?;
    label.push(']');
    let partial = if form == Binary::Size { None } else { partial(r, &mut label)? };
    let what = SectionWhat::All;
    let section = Section { part, what, partial, decoded: true, size_only: form == Binary::Size };
    push(fetch, label, section, form == Binary::Seen)
}

/// `(CHANGEDSINCE n [VANISHED])` (RFC 7162 §3.1.4, §3.2.6), `PARTIAL 1:50` (RFC 9394 §3.3)
fn modifiers(r: &mut Reader<'_>, fetch: &mut FetchCommand) -> Read<()> {
    r.list(3, |r| {
        if fetch.changed_since.is_none() && r.eat_word("CHANGEDSINCE") {
            r.sp()?;
            fetch.changed_since = Some(r.number64("a modification sequence")?);
        } else if !fetch.vanished && r.eat_word("VANISHED") {
            fetch.vanished = true;
        } else if fetch.partial.is_none() && r.eat_word("PARTIAL") {
            r.sp()?;
            fetch.partial = Some(partial_range(r)?);
        } else {
            return Err(r.expected("CHANGEDSINCE, VANISHED or PARTIAL"));
        }
        Ok(())
    })?;
    if fetch.vanished && (!fetch.uid || fetch.changed_since.is_none()) {
        return Err(Fault::new("VANISHED goes with UID FETCH and CHANGEDSINCE only"));
    }
    if fetch.partial.is_some() && !fetch.uid {
        return Err(Fault::new("PARTIAL goes with UID FETCH only"));
    }
    Ok(())
}
