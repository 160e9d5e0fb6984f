//! A scripted rspamd: what it is told, and what is made of its answers and of its faults.

use crate::fake::{Fake, Line, MESSAGE, Notes, advice, body_in, case, consult, hang, helpers, unknown};
use gatepost::base::inquiry::{Action, Edit};
use gatepost::lookup::helpers::{HelperConfig, HelperKind, Helpers};
use std::time::Duration;

/// Reads one request; its head and its body.
fn request(line: &mut dyn Line) -> Option<(String, Vec<u8>)> {
    let mut all = Vec::new();
    loop {
        if let Some(at) = all.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8(all[..at].to_vec()).unwrap();
            let length =
                head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap().parse::<usize>().unwrap();
            if all.len() == at + 4 + length {
                return Some((head, all[at + 4..].to_vec()));
            }
        }
        let mut some = [0; 16 * 1024];
        match line.read(&mut some) {
            Ok(n) if n > 0 => all.extend_from_slice(&some[..n]),
            _ => return None,
        }
    }
}

fn answers(text: impl Into<String>) -> impl Fn(&mut dyn Line, usize, &Notes) + Send + Sync {
    let text = text.into();
    move |line, _, notes| {
        let Some((head, body)) = request(line) else { return };
        notes.note(head);
        notes.note(String::from_utf8(body).unwrap());
        let _ = line.write_all(text.as_bytes());
    }
}

fn json(json: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{json}", json.len())
}

const SPAM: &str = r#"{"is_skipped":false,"score":8.5,"required_score":15.0,"action":"add header",
    "symbols":{"R_SPF_FAIL":{"name":"R_SPF_FAIL","score":1.0},"FORGED":{"score":7.5}},
    "message-id":"1@example.org","milter":{"add_headers":{"X-Spamd-Bar":{"value":"++++++++","order":0}}}}"#;

#[test]
fn the_envelope_is_told_in_headers_and_the_message_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for unix in [false, true] {
        let script = answers(json(SPAM));
        let fake = if unix { Fake::start_unix(script) } else { Fake::start(script) };
        let mut case = case(MESSAGE);
        case.user = Some("ann".into());
        if unix {
            case.body = Some(body_in(dir.path(), MESSAGE.as_bytes()));
        }
        let advice = advice(consult(&helpers(fake.knobs(HelperKind::Rspamd)), &case));
        assert_eq!((advice.action, advice.score, advice.threshold), (Action::Accept, Some(8.5), Some(15.0)));
        assert_eq!(advice.symbols, ["FORGED".into(), "R_SPF_FAIL".into()]);
        assert_eq!(
            advice.edits,
            [
                Edit::InsertField { at: 0, name: "X-Spamd-Bar".into(), value: "++++++++".into() },
                Edit::AddField { name: "X-Spam".into(), value: "Yes".into() },
            ]
        );
        let heard = fake.heard();
        let mut lines: Vec<&str> = heard[0].lines().collect();
        assert_eq!(lines.remove(0), "POST /checkv2 HTTP/1.1");
        lines.retain(|l| !l.starts_with("host: ") && !l.starts_with("user-agent: "));
        lines.sort_unstable();
        assert_eq!(
            lines,
            [
                &format!("content-length: {}", MESSAGE.len())[..],
                "from: ann@example.org",
                "helo: helo.example.org",
                "hostname: mail.example.org",
                "ip: 192.0.2.1",
                "mta-name: mx.example.test",
                "mta-tag: mx",
                "queue-id: 0000000000007.1",
                "rcpt: bob@example.test",
                "rcpt: carl@example.test",
                "tls-cipher: TLS_AES_256_GCM_SHA384",
                "tls-version: TLSv1.3",
                "user: ann",
            ]
        );
        assert_eq!(heard[1], MESSAGE);
    }
}

