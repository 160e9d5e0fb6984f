//! ENVELOPE and BODYSTRUCTURE read back by their grammar (RFC 9051 §9): a reader that shares nothing with the writer.

/// A value of IMAP's.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Nil,
    Number,
    Text(Vec<u8>),
    List(Vec<Value>),
}

use Value::{List, Nil, Number, Text};

fn read(bytes: &[u8]) -> Value {
    let mut at = 0;
    let value = value(bytes, &mut at);
    assert_eq!(at, bytes.len(), "something behind {}", String::from_utf8_lossy(bytes));
    value
}

fn value(bytes: &[u8], at: &mut usize) -> Value {
    match bytes[*at] {
        b'(' => {
            *at += 1;
            let mut list = Vec::new();
            while bytes[*at] != b')' {
                // A space between values, but none between the addresses of a list and the parts of a multipart.
                if !list.is_empty() && bytes[*at] == b' ' {
                    *at += 1;
                } else {
                    assert!(list.is_empty() || bytes[*at] == b'(' && matches!(list.last(), Some(List(_))));
                }
                list.push(value(bytes, at));
            }
            *at += 1;
            List(list)
        }
        b'"' => {
            let mut text = Vec::new();
            *at += 1;
            while bytes[*at] != b'"' {
                *at += usize::from(bytes[*at] == b'\\');
                assert!(matches!(bytes[*at], b'\t' | b' '..=b'~'), "quoted {}", bytes[*at]);
                text.push(bytes[*at]);
                *at += 1;
            }
            *at += 1;
            Text(text)
        }
        b'{' => {
            let close = *at + bytes[*at..].iter().position(|b| *b == b'}').unwrap();
            let octets: usize = std::str::from_utf8(&bytes[*at + 1..close]).unwrap().parse().unwrap();
            assert_eq!(&bytes[close + 1..close + 3], b"\r\n");
            *at = close + 3 + octets;
            let text = bytes[close + 3..*at].to_vec();
            assert!(!text.contains(&0));
            Text(text)
        }
        b'0'..=b'9' => {
            *at += bytes[*at..].iter().take_while(|b| b.is_ascii_digit()).count();
            Number
        }
        _ => {
            assert_eq!(&bytes[*at..*at + 3], b"NIL");
            *at += 3;
            Nil
        }
    }
}

pub fn check_envelope(bytes: &[u8]) {
    envelope(&read(bytes));
}

pub fn check_body(bytes: &[u8], extended: bool) {
    body(&read(bytes), extended);
}

fn list(value: &Value) -> &[Value] {
    match value {
        List(list) => list,
        other => panic!("no list: {other:?}"),
    }
}

fn nstring(value: &Value) {
    assert!(matches!(value, Nil | Text(_)), "{value:?}");
}

fn text(value: &Value) -> &[u8] {
    match value {
        Text(text) => text,
        other => panic!("no string: {other:?}"),
    }
}

fn envelope(value: &Value) {
    let items = list(value);
    assert_eq!(items.len(), 10);
    for i in [0, 1, 8, 9] {
        nstring(&items[i]);
    }
    for addresses in &items[2..8] {
        if *addresses == Nil {
            continue;
        }
        assert!(!list(addresses).is_empty());
        let mut in_group = false;
        for address in list(addresses) {
            let address = list(address);
            assert_eq!(address.len(), 4);
            address.iter().for_each(nstring);
            match (&address[2], &address[3]) {
                (Nil, Nil) => assert!(std::mem::take(&mut in_group), "a group's end without its beginning"),
                (Text(_), Nil) => assert!(!std::mem::replace(&mut in_group, true), "a group in a group"),
                (Text(_), Text(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn parameters(value: &Value) {
    if *value != Nil {
        assert!(!list(value).is_empty() && list(value).len().is_multiple_of(2));
        for v in list(value) {
            text(v);
        }
    }
}

fn body(value: &Value, extended: bool) {
    let items = list(value);
    let rest = if let List(_) = items[0] {
        let parts = items.iter().take_while(|v| matches!(v, List(_))).count();
        items[..parts].iter().for_each(|part| body(part, extended));
        text(&items[parts]);
        if extended {
            parameters(&items[parts + 1]);
        }
        &items[parts + if extended { 2 } else { 1 }..]
    } else {
        let (kind, subtype) = (text(&items[0]).to_ascii_lowercase(), text(&items[1]).to_ascii_lowercase());
        parameters(&items[2]);
        nstring(&items[3]);
        nstring(&items[4]);
        text(&items[5]);
        assert_eq!(items[6], Number);
        let mut at = 7;
        if kind == b"message" && (subtype == b"rfc822" || subtype == b"global") {
            envelope(&items[7]);
            body(&items[8], extended);
            assert_eq!(items[9], Number);
            at = 10;
        } else if kind == b"text" {
            assert_eq!(items[7], Number);
            at = 8;
        }
        if extended {
            nstring(&items[at]);
            at += 1;
        }
        &items[at..]
    };
    if !extended {
        assert!(rest.is_empty(), "{rest:?}");
        return;
    }
    // body-fld-dsp, body-fld-lang, body-fld-loc
    assert_eq!(rest.len(), 3);
    if rest[0] != Nil {
        text(&list(&rest[0])[0]);
        parameters(&list(&rest[0])[1]);
    }
    match &rest[1] {
        List(several) => several.iter().for_each(|v| {
            text(v);
        }),
        one => nstring(one),
    }
    nstring(&rest[2]);
}
