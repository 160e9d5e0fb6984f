//! The relay as a daemon, under both drivers: mail in, judged, out to a backend or into the queue and out again.
//!
//! Every test runs once per driver; each has its own gateway on free ports and its own data directory.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod support;

use std::collections::HashMap;
use std::time::Duration;
use support::backend::{Act, Backend, Manners};
use support::{DRIVERS, Gate, Talk, gatepost, run, wait_for};

/// Runs a test under both drivers.
fn under_both(test: impl Fn(&str)) {
    for io in DRIVERS {
        eprintln!("driver: {io}");
        test(io);
    }
}

fn relay(io: &str, backend: &Backend, more: &[&str]) -> Gate {
    let address = backend.address.to_string();
    let mut args = vec!["--io", io, "--cores", "1", "--backend", &address];
    args.extend_from_slice(more);
    Gate::start(&args)
}

/// A gateway that reads this configuration; `DATA` in it is the data directory.
fn configured(io: &str, toml: &str) -> (Gate, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepost.toml");
    let listeners = "
        [[listener]]
        name = \"mx\"
        address = \"127.0.0.1:0\"
        [[listener]]
        name = \"lmtp\"
        address = \"127.0.0.1:0\"
        service = \"lmtp\"
        [[listener]]
        name = \"submissions\"
        address = \"127.0.0.1:0\"
        service = \"submission\"
        tls = \"implicit\"
    ";
    std::fs::write(&file, toml.replace("LISTENERS", listeners)).unwrap();
    let gate = Gate::start(&["--io", io, "--cores", "1", "--config", file.to_str().unwrap()]);
    (gate, dir)
}

#[test]
fn mail_passes_and_the_backend_has_the_word() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        let mut talk = gate.talk();
        talk.say("EHLO client.example.org", "250");
        let reply = talk.mail("ann@example.org", &["bob@example.test"], "Subject: hi\r\n\r\nhello\r\n..dot\r\nend");
        assert!(reply.starts_with("250 2.0.0"), "{reply}");
        talk.say("QUIT", "221");
        let kept = backend.wait_kept(1);
        let text = kept[0].text();
        assert!(text.starts_with("Received: from client.example.org ([127.0.0.1])\r\n"), "{text}");
        assert!(text.contains("for <bob@example.test>; "), "{text}");
        assert!(text.ends_with("Subject: hi\r\n\r\nhello\r\n.dot\r\nend\r\n"), "{text}");
        assert!(kept[0].from.starts_with("<ann@example.org>"), "{}", kept[0].from);
    });
}

#[test]
fn nobody_relays_unless_they_may() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        let mut talk = gate.talk();
        talk.say("EHLO client.example.org", "250");
        talk.say("MAIL FROM:<ann@example.org>", "250");
        let reply = talk.say("RCPT TO:<someone@elsewhere.example>", "5");
        assert!(reply.contains("5.7.1"), "{reply}");
        for address in ["bob%elsewhere.example@example.test", "\"bob@elsewhere.example\"@example.test"] {
            // The classic holes: a server behind us that takes local parts apart would relay.
            talk.say(&format!("RCPT TO:<{address}>"), "550");
        }
        // A source route is ignored (RFC 5321 §3.6.1).
        talk.say("RCPT TO:<@elsewhere.example:bob@example.test>", "250");
        talk.say("DATA", "354");
        talk.send("x\r\n.\r\n");
        talk.expect("250");
        assert_eq!(backend.wait_kept(1)[0].to, ["<bob@example.test>"]);
    });
}

#[test]
fn a_whole_session_in_one_segment_is_answered_in_order() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        let mut talk = gate.talk();
        talk.send(
            "EHLO c.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.test>\r\n\
             RCPT TO:<x@elsewhere.example>\r\nBDAT 12\r\nSubject: a\r\nBDAT 5 LAST\r\n\r\nhi\nQUIT\r\n",
        );
        for code in ["250", "250", "250", "550", "250"] {
            talk.expect(code);
        }
        // A bare LF is no line end: refused, and nobody behind us ever sees it.
        talk.expect("5");
        talk.expect("221");
        assert_eq!(talk.rest(), "");
        assert!(backend.kept().is_empty());
    });
}

