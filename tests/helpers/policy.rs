//! A scripted policy service: what it is told, what is made of its answers, faults, and connections that are kept.

use crate::fake::{Fake, Line, MESSAGE, Notes, advice, case, consult, decided, hang, helpers, runtime, unknown};
use gatepost::base::inquiry::{Action, Edit};
use gatepost::lookup::helpers::HelperKind;
use std::time::Duration;

/// Reads requests and answers each; closes after `most`.
fn service(answer: &'static str, most: usize) -> impl Fn(&mut dyn Line, usize, &Notes) + Send + Sync {
    move |line, _, notes| {
        let mut heard = Vec::new();
        let mut served = 0;
        while served < most {
            if let Some(at) = heard.windows(2).position(|w| w == b"\n\n") {
                notes.note(String::from_utf8(heard.drain(..at + 2).collect()).unwrap());
                if line.write_all(answer.as_bytes()).is_err() {
                    return;
                }
                served += 1;
                continue;
            }
            let mut some = [0; 4096];
            match line.read(&mut some) {
                Ok(n) if n > 0 => heard.extend_from_slice(&some[..n]),
                _ => return,
            }
        }
    }
}

#[test]
fn attributes_as_postfix_sends_them() {
    for unix in [false, true] {
        let script = service("action=DUNNO\n\n", 9);
        let fake = if unix { Fake::start_unix(script) } else { Fake::start(script) };
        let mut knobs = fake.knobs(HelperKind::Policy);
        knobs.policy_context = Some("edge".into());
        let helpers = helpers(knobs);
        let mut early = case(MESSAGE);
        early.body = None;
        early.user = Some("ann\ninjected=yes".into());
        assert_eq!(decided(consult(&helpers, &early)), (Action::Accept, None));
        let heard = fake.heard();
        assert_eq!(
            heard[0],
            format!(
                "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.1\n\
                 client_name=mail.example.org\nclient_port=2525\nreverse_client_name=mail.example.org\n\
                 server_address=198.51.100.2\nserver_port=25\nhelo_name=helo.example.org\nqueue_id=\n\
                 instance=0000000000007.1\nsender=ann@example.org\nrecipient=carl@example.test\nrecipient_count=0\n\
                 size=0\nsasl_method=\nsasl_username=ann?injected=yes\nsasl_sender=\nccert_subject=\nccert_issuer=\n\
                 ccert_fingerprint=\nencryption_protocol=TLSv1.3\nencryption_cipher=TLS_AES_256_GCM_SHA384\n\
                 encryption_keysize=0\netrn_domain=\nstress=\npolicy_context=edge\nmail_version=gatepost-{}\n\n",
                env!("CARGO_PKG_VERSION")
            )
        );
    }
}

#[test]
fn stages() {
    let fake = Fake::start(service("action=DUNNO\n\n", 9));
    let helpers = helpers(fake.knobs(HelperKind::Policy));
    let whole = case(MESSAGE);
    let mut one = whole.clone();
    one.recipients.pop();
    let mut mail = one.clone();
    (mail.body, mail.sender, mail.client_name) = (None, None, None);
    mail.recipients.clear();
    let mut helo = mail.clone();
    helo.transaction = 0;
    let mut connect = helo.clone();
    connect.helo.clear();
    let runtime = runtime();
    for case in [&connect, &helo, &mail, &one, &whole] {
        advice(runtime.block_on(helpers.consult("h", case)));
    }
    let attribute = |heard: &str, name: &str| {
        heard.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)).unwrap()
    };
    let told: Vec<[String; 3]> = fake
        .heard()
        .iter()
        .map(|h| ["protocol_state", "recipient", "recipient_count"].map(|name| attribute(h, name)))
        .collect();
    let own = |words: [&str; 3]| words.map(str::to_owned);
    assert_eq!(
        told,
        [
            own(["CONNECT", "", "0"]),
            own(["HELO", "", "0"]),
            own(["MAIL", "", "0"]),
            own(["END-OF-MESSAGE", "bob@example.test", "1"]),
            own(["END-OF-MESSAGE", "", "2"]),
        ]
    );
    assert_eq!(attribute(&fake.heard()[4], "size"), MESSAGE.len().to_string());
    assert_eq!(attribute(&fake.heard()[0], "client_name"), "unknown");
    assert_eq!(fake.connections(), 1, "one connection for all of them");
}

#[test]
fn actions_come_through() {
    for (answer, action, reply) in [
        ("action=DEFER_IF_PERMIT 4.2.0 Greylisted\n\n", Action::Defer, Some("450 4.2.0 Greylisted")),
        ("action=550 5.7.23 SPF fail\r\n\r\n", Action::Reject, Some("550 5.7.23 SPF fail")),
        ("action=HOLD\n\n", Action::Quarantine, None),
    ] {
        let fake = Fake::start(service(answer, 9));
        let advice = advice(consult(&helpers(fake.knobs(HelperKind::Policy)), &case(MESSAGE)));
        assert_eq!((advice.action, advice.reply.as_deref()), (action, reply));
    }
    let fake = Fake::start(service("action=PREPEND X-Policy: seen\n\n", 9));
    let advice = advice(consult(&helpers(fake.knobs(HelperKind::Policy)), &case(MESSAGE)));
    assert_eq!(advice.edits, [Edit::InsertField { at: 0, name: "X-Policy".into(), value: "seen".into() }]);
}

#[test]
fn a_service_that_closes_after_each_answer() {
    let fake = Fake::start(service("action=DUNNO\n\n", 1));
    let helpers = helpers(fake.knobs(HelperKind::Policy));
    let runtime = runtime();
    for n in 1..=3 {
        advice(runtime.block_on(helpers.consult("h", &case(MESSAGE))));
        assert_eq!(fake.connections(), n);
    }
    assert_eq!(helpers.counters().next().unwrap().1.failed, 0);
}

#[test]
fn faults() {
    for (answer, said) in [
        ("", "connection closed instead of action"),
        ("action=DUN", "connection closed instead of action"),
        ("action=DUNNO\n", "connection closed instead of action"),
        ("no such thing\n\n", "has no action"),
        ("action=EXPLODE\n\n", "no action we know"),
        ("action=DUNNO\n\naction=REJECT\n\n", "two answers to one question"),
    ] {
        let fake = Fake::start(service(answer, 1));
        let why = unknown(consult(&helpers(fake.knobs(HelperKind::Policy)), &case(MESSAGE)));
        assert!(why.contains(said), "{answer:?}: {why}");
    }
    let fake = Fake::start(|line, _, _| {
        let _ = line.write_all(&vec![b'x'; 100_000]);
        hang(line);
    });
    let why = unknown(consult(&helpers(fake.knobs(HelperKind::Policy)), &case(MESSAGE)));
    assert!(why.contains("an answer of more than 16384 octets"), "{why}");
    let fake = Fake::start(|line, _, _| hang(line));
    let mut knobs = fake.knobs(HelperKind::Policy);
    knobs.answer_timeout = Duration::from_millis(100);
    assert!(unknown(consult(&helpers(knobs), &case(MESSAGE))).contains("no action within 100ms"));
}
