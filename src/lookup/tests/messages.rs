//! Signatures of whole messages through the lane: the example of RFC 8463 with keys and policies in a scripted DNS.

use super::*;
use crate::base::body::{Body, BodyFile, BodyShape, Store};
use crate::base::id::SessionId;
use crate::base::inquiry::{Signatures, Spf, Verified};
use std::path::{Path, PathBuf};

const EXAMPLE: &str = include_str!("../../../tests/data/dkim/rfc8463.txt");

/// Zone lines for the keys of a data file, and its message with CRLF.
pub(super) fn split(text: &str) -> (String, Vec<u8>) {
    let (keys, message) = text.split_once("\n\n").unwrap();
    let mut zones = String::new();
    for line in keys.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        zones.push_str(&format!("{name} TXT {value}\n"));
    }
    (zones, message.replace("\r\n", "\n").replace('\n', "\r\n").into_bytes())
}

pub(super) fn body(message: &[u8]) -> Body {
    let end = message.windows(4).position(|w| w == b"\r\n\r\n").map_or(message.len(), |at| at + 4);
    let shape = BodyShape {
        octets: message.len() as u64,
        header_octets: end as u64,
        ends_with_crlf: message.ends_with(b"\r\n"),
        ..BodyShape::default()
    };
    // In two pieces, cut where it hurts.
    let (a, b) = message.split_at(message.len() / 2);
    Body::memory(shape, vec![Arc::new(a.to_vec()), Arc::new(b.to_vec())])
}

pub(super) fn case(body: Option<Body>, spf: Option<Spf>) -> Arc<Case> {
    Arc::new(Case {
        session: SessionId(1),
        host: domain("mx.test"),
        listener: "mx".into(),
        client: "192.0.2.1:4000".parse().unwrap(),
        local: "192.0.2.25:25".parse().unwrap(),
        client_name: None,
        helo: "client.test".into(),
        tls: None,
        user: None,
        sender: None,
        recipients: Vec::new(),
        transaction: 1,
        spf,
        body,
    })
}

fn spf(result: Verified, domain: &str) -> Option<Spf> {
    Some(Spf { result, domain: domain.into(), of_helo: false, explanation: None })
}

fn signatures(desk: &Desk, body: Body, spf: Option<Spf>) -> Signatures {
    match desk.find_for(&Inquiry::Signatures, Some(case(Some(body), spf))) {
        Finding::Signatures(found) => *found,
        other => panic!("{other:?}"),
    }
}

fn results(found: &Signatures) -> Vec<Verified> {
    found.dkim.iter().map(|d| d.result).collect()
}

const REJECT: &str = "_dmarc.example.com TXT \"v=DMARC1; p=none; sp=reject\"\n";

#[test]
fn a_message_that_is_signed_passes_and_a_changed_one_fails() {
    let (zones, message) = split(EXAMPLE);
    let desk = Desk::new(&(zones + REJECT));
    let found = signatures(&desk, body(&message), None);
    assert_eq!(results(&found), [Verified::Pass, Verified::Pass], "{found:?}");
    let (first, second) = (&found.dkim[0], &found.dkim[1]);
    assert_eq!((&*first.domain, &*first.selector, &*first.signature), ("football.example.com", "brisbane", "/gCrinpc"));
    assert_eq!((&*second.selector, &*second.signature), ("test", "F45dVWDf"));
    assert_eq!((found.dmarc, found.dmarc_policy), (Verified::Pass, Some("reject")));
    assert_eq!(found.from_domain.as_deref(), Some("football.example.com"));
    assert_eq!((found.arc, found.arc_domain), (Verified::None, None));

    let text = String::from_utf8(message).unwrap();
    let lost = signatures(&desk, body(text.replace("lost", "won").as_bytes()), None);
    assert_eq!(results(&lost), [Verified::Fail, Verified::Fail]);
    assert!(lost.dkim[0].reason.as_deref().unwrap().contains("body hash"));
    assert_eq!((lost.dmarc, lost.dmarc_policy), (Verified::Fail, Some("reject")));
    let subject = signatures(&desk, body(text.replace("Is dinner", "Was dinner").as_bytes()), None);
    assert_eq!(results(&subject), [Verified::Fail, Verified::Fail]);
    let aligned =
        signatures(&desk, body(text.replace("lost", "won").as_bytes()), spf(Verified::Pass, "mail.example.com"));
    assert_eq!(aligned.dmarc, Verified::Pass, "SPF of the same organisation is enough");
    let foreign = signatures(&desk, body(text.replace("lost", "won").as_bytes()), spf(Verified::Pass, "example.net"));
    assert_eq!(foreign.dmarc, Verified::Fail);
    let doubt =
        signatures(&desk, body(text.replace("lost", "won").as_bytes()), spf(Verified::Temperror, "example.com"));
    assert_eq!(doubt.dmarc, Verified::Temperror);
}

#[test]
fn keys_that_are_not_there_and_keys_that_cannot_be_asked_for() {
    let (_, message) = split(EXAMPLE);
    let desk = Desk::new(&format!("brisbane._domainkey.football.example.com SERVFAIL\n{REJECT}"));
    let found = signatures(&desk, body(&message), None);
    assert_eq!(results(&found), [Verified::Temperror, Verified::Permerror], "{found:?}");
    assert_eq!(found.dmarc, Verified::Temperror, "the one that failed might have passed");
    let desk = Desk::new("test._domainkey.football.example.com TXT \"v=DKIM1; p=\"\n_dmarc.example.com SERVFAIL\n");
    let found = signatures(&desk, body(&message), None);
    assert!(results(&found).iter().all(|r| *r == Verified::Permerror), "{found:?}");
    assert_eq!(found.dmarc, Verified::Temperror);
    assert!(found.dkim[1].reason.as_deref().unwrap().contains("revoked"));
}

