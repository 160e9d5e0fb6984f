//! Whole messages: structure, sections and what IMAP tells of them. Examples of the RFCs, hostile shapes, and any octets.

use super::structure::{Kind, PartId};
use super::*;
use crate::base::mailbox::ask::{Section, SectionWhat};
use proptest::prelude::*;
use std::ops::Range;

mod examples;
mod hostile;
mod sexp;

/// A section as a client writes it: `1.2.HEADER`, `HEADER.FIELDS:to,cc`, `TEXT`, ``.
fn wanted(text: &str) -> Section {
    let digits = text.split('.').take_while(|w| w.parse::<u32>().is_ok()).count();
    let part: Vec<u32> = text.split('.').take(digits).map(|n| n.parse().unwrap()).collect();
    let rest = text.split('.').skip(digits).collect::<Vec<_>>().join(".");
    let names = |list: &str| list.split(',').map(str::to_owned).collect();
    let what = match rest.split_once(':') {
        Some(("HEADER.FIELDS", list)) => SectionWhat::Fields { names: names(list), not: false },
        Some((_, list)) => SectionWhat::Fields { names: names(list), not: true },
        None => match rest.as_str() {
            "HEADER" => SectionWhat::Header,
            "TEXT" => SectionWhat::Text,
            "MIME" => SectionWhat::Mime,
            _ => SectionWhat::All,
        },
    };
    Section { part, what, partial: None, decoded: false, size_only: false }
}

fn octets(message: &[u8], found: Option<SectionOctets>) -> String {
    match found {
        None => "NIL".to_owned(),
        Some(SectionOctets::Range(range)) => String::from_utf8_lossy(&message[range]).into_owned(),
        Some(SectionOctets::Owned(owned)) => String::from_utf8_lossy(&owned).into_owned(),
        Some(SectionOctets::UnknownEncoding) => "UNKNOWN-CTE".to_owned(),
    }
}

/// What `BODY[text]` answers.
fn fetched(message: &str, text: &str) -> String {
    let structure = Structure::parse(message.as_bytes());
    octets(message.as_bytes(), section(message.as_bytes(), &structure, &wanted(text)))
}

fn structure_of(message: &str, extended: bool) -> String {
    let structure = Structure::parse(message.as_bytes());
    String::from_utf8(body_structure(message.as_bytes(), &structure, extended)).unwrap()
}

fn envelope_of(message: &str) -> String {
    String::from_utf8(envelope(message.as_bytes(), &Structure::parse(message.as_bytes()))).unwrap()
}

/// Everything that must hold for any octets.
fn check(message: &[u8]) {
    let structure = Structure::parse(message);
    let root = structure.part(structure.root());
    assert_eq!(root.whole(), 0..message.len());
    let mut seen = 0;
    check_part(message, &structure, structure.root(), 0, &mut seen);
    assert_eq!(seen, structure.parts());
    assert_eq!(structure.walk().count(), seen);
    sexp::check_envelope(&envelope(message, &structure));
    let extended = body_structure(message, &structure, true);
    let basic = body_structure(message, &structure, false);
    sexp::check_body(&extended, true);
    sexp::check_body(&basic, false);
    assert_eq!(basic_structure(&extended), basic);
    assert_eq!(basic_structure(&basic), basic);
    let root_section = section(message, &structure, &wanted(""));
    assert_eq!(root_section, Some(SectionOctets::Range(0..message.len())));
    // Header and text make the message.
    let (header, text) = (range_of(message, &structure, "HEADER"), range_of(message, &structure, "TEXT"));
    assert_eq!((header.start, header.end, text.end), (0, text.start, message.len()));
    assert_eq!(header_section(message).unwrap_or(message.len()), header.end);
    let all = octets(message, section(message, &structure, &wanted("HEADER.FIELDS.NOT:none-such")));
    assert_eq!(
        header_section(message).is_some(),
        all.ends_with("\n\r\n") || all == "\r\n" || all.ends_with("\n\n"),
        "{all:?}"
    );
    header_text(message);
    let body = body_text(message, &structure, 2000);
    assert!(body.len() <= 2000);
    assert!(preview(message, &structure).chars().count() <= PREVIEW_CHARACTERS_MAX);
    assert!(sort_fields(message).references.len() <= REFERENCES_MAX);
}

fn range_of(message: &[u8], structure: &Structure, text: &str) -> Range<usize> {
    match section(message, structure, &wanted(text)) {
        Some(SectionOctets::Range(range)) => range,
        other => panic!("{text}: {other:?}"),
    }
}

