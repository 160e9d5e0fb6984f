//! What a reader of RFC 6522 and RFC 3464 finds in our notifications.

use super::*;
use crate::base::envelope::{Notify, OriginalRecipient};
use crate::base::id::SessionId;
use crate::base::knob::Octets;
use crate::wire::address::{parse_domain, parse_mailbox};
use crate::wire::reply::Enhanced;

fn envelope(sender: Option<&str>, recipients: &[&str]) -> Envelope {
    Envelope {
        origin: Origin {
            session: SessionId(7),
            received: WallTime::from_millis(1_795_437_121_000),
            client: Some("192.0.2.9:4711".parse().unwrap()),
            helo: "client.example.org".into(),
            protocol: Protocol::default(),
            user: None,
        },
        sender: sender.map_or(ReversePath::Null, |s| ReversePath::Mailbox(parse_mailbox(s).unwrap())),
        parameters: MailParameters { envid: Some("Q 1".into()), ..MailParameters::default() },
        recipients: recipients.iter().map(|r| Recipient::plain(parse_mailbox(r).unwrap())).collect(),
    }
}

fn failed(recipient: u32, reply: Reply) -> Reported {
    Reported {
        recipient,
        action: Action::Failed,
        reply: Some(reply),
        remote: Some("mx.example.test".into()),
        last_attempt: Some(WallTime::from_millis(1_795_437_181_000)),
    }
}

fn no_such_user() -> Reply {
    Reply {
        code: 550,
        enhanced: Some(Enhanced(5, 1, 1)),
        lines: vec!["no such user".into(), "evil\r\nAction: delivered".into()],
    }
}

const HEADER: &[u8] = b"Received: from x by y; z\r\nMessage-ID:\r\n <m1@example.org>\r\nSubject: hello\r\n\r\n";

fn make(
    kind: Kind,
    envelope: &Envelope,
    reported: &[Reported],
    returned: Returned<'_>,
) -> Result<Notification, Unreported> {
    let knobs = RelayKnobs { bounce_message_octets_max: Octets(1000), ..RelayKnobs::default() };
    let hostname = parse_domain("gate.example.test").unwrap();
    let reporter =
        Reporter { hostname: &hostname, id: SpoolId(99), now: WallTime::from_millis(1_795_437_200_000), knobs: &knobs };
    compose(kind, envelope, reported, returned, &reporter)
}

/// Header fields (unfolded) and body of an entity.
fn entity(text: &str) -> (Vec<(String, String)>, &str) {
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let unfolded = header.replace("\r\n ", " ").replace("\r\n\t", " ");
    let fields = unfolded.split("\r\n").map(|l| l.split_once(':').unwrap());
    (fields.map(|(n, v)| (n.to_lowercase(), v.trim().to_owned())).collect(), body)
}

fn value<'a>(fields: &'a [(String, String)], name: &str) -> &'a str {
    fields.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
}

/// The parts of a multipart message: type and body.
fn parts(n: &Notification) -> Vec<(String, String)> {
    let text = String::from_utf8(n.message.clone()).unwrap();
    assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    let (fields, body) = entity(&text);
    let content_type = value(&fields, "content-type");
    let boundary = content_type.split_once("boundary=\"").unwrap().1.strip_suffix('"').unwrap();
    let (inside, after) = body.rsplit_once(&format!("\r\n--{boundary}--\r\n")).unwrap();
    assert_eq!(after, "");
    let delimiter = format!("\r\n--{boundary}\r\n");
    inside
        .split(&delimiter)
        .skip(1)
        .map(|piece| {
            let (fields, body) = entity(piece);
            let encoding = value(&fields, "content-transfer-encoding");
            assert_eq!(encoding == "8bit", !body.is_ascii());
            (value(&fields, "content-type").to_owned(), body.to_owned())
        })
        .collect()
}

