//! What is fuzzed: each target takes any octets and holds what must hold of them. The same functions run under libFuzzer
//! (`fuzz/`) and, briefly, as tests (`tests/fuzz.rs`).
//!
//! How it fails: a panic, with the rule that was broken.
#![allow(missing_docs, clippy::unwrap_used, reason = "a panic is the report")]

use gatepost::base::buf::{Input, Output};
use gatepost::base::id::SessionId;
use gatepost::base::time::{Instant, WallTime};
use gatepost::policy::{Builtins, ClientFacts, Limits, NoFiles, Policy, Session};
use gatepost::smtp::server::{Answer, Ask, Peer, PeerRights, Server, ServerConfig, Service, Settled};
use gatepost::wire::imap::{FrameLimits, Framed, Framer, Mode};
use gatepost::wire::mime::Structure;
use gatepost::wire::response::{ResponseLimits, ResponseParser};
use gatepost::wire::{address, command, imap, milter, mime, params, pop3, proxy, replies, xtext};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

pub type Target = fn(&[u8]);

/// Every target with its name and what it begins from.
pub const TARGETS: &[(&str, Target, &[&[u8]])] = &[
    ("smtp_server", smtp_server, &[
        b"\x07EHLO a.example\r\nMAIL FROM:<a@a.example> SIZE=10 BODY=8BITMIME\r\nRCPT TO:<b@example.test> NOTIFY=NEVER\r\nDATA\r\nSubject: x\r\n\r\n..a\r\n.\r\nQUIT\r\n",
        b"\x20LHLO a\r\nMAIL FROM:<>\r\nRCPT TO:<\"a b\"@example.test>\r\nBDAT 5\r\nab\r\nxBDAT 3 LAST\r\ny\r\nRSET\r\nVRFY a\r\nEXPN b\r\nHELP\r\nNOOP x\r\n",
        b"\x03HELO a\r\nAUTH PLAIN AGEAYg==\r\nSTARTTLS\r\nMAIL FROM:<@x,@y:a@[IPv6:::1]>\r\nXCLIENT NAME=a ADDR=1.2.3.4\r\n",
    ]),
    ("smtp_replies", smtp_replies, &[b"\x05250-a\r\n250-PIPELINING\r\n250 SIZE 1000\r\n421 4.3.2 bye\r\n", b"\x01250 2.1.0 ok\n"]),
    ("smtp_arguments", smtp_arguments, &[
        b"FROM:<a@b.example> SIZE=1 ENVID=a+2Bb RET=HDRS AUTH=<> SMTPUTF8",
        b"TO:<\"x y\"@[127.0.0.1]> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a@b",
    ]),
    ("proxy", proxy_header, &[
        b"PROXY TCP4 192.0.2.1 198.51.100.1 1234 25\r\nEHLO",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x01\x02\x03\x04\x05\x06\x07\x08\x01\x02\x03\x04",
    ]),
    ("pop3_line", pop3_line, &[b"RETR 1", b"AUTH PLAIN AGEAYg==", b"APOP a c4c9334bac560ecc979e58001b3e22fb", b"TOP 1 10"]),
    ("imap_commands", imap_commands, &[
        b"\x09a1 LOGIN {4}\r\nuser \"pass word\"\r\na2 FETCH 1:*,5 (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (From To)]<0.100>)\r\n",
        b"\x02b UID SEARCH RETURN (MIN MAX) CHARSET UTF-8 OR (SINCE 1-Feb-2020 NOT SEEN) HEADER Subject {3+}\r\nabc\r\n",
        b"\x04c APPEND \"&AOQ-\" (\\Seen) \" 1-Jan-2020 00:00:00 +0000\" {10}\r\n0123456789\r\nd LIST (SUBSCRIBED) \"\" (\"%\" *) RETURN (STATUS (MESSAGES))\r\n",
    ]),
    ("milter", milter_frames, &[
        b"\0\0\0\x0dO\0\0\0\x06\0\0\x01\xff\0\x1f\xff\xff\0\0\0\x01c\0\0\0\x0eq looks odd\0\0\0",
        b"\0\0\0\x0bhX-Spam\0Yes\0\0\0\0\x0ci\0\0\0\x01A\0b c\0\0\0\0\x1fCmail.example.org\x004\x01\x02192.0.2.1\0",
    ]),
    ("mime", mime_structure, &[
        b"From: =?utf-8?q?=C3=A4?= <a@b>\r\nContent-Type: multipart/mixed; boundary=\"x\"\r\n\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: y\r\n\r\nz\r\n--x\r\nContent-Transfer-Encoding: base64\r\n\r\nYWJj\r\n--x--\r\n",
        b"Date: Mon, 1 Jan 2024 00:00:00 +0000\nTo: a:b@c,d;\nContent-Type: text/html; charset=iso-8859-1\n\n<p>x&amp;y",
    ]),
    ("mailbox_name", mailbox_name, &[b"&AOQ-&-", "Entwürfe/ä".as_bytes(), b"&Jjo-!"]),
    ("policy", policy, &[
        include_bytes!("../../policy/edge.toml"),
        b"[[rule]]\nname = \"a\"\nstage = \"rcpt\"\nwhen = \"x and (MAIL\"\nthen =\xda\x97reject 550 no\"\n",
        b"[[rule]]\nname = \"a\"\nstage = \"rcpt\"\nwhen = \"rcpt.domain in @x and (size > 10MiB or not header('a') matches '^b')\"\nthen = \"reject 550 no\"\n[list.x]\ndomains = [\"a.example\"]\n",
    ]),
    ("journal", journal, &[
        b"{\"v\":1,\"run\":\"0\",\"session\":\"A\",\"at\":\"2026-01-01T00:00:00.000Z\",\"events\":[{\"at\":1,\"connect\":{}}]}",
    ]),
];