#[test]
fn settings_become_headers() {
    let fake = Fake::start(answers(json(SPAM)));
    let dir = tempfile::tempdir().unwrap();
    let mut knobs = fake.knobs(HelperKind::Rspamd);
    let file = dir.path().join("password");
    std::fs::write(&file, "sesame\nmore\n").unwrap();
    (knobs.password_file, knobs.check_all, knobs.settings_id) = (Some(file.clone()), true, Some("outbound".into()));
    let mut case = case(MESSAGE);
    (case.sender, case.helo) = (None, "a\r\nPassword: b".into());
    advice(consult(&helpers(knobs.clone()), &case));
    let head = &fake.heard()[0];
    for line in ["password: sesame", "pass: all", "settings-id: outbound", "from: <>"] {
        assert!(head.lines().any(|l| l == line), "{line} in {head}");
    }
    assert_eq!(head.matches("assword").count(), 1, "what a client says makes no headers: {head}");
    // A file without a password is found at the start.
    for text in [Some(""), Some("\nsecond"), Some("a\x01b"), None] {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let wrong = Helpers::load(&[HelperConfig { name: "h".into(), knobs: knobs.clone() }]).unwrap_err();
        assert!(wrong.starts_with("helper.h.password_file: ") && wrong.contains("password"), "{wrong}");
    }
}

#[test]
fn large_messages_go_over() {
    let message = format!("A: b\r\n\r\n{}", "0123456789".repeat(300_000));
    let dir = tempfile::tempdir().unwrap();
    let mut case = case("");
    case.body = Some(body_in(dir.path(), message.as_bytes()));
    let fake = Fake::start(answers(json(SPAM)));
    advice(consult(&helpers(fake.knobs(HelperKind::Rspamd)), &case));
    assert!(fake.heard()[1] == message);
}

#[test]
fn answers_of_every_shape() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n13\r\n{\"action\":\"reject\",\r\nb\r\n\"score\":99}\r\n0\r\n\r\n";
    let until_closed = "HTTP/1.0 200 OK\r\n\r\n{\"action\":\"reject\",\"score\":99}";
    for text in [chunked, until_closed] {
        let fake = Fake::start(answers(text));
        let advice = advice(consult(&helpers(fake.knobs(HelperKind::Rspamd)), &case(MESSAGE)));
        assert_eq!((advice.action, advice.score), (Action::Reject, Some(99.0)));
    }
}

#[test]
fn faults() {
    let half = json(SPAM);
    for (text, said) in [
        (String::new(), "connection closed instead of answer to /checkv2"),
        ("HTTP/1.1 200 OK\r\nConte".into(), "connection closed instead of answer to /checkv2"),
        (half[..half.len() - 20].to_owned(), "connection closed instead of rest of the answer"),
        ("220 smtp.example.org ESMTP\r\n\r\n".into(), "not understood: "),
        (json("<html>"), "not understood: "),
        (json("{}"), "not understood: missing field `action`"),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 24\r\n\r\n{\"error\":\"Unauthorized\"}".into(),
            "it says: status 403: Unauthorized",
        ),
        ("HTTP/1.1 503 busy\r\nContent-Length: 0\r\n\r\n".into(), "it says: status 503"),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n{".to_owned() + &" ".repeat(5 << 20),
            "an answer of more than",
        ),
        (format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(100_000)), "not understood: "),
    ] {
        let fake = Fake::start(answers(text.clone()));
        let why = unknown(consult(&helpers(fake.knobs(HelperKind::Rspamd)), &case(MESSAGE)));
        let shown = &text[..text.len().min(60)];
        assert!(why.contains(said), "{shown:?}: {why}");
    }
    for early in [true, false] {
        let fake = Fake::start(move |line, _, _| {
            if early {
                let _ = line.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{");
            }
            hang(line);
        });
        let mut knobs = fake.knobs(HelperKind::Rspamd);
        knobs.answer_timeout = Duration::from_millis(100);
        let why = unknown(consult(&helpers(knobs), &case(MESSAGE)));
        assert!(why.contains("no answer to /checkv2 within 100ms"), "{why}");
    }
}

#[test]
fn an_answer_before_the_message_was_read() {
    // A worker that refuses large messages answers and closes while they are still being sent.
    let fake = Fake::start(|line, _, _| {
        let mut some = [0; 1024];
        let _ = line.read(&mut some);
        let _ = line.write_all(b"HTTP/1.1 413 too large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        hang(line);
    });
    let message = format!("A: b\r\n\r\n{}", "x".repeat(8 << 20));
    let why = unknown(consult(&helpers(fake.knobs(HelperKind::Rspamd)), &case(&message)));
    assert!(why.contains("it says: status 413"), "{why}");
}

#[test]
fn it_is_asked_about_whole_messages_only() {
    let fake = Fake::start(answers(json(SPAM)));
    let mut early = case(MESSAGE);
    early.body = None;
    assert!(unknown(consult(&helpers(fake.knobs(HelperKind::Rspamd)), &early)).contains("judges whole messages"));
    assert_eq!(fake.connections(), 0);
}
