//! The codec against itself and against arbitrary octets. How it fails: the panic shows the frame.

use super::*;
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

fn text() -> impl Strategy<Value = Text<'static>> {
    vec(1u8..=255, 0..40).prop_map(Cow::Owned)
}

fn octets() -> impl Strategy<Value = Cow<'static, [u8]>> {
    vec(any::<u8>(), 0..200).prop_map(Cow::Owned)
}

fn stage() -> impl Strategy<Value = Stage> {
    (0..STAGES.len()).prop_map(|i| STAGES[i])
}

fn negotiation() -> impl Strategy<Value = Negotiation<'static>> {
    (any::<u32>(), any::<u32>(), any::<u32>(), vec((stage(), text()), 0..4))
        .prop_map(|(version, a, s, symbols)| Negotiation { version, actions: Actions(a), steps: Steps(s), symbols })
}

fn peer() -> impl Strategy<Value = Peer<'static>> {
    prop_oneof![
        Just(Peer::Unknown),
        text().prop_map(Peer::Local),
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| Peer::Internet(SocketAddr::new(ip, port))),
    ]
}

fn command() -> impl Strategy<Value = Command<'static>> {
    prop_oneof![
        negotiation().prop_map(Command::Negotiate),
        (stage(), vec((text(), text()), 0..5)).prop_map(|(s, p)| Command::Macros(s, p)),
        (text(), peer()).prop_map(|(host, peer)| Command::Connect { host, peer }),
        text().prop_map(Command::Helo),
        vec(text(), 1..4).prop_map(Command::Mail),
        vec(text(), 1..4).prop_map(Command::Recipient),
        Just(Command::Data),
        (text(), text()).prop_map(|(name, value)| Command::Header { name, value }),
        Just(Command::EndOfHeaders),
        octets().prop_map(Command::Body),
        octets().prop_map(Command::EndOfMessage),
        Just(Command::Abort),
        Just(Command::Quit),
        Just(Command::QuitNewConnection),
        text().prop_map(Command::Unknown),
    ]
}

fn response() -> impl Strategy<Value = Response<'static>> {
    let simple = prop_oneof![
        Just(Response::Continue),
        Just(Response::Accept),
        Just(Response::Reject),
        Just(Response::TempFail),
        Just(Response::Discard),
        Just(Response::Skip),
        Just(Response::Progress),
        Just(Response::ConnectionFailure),
        Just(Response::Shutdown),
    ];
    prop_oneof![
        simple,
        negotiation().prop_map(Response::Negotiated),
        text().prop_map(Response::Reply),
        text().prop_map(Response::AddRecipient),
        (text(), proptest::option::of(text()))
            .prop_map(|(path, parameters)| Response::AddRecipientParameters { path, parameters }),
        text().prop_map(Response::DeleteRecipient),
        octets().prop_map(Response::ReplaceBody),
        (text(), proptest::option::of(text()))
            .prop_map(|(path, parameters)| Response::ChangeSender { path, parameters }),
        (text(), text()).prop_map(|(name, value)| Response::AddHeader { name, value }),
        (any::<u32>(), text(), text()).prop_map(|(index, name, value)| Response::InsertHeader { index, name, value }),
        (any::<u32>(), text(), text()).prop_map(|(index, name, value)| Response::ChangeHeader { index, name, value }),
        text().prop_map(Response::Quarantine),
        (stage(), text()).prop_map(|(s, t)| Response::Symbols(s, t)),
    ]
}

/// The one whole frame in `octets`.
fn only(octets: &[u8]) -> Frame<'_> {
    let (frame, taken) = frame(octets).unwrap().unwrap();
    assert_eq!(taken, octets.len());
    frame
}

proptest! {
    #[test]
    fn commands_are_read_as_they_were_written(command in command()) {
        let mut out = Vec::new();
        command.put(&mut out);
        prop_assert_eq!(Command::parse(only(&out)), Ok(command));
        for cut in 0..out.len() {
            prop_assert_eq!(frame(&out[..cut]), Ok(None));
        }
    }

    #[test]
    fn responses_are_read_as_they_were_written(response in response()) {
        let mut out = Vec::new();
        response.put(&mut out);
        prop_assert_eq!(Response::parse(only(&out)), Ok(response));
    }

    #[test]
    fn whatever_comes_in_is_read_or_refused(code: u8, data in vec(any::<u8>(), 0..300)) {
        let frame = Frame { code, data: &data };
        if let Ok(command) = Command::parse(frame) {
            let mut out = Vec::new();
            command.put(&mut out);
            prop_assert_eq!(Command::parse(only(&out)), Ok(command));
        }
        if let Ok(response) = Response::parse(frame) {
            let mut out = Vec::new();
            response.put(&mut out);
            prop_assert_eq!(&out[5..], &data[..], "what a filter says has one spelling");
        }
    }

    #[test]
    fn streams_are_cut_into_frames_or_refused(stream in vec(any::<u8>(), 0..400)) {
        let mut at = 0;
        while let Ok(Some((frame, taken))) = frame(&stream[at..]) {
            prop_assert_eq!(frame.data.len() + 5, taken);
            at += taken;
        }
        prop_assert!(at <= stream.len());
    }

    #[test]
    fn header_fields_take_every_octet_once(message in "([A-Za-z: \r\n\t\u{e9}]{0,200})") {
        let mut fields = header_fields(message.as_bytes());
        let mut named = 0;
        for field in fields.by_ref() {
            named += field.name.len();
            prop_assert!(field.value(true, usize::MAX).len() < message.len());
        }
        prop_assert!(named <= fields.octets() && fields.octets() <= message.len());
        // Behind the fields stands the end, the body behind an empty line, or a line that is no field.
        prop_assert!(fields.next().is_none());
    }
}

