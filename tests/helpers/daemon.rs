//! Helpers behind the server: what they advise is what a client hears and a backend gets, when a rule obeys them.

use crate::fake::{Fake, hang, nobody};
use crate::filter::{Answers, all, filter, go_on};
use crate::programs::{self, EICAR, GTUBE};
use crate::support::backend::Backend;
use crate::support::{DRIVERS, Gate, Talk, wait_for};
use gatepost::wire::milter::{Command, Response, Steps};
use std::time::{Duration, Instant};

/// A gateway with these helpers in front of `backend`, whose policy obeys each of them at its stage.
fn gate(io: &str, backend: &Backend, helpers: &str, obeys: &[(&str, &str)]) -> (Gate, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut policy = String::from("[settings]\ndescription = \"helpers\"\n");
    for (stage, name) in obeys {
        policy.push_str(&format!(
            "[[rule]]\nname = \"{name}-{stage}\"\nstage = \"{stage}\"\nwhen = \"true\"\nthen = \"obey {name}\"\n"
        ));
    }
    std::fs::write(dir.path().join("policy.toml"), policy).unwrap();
    let config = format!(
        "[server]\npolicy = \"policy.toml\"\n[[listener]]\nname = \"mx\"\naddress = \"127.0.0.1:0\"\n\
         [pool.p]\n[[pool.p.backend]]\naddress = \"{}\"\n[route.local]\npool = \"p\"\n{helpers}",
        backend.address
    );
    let file = dir.path().join("gatepost.toml");
    std::fs::write(&file, config).unwrap();
    (Gate::start(&["--io", io, "--cores", "1", "--config", file.to_str().unwrap()]), dir)
}

fn section(name: &str, kind: &str, address: &str, more: &str) -> String {
    format!("[helper.{name}]\nkind = \"{kind}\"\naddress = \"{address}\"\n{more}\n")
}

fn hello(gate: &Gate) -> Talk {
    let mut talk = gate.talk();
    talk.say("EHLO client.example.org", "250");
    talk
}

const FROM: &str = "ann@example.org";
const TO: &[&str] = &["bob@example.test"];

fn message(text: &str) -> String {
    format!("From: Ann <ann@example.org>\r\nTo: bob@example.test\r\nSubject: hello\r\n\r\n{text}")
}

fn accepts(command: &Command<'_>) -> Answers {
    go_on(command, Steps::SKIP)
}

#[test]
fn a_milter_refuses_and_changes_messages() {
    for io in DRIVERS {
        let fake = filter(all(), |command| match command {
            Command::Body(text) if text.windows(4).any(|w| w == b"spam") => {
                vec![Response::Reply(b"554 5.7.1 no spam here"[..].into())]
            }
            Command::EndOfMessage(_) => vec![
                Response::InsertHeader { index: 1, name: b"X-Seen".into(), value: b"yes,\n\tby us"[..].into() },
                Response::ChangeHeader { index: 1, name: b"Subject".into(), value: b"changed"[..].into() },
                Response::Continue,
            ],
            other => accepts(other),
        });
        let backend = Backend::plain();
        let section = section("filter", "milter", &fake.address.to_string(), "");
        let (gate, _dir) = gate(io, &backend, &section, &[("message", "filter")]);
        let mut talk = hello(&gate);
        let reply = talk.mail(FROM, TO, &message("this is spam"));
        assert_eq!(reply, "554 5.7.1 no spam here", "{io}");
        assert!(backend.kept().is_empty());
        let reply = talk.mail(FROM, TO, &message("this is not"));
        assert!(reply.starts_with("250 "), "{io}: {reply}");
        let text = backend.wait_kept(1)[0].text();
        assert!(text.contains("\r\nX-Seen: yes,\r\n\tby us\r\nFrom: Ann"), "{io}: {text}");
        assert!(
            text.contains("\r\nSubject: changed\r\n\r\nthis is not\r\n") && !text.contains("hello"),
            "{io}: {text}"
        );
        let heard = fake.heard();
        assert!(heard.iter().any(|l| l.starts_with("connect ") && l.contains("127.0.0.1")), "{heard:?}");
        assert!(
            heard.contains(&"helo client.example.org".to_owned())
                && heard.contains(&"rcpt <bob@example.test>".to_owned())
        );
    }
}

#[test]
fn one_that_hangs_costs_its_time_and_holds_up_nobody() {
    for io in DRIVERS {
        let fake = Fake::start(|line, _, _| hang(line));
        let backend = Backend::plain();
        let section =
            section("slow", "milter", &fake.address.to_string(), "answer_timeout = \"2s\"\nlisteners = [\"mx\"]");
        let (gate, _dir) = gate(io, &backend, &section, &[("message", "slow")]);
        let started = Instant::now();
        let mut waiting = hello(&gate);
        for line in [format!("MAIL FROM:<{FROM}>"), format!("RCPT TO:<{}>", TO[0])] {
            waiting.say(&line, "250");
        }
        waiting.say("DATA", "354");
        waiting.send(format!("{}\r\n.\r\n", message("x")));
        // Another client on the same core is served meanwhile.
        let mut other = hello(&gate);
        other.say("NOOP", "250");
        other.say(&format!("MAIL FROM:<{FROM}>"), "250");
        assert!(started.elapsed() < Duration::from_millis(1800), "{io}: {:?}", started.elapsed());
        assert_eq!(waiting.reply(), "451 4.7.1 message cannot be checked now, try again later", "{io}");
        assert!(started.elapsed() >= Duration::from_secs(2) && started.elapsed() < Duration::from_secs(8));
        assert!(backend.kept().is_empty());
    }
}