#[test]
fn no_byte_sequence_smuggles_a_second_message() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        for end in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r", "\r\n.\r", "\n\n.\r\n", "\r\n\0.\r\n"] {
            let mut talk = gate.talk();
            talk.say("EHLO c.example.org", "250");
            talk.say("MAIL FROM:<a@example.org>", "250");
            talk.say("RCPT TO:<bob@example.test>", "250");
            talk.say("DATA", "354");
            talk.send(format!(
                "Subject: one\r\n\r\nfirst{end}MAIL FROM:<b@example.org>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n\
                 Subject: two\r\n\r\nsecond\r\n.\r\n"
            ));
            let reply = talk.reply();
            assert!(reply.starts_with('5'), "{end:?}: {reply}");
            talk.say("NOOP", "250");
        }
        assert!(backend.kept().is_empty(), "{:?}", backend.kept());
    });
}

#[test]
fn large_messages_go_through_a_file_unchanged() {
    under_both(|io| {
        for mode in ["cut-through", "spool"] {
            let backend = Backend::start(Manners {
                extensions: vec!["PIPELINING", "8BITMIME", "CHUNKING", "SIZE 50000000"],
                ..Manners::default()
            });
            let gate = relay(io, &backend, &["--mode", mode]);
            let line = "The quick brown fox jumps over the lazy dog, again and again and again.\r\n";
            let body = format!("Subject: large\r\n\r\n{}end", line.repeat(30_000));
            let mut talk = gate.talk();
            talk.say("EHLO c.example.org", "250");
            let reply = talk.mail("a@example.org", &["bob@example.test"], &body);
            assert!(reply.starts_with("250"), "{mode}: {reply}");
            let kept = backend.wait_kept(1);
            assert!(kept[0].text().ends_with(&(body.clone() + "\r\n")), "{mode}: {} octets", kept[0].data.len());
        }
    });
}

#[test]
fn legs_are_kept_and_used_for_many_clients() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        for n in 0..10 {
            let mut talk = gate.talk();
            talk.say("EHLO c.example.org", "250");
            let reply = talk.mail("a@example.org", &["bob@example.test"], &format!("Subject: {n}\r\n\r\nx"));
            assert!(reply.starts_with("250"), "{reply}");
        }
        assert_eq!(backend.wait_kept(10).len(), 10);
        assert_eq!(backend.connections.load(std::sync::atomic::Ordering::SeqCst), 1);
    });
}

#[test]
fn what_the_backend_refuses_is_never_accepted() {
    under_both(|io| {
        let backend = Backend::plain();
        backend.manners.lock().unwrap().recipients = HashMap::from([
            ("nobody@".to_owned(), "550 5.1.1 no such user".to_owned()),
            ("later@".to_owned(), "450 4.2.1 mailbox busy".to_owned()),
        ]);
        let gate = relay(io, &backend, &[]);
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        let reply = talk.mail("a@example.org", &["nobody@example.test"], "x");
        assert!(reply.starts_with("550 5.1.1"), "{reply}");
        let reply = talk.mail("a@example.org", &["later@example.test"], "x");
        assert!(reply.starts_with("450 4.2.1"), "{reply}");
        backend.act(".", Act::Say("552 5.2.2 full".into()));
        let reply = talk.mail("a@example.org", &["bob@example.test"], "x");
        assert!(reply.starts_with("552 5.2.2"), "{reply}");
        backend.behave();
        backend.manners.lock().unwrap().recipients =
            HashMap::from([("nobody@".to_owned(), "550 5.1.1 no such user".to_owned())]);
        // One of two is refused: nothing is sent, the client is to come back, and then hears it at RCPT.
        let reply = talk.mail("a@example.org", &["bob@example.test", "nobody@example.test"], "x");
        assert!(reply.starts_with("451"), "{reply}");
        assert!(backend.kept().is_empty());
    });
}