#[test]
fn a_failure_says_who_why_and_what() {
    let mut e = envelope(Some("ann@example.org"), &["bob@example.test", "x@example.test"]);
    e.recipients[0].original =
        Some(OriginalRecipient { address_type: "rfc822".into(), address: "robert@example.test".into() });
    let reported = [failed(0, no_such_user())];
    let n = make(Kind::Failure, &e, &reported, Returned { header: HEADER, message: None }).unwrap();
    let text = String::from_utf8(n.message.clone()).unwrap();
    let (fields, _) = entity(&text);
    assert_eq!(value(&fields, "to"), "<ann@example.org>");
    assert_eq!(value(&fields, "auto-submitted"), "auto-replied");
    assert_eq!(value(&fields, "references"), "<m1@example.org>");
    assert!(value(&fields, "content-type").starts_with("multipart/report; report-type=delivery-status;"));
    assert_eq!(value(&fields, "date"), "Mon, 23 Nov 2026 12:33:20 +0000");
    let parts = parts(&n);
    let types: Vec<&str> = parts.iter().map(|(t, _)| t.as_str()).collect();
    assert_eq!(types, ["text/plain; charset=us-ascii", "message/delivery-status", "text/rfc822-headers"]);
    assert!(parts[0].1.contains("<bob@example.test>\r\n    mx.example.test said:\r\n    550 5.1.1 no such user\r\n"));
    let (message, recipient) = parts[1].1.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        message,
        "Original-Envelope-Id: Q 1\r\nReporting-MTA: dns; gate.example.test\r\n\
         Received-From-MTA: dns; client.example.org\r\nArrival-Date: Mon, 23 Nov 2026 12:32:01 +0000"
    );
    assert_eq!(
        recipient,
        "Original-Recipient: rfc822;robert@example.test\r\nFinal-Recipient: rfc822; bob@example.test\r\n\
         Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.example.test\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 no such user evil??Action: delivered\r\n\
         Last-Attempt-Date: Mon, 23 Nov 2026 12:33:01 +0000\r\n"
    );
    assert_eq!(parts[2].1.as_bytes(), &HEADER[..HEADER.len() - 2]);
    assert_eq!(n.envelope.sender, ReversePath::Null);
    assert_eq!(n.envelope.recipients, [Recipient::plain(parse_mailbox("ann@example.org").unwrap())]);
    assert_eq!(n.shape.octets, n.message.len() as u64);
    assert_eq!((n.shape.eight_bit, n.envelope.parameters.body), (false, BodyType::SevenBit));
}

#[test]
fn a_report_about_a_report_never_leaves() {
    let e = envelope(None, &["bob@example.test"]);
    let returned = Returned { header: HEADER, message: None };
    assert_eq!(make(Kind::Failure, &e, &[failed(0, no_such_user())], returned), Err(Unreported::NullSender));
}

#[test]
fn notify_is_honoured() {
    let mut e = envelope(Some("ann@example.org"), &["a@x.test", "b@x.test", "c@x.test", "d@x.test"]);
    e.recipients[1].notify = Some(Notify::default());
    e.recipients[2].notify = Some(Notify { success: true, ..Notify::default() });
    e.recipients[3].notify = Some(Notify { failure: true, delay: true, success: false });
    let reported: Vec<Reported> = (0..4).map(|i| failed(i, no_such_user())).collect();
    let returned = Returned { header: HEADER, message: None };
    let told = |kind| {
        let n = make(kind, &e, &reported, returned).unwrap();
        let status = parts(&n)[1].1.clone();
        ["a@", "b@", "c@", "d@"].into_iter().filter(|r| status.contains(&format!("rfc822; {r}"))).collect::<String>()
    };
    assert_eq!(told(Kind::Failure), "a@d@");
    assert_eq!(told(Kind::Delay { until: WallTime::default() }), "a@d@");
    assert_eq!(told(Kind::Success), "c@");
    let nobody = make(Kind::Failure, &e, &reported[1..3], returned);
    assert_eq!(nobody, Err(Unreported::NobodyAsked));
    assert_eq!(make(Kind::Failure, &e, &[failed(9, no_such_user())], returned), Err(Unreported::NobodyAsked));
}

#[test]
fn the_whole_message_comes_back_only_when_asked_for_small_and_text() {
    let mut e = envelope(Some("ann@example.org"), &["bob@example.test"]);
    let message = [HEADER, b"body\r\n"].concat();
    let large = [HEADER, &[b'x'; 1000]].concat();
    let binary = [HEADER, b"a\nb\0"].concat();
    let types = |e: &Envelope, kind, message: &[u8]| {
        let returned = Returned { header: HEADER, message: Some(message) };
        parts(&make(kind, e, &[failed(0, no_such_user())], returned).unwrap())[2].0.clone()
    };
    let delay = Kind::Delay { until: WallTime::default() };
    assert_eq!(types(&e, Kind::Failure, &message), "text/rfc822-headers");
    e.parameters.ret = Some(Ret::Full);
    assert_eq!(types(&e, Kind::Failure, &message), "message/rfc822");
    assert_eq!(types(&e, delay, &message), "text/rfc822-headers", "RFC 3461 §4.3: only failures");
    assert_eq!(types(&e, Kind::Failure, &large), "text/rfc822-headers");
    assert_eq!(types(&e, Kind::Failure, &binary), "text/rfc822-headers");
}