fn split(data: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((usize::from(*first).min(rest.len()), rest))
}

/// A session with a policy that takes mail for example.test: whatever a client says, and however it is cut, it hears the same
/// whole lines.
fn smtp_server(data: &[u8]) {
    let Some((cut, input)) = split(data) else { return };
    let whole = converse(&[input], data[0]);
    let cut = converse(&[&input[..cut], &input[cut..]], data[0]);
    assert_eq!(String::from_utf8_lossy(&whole), String::from_utf8_lossy(&cut), "the cut shows");
    assert!(whole.is_empty() || whole.ends_with(b"\r\n"));
    for line in whole.split_inclusive(|b| *b == b'\n') {
        assert!(line.len() <= 512 && line[..3].iter().all(u8::is_ascii_digit), "{:?}", String::from_utf8_lossy(line));
        assert!(!line[..line.len() - 2].iter().any(|b| matches!(b, b'\r' | b'\n' | 0)), "a reply carries a line end");
    }
}

static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| {
    let builtins = Builtins::new(["example.test"]).unwrap();
    let text = include_str!("../../policy/edge.toml");
    Arc::new(Policy::compile("edge.toml", text, &NoFiles, &builtins).unwrap())
});

fn converse(pieces: &[&[u8]], kind: u8) -> Vec<u8> {
    let service = [Service::Mx, Service::Lmtp, Service::Submission][usize::from(kind) % 3];
    let mut config = ServerConfig::plain(address::parse_domain("mx.example.test").unwrap(), service);
    // Less to be waited for.
    config.knobs.greet_delay = Duration::ZERO;
    let client: SocketAddr = "127.0.0.1:1000".parse().unwrap();
    let now = Instant::ZERO;
    let peer = Peer {
        session: SessionId(1),
        client,
        local: client,
        connected: WallTime::from_millis(0),
        tls: None,
        rights: PeerRights { protected: true, proxy: false, xclient: kind & 0x40 != 0 },
        nonce_seed: [7; 32],
        xclient: None,
    };
    let facts = ClientFacts { client, ..ClientFacts::default() };
    let mut judge = Session::new(POLICY.clone(), Limits::new(1000, 1), facts, now, WallTime::from_millis(0));
    let mut server = Server::new(Arc::new(config), peer, now);
    let mut said = Vec::new();
    let mut waiting: Vec<u8> = Vec::new();
    let mut closed = false;
    for piece in [&[][..]].iter().chain(pieces) {
        waiting.extend_from_slice(piece);
        loop {
            let mut input = Input::new(&waiting);
            server.handle_bytes(now, &mut input);
            let consumed = input.consumed();
            waiting.drain(..consumed);
            let mut asked = false;
            while let Some(ask) = server.poll_ask() {
                asked = true;
                match ask {
                    Ask::Close => closed = true,
                    Ask::Reset | Ask::StartTls => {}
                    ask => server.handle_answer(now, answer(&mut judge, now, ask)),
                }
            }
            let mut out = Output::new(1 << 20);
            server.poll_transmit(&mut out);
            let mut progress = consumed > 0 || asked;
            for segment in out.take().segments() {
                said.extend_from_slice(segment.as_slice());
                progress = true;
            }
            if closed || !progress {
                break;
            }
        }
        if closed {
            break;
        }
    }
    said
}

