//! Answers of rspamd as they come, and as they should not. How it fails: the panic shows the answer.

use super::*;
use crate::base::body::{Body, BodyShape};
use crate::base::id::SessionId;
use crate::wire::address::parse_domain;
use proptest::prelude::*;
use std::sync::Arc;

const MESSAGE: &str = "X-Spam: a\r\nSubject: hello\r\nx-spam: b\r\nX-Spam: c\r\n\r\nbody\r\n";

fn case() -> Case {
    let shape = BodyShape {
        octets: MESSAGE.len() as u64,
        header_octets: MESSAGE.find("\r\n\r\n").unwrap() as u64 + 4,
        ..BodyShape::default()
    };
    Case {
        session: SessionId(1),
        host: parse_domain("mx.example.test").unwrap(),
        listener: "mx".into(),
        client: "192.0.2.1:2525".parse().unwrap(),
        local: "127.0.0.1:25".parse().unwrap(),
        client_name: None,
        helo: "mail.example.org".into(),
        tls: None,
        user: None,
        sender: None,
        recipients: Vec::new(),
        transaction: 1,
        spf: None,
        body: Some(Body::memory(shape, vec![Arc::new(MESSAGE.as_bytes().to_vec())])),
    }
}

fn read(json: &str) -> Advice {
    advice(json.as_bytes(), &case()).unwrap()
}

fn remove(occurrence: u32) -> Edit {
    Edit::ChangeField { occurrence, name: "X-Spam".into(), value: None }
}

#[test]
fn actions() {
    for (word, action, reply) in [
        ("no action", Action::Accept, None),
        ("greylist", Action::Greylist, Some("451 4.7.1 Try again later")),
        ("soft reject", Action::Defer, Some("451 4.7.1 Try again later")),
        ("reject", Action::Reject, Some("554 5.7.1 Spam message rejected")),
        ("discard", Action::Discard, None),
        ("quarantine", Action::Quarantine, None),
        ("add header", Action::Accept, None),
        ("rewrite subject", Action::Accept, None),
    ] {
        let advice = read(&format!(r#"{{"action":"{word}","score":1.5,"required_score":15}}"#));
        assert_eq!((advice.action, advice.reply.as_deref()), (action, reply), "{word}");
        assert_eq!((advice.score, advice.threshold), (Some(1.5), Some(15.0)));
    }
    let said = r#"{"action":"reject","messages":{"smtp_message":"5.7.26 go\naway"}}"#;
    assert_eq!(read(said).reply.as_deref(), Some("554 5.7.26 go\naway"));
    let names = r#"{"action":"reject","symbols":{"GTUBE":{"score":0},"ARC_NA":{}},"milter":{"reject":"discard"}}"#;
    assert_eq!(read(names).symbols, ["ARC_NA".into(), "GTUBE".into()]);
    assert_eq!(read(names).action, Action::Discard);
    assert_eq!(read(r#"{"action":"reject","milter":{"no_action":true}}"#).action, Action::Accept);
    // Lua's empty tables.
    assert_eq!(read(r#"{"action":"no action","symbols":[],"messages":[],"milter":[]}"#), Advice::default());
}

#[test]
fn edits_in_their_order() {
    let advice = read(
        r#"{"action":"add header","dkim-signature":"v=1;\r\n\tb=x","milter":{
            "remove_headers":{"X-Spam":0},
            "add_headers":{"X-Bar":{"value":"+++","order":1},"X-Two":["a",{"value":2,"order":-1}]},
            "add_rcpt":["<c@example.test>","broken"],"del_rcpt":["d@example.test"],"change_from":"<>",
            "spam_header":"X-Junk"}}"#,
    );
    let field = |name: &str, value: &str| Edit::AddField { name: name.into(), value: value.into() };
    let insert = |name: &str, value: &str| Edit::InsertField { at: 0, name: name.into(), value: value.into() };
    let expected = [
        remove(3),
        remove(2),
        remove(1),
        insert("X-Bar", "+++"),
        field("X-Two", "a"),
        field("X-Two", "2"),
        Edit::AddRecipient(mailbox("c@example.test").unwrap()),
        Edit::RemoveRecipient(mailbox("d@example.test").unwrap()),
        Edit::ChangeSender(None),
        insert("DKIM-Signature", "v=1;\r\n\tb=x"),
        field("X-Junk", "Yes"),
    ];
    assert_eq!(advice.edits, expected);
    let rejected = r#"{"action":"reject","milter":{"add_headers":{"X-Bar":"1"}}}"#;
    assert!(read(rejected).edits.is_empty(), "what is refused is not changed");
}

#[test]
fn one_field_of_several() {
    let removed = |which: &str| {
        read(&format!(r#"{{"action":"no action","milter":{{"remove_headers":{{"X-Spam":{which}}}}}}}"#)).edits
    };
    assert_eq!(removed("2"), [remove(2)]);
    assert_eq!(removed("-1"), [remove(3)]);
    assert_eq!(removed("[1, -2]"), [remove(1), remove(2)]);
    for none in ["4", "-4", "\"x\"", "null", "9999999999999", "-9999999999999"] {
        assert_eq!(removed(none), [], "{none}");
    }
}

#[test]
fn subjects() {
    let json = r#"{"action":"rewrite subject","subject":"*** SPAM *** hello"}"#;
    let value = Some("*** SPAM *** hello".into());
    assert_eq!(read(json).edits, [Edit::ChangeField { occurrence: 1, name: "Subject".into(), value }]);
}

#[test]
fn answers_that_are_none() {
    for json in ["", "{}", "[]", "null", r#"{"action":7}"#, r#"{"action":"explode"}"#, "<html>", r#"{"action":"rej"#] {
        assert!(matches!(advice(json.as_bytes(), &case()), Err(Failure::Garbage(_))), "{json}");
    }
    assert_eq!(message_of(br#"{"error":"bad\npassword"}"#), ": badpassword");
    assert_eq!(message_of(b"nothing"), "");
}

proptest! {
    #[test]
    fn no_json_upsets_it(values in proptest::collection::vec("[\\[\\]{}a-z0-9\",:.-]{0,12}", 5)) {
        let v = |i: usize| serde_json::from_str::<Value>(&values[i]).unwrap_or(Value::String(values[i].clone()));
        let json = serde_json::json!({
            "action": "rewrite subject", "subject": v(0), "symbols": v(1), "dkim-signature": [v(2)],
            "milter": {"add_headers": {"A": [v(3), {"value": v(4), "order": v(0)}]}, "remove_headers": {"X-Spam": v(4)}},
        });
        prop_assert!(advice(json.to_string().as_bytes(), &case()).is_ok());
    }
}