#[derive(Debug)]
struct OnDisk(PathBuf);
impl BodyFile for OnDisk {
    fn id(&self) -> u64 {
        1
    }
    fn path(&self) -> Option<&Path> {
        Some(&self.0)
    }
}

fn on_disk(message: &[u8], path: &Path) -> Body {
    let Body { shape, .. } = body(message);
    let head = Arc::new(message[..usize::try_from(shape.header_octets).unwrap()].to_vec());
    Body { shape, store: Store::File { file: Arc::new(OnDisk(path.to_owned())), head } }
}

#[test]
fn a_body_in_a_file_is_read_and_a_lost_one_is_unknown() {
    let (zones, message) = split(EXAMPLE);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("body");
    std::fs::write(&path, &message).unwrap();
    let desk = Desk::new(&(zones + REJECT));
    let found = signatures(&desk, on_disk(&message, &path), None);
    assert_eq!(results(&found), [Verified::Pass, Verified::Pass]);
    std::fs::write(&path, &message[..message.len() - 5]).unwrap();
    let cut = desk.find_for(&Inquiry::Signatures, Some(case(Some(on_disk(&message, &path)), None)));
    assert!(why(cut).contains("octets where it had"));
    std::fs::remove_file(&path).unwrap();
    let gone = desk.find_for(&Inquiry::Signatures, Some(case(Some(on_disk(&message, &path)), None)));
    assert!(why(gone).contains("cannot be read back"));
    assert!(why(desk.find_for(&Inquiry::Signatures, Some(case(None, None)))).contains("not here yet"));
    assert!(why(desk.find(&Inquiry::Signatures)).contains("not told of which message"));
}

#[test]
fn a_message_that_is_too_large_is_not_hashed() {
    let (zones, message) = split(EXAMPLE);
    let desk = Desk::with(&(zones + REJECT), |knobs| knobs.signature_octets_max = 100);
    let found = signatures(&desk, body(&message), None);
    assert_eq!(results(&found), [Verified::Policy, Verified::Policy]);
    assert_eq!(found.dkim[0].reason.as_deref(), Some("larger than 100 octets"));
    assert_eq!(found.dmarc, Verified::Temperror, "nobody can tell");
    let found = signatures(&desk, body(&message), spf(Verified::Pass, "example.com"));
    assert_eq!(found.dmarc, Verified::Pass, "but SPF can");
}

#[test]
fn hostile_messages_cost_little() {
    let (zones, message) = split(EXAMPLE);
    let text = String::from_utf8(message).unwrap();
    let desk = Desk::new(&(zones + REJECT));
    let mut many = String::new();
    for n in 0..500 {
        many.push_str(&format!(
            "DKIM-Signature: v=1; a=rsa-sha256; d=a.b.c.d.e.f.g.h.d{n}.test; s=s{n}; h=from; bh=AAAA; b=AAAA\r\n"
        ));
    }
    let before = desk.server.queries();
    let found = signatures(&desk, body((many + &text).as_bytes()), None);
    assert_eq!(found.dkim.len(), 10, "the first ten");
    assert!(desk.server.queries() - before <= 20, "{:?}", desk.server.names());

    let two = text.replace("From: Joe", "From: eve@other.test\r\nFrom: Joe");
    let found = signatures(&desk, body(two.as_bytes()), None);
    assert_eq!(found.dmarc, Verified::Permerror, "two authors of two domains");
    let partial =
        "DKIM-Signature: v=1; a=rsa-sha256; d=X.test; s=s; l=1; h=from; bh=AAAA; b=QUJDREVGR0g=\r\n".to_owned() + &text;
    let found = signatures(&desk, body(partial.as_bytes()), None);
    assert_eq!(found.dkim[0].result, Verified::Policy, "{found:?}");
    assert_eq!((&*found.dkim[0].domain, &*found.dkim[0].signature), ("x.test", "QUJDREVG"));
    let broken = "DKIM-Signature: v=1; nonsense\r\n".to_owned() + &text;
    let found = signatures(&desk, body(broken.as_bytes()), None);
    assert_eq!(results(&found), [Verified::Permerror, Verified::Pass, Verified::Pass]);
    let expired =
        "DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=s; t=1; x=2; h=from; bh=AAAA; b=AAAA\r\n".to_owned() + &text;
    assert_eq!(results(&signatures(&desk, body(expired.as_bytes()), None))[0], Verified::Fail);
    for nothing in [&b""[..], b"\r\n\r\n", b"no header at all", b"\xff\xfe\r\n\r\n\x00"] {
        assert!(signatures(&desk, body(nothing), None).dkim.is_empty());
    }
}

#[test]
fn checks_do_not_hold_up_names() {
    let (zones, message) = split(EXAMPLE);
    let mut large = message.clone();
    large.resize(8 * 1024 * 1024, b'x');
    let desk = Desk::new(&(zones + REJECT + "*.bl.test A 127.0.0.2\n"));
    let large = case(Some(body(&large)), None);
    for token in 0..8 {
        assert!(matches!(desk.asker.inquire(token, &Inquiry::Signatures, Some(large.clone())), Inquired::Waiting));
    }
    let list = Inquiry::Listed {
        zone: domain("bl.test"),
        subject: crate::base::inquiry::Subject::Address([192, 0, 2, 9].into()),
    };
    assert!(matches!(desk.asker.inquire(100, &list, None), Inquired::Waiting));
    let order: Vec<u32> = (0..9).map(|_| desk.next().0).collect();
    let place = order.iter().position(|token| *token == 100).unwrap();
    assert!(place < 6, "the list's answer came behind {place} of eight messages of 8 MiB");
}
