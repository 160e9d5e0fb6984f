//! BODYSTRUCTURE and BODY (RFC 9051 §7.5.2).
//!
//! How it fails: it does not; what has no readable type is what RFC 2045 §5.2 says, what was not looked into is
//! application/octet-stream.

use super::content::{ContentFields, ContentType, Parameter, disposition, token, tokens};
use super::envelope::{self, ntext, text};
use super::header::unfold;
use super::structure::{Kind, Part, PartId, Structure};
use crate::wire::imap::emit::number;

/// The structure as IMAP writes it: BODYSTRUCTURE with `extended`, otherwise BODY.
pub fn body_structure(message: &[u8], structure: &Structure, extended: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let writer = Writer { message, structure, extended };
    writer.part(&mut out, structure.root());
    out
}

struct Writer<'a> {
    message: &'a [u8],
    structure: &'a Structure,
    extended: bool,
}

impl Writer<'_> {
    /// body. Its depth is that of the structure, which is limited.
    fn part(&self, out: &mut Vec<u8>, id: PartId) {
        let part = self.structure.part(id);
        let fields = ContentFields::of(self.message.get(part.header()).unwrap_or_default());
        out.push(b'(');
        if part.kind == Kind::Multipart {
            self.multipart(out, id, part, &fields);
        } else {
            self.single(out, id, part, &fields);
        }
        out.push(b')');
    }

    /// body-type-mpart
    fn multipart(&self, out: &mut Vec<u8>, id: PartId, part: &Part, fields: &ContentFields<'_>) {
        for child in self.structure.children(id) {
            self.part(out, child);
        }
        out.push(b' ');
        let content = fields.content_type(part.in_digest);
        text(out, &content.subtype);
        if self.extended {
            out.push(b' ');
            parameters(out, &content.parameters);
            extension(out, fields);
        }
    }

    /// body-type-basic, body-type-text, body-type-msg
    fn single(&self, out: &mut Vec<u8>, id: PartId, part: &Part, fields: &ContentFields<'_>) {
        let mut content = fields.content_type(part.in_digest);
        if part.kind == Kind::Opaque {
            content = ContentType { kind: b"application".to_vec(), subtype: b"octet-stream".to_vec(), ..content };
        }
        text(out, &content.kind);
        out.push(b' ');
        text(out, &content.subtype);
        out.push(b' ');
        parameters(out, &content.parameters);
        for value in [fields.id, fields.description] {
            out.push(b' ');
            ntext(out, value.map(unfold).as_deref());
        }
        out.push(b' ');
        // RFC 2045 §6.1
        text(out, fields.encoding.and_then(token).unwrap_or(b"7bit"));
        out.push(b' ');
        number(out, part.body().len() as u64);
        if part.kind == Kind::Message {
            out.push(b' ');
            if let Some(inner) = self.structure.children(id).next() {
                let header = self.structure.part(inner).header();
                envelope::write(out, self.message.get(header).unwrap_or_default());
                out.push(b' ');
                self.part(out, inner);
            }
        }
        if part.kind == Kind::Message || content.is("text") {
            out.push(b' ');
            number(out, part.lines as u64);
        }
        if self.extended {
            out.push(b' ');
            ntext(out, fields.md5.map(unfold).as_deref());
            extension(out, fields);
        }
    }
}

/// ` body-fld-dsp SP body-fld-lang SP body-fld-loc`
fn extension(out: &mut Vec<u8>, fields: &ContentFields<'_>) {
    out.push(b' ');
    match fields.disposition.and_then(disposition) {
        Some((kind, list)) => {
            out.push(b'(');
            text(out, &kind);
            out.push(b' ');
            parameters(out, &list);
            out.push(b')');
        }
        None => out.extend_from_slice(b"NIL"),
    }
    out.push(b' ');
    let languages = fields.language.map(tokens).unwrap_or_default();
    match languages.as_slice() {
        [] => out.extend_from_slice(b"NIL"),
        [one] => text(out, one),
        several => list(out, several.iter().copied()),
    }
    out.push(b' ');
    // RFC 2557 §4.4: white space in it comes from folding.
    let location = fields.location.map(|l| l.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect::<Vec<u8>>());
    ntext(out, location.as_deref());
}