#[test]
fn the_queue_takes_mail_while_the_backend_is_away() {
    under_both(|io| {
        let backend = Backend::plain();
        let address = backend.address;
        backend.stop();
        drop(backend);
        let gate = Gate::start(&["--io", io, "--cores", "1", "--backend", &address.to_string(), "--mode", "spool"]);
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        for n in 0..3 {
            let reply = talk.mail("a@example.org", &["bob@example.test"], &format!("Subject: m{n}\r\n\r\nx"));
            assert!(reply.starts_with("250"), "{reply}");
        }
        let list = gate.command(&["queue", "list", "--json"]);
        assert!(list.ok, "{list:?}");
        let ids = ids_of(&list.out);
        assert_eq!(ids.len(), 3, "{}", list.out);
        assert!(gate.command(&["queue", "show", &ids[0]]).out.contains("Subject: m0"));
        assert!(gate.command(&["queue", "hold", &ids[0]]).ok);
        assert!(gate.command(&["queue", "remove", &ids[1]]).ok);
        let backend = Backend::start_at(address, Manners::default());
        assert!(gate.command(&["queue", "retry", "--all"]).ok);
        let kept = backend.wait_kept(1);
        assert!(kept[0].text().contains("Subject: m2"), "{}", kept[0].text());
        assert!(gate.command(&["queue", "release", &ids[0]]).ok);
        assert!(gate.command(&["queue", "retry", "--all"]).ok);
        assert!(backend.wait_kept(2)[1].text().contains("Subject: m0"));
        wait_for("an empty queue", || ids_of(&gate.command(&["queue", "list", "--json"]).out).is_empty().then_some(()));
    });
}

/// The ids in `queue list --json`.
fn ids_of(json: &str) -> Vec<String> {
    fn walk(value: &serde_json::Value, ids: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(map) => {
                if let Some(id) = map.get("id").and_then(|v| v.as_str()) {
                    ids.push(id.to_owned());
                }
                map.values().for_each(|v| walk(v, ids));
            }
            serde_json::Value::Array(items) => items.iter().for_each(|v| walk(v, ids)),
            _ => {}
        }
    }
    let mut ids = Vec::new();
    for line in json.lines() {
        if let Ok(value) = serde_json::from_str(line) {
            walk(&value, &mut ids);
        }
    }
    if ids.is_empty()
        && let Ok(value) = serde_json::from_str(json)
    {
        walk(&value, &mut ids);
    }
    ids
}

#[test]
fn auto_passes_on_while_it_can_and_queues_when_it_cannot() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &["--mode", "auto"]);
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        let reply = talk.mail("a@example.org", &["bob@example.test"], "Subject: direct\r\n\r\nx");
        assert!(reply.contains("passed on"), "{reply}");
        backend.act("MAIL", Act::Say("451 4.3.0 not now".into()));
        let reply = talk.mail("a@example.org", &["bob@example.test"], "Subject: queued\r\n\r\nx");
        assert!(reply.starts_with("250") && !reply.contains("passed on"), "{reply}");
        backend.behave();
        assert!(gate.command(&["queue", "retry", "--all"]).ok);
        assert!(backend.wait_kept(2)[1].text().contains("Subject: queued"));
    });
}

#[test]
fn a_queue_survives_kill_and_restart() {
    under_both(|io| {
        let backend = Backend::plain();
        let address = backend.address;
        backend.stop();
        drop(backend);
        let mut gate = Gate::start(&["--io", io, "--cores", "1", "--backend", &address.to_string(), "--mode", "spool"]);
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        let reply = talk.mail("a@example.org", &["bob@example.test"], "Subject: kept\r\n\r\nx");
        assert!(reply.starts_with("250"), "{reply}");
        gate.kill();
        let backend = Backend::start_at(address, Manners::default());
        gate.restart();
        assert!(gate.command(&["queue", "retry", "--all"]).ok);
        assert!(backend.wait_kept(1)[0].text().contains("Subject: kept"));
    });
}

#[test]
fn lmtp_answers_for_each_recipient() {
    under_both(|io| {
        let backend = Backend::plain();
        backend.manners.lock().unwrap().recipients =
            HashMap::from([("nobody@".to_owned(), "550 5.1.1 no such user".to_owned())]);
        let gate = relay(io, &backend, &[]);
        let mut talk = Talk::connect(gate.address("lmtp"));
        talk.expect("220");
        talk.say("LHLO c.example.org", "250");
        talk.say("MAIL FROM:<a@example.org>", "250");
        for rcpt in ["bob@example.test", "nobody@example.test", "ann@example.test"] {
            talk.say(&format!("RCPT TO:<{rcpt}>"), "250");
        }
        talk.say("DATA", "354");
        talk.send("x\r\n.\r\n");
        talk.expect("250");
        talk.expect("550");
        talk.expect("250");
        assert_eq!(backend.wait_kept(1)[0].to.len(), 2);
    });
}

