//! Real helpers, consulted directly: rspamd by both of its interfaces, ClamAV, OpenDKIM, SpamAssassin, postgrey and
//! policyd-spf.

use crate::fake::{MESSAGE, address, advice, case, consult, helpers, knobs, runtime};
use crate::programs::{self, EICAR, GTUBE, Programs};
use base64::Engine;
use gatepost::base::inquiry::{Action, Advice, Case, Edit};
use gatepost::lookup::helpers::{HelperKind, Helpers, OnFailure};
use gatepost::wire::address::parse_mailbox;
use std::time::Duration;

fn message(body: &str) -> String {
    format!(
        "From: Ann <ann@example.org>\r\nTo: bob@example.test\r\nSubject: hello\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain\r\n\r\n{body}\r\n"
    )
}

fn infected() -> String {
    let file = base64::engine::general_purpose::STANDARD.encode(EICAR);
    format!(
        "From: Ann <ann@example.org>\r\nTo: bob@example.test\r\nSubject: a file\r\nMessage-ID: <2@example.org>\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\
         see it\r\n--b\r\nContent-Type: application/octet-stream; name=e.com\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename=e.com\r\n\r\n{file}\r\n--b--\r\n"
    )
}

/// The program at `at`, which must answer.
fn at(kind: HelperKind, at: &str) -> Helpers {
    let mut knobs = knobs(kind, address(at));
    (knobs.on_failure, knobs.answer_timeout) = (OnFailure::Unknown, Duration::from_secs(40));
    helpers(knobs)
}

#[track_caller]
fn ask(helpers: &Helpers, case: &Case, programs: &Programs) -> Advice {
    match consult(helpers, case) {
        gatepost::base::inquiry::Finding::Advice(advice) => *advice,
        other => panic!("{other:?}; it said:\n{}", programs.said()),
    }
}

/// The field that an edit adds.
fn added<'a>(advice: &'a Advice, field: &str) -> Option<&'a str> {
    advice.edits.iter().find_map(|edit| match edit {
        Edit::AddField { name, value } | Edit::InsertField { name, value, .. } if name.eq_ignore_ascii_case(field) => {
            Some(&**value)
        }
        Edit::ChangeField { name, value: Some(value), .. } if name.eq_ignore_ascii_case(field) => Some(&**value),
        _ => None,
    })
}

#[test]
fn rspamd_rejects_gtube_by_both_interfaces() {
    let Some((programs, http, milter)) = programs::rspamd() else { return };
    for (kind, where_) in [(HelperKind::Rspamd, &http), (HelperKind::Milter, &milter)] {
        let helpers = at(kind, where_);
        for _ in 0..2 {
            let spam = ask(&helpers, &case(&message(GTUBE)), &programs);
            let reply = spam.reply.clone().unwrap();
            assert_eq!((spam.action, &reply[..9]), (Action::Reject, "554 5.7.1"), "{kind:?}: {spam:?}");
            let ham = ask(&helpers, &case(&message("How are you?")), &programs);
            assert_eq!(ham.action, Action::Accept, "{kind:?}: {ham:?}");
            if kind == HelperKind::Rspamd {
                assert_eq!((spam.threshold, &spam.symbols[..]), (Some(15.0), &["GTUBE".into()][..]));
            }
        }
    }
    // A large message, over both.
    let large = message(&"0123456789 ".repeat(40_000));
    for (kind, where_) in [(HelperKind::Rspamd, &http), (HelperKind::Milter, &milter)] {
        assert_eq!(ask(&at(kind, where_), &case(&large), &programs).action, Action::Accept);
    }
}

#[test]
fn clamav_refuses_eicar() {
    let Some(programs) = programs::clamav() else { return };
    let helpers = at(HelperKind::Milter, &programs.socket("milter.sock"));
    for _ in 0..2 {
        let virus = ask(&helpers, &case(&infected()), &programs);
        let reply = virus.reply.clone().unwrap_or_default();
        assert_eq!(virus.action, Action::Reject, "{virus:?}");
        assert!(reply.starts_with("550 5.7.1 ") && reply.contains("Gatepost.Test.EICAR"), "{reply}");
        let clean = ask(&helpers, &case(MESSAGE), &programs);
        assert_eq!(clean.action, Action::Accept);
        assert!(added(&clean, "X-Virus-Status").is_some_and(|v| v.contains("Clean")), "{clean:?}");
    }
}

