//! What there is to read in a message: its fields decoded, the text of its text parts, the first words of it.
//!
//! How it fails: it does not; every answer is bounded, and what is beyond the bound is not searched.

use super::content::{ContentFields, token};
use super::decode::{Encoding, decode, field_text, text_of};
use super::header::{fields, header_section};
use super::html;
use super::structure::{Kind, Part, Structure};

/// Octets of a header section that are decoded at most.
const HEADER_OCTETS_MAX: usize = 1024 * 1024;
/// Characters of a preview at most (RFC 8970 §3.2).
pub const PREVIEW_CHARACTERS_MAX: usize = 200;
/// Octets of a text part, still encoded, that a preview looks at.
const PREVIEW_OCTETS_MAX: usize = 16 * 1024;

/// The fields of a header, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderText {
    /// Names in lower case, and values on one line with their encoded words decoded; in order.
    pub fields: Vec<(String, String)>,
}

/// The fields of a message's own header.
pub fn header_text(message: &[u8]) -> HeaderText {
    let header = &message[..header_section(message).unwrap_or(message.len()).min(HEADER_OCTETS_MAX)];
    let named = fields(header).filter(|f| !f.name.is_empty());
    let decoded = named.map(|f| (String::from_utf8_lossy(f.name).to_ascii_lowercase(), field_text(f.value)));
    HeaderText { fields: decoded.collect() }
}

/// The decoded text of all text parts, and the headers of messages inside, each followed by a line end. About
/// `octets_max` octets; where more would follow, the end is cut.
pub fn body_text(message: &[u8], structure: &Structure, octets_max: usize) -> String {
    let mut out = String::new();
    for id in structure.walk() {
        if out.len() >= octets_max {
            break;
        }
        let part = structure.part(id);
        let left = octets_max - out.len();
        if part.kind == Kind::Message
            && let Some(inner) = structure.children(id).next()
        {
            inner_header(&mut out, message, structure.part(inner), left);
        }
        if part.kind == Kind::Leaf {
            leaf_text(&mut out, message, part, left);
        }
    }
    let mut end = octets_max.min(out.len());
    while !out.is_char_boundary(end) {
        end -= 1;
    }
    out.truncate(end);
    out
}

/// Fields that a reader sees of a message inside another.
fn inner_header(out: &mut String, message: &[u8], part: &Part, octets_max: usize) {
    let header = message.get(part.header()).unwrap_or_default();
    for field in fields(&header[..header.len().min(octets_max)]) {
        if ["from", "to", "cc", "subject", "date"].iter().any(|name| field.is(name)) {
            out.push_str(&field_text(field.value));
            out.push('\n');
        }
    }
}

/// The text of a leaf, when it is text.
fn leaf_text(out: &mut String, message: &[u8], part: &Part, octets_max: usize) {
    let fields = ContentFields::of(message.get(part.header()).unwrap_or_default());
    let content = fields.content_type(part.in_digest);
    if !content.is("text") {
        return;
    }
    let body = message.get(part.body()).unwrap_or_default();
    let encoding = Encoding::of(fields.encoding.and_then(token));
    // No encoding takes more than four octets for one of the text, soft line breaks aside.
    let body = &body[..body.len().min(octets_max.saturating_mul(4))];
    let text = text_of(&decode(body, encoding), content.parameter("charset"));
    if content.is_subtype("html") {
        out.push_str(&html::text(&text));
    } else {
        out.push_str(&text);
    }
    out.push('\n');
}

/// The first words of a message (RFC 8970): of its first plain text, otherwise of its first HTML, white space joined.
pub fn preview(message: &[u8], structure: &Structure) -> String {
    let mut html = None;
    for id in structure.walk() {
        let part = structure.part(id);
        let fields = ContentFields::of(message.get(part.header()).unwrap_or_default());
        let content = fields.content_type(part.in_digest);
        let attached = fields.disposition.and_then(token).is_some_and(|d| d.eq_ignore_ascii_case(b"attachment"));
        if part.kind != Kind::Leaf || attached || !content.is("text") {
            continue;
        }
        if content.is_subtype("html") {
            html = html.or(Some(part));
            continue;
        }
        let words = first_words(message, part);
        if !words.is_empty() {
            return words;
        }
    }
    html.map(|part| first_words(message, part)).unwrap_or_default()
}

fn first_words(message: &[u8], part: &Part) -> String {
    let mut text = String::new();
    leaf_text(&mut text, message, part, PREVIEW_OCTETS_MAX);
    let mut words = String::new();
    let mut characters = 0;
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()) {
        if characters > 0 {
            words.push(' ');
            characters += 1;
        }
        for c in word.chars() {
            if characters >= PREVIEW_CHARACTERS_MAX {
                return words.trim_end().to_owned();
            }
            words.push(c);
            characters += 1;
        }
    }
    words
}