#[test]
fn callouts_refuse_unknown_recipients_at_rcpt_and_are_remembered() {
    under_both(|io| {
        let backend = Backend::plain();
        backend.manners.lock().unwrap().recipients =
            HashMap::from([("nobody@".to_owned(), "550 5.1.1 no such user".to_owned())]);
        let toml = format!(
            "LISTENERS
            [pool.main]
            [[pool.main.backend]]
            address = \"{}\"
            [route.all]
            pool = \"main\"
            verify = \"callout\"
            ",
            backend.address
        );
        let (gate, _dir) = configured(io, &toml);
        for _ in 0..3 {
            let mut talk = gate.talk();
            talk.say("EHLO c.example.org", "250");
            talk.say("MAIL FROM:<a@example.org>", "250");
            let reply = talk.say("RCPT TO:<nobody@example.test>", "550");
            assert!(reply.contains("5.1.1"), "{reply}");
            talk.say("RCPT TO:<bob@example.test>", "250");
        }
        let asked = backend.commands().iter().filter(|c| c.starts_with("RCPT")).count();
        assert_eq!(asked, 2, "{:?}", backend.commands());
    });
}

#[test]
fn recipients_by_table_at_rcpt_and_by_vrfy() {
    under_both(|io| {
        let backend = Backend::plain();
        let table = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(table.path(), "# who there is\nbob@example.test\n").unwrap();
        let toml = format!(
            "LISTENERS
            [pool.main]
            [[pool.main.backend]]
            address = \"{}\"
            [route.all]
            pool = \"main\"
            verify = \"table\"
            table = \"{}\"
            ",
            backend.address,
            table.path().display()
        );
        let (gate, _dir) = configured(io, &toml);
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        talk.say("VRFY bob", "252");
        talk.say("MAIL FROM:<a@example.org>", "250");
        talk.say("RCPT TO:<bob@example.test>", "250");
        talk.say("RCPT TO:<alice@example.test>", "550");
        // Users may ask.
        let added = run(
            gatepost().args(["account", "add", "bob@example.test", "--password-stdin", "--data"]).arg(&gate.dir),
            "battery staple\n",
        );
        assert!(added.ok, "{added:?}");
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        talk.say("AUTH PLAIN AGJvYkBleGFtcGxlLnRlc3QAYmF0dGVyeSBzdGFwbGU=", "235");
        assert_eq!(talk.say("VRFY bob", "250"), "250 2.1.5 <bob@example.test>");
        talk.say("VRFY <alice@example.test>", "550");
        talk.say("EXPN staff", "252");
    });
}

#[test]
fn proxies_and_xclient_say_who_the_client_is() {
    under_both(|io| {
        let backend = Backend::plain();
        let toml = format!(
            "[server]
            ENTITLED = [\"loopback\"]
            LISTENERS
            [pool.main]
            [[pool.main.backend]]
            address = \"{}\"
            [route.all]
            pool = \"main\"
            ",
            backend.address
        );
        let (gate, _dir) = configured(io, &toml.replace("ENTITLED", "proxy_from"));
        let mut talk = Talk::connect(gate.address("mx"));
        talk.send("PROXY TCP4 192.0.2.77 198.51.100.1 4711 25\r\n");
        talk.expect("220");
        talk.say("EHLO c.example.org", "250");
        let reply = talk.mail("a@example.org", &["bob@example.test"], "x");
        assert!(reply.starts_with("250"), "{reply}");
        assert!(backend.wait_kept(1)[0].text().contains("([192.0.2.77])"));
        talk.say("XCLIENT ADDR=203.0.113.5", "50");
        let (gate, _dir) = configured(io, &toml.replace("ENTITLED", "xclient_from"));
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        talk.say("XCLIENT ADDR=203.0.113.5 NAME=mail.example.com", "220");
        talk.say("EHLO mail.example.com", "250");
        let reply = talk.mail("a@example.org", &["bob@example.test"], "x");
        assert!(reply.starts_with("250"), "{reply}");
        let text = backend.wait_kept(2)[1].text();
        assert!(text.contains("(mail.example.com [203.0.113.5])"), "{text}");
    });
}

#[test]
fn accounts_log_in_and_may_relay_then() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        let added = run(
            gatepost().args(["account", "add", "ann@example.test", "--password-stdin", "--data"]).arg(&gate.dir),
            "correct horse\n",
        );
        assert!(added.ok, "{added:?}");
        let mut talk = Talk::connect(gate.address("submission"));
        talk.expect("220");
        talk.say("EHLO c.example.org", "250");
        talk.say("MAIL FROM:<ann@example.test>", "530");
        talk.say("AUTH PLAIN AGFubkBleGFtcGxlLnRlc3QAd3Jvbmc=", "535");
        talk.say("AUTH PLAIN AGFubkBleGFtcGxlLnRlc3QAY29ycmVjdCBob3JzZQ==", "235");
        let reply = talk.mail("ann@example.test", &["friend@elsewhere.example"], "Subject: out\r\n\r\nx");
        assert!(reply.starts_with("250"), "{reply}");
        assert_eq!(backend.wait_kept(1)[0].to, ["<friend@elsewhere.example>"]);
        assert!(backend.kept()[0].text().contains("with ESMTPA id"), "{}", backend.kept()[0].text());
    });
}