/// body-fld-param
fn parameters(out: &mut Vec<u8>, parameters: &[Parameter]) {
    if parameters.is_empty() {
        out.extend_from_slice(b"NIL");
    } else {
        list(out, parameters.iter().flat_map(|(name, value)| [name.as_slice(), value.as_slice()]));
    }
}

fn list<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a [u8]>) {
    out.push(b'(');
    for (i, one) in texts.enumerate() {
        if i > 0 {
            out.push(b' ');
        }
        text(out, one);
    }
    out.push(b')');
}

/// BODY made of a BODYSTRUCTURE that [`body_structure`] wrote: the same without extension data. What is no such
/// structure is given back as it is.
pub fn basic_structure(extended: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(extended.len());
    let mut cut = Cut { rest: extended, out: &mut out };
    match cut.body() {
        Some(()) => out,
        None => extended.to_vec(),
    }
}

/// Copies a structure item by item, leaving some out.
struct Cut<'a, 'o> {
    rest: &'a [u8],
    out: &'o mut Vec<u8>,
}

impl<'a> Cut<'a, '_> {
    /// body; nested ones by recursion, as deep as [`Writer`] went.
    fn body(&mut self) -> Option<()> {
        self.octet(b'(')?;
        if self.rest.first() == Some(&b'(') {
            while self.rest.first() == Some(&b'(') {
                self.body()?;
            }
            self.octet(b' ')?;
            self.copy()?;
        } else {
            let kind = self.copy()?;
            self.octet(b' ')?;
            let subtype = self.copy()?;
            for _ in 0..5 {
                self.octet(b' ')?;
                self.copy()?;
            }
            let is = |text: &[u8], what: &str| text.eq_ignore_ascii_case(what.as_bytes());
            if is(kind, "\"message\"") && (is(subtype, "\"rfc822\"") || is(subtype, "\"global\"")) {
                self.octet(b' ')?;
                self.copy()?;
                self.octet(b' ')?;
                self.body()?;
            }
            // Lines, where the type has them: the only number that may stand here.
            if self.rest.get(1).is_some_and(u8::is_ascii_digit) {
                self.octet(b' ')?;
                self.copy()?;
            }
        }
        while self.rest.first() == Some(&b' ') {
            self.rest = &self.rest[1..];
            self.rest = &self.rest[item(self.rest)?..];
        }
        self.octet(b')')
    }

    fn octet(&mut self, b: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[b])?;
        self.out.push(b);
        Some(())
    }

    /// Copies one item.
    fn copy(&mut self) -> Option<&'a [u8]> {
        let (one, rest) = self.rest.split_at(item(self.rest)?);
        self.rest = rest;
        self.out.extend_from_slice(one);
        Some(one)
    }
}

/// Octets of the item at the front: a string, a list, or a run of other characters.
fn item(text: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0usize);
    loop {
        match text.get(at)? {
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            b'"' => {
                at += 1;
                while *text.get(at)? != b'"' {
                    at += 1 + usize::from(text[at] == b'\\');
                }
            }
            b'{' => {
                let digits = text[at + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
                let octets: usize = std::str::from_utf8(&text[at + 1..at + 1 + digits]).ok()?.parse().ok()?;
                at = (at + digits + 3).checked_add(octets)?;
            }
            b' ' => {}
            _ => {
                let run = text[at..].iter().position(|b| matches!(b, b' ' | b')' | b'(')).unwrap_or(text.len() - at);
                at += run - 1;
            }
        }
        at += 1;
        if depth == 0 {
            return (at <= text.len()).then_some(at);
        }
    }
}