#[test]
fn opendkim_signs_and_verifies() {
    let Some(programs) = programs::opendkim() else { return };
    let (signer, verifier) = (
        at(HelperKind::Milter, &programs.socket("sign.sock")),
        at(HelperKind::Milter, &programs.socket("verify.sock")),
    );
    let plain = message("signed");
    let signed = ask(&signer, &case(&plain), &programs);
    let signature = added(&signed, "DKIM-Signature").unwrap_or_else(|| panic!("{signed:?}\n{}", programs.said()));
    assert!(signature.contains("d=example.org") && signature.contains("s=sel"), "{signature}");
    let whole = format!("DKIM-Signature: {signature}\r\n{plain}");
    for (text, result) in [
        (whole.clone(), "dkim=pass"),
        (whole.replace("\r\nsigned", "\r\nforged"), "dkim=fail"),
        (whole.replace("Subject: hello", "Subject: hallo"), "dkim=fail"),
        (plain, "dkim=none"),
    ] {
        let verified = ask(&verifier, &case(&text), &programs);
        let field = added(&verified, "Authentication-Results").unwrap_or_else(|| panic!("{verified:?}"));
        assert!(field.starts_with("mx.example.test;") && field.contains(result), "{result}: {field}");
        assert_eq!(verified.action, Action::Accept);
    }
}

#[test]
fn spamassassin_rejects_gtube() {
    let Some(programs) = programs::spamassassin() else { return };
    let helpers = at(HelperKind::Milter, &programs.socket("milter.sock"));
    let spam = ask(&helpers, &case(&message(GTUBE)), &programs);
    let reply = spam.reply.clone().unwrap_or_default();
    assert!(spam.action == Action::Reject && reply.starts_with("550 5.7.1 "), "{spam:?}");
    let ham = ask(&helpers, &case(&message("How are you?")), &programs);
    assert_eq!(ham.action, Action::Accept, "{ham:?}");
    assert!(added(&ham, "X-Spam-Status").is_some_and(|v| v.starts_with("No")), "{ham:?}");
}

#[test]
fn postgrey_makes_strangers_wait() {
    let Some(programs) = programs::postgrey(1) else { return };
    let helpers = at(HelperKind::Policy, &programs.socket("postgrey.sock"));
    let mut early = case(MESSAGE);
    early.body = None;
    let first = ask(&helpers, &early, &programs);
    let reply = first.reply.clone().unwrap_or_default();
    assert!(first.action == Action::Defer && reply.starts_with("450 4.2.0 "), "{first:?}");
    std::thread::sleep(Duration::from_millis(2100));
    early.transaction = 2;
    let later = ask(&helpers, &early, &programs);
    assert_eq!(later.action, Action::Accept, "{later:?}");
    assert!(added(&later, "X-Greylist").is_some_and(|v| v.starts_with("delayed")), "{later:?}");
}

#[test]
fn policyd_spf_says_what_it_found() {
    let Some(where_) = programs::policyd_spf() else { return };
    let helpers = at(HelperKind::Policy, &where_);
    let mut early = case(MESSAGE);
    // Reserved names have no records, whatever name server there is or is not.
    (early.body, early.sender) = (None, parse_mailbox("ann@nowhere.invalid").ok());
    early.helo = "host.invalid".into();
    let runtime = runtime();
    for transaction in 1..=2 {
        // It prepends its field once for a message, whose name is that of the transaction.
        early.transaction = transaction;
        let advice = advice(runtime.block_on(helpers.consult("h", &early)));
        match advice.action {
            Action::Accept => {
                let field = added(&advice, "Received-SPF").or_else(|| added(&advice, "Authentication-Results"));
                assert!(field.is_some(), "{advice:?}");
            }
            // Without any name server it asks to come back.
            other => assert_eq!(other, Action::Defer, "{advice:?}"),
        }
    }
}