/// Children stand in order inside their parent's body and do not overlap; what is no multipart has one or none.
fn check_part(message: &[u8], structure: &Structure, id: PartId, depth: usize, seen: &mut usize) {
    *seen += 1;
    let part = structure.part(id);
    assert!(depth <= DEPTH_MAX + 1);
    let (header, body, whole) = (part.header(), part.body(), part.whole());
    assert!(header.start <= header.end && header.end <= body.end && body.end <= message.len());
    assert_eq!((whole.start, header.end, whole.end), (header.start, body.start, body.end));
    assert_eq!(part.lines, message[body.clone()].iter().filter(|b| **b == b'\n').count());
    let children: Vec<PartId> = structure.children(id).collect();
    match part.kind {
        Kind::Leaf | Kind::Opaque => assert!(children.is_empty()),
        Kind::Message => assert!(children.len() == 1 && structure.part(children[0]).whole() == body),
        Kind::Multipart => assert!(!children.is_empty()),
    }
    let mut at = body.start;
    for child in children {
        let inner = structure.part(child).whole();
        assert!(inner.start >= at && inner.end <= body.end, "{inner:?} in {body:?} after {at}");
        at = inner.end;
        check_part(message, structure, child, depth + 1, seen);
    }
}

/// A message made of pieces, with the parts that it must have.
#[derive(Clone, Debug)]
enum Tree {
    Leaf(String),
    Multipart(Vec<Tree>),
    Message(Box<Tree>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = "[a-z \r\n-]{0,30}".prop_map(Tree::Leaf);
    leaf.prop_recursive(6, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..5).prop_map(Tree::Multipart),
            inner.prop_map(|tree| Tree::Message(Box::new(tree))),
        ]
    })
}

/// Writes it, and remembers which octets each part's body is, by its section number.
fn write(
    out: &mut String,
    tree: &Tree,
    number: &str,
    in_message: bool,
    parts: &mut Vec<(String, Range<usize>)>,
    count: &mut u32,
) {
    let below = |i: usize| if number.is_empty() { format!("{i}") } else { format!("{number}.{i}") };
    match tree {
        Tree::Leaf(text) => {
            out.push_str("Content-Type: text/plain\r\nSubject: x\r\n\r\n");
            let start = out.len();
            out.push_str(text);
            let name = if in_message { below(1) } else { number.to_owned() };
            parts.push((name, start..out.len()));
        }
        Tree::Multipart(children) => {
            *count += 1;
            let boundary = format!("boundary {count}");
            out.push_str(&format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\npreamble\r\n"));
            for (i, child) in children.iter().enumerate() {
                out.push_str(&format!("--{boundary}\r\n"));
                write(out, child, &below(i + 1), false, parts, count);
                out.push_str("\r\n");
            }
            out.push_str(&format!("--{boundary}--\r\nepilogue"));
        }
        Tree::Message(inner) => {
            out.push_str("Content-Type: message/rfc822\r\n\r\n");
            let start = out.len();
            let name = if in_message { below(1) } else { number.to_owned() };
            write(out, inner, &name, true, parts, count);
            parts.push((name, start..out.len()));
        }
    }
}

proptest! {
    #[test]
    fn parts_are_where_they_were_put(tree in trees()) {
        let (mut message, mut parts, mut count) = (String::new(), Vec::new(), 0);
        write(&mut message, &tree, "", true, &mut parts, &mut count);
        let bytes = message.as_bytes();
        check(bytes);
        let structure = Structure::parse(bytes);
        for (number, range) in parts {
            let found = section(bytes, &structure, &wanted(&number));
            prop_assert_eq!(found, Some(SectionOctets::Range(range)), "{} of {:?}", number, message);
        }
    }

    #[test]
    fn any_octets_are_a_message(bytes: Vec<u8>) {
        check(&bytes);
    }

    #[test]
    fn broken_mail_is_a_message(pieces in prop::collection::vec(prop_oneof![
        Just("Content-Type: multipart/mixed; boundary=a\r\n"), Just("Content-Type: multipart/digest; boundary=\"b\"\n"),
        Just("content-type: message/rfc822\r\n"), Just("Content-Type: text/html; charset=utf-7; x=\"\\"),
        Just("Content-Type: MULTIPART/x;boundary=a-- \r\n"),
        Just("--a\r\n"), Just("--b\n"), Just("--a--\r\n"), Just("--a-- --"), Just("--b--"), Just("--a--a--\r\n"),
        Just("\r\n"), Just("\r"), Just("\n"), Just("\0"), Just(" "), Just(":"), Just("é"), Just("\"("),
        Just("From: a b <c@d>, x:;"), Just("Subject: =?utf-8?q?=C3?= =?gb18030?b?/w==?=\r\n"), Just("Date: 1 Jan"),
        Just("Content-Transfer-Encoding: base64\r\n"), Just("Content-Disposition: attachment; a=\"b\""),
        Just("Content-Language: en, de\r\n"), Just("text <b>&amp;</b>"),
    ], 0..40)) {
        check(pieces.concat().as_bytes());
    }

    #[test]
    fn pieces_are_pieces(message in "[ab\r\n:]{0,40}", first in 0u64..50, octets_max in 1u64..50, name in "HEADER|TEXT||HEADER.FIELDS:a") {
        let bytes = message.as_bytes();
        let structure = Structure::parse(bytes);
        let all = octets(bytes, section(bytes, &structure, &wanted(&name)));
        let piece = octets(bytes, section(bytes, &structure, &Section { partial: Some((first, octets_max)), ..wanted(&name) }));
        let expected: String = all.chars().skip(first as usize).take(octets_max as usize).collect();
        prop_assert_eq!(piece, expected);
    }
}
