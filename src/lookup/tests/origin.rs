//! Origin of addresses, from databases made here: a small writer of MaxMind's format (version 2.0, 24-bit records, IPv4).

use super::*;
use std::path::Path;

enum Value<'a> {
    Text(&'a str),
    Number(u32),
    Map(Vec<(&'a str, Value<'a>)>),
}

fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let (low, more) = if size < 29 { (size, None) } else { (29, Some(size - 29)) };
    let first = if kind < 8 { kind << 5 } else { 0 };
    out.push(first | low as u8);
    if kind >= 8 {
        out.push(kind - 7);
    }
    out.extend(more.map(|m| u8::try_from(m).unwrap()));
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            control(2, text.len(), out);
            out.extend(text.bytes());
        }
        Value::Number(n) => {
            control(6, 4, out);
            out.extend(n.to_be_bytes());
        }
        Value::Map(fields) => {
            control(7, fields.len(), out);
            for (key, value) in fields {
                encode(&Value::Text(key), out);
                encode(value, out);
            }
        }
    }
}

/// A database of networks and what is known of them.
fn database(entries: &[(&str, u8, Value)]) -> Vec<u8> {
    let mut nodes: Vec<[Option<usize>; 2]> = vec![[None; 2]];
    let mut leaves: Vec<(usize, usize, usize)> = Vec::new(); // node, side, offset of the data
    let mut data = Vec::new();
    for (net, length, value) in entries {
        let bits = net.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        let mut at = 0;
        for depth in 0..*length {
            let side = (bits >> (31 - depth) & 1) as usize;
            if depth + 1 == *length {
                leaves.push((at, side, data.len()));
                encode(value, &mut data);
            } else {
                let next = nodes[at][side].unwrap_or_else(|| {
                    nodes.push([None; 2]);
                    nodes.len() - 1
                });
                nodes[at][side] = Some(next);
                at = next;
            }
        }
    }
    let count = nodes.len();
    let mut out = Vec::new();
    for (at, sides) in nodes.iter().enumerate() {
        for (side, next) in sides.iter().enumerate() {
            let leaf = leaves.iter().find(|(n, s, _)| (*n, *s) == (at, side)).map(|(.., offset)| count + 16 + offset);
            let record = u32::try_from(next.or(leaf).unwrap_or(count)).unwrap();
            out.extend(&record.to_be_bytes()[1..]);
        }
    }
    out.extend([0; 16]);
    out.extend(&data);
    out.extend(b"\xAB\xCD\xEFMaxMind.com");
    control(7, 9, &mut out);
    let short = |out: &mut Vec<u8>, key: &str, n: u16| {
        encode(&Value::Text(key), out);
        control(5, 2, out);
        out.extend(n.to_be_bytes());
    };
    encode(&Value::Text("node_count"), &mut out);
    encode(&Value::Number(u32::try_from(count).unwrap()), &mut out);
    short(&mut out, "record_size", 24);
    short(&mut out, "ip_version", 4);
    encode(&Value::Text("database_type"), &mut out);
    encode(&Value::Text("Test"), &mut out);
    encode(&Value::Text("languages"), &mut out);
    control(11, 0, &mut out);
    short(&mut out, "binary_format_major_version", 2);
    short(&mut out, "binary_format_minor_version", 0);
    encode(&Value::Text("build_epoch"), &mut out);
    control(9, 8, &mut out);
    out.extend(1u64.to_be_bytes());
    encode(&Value::Text("description"), &mut out);
    encode(&Value::Map(Vec::new()), &mut out);
    out
}

fn asn(number: u32) -> Value<'static> {
    Value::Map(vec![("autonomous_system_number", Value::Number(number)), ("x", Value::Text("organisation"))])
}
fn country(code: &str) -> Value<'_> {
    Value::Map(vec![("country", Value::Map(vec![("iso_code", Value::Text(code))]))])
}

fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

fn origin(desk: &Desk, ip: &str) -> Finding {
    desk.find(&Inquiry::Origin(ip.parse().unwrap()))
}
fn is(asn: Option<u32>, country: Option<&str>) -> Finding {
    Finding::Origin { asn, country: country.map(Into::into) }
}

#[test]
fn databases_complete_each_other_and_are_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("asn.mmdb"), dir.path().join("country.mmdb"));
    write(&a, &database(&[("192.0.2.0", 24, asn(64_500)), ("198.51.100.0", 24, asn(64_501))]));
    write(&b, &database(&[("192.0.2.0", 25, country("de"))]));
    let desk = Desk::with("", |knobs| {
        knobs.origin_databases = vec![a.clone(), b.clone(), dir.path().join("later.mmdb")];
        knobs.origin_check_every = Duration::from_millis(200);
    });
    assert!(desk.at_hand(&Inquiry::Origin([192, 0, 2, 1].into())));
    assert_eq!(origin(&desk, "192.0.2.1"), is(Some(64_500), Some("DE")));
    assert_eq!(origin(&desk, "::ffff:192.0.2.1"), is(Some(64_500), Some("DE")));
    assert_eq!(origin(&desk, "192.0.2.200"), is(Some(64_500), None));
    assert_eq!(origin(&desk, "203.0.113.1"), is(None, None));
    assert_eq!(origin(&desk, "2001:db8::1"), is(None, None), "an IPv4 database knows no IPv6");

    write(
        &dir.path().join("later.mmdb"),
        &database(&[(
            "203.0.113.0",
            24,
            Value::Map(vec![("asn", Value::Text("AS64502")), ("country_code", Value::Text("FR"))]),
        )]),
    );
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(
        origin(&desk, "203.0.113.1"),
        is(Some(64_502), Some("FR")),
        "a file that came later, other names of fields"
    );
    write(&a, b"this is no database");
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(origin(&desk, "198.51.100.1"), is(Some(64_501), None), "a broken file leaves the old one in use");
}

#[test]
fn without_a_database_it_is_unknown() {
    let desk = Desk::new("");
    assert!(why(origin(&desk, "192.0.2.1")).contains("lookup.origin_databases"));
    let desk = Desk::with("", |knobs| knobs.origin_databases = vec!["/nonexistent/x.mmdb".into()]);
    assert!(why(origin(&desk, "192.0.2.1")).contains("no database could be read"));
}

#[test]
fn a_database_with_flipped_octets_is_no_danger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.mmdb");
    let good = database(&[("192.0.2.0", 24, country("de")), ("128.0.0.0", 1, asn(1))]);
    let mut rng = fastrand::Rng::with_seed(7);
    for _ in 0..40 {
        let mut bytes = good.clone();
        (0..4).for_each(|_| bytes[rng.usize(..good.len())] = rng.u8(..));
        write(&path, &bytes);
        let desk = Desk::with("", |knobs| knobs.origin_databases = vec![path.clone()]);
        let finding = origin(&desk, "192.0.2.1");
        assert!(matches!(finding, Finding::Origin { .. } | Finding::Unknown(_)));
    }
}