#[test]
fn a_stop_is_orderly_and_sessions_are_told() {
    under_both(|io| {
        let backend = Backend::plain();
        let mut gate = relay(io, &backend, &[]);
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        assert_eq!(gate.terminate(), Some(0));
        assert!(talk.reply().starts_with("421"));
    });
}

#[test]
fn faults_at_the_start_are_one_clear_line() {
    let backend = Backend::plain();
    let gate = relay("epoll", &backend, &[]);
    let dir = tempfile::tempdir().unwrap();
    let start = |args: &[&str]| {
        let ran = run(gatepost().arg("serve").args(args), "");
        let last = ran.err.lines().rev().find(|l| l.starts_with("gatepost:")).unwrap_or_default().to_owned();
        (ran.code, last)
    };
    let taken = format!("mx={}", gate.address("mx"));
    let (code, line) = start(&["--data", dir.path().to_str().unwrap(), "--listen", &taken]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("address already in use"), "{line}");
    let (code, line) = start(&["--data", gate.dir.to_str().unwrap(), "--listen", "mx=127.0.0.1:0"]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains(&gate.pid().to_string()), "{line}");
    let (code, line) = start(&["--config", "/nonexistent/gatepost.toml"]);
    assert_eq!(code, Some(1), "{line}");
    assert!(line.contains("/nonexistent/gatepost.toml"), "{line}");
}

#[test]
fn a_reload_takes_good_policies_and_leaves_bad_ones() {
    under_both(|io| {
        let backend = Backend::plain();
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        let rule = |text: &str| {
            format!(
                "[[rule]]\nname = \"r\"\nstage = \"rcpt\"\nwhen = \"rcpt.local == \\\"bob\\\"\"\nthen = \"reject 550 5.7.1 {text}\"\n"
            )
        };
        std::fs::write(&policy, rule("first")).unwrap();
        let gate = relay(io, &backend, &["--policy", policy.to_str().unwrap()]);
        let heard = || {
            let mut talk = gate.talk();
            talk.say("EHLO c.example.org", "250");
            talk.say("MAIL FROM:<a@example.org>", "250");
            talk.say("RCPT TO:<bob@example.test>", "550")
        };
        assert!(heard().contains("first"));
        std::fs::write(&policy, "[[rule]]\nname = 7\n").unwrap();
        gate.signal("HUP");
        wait_for("the complaint", || gate.said().contains("policy not reloaded").then_some(()));
        assert!(heard().contains("first"));
        std::fs::write(&policy, rule("second")).unwrap();
        gate.signal("HUP");
        wait_for("the new policy", || heard().contains("second").then_some(()));
    });
}

#[test]
fn a_slow_client_holds_no_backend_connection() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        let mut talk = gate.talk();
        talk.say("EHLO c.example.org", "250");
        talk.say("MAIL FROM:<a@example.org>", "250");
        talk.say("RCPT TO:<bob@example.test>", "250");
        talk.say("DATA", "354");
        for byte in b"Subject: slow\r\n\r\nx\r\n." {
            talk.send([*byte]);
            std::thread::sleep(Duration::from_millis(3));
        }
        assert_eq!(backend.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
        talk.send("\r\n");
        talk.expect("250");
        assert_eq!(backend.wait_kept(1).len(), 1);
    });
}