#[test]
fn frames_as_libmilter_reads_them() {
    let mut out = Vec::new();
    Command::Negotiate(Negotiation { version: 6, actions: Actions::ALL, steps: Steps::ALL, symbols: Vec::new() })
        .put(&mut out);
    assert_eq!(out, b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff");
    out.clear();
    let host = Cow::Borrowed(&b"mail.example.org"[..]);
    Command::Connect { host, peer: Peer::Internet("192.0.2.1:258".parse().unwrap()) }.put(&mut out);
    assert_eq!(out, b"\0\0\0\x1fCmail.example.org\x004\x01\x02192.0.2.1\0");
    out.clear();
    Command::Macros(Stage::Connect, vec![(b"j".into(), b"mx".into()), (b"{if_addr}".into(), b"::1".into())])
        .put(&mut out);
    assert_eq!(out, b"\0\0\0\x15DCj\0mx\0{if_addr}\0::1\0");
}

#[test]
fn lengths_that_cannot_be() {
    assert_eq!(frame(b"\0\0\0\0"), Err(MilterError::Empty));
    assert_eq!(frame(b"\xff\xff\xff\xff"), Err(MilterError::TooLong(u32::MAX)));
    assert_eq!(frame(b"HTTP/1.1 400 Bad Request"), Err(MilterError::TooLong(0x4854_5450)));
    let most = u32::try_from(FRAME_OCTETS_MAX).unwrap();
    assert_eq!(frame(&most.to_be_bytes()), Ok(None));
    assert_eq!(frame(&(most + 1).to_be_bytes()), Err(MilterError::TooLong(most + 1)));
}

#[test]
fn broken_frames_are_named() {
    let parse = |code, data| Response::parse(Frame { code, data }).unwrap_err();
    assert_eq!(parse(b'Z', b""), MilterError::Unknown(b'Z'));
    assert_eq!(parse(b'y', b"550 no end"), MilterError::Unterminated(b'y'));
    assert_eq!(parse(b'y', b""), MilterError::Short(b'y'));
    assert_eq!(parse(b'c', b"x"), MilterError::Trailing(b'c'));
    assert_eq!(parse(b'i', b"\0\0"), MilterError::Short(b'i'));
    assert_eq!(parse(b'O', b"\0\0\0\x06\0\0\0\0\0\0\0\0\0\0\0\x09x\0"), MilterError::Value(b'O'));
    let connect = |data| Command::parse(Frame { code: b'C', data });
    assert_eq!(connect(b"a\x004\0\x19300.0.2.1\0"), Err(MilterError::Value(b'C')));
    assert_eq!(
        connect(b"a\x006\0\x19IPv6:2001:db8::1\0"),
        Ok(Command::Connect { host: b"a".into(), peer: Peer::Internet("[2001:db8::1]:25".parse().unwrap()) })
    );
    assert!(parse(b'\n', b"").to_string().contains("'\\n'"));
}

#[test]
fn nul_cannot_end_a_text_early() {
    let mut out = Vec::new();
    Command::Helo(Cow::Borrowed(b"a\0b")).put(&mut out);
    assert_eq!(Command::parse(only(&out)), Ok(Command::Helo(Cow::Borrowed(b"a b"))));
}

#[test]
fn fields_are_told_as_libmilter_documents_them() {
    let message = b"Subject: one\r\n two\r\nX-Empty:\r\nTo:bob\r\nOld : style\r\n\r\nbody: no field\r\n";
    let mut fields = header_fields(message);
    let told: Vec<(String, String)> = fields
        .by_ref()
        .map(|f| {
            (String::from_utf8_lossy(f.name).into_owned(), String::from_utf8_lossy(&f.value(false, 99)).into_owned())
        })
        .collect();
    let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect::<Vec<_>>();
    assert_eq!(told, own(&[("Subject", "one\n two"), ("X-Empty", ""), ("To", "bob"), ("Old", "style")]));
    assert_eq!(&message[fields.octets()..], b"body: no field\r\n");
    let first = header_fields(message).next().unwrap();
    assert_eq!(&*first.value(true, 99), b" one\n two");
    assert_eq!(&*first.value(false, 2), b"on");
}

#[test]
fn a_line_that_is_no_field_begins_the_body() {
    let message = b"A: 1\r\nno field at all\r\nB: 2\r\n\r\nbody\r\n";
    let mut fields = header_fields(message);
    assert_eq!(fields.by_ref().count(), 1);
    assert_eq!(&message[fields.octets()..], b"no field at all\r\nB: 2\r\n\r\nbody\r\n");
    let mut none = header_fields(b"");
    assert!(none.next().is_none() && none.octets() == 0);
}
