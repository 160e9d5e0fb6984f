//! Shapes made to hurt: they must cost no more than their octets, and stay readable.

use super::*;

/// Parts, depth and octets of structure for a message.
fn shape(message: &[u8]) -> (usize, usize) {
    check(message);
    let structure = Structure::parse(message);
    (structure.parts(), body_structure(message, &structure, true).len())
}

#[test]
fn a_million_parts_are_some_parts_and_a_rest() {
    let mut message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n".to_vec();
    message.extend_from_slice(&b"--b\r\n\r\nx\r\n".repeat(100_000));
    let (parts, octets) = shape(&message);
    assert_eq!(parts, PARTS_MAX);
    assert!(octets < 100 * PARTS_MAX, "{octets}");
    let structure = Structure::parse(&message);
    let last = structure.children(structure.root()).last().unwrap();
    assert_eq!(structure.part(last).whole().end, message.len());
    assert!(octets_of(&message, PARTS_MAX - 1).starts_with(b"x\r\n--b"));
}

fn octets_of(message: &[u8], part: usize) -> Vec<u8> {
    match section(message, &Structure::parse(message), &wanted(&part.to_string())) {
        Some(SectionOctets::Range(range)) => message[range].to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nesting_ends_somewhere() {
    let mut nested = Vec::new();
    for i in 0..5_000 {
        nested.extend_from_slice(format!("Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n").as_bytes());
    }
    let (parts, _) = shape(&nested);
    assert_eq!(parts, DEPTH_MAX + 1);
    let messages = b"Content-Type: message/rfc822\r\n\r\n".repeat(50_000);
    let (parts, octets) = shape(&messages);
    assert_eq!(parts, DEPTH_MAX + 1);
    assert!(octets < 40_000, "{octets}");
    let structure = Structure::parse(&messages);
    assert!(String::from_utf8_lossy(&body_structure(&messages, &structure, false)).contains("\"octet-stream\""));
}

#[test]
fn one_boundary_for_all_levels() {
    let mut message = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n".repeat(200);
    message.extend_from_slice(&b"--b--\r\n".repeat(200));
    message.extend_from_slice(&b"--b\r\n".repeat(20_000));
    let (parts, _) = shape(&message);
    assert!(parts <= PARTS_MAX + DEPTH_MAX);
}

#[test]
fn a_header_without_end() {
    let mut message = b"Subject: x\r\n".to_vec();
    message.extend_from_slice(&b" y\r\n".repeat(100_000));
    message.extend_from_slice(&b"To: a@b, \"c\" <d@e>\r\nX:\r\n".repeat(20_000));
    check(&message);
    assert_eq!(header_section(&message), None);
    let envelope = envelope(&message, &Structure::parse(&message));
    assert!(envelope.len() < 64 * 1024, "{}", envelope.len());
}

#[test]
fn lists_without_end() {
    for field in
        ["From", "To", "Content-Type", "References", "Date", "Content-Disposition", "Subject", "Content-Language"]
    {
        for piece in
            ["(", "a,", "<", "\"", ";a=b", "a:", "<@", "[", "[fwd:", "=?", "re:", "\\", ". ", "<a@b>", "@", "=?a?q?=?="]
        {
            let message = format!("{field}: multipart/x{}\r\n\r\n", piece.repeat(10_000));
            check(message.as_bytes());
        }
    }
}

#[test]
fn lines_of_hyphens() {
    let mut message = Vec::new();
    for i in 0..90 {
        let boundary = format!("{}{i}", "-".repeat(60));
        message.extend_from_slice(
            format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n").as_bytes(),
        );
    }
    message.extend_from_slice(b"\r\n");
    message.extend_from_slice(&[b"-".repeat(63), b"\r\n".to_vec()].concat().repeat(30_000));
    let (parts, _) = shape(&message);
    assert_eq!(parts, 91);
}

#[test]
fn nuls_and_bare_line_ends_stay() {
    let message = b"Subject: a\0b\rc\r\n\r\n\0\r\n\n\rtext";
    check(message);
    let structure = Structure::parse(message);
    assert_eq!(range_of(message, &structure, "TEXT"), 18..message.len());
    let envelope = String::from_utf8(envelope(message, &structure)).unwrap();
    assert!(envelope.starts_with("(NIL {4}\r\na?bc NIL"), "{envelope}");
}