fn answer(judge: &mut Session, now: Instant, ask: Ask) -> Answer {
    let no = || Answer::Refuse { reply: replies::local_error(), after: Duration::ZERO, close: false };
    match ask {
        Ask::Mail { sender, parameters } => match judge.mail(now, &sender, &parameters).verdict.passes() {
            true => Answer::Go,
            false => no(),
        },
        Ask::Rcpt { recipient } => match judge.rcpt(now, &recipient, None).verdict {
            gatepost::policy::Verdict::Accept(grant) => Answer::Granted { grant, after: Duration::ZERO },
            _ => no(),
        },
        Ask::Spill { .. } => Answer::Spilled(Ok(())),
        Ask::Message(_) => Answer::Settled(Settled::Refused(replies::local_error())),
        Ask::Sasl(_) => no(),
        _ => Answer::Go,
    }
}

/// Replies of a server: the same whatever the cut, and never a line end inside a text.
fn smtp_replies(data: &[u8]) {
    let Some((cut, input)) = split(data) else { return };
    let read = |pieces: &[&[u8]]| {
        let mut parser = ResponseParser::new(ResponseLimits::default());
        let mut waiting: Vec<u8> = Vec::new();
        let mut found = Vec::new();
        for piece in pieces {
            waiting.extend_from_slice(piece);
            let mut input = Input::new(&waiting);
            loop {
                match parser.next(&mut input) {
                    Ok(Some(reply)) => found.push(format!("{reply:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        found.push(format!("{error:?}"));
                        return found;
                    }
                }
            }
            let n = input.consumed();
            waiting.drain(..n);
        }
        found
    };
    assert_eq!(read(&[input]), read(&[&input[..cut], &input[cut..]]));
}

/// Arguments of commands; what parses is written back as something that parses to the same.
fn smtp_arguments(data: &[u8]) {
    let _ = command::parse_line(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    for rest in [command::parse_mail(text).map(|(_, rest)| rest), command::parse_rcpt(text).map(|(_, rest)| rest)] {
        let Ok(rest) = rest else { continue };
        if let Ok(list) = params::parse_list(rest) {
            assert!(list.len() <= rest.len());
        }
    }
    let _ = (command::parse_bdat(text), command::parse_auth(text), params::parse_size(text));
    let _ = (params::parse_envid(text), params::parse_notify(text), params::parse_orcpt(text));
    let _ = (xtext::decode(text), xtext::decode_utf8_address(text), address::parse_host(text));
    if let Ok(mailbox) = address::parse_mailbox(text) {
        let again = address::parse_mailbox(&mailbox.to_string()).expect("what we write we can read");
        assert_eq!(mailbox, again);
    }
    if let Ok(domain) = address::parse_domain(text) {
        assert_eq!(address::parse_domain(domain.as_str()).unwrap().lower(), domain.lower());
    }
}

/// A PROXY header ends where it says and before the octets do; more octets do not change it.
fn proxy_header(data: &[u8]) {
    use proxy::Parsed;
    match proxy::parse(data) {
        Parsed::Done { consumed, endpoints } => {
            assert!(consumed > 0 && consumed <= data.len());
            let mut more = data.to_vec();
            more.extend_from_slice(b"EHLO x\r\n");
            match proxy::parse(&more) {
                Parsed::Done { consumed: c, endpoints: e } => {
                    assert_eq!((c, format!("{e:?}")), (consumed, format!("{endpoints:?}")));
                }
                _ => panic!("more octets change the header"),
            }
            assert!(matches!(proxy::parse(&data[..consumed - 1]), Parsed::NeedMore), "a part of it is not enough");
        }
        Parsed::NeedMore => assert!(data.len() < 1 << 16, "it must end some time"),
        Parsed::Invalid(_) => {}
    }
}

fn pop3_line(data: &[u8]) {
    if let Ok(line) = pop3::parse_line(data) {
        assert!(format!("{line:?}").len() < 16 * data.len() + 4096);
    }
}

/// Commands of a session: framed alike whatever the cut, and parsed in both grammars.
fn imap_commands(data: &[u8]) {
    let Some((cut, input)) = split(data) else { return };
    let read = |pieces: &[&[u8]]| {
        let mut framer = Framer::new(FrameLimits::default());
        let mut waiting: Vec<u8> = Vec::new();
        let mut commands: Vec<Vec<u8>> = Vec::new();
        for piece in pieces {
            waiting.extend_from_slice(piece);
            let mut input = Input::new(&waiting);
            loop {
                enum Next {
                    Go,
                    Inline,
                    Message,
                    Stop,
                }
                let next = match framer.next(&mut input) {
                    Framed::Command(command) => {
                        commands.push(command.to_vec());
                        Next::Go
                    }
                    Framed::Literal { message: true, .. } => Next::Message,
                    Framed::Literal { .. } => Next::Inline,
                    Framed::NeedMore => Next::Stop,
                    _ => Next::Go,
                };
                match next {
                    Next::Go => {}
                    Next::Inline => framer.accept_inline(),
                    Next::Message => framer.accept_message(),
                    Next::Stop => break,
                }
            }
            let n = input.consumed();
            waiting.drain(..n);
        }
        commands
    };
    let whole = read(&[input]);
    assert_eq!(whole, read(&[&input[..cut], &input[cut..]]), "the cut shows");
    for command in &whole {
        for mode in [Mode::default(), Mode { utf8: true }] {
            let _ = imap::parse(command, mode);
        }
    }
}

/// Frames of the milter protocol: cut anywhere, each is whole or waited for, and what is read is written alike.
fn milter_frames(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((frame, taken))) = milter::frame(rest) {
        assert_eq!(frame.data.len() + 5, taken);
        assert_eq!(milter::frame(&rest[..taken - 1]), Ok(None));
        let mut out = Vec::new();
        if let Ok(response) = milter::Response::parse(frame) {
            response.put(&mut out);
            assert_eq!(out, rest[..taken]);
        }
        out.clear();
        if let Ok(command) = milter::Command::parse(frame) {
            command.put(&mut out);
            let (again, _) = milter::frame(&out).unwrap().unwrap();
            assert_eq!(milter::Command::parse(again), Ok(command));
        }
        rest = &rest[taken..];
    }
    let mut fields = milter::header_fields(data);
    let named: usize = fields.by_ref().map(|field| field.name.len()).sum();
    assert!(named <= fields.octets() && fields.octets() <= data.len());
}

/// Any octets are a message: its structure is bounded, its parts lie in it, and what is said of it is well-formed.
fn mime_structure(data: &[u8]) {
    let structure = Structure::parse(data);
    assert!(structure.parts() <= mime::PARTS_MAX);
    for text in [
        mime::envelope(data, &structure),
        mime::body_structure(data, &structure, true),
        mime::body_structure(data, &structure, false),
    ] {
        assert_eq!(balance(&text), Some(0), "{}", String::from_utf8_lossy(&text));
    }
    let text = mime::body_text(data, &structure, 4096);
    assert!(text.len() <= 4096 + 4);
    assert!(mime::preview(data, &structure).chars().count() <= mime::PREVIEW_CHARACTERS_MAX);
    let _ = mime::sort_fields(data);
    let _ = mime::parse_date(data);
    let _ = mime::header_section(data);
}

/// Parentheses that are open at the end, quoted strings and literals left out; `None` when one closes that is not open.
fn balance(text: &[u8]) -> Option<usize> {
    let (mut open, mut at) = (0usize, 0);
    while at < text.len() {
        match text[at] {
            b'(' => open += 1,
            b')' => open = open.checked_sub(1)?,
            b'"' => {
                at += 1;
                while text.get(at).is_some_and(|b| *b != b'"') {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                text.get(at)?;
            }
            b'{' => {
                let end = at + text[at..].iter().position(|b| *b == b'}')?;
                let number = std::str::from_utf8(&text[at + 1..end]).ok()?.trim_end_matches('+');
                let octets: usize = number.trim_start_matches('~').parse().ok()?;
                // The literal begins behind CRLF.
                at = end + 2 + octets;
            }
            _ => {}
        }
        at += 1;
    }
    Some(open)
}

fn mailbox_name(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(name) = imap::utf7::decode(text) {
        assert_eq!(imap::utf7::encode(&name), text, "only what we would write is read");
    }
    assert_eq!(imap::utf7::decode(&imap::utf7::encode(text)).as_deref(), Some(text));
}

/// A policy compiles, or every finding has a place in the text.
fn policy(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let builtins = Builtins::new(["example.test"]).unwrap();
    match Policy::compile("fuzz.toml", text, &NoFiles, &builtins) {
        Ok(policy) => assert!(policy.rules().len() <= text.len()),
        Err(findings) => {
            assert!(!findings.is_empty());
            for finding in findings {
                assert!(!finding.to_string().is_empty());
            }
        }
    }
}

/// A line of a journal: read or refused; its events lie in it.
fn journal(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut places = Vec::new();
    if gatepost::policy::journal::read_line(text, &mut places).is_ok() {
        for place in &places {
            let _ = gatepost::policy::journal::read_event(text, place);
        }
    }
}