#[test]
fn failures_follow_the_setting_and_are_reported_once() {
    for io in DRIVERS {
        for (word, code) in [("accept", "250"), ("unknown", "250"), ("defer", "451 4.7.1"), ("reject", "550 5.7.1")] {
            let backend = Backend::plain();
            let section = section("gone", "policy", &format!("inet:{}", nobody()), &format!("on_failure = \"{word}\""));
            let (gate, _dir) = gate(io, &backend, &section, &[("rcpt", "gone")]);
            let mut talk = hello(&gate);
            for _ in 0..8 {
                talk.say(&format!("MAIL FROM:<{FROM}>"), "250");
                let reply = talk.say("RCPT TO:<bob@example.test>", &code[..3]);
                assert!(reply.starts_with(code), "{io} {word}: {reply}");
                talk.say("RSET", "250");
            }
            let said =
                wait_for("the report", || Some(gate.said()).filter(|s| s.contains("helper gone at inet:127.0.0.1:")));
            assert_eq!(said.matches("consultations failed").count(), 1, "{said}");
        }
    }
}

#[test]
fn rspamd_behind_the_server() {
    let Some((_programs, http, milter)) = programs::rspamd() else { return };
    for io in DRIVERS {
        for (kind, address) in [("rspamd", &http), ("milter", &milter)] {
            let backend = Backend::plain();
            let (gate, _dir) = gate(io, &backend, &section("spam", kind, address, ""), &[("message", "spam")]);
            let mut talk = hello(&gate);
            let reply = talk.mail(FROM, TO, &message(GTUBE));
            assert!(reply.starts_with("554 5.7.1 "), "{io} {kind}: {reply}");
            let reply = talk.mail(FROM, TO, &message("How are you?"));
            assert!(reply.starts_with("250 "), "{io} {kind}: {reply}");
            assert!(backend.wait_kept(1)[0].text().ends_with("How are you?\r\n"));
        }
    }
}

#[test]
fn clamav_behind_the_server() {
    let Some(programs) = programs::clamav() else { return };
    for io in DRIVERS {
        let backend = Backend::plain();
        let section = section("virus", "milter", &programs.socket("milter.sock"), "");
        let (gate, _dir) = gate(io, &backend, &section, &[("message", "virus")]);
        let mut talk = hello(&gate);
        let reply = talk.mail(FROM, TO, &message(EICAR));
        assert!(reply.starts_with("550 5.7.1 ") && reply.contains("EICAR"), "{io}: {reply}");
        let reply = talk.mail(FROM, TO, &message("clean"));
        assert!(reply.starts_with("250 "), "{io}: {reply}");
        let text = backend.wait_kept(1)[0].text();
        assert!(text.contains("\r\nX-Virus-Status: Clean\r\n"), "{io}: {text}");
    }
}

#[test]
fn opendkim_behind_the_server() {
    let Some(programs) = programs::opendkim() else { return };
    for io in DRIVERS {
        let backend = Backend::plain();
        // The signer is told of a client on this machine as one of ours; the verifier looks at what it did.
        let sections = section("sign", "milter", &programs.socket("sign.sock"), "");
        let (signing, _dir) = gate(io, &backend, &sections, &[("message", "sign")]);
        let reply = hello(&signing).mail(FROM, TO, &message("signed"));
        assert!(reply.starts_with("250 "), "{io}: {reply}");
        let text = backend.wait_kept(1)[0].text();
        let at = text.find("DKIM-Signature: ").unwrap_or_else(|| panic!("{text}"));
        let sections = section("verify", "milter", &programs.socket("verify.sock"), "");
        let behind = Backend::plain();
        let (verifying, _dir) = gate(io, &behind, &sections, &[("message", "verify")]);
        let reply = hello(&verifying).mail(FROM, TO, text[at..].trim_end());
        assert!(reply.starts_with("250 "), "{io}: {reply}");
        let text = behind.wait_kept(1)[0].text();
        assert!(
            text.contains("Authentication-Results: mx.example.test;") && text.contains("dkim=pass"),
            "{io}: {text}"
        );
    }
}

#[test]
fn postgrey_behind_the_server() {
    let Some(programs) = programs::postgrey(1) else { return };
    for io in DRIVERS {
        let backend = Backend::plain();
        let section = section("grey", "policy", &programs.socket("postgrey.sock"), "");
        let (gate, _dir) = gate(io, &backend, &section, &[("rcpt", "grey")]);
        let sender = format!("ann-{io}@example.org");
        let mut talk = hello(&gate);
        talk.say(&format!("MAIL FROM:<{sender}>"), "250");
        let reply = talk.say("RCPT TO:<bob@example.test>", "450");
        assert!(reply.starts_with("450 4.2.0 "), "{io}: {reply}");
        talk.say("RSET", "250");
        std::thread::sleep(Duration::from_millis(2100));
        let reply = talk.mail(&sender, TO, &message("again"));
        assert!(reply.starts_with("250 "), "{io}: {reply}");
    }
}