#[test]
fn delays_say_until_when_and_statuses_fit_their_action() {
    let e = envelope(Some("ann@example.org"), &["bob@example.test"]);
    let until = WallTime::from_millis(1_795_437_121_000);
    let delayed =
        Reported { action: Action::Delayed, reply: Some(Reply::new(451, None, "later")), ..failed(0, no_such_user()) };
    let returned = Returned { header: b"", message: None };
    let n = make(Kind::Delay { until }, &e, std::slice::from_ref(&delayed), returned).unwrap();
    let status = parts(&n)[1].1.clone();
    assert!(status.contains("Action: delayed\r\nStatus: 4.0.0\r\n"), "{status}");
    assert!(status.ends_with("Will-Retry-Until: Mon, 23 Nov 2026 12:32:01 +0000\r\n"), "{status}");
    for (action, reply, expected) in [
        (Action::Failed, Some(Reply::new(451, Some(Enhanced(4, 4, 7)), "expired")), "4.4.7"),
        (Action::Failed, None, "5.0.0"),
        (Action::Delivered, Some(Reply::new(250, Some(Enhanced(2, 1, 5)), "ok")), "2.1.5"),
        (Action::Relayed, Some(Reply::new(550, None, "odd")), "2.0.0"),
        (Action::Delayed, Some(no_such_user()), "4.0.0"),
    ] {
        let reported = Reported { action, reply, ..delayed.clone() };
        assert_eq!(status::status(&reported).to_string(), expected);
    }
}

#[test]
fn international_addresses_use_the_types_of_rfc_6533() {
    let mut e = envelope(Some("jörg@example.org"), &["бob@example.test"]);
    e.recipients[0].original =
        Some(OriginalRecipient { address_type: "utf-8".into(), address: "бob@example.test".into() });
    let reply = Reply::new(550, None, "nö");
    let header = "Subject: hällo\r\n\r\n".as_bytes();
    let n = make(Kind::Failure, &e, &[failed(0, reply)], Returned { header, message: None }).unwrap();
    let parts = parts(&n);
    let types: Vec<&str> = parts.iter().map(|(t, _)| t.as_str()).collect();
    assert_eq!(types, ["text/plain; charset=utf-8", "message/global-delivery-status", "message/global-headers"]);
    assert!(parts[1].1.contains("Original-Recipient: utf-8;бob@example.test\r\nFinal-Recipient: utf-8; бob@"));
    assert!(parts[1].1.contains("Diagnostic-Code: smtp; 550 nö\r\n"));
    assert!(n.envelope.parameters.smtputf8 && n.shape.eight_bit);
    assert_eq!(n.envelope.parameters.body, BodyType::EightBitMime);
}

#[test]
fn without_smtputf8_the_status_is_ascii() {
    let mut e = envelope(Some("ann@example.org"), &["bob@example.test"]);
    e.recipients[0].original = Some(OriginalRecipient { address_type: "utf-8".into(), address: "ü@x".into() });
    let n =
        make(Kind::Failure, &e, &[failed(0, Reply::new(550, None, "nö"))], Returned { header: HEADER, message: None })
            .unwrap();
    let status = parts(&n)[1].1.clone();
    assert!(status.is_ascii());
    assert!(status.contains("Original-Recipient: utf-8;\\x{FC}@x\r\n") && status.contains("550 n?\r\n"), "{status}");
}

#[test]
fn a_guessed_boundary_does_not_end_our_part() {
    let e = envelope(Some("ann@example.org"), &["bob@example.test"]);
    let guess = format!("gatepost-{}", SpoolId(99));
    let header = format!("X: y\r\n--{guess}\r\nX-{guess}-0: z\r\n\r\n");
    let returned = Returned { header: header.as_bytes(), message: None };
    let n = make(Kind::Failure, &e, &[failed(0, no_such_user())], returned).unwrap();
    assert_eq!(parts(&n).len(), 3);
    assert!(parts(&n)[2].1.contains(&guess));
}

#[test]
fn hostile_headers_and_replies_are_cut_and_folded() {
    let e = envelope(Some("ann@example.org"), &["bob@example.test"]);
    let header = ["A: b\rc\0d\r\n".to_owned(), "B: x\r\n".repeat(10_000)].concat();
    let reply = Reply::new(550, None, "w".repeat(5000) + " " + &"word ".repeat(400));
    let n =
        make(Kind::Failure, &e, &[failed(0, reply)], Returned { header: header.as_bytes(), message: None }).unwrap();
    let parts = parts(&n);
    assert!(parts[2].1.starts_with("A: b?c?d\r\n") && parts[2].1.len() <= 32 * 1024);
    assert!(n.message.split(|b| *b == b'\n').all(|line| line.len() <= 999));
    assert!(lines::is_text(&n.message) && lines::is_text(b"") && !lines::is_text(b"a\r") && !lines::is_text(b"\r\r\n"));
    assert_eq!(lines::message_id(b"Message-Id: <a b>\r\n"), None);
    assert_eq!(lines::message_id(b"Message-Id: x\r\n"), None);
    assert_eq!(lines::message_id(b"Subject: x\r\n\r\nMessage-Id: <a@b>\r\n"), None);
}
