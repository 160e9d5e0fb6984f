//! Real peers around the relay: Sendmail and Postfix behind it and Postfix in front, `smtp-source` and `smtp-sink`,
//! swaks, curl, Python's smtplib and OpenSSL as clients.
//!
//! How it fails: a program that is not here is said to be skipped; where `GATEPOST_REQUIRE_PEERS=1` that is a failure.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

#[path = "peers/clients.rs"]
mod clients;
mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use support::peers::{Server, Sink, contains, drain, source, source_recipients};
use support::{DRIVERS, Gate, Talk};

const MODES: [&str; 3] = ["cut-through", "spool", "auto"];

fn gate_before(address: std::net::SocketAddr, io: &str, mode: &str, more: &[&str]) -> Gate {
    let address = address.to_string();
    let mut args = vec!["--io", io, "--backend", &address, "--mode", mode, "--hostname", "gate.example.test"];
    args.extend_from_slice(more);
    Gate::start(&args)
}

/// A message with what breaks on the way when somebody is careless; `mark` makes it findable.
fn awkward(mark: &str) -> Vec<u8> {
    let mut message = format!(
        "From: <ann@example.org>\r\nTo: <bob@example.test>\r\nSubject: {mark}\r\nMessage-ID: <{mark}@example.org>\r\n\
         Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    .into_bytes();
    message.extend_from_slice(b".\r\n..\r\n.leading\r\n...\r\n\r\n \r\n\ttab \r\nGr\xfc\xdfe, \x80\xff\xa0\r\n");
    message.extend_from_slice(b"From the beginning of a line\r\n>From quoted\r\nMAIL FROM:<x@example.org>\r\n");
    message.extend_from_slice("x".repeat(990).as_bytes());
    message.extend_from_slice(b"\r\nQUIT\r\n\r\n.\r\nlast line\r\n");
    message
}

/// A message as DATA carries it (RFC 5321 §4.5.2).
fn dotted(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|&b| b == b'\n') {
        if line.starts_with(b".") {
            out.push(b'.');
        }
        out.extend_from_slice(line);
    }
    out.extend_from_slice(b".\r\n");
    out
}

/// Sends a message by DATA or by BDAT in two chunks; the reply to its end.
fn send(gate: &Gate, to: &str, message: &[u8], by_chunks: bool) -> String {
    let mut talk = gate.talk();
    talk.say("EHLO client.example.org", "250");
    talk.say("MAIL FROM:<ann@example.test> BODY=8BITMIME", "250");
    talk.say(&format!("RCPT TO:<{to}>"), "250");
    if by_chunks {
        let (first, last) = message.split_at(message.len() / 3);
        talk.send(format!("BDAT {}\r\n", first.len()));
        talk.send(first);
        talk.expect("250");
        talk.send(format!("BDAT {} LAST\r\n", last.len()));
        talk.send(last);
    } else {
        talk.say("DATA", "354");
        talk.send(dotted(message));
    }
    talk.reply()
}

/// Splits a delivered message (LF) into header and body.
fn halves(message: &[u8]) -> (String, &[u8]) {
    let at = message.windows(2).position(|w| w == b"\n\n").expect("an empty line after the header");
    (String::from_utf8_lossy(&message[..at]).into_owned(), &message[at + 2..])
}

/// The header's fields of that name, unfolded, top first.
fn fields(header: &str, name: &str) -> Vec<String> {
    let unfolded = header.replace("\n\t", " ").replace("\n ", " ");
    let start = format!("{}:", name.to_ascii_lowercase());
    unfolded.lines().filter(|l| l.to_ascii_lowercase().starts_with(&start)).map(str::to_owned).collect()
}

fn assert_intact(arrived: &[u8], sent: &[u8], server: &Server) {
    let (header, body) = halves(arrived);
    let sent: Vec<u8> = sent.iter().copied().filter(|&b| b != b'\r').collect();
    let (sent_header, sent_body) = halves(&sent);
    let said = String::from_utf8_lossy;
    assert!(
        body == sent_body,
        "the body changed behind {}:\n{}\n--- sent:\n{}",
        server.name,
        said(body),
        said(sent_body)
    );
    for line in sent_header.lines() {
        assert!(header.lines().any(|l| l == line), "{line:?} is not in\n{header}");
    }
    let chain = fields(&header, "Received");
    assert_eq!(chain.len(), 2, "{header}");
    assert!(
        chain[0].contains("from gate.example.test ") && chain[0].contains(&format!("by {}", server.name)),
        "{header}"
    );
    if server.offers_tls() {
        // What is offered is taken.
        assert!(chain[0].contains(" with ESMTPS id "), "{header}");
    }
    assert!(chain[1].starts_with("Received: from client.example.org ([127.0.0.1]) by gate.example.test"), "{header}");
    assert!(chain[1].contains(" with ESMTP id ") && chain[1].contains(" for <bob@example.test>;"), "{header}");
    let path = fields(&header, "Return-Path");
    assert_eq!(path, ["Return-Path: <ann@example.test>"], "{header}");
}

/// Mail arrives unchanged in every mode under both drivers, by DATA and by BDAT.
fn delivers_intact(server: &Server) {
    for io in DRIVERS {
        for mode in MODES {
            let gate = gate_before(server.address, io, mode, &[]);
            for by_chunks in [false, true] {
                let mark = format!("{io}-{mode}-{by_chunks}");
                let message = awkward(&mark);
                let reply = send(&gate, "bob@example.test", &message, by_chunks);
                assert!(reply.starts_with("250"), "{mark}: {reply}");
                assert_intact(&server.wait_arrived(&format!("Subject: {mark}\n")), &message, server);
            }
        }
    }
}

#[test]
fn sendmail_gets_what_was_sent() {
    if let Some(server) = Server::sendmail() {
        delivers_intact(&server);
    }
}

#[test]
fn postfix_gets_what_was_sent() {
    if let Some(server) = Server::postfix() {
        delivers_intact(&server);
    }
}

/// What the server refuses, the client hears in cut-through and auto; with a callout already at RCPT; in spool mode the
/// sender gets a bounce, through the same server.
fn refusals_come_back(server: &Server) {
    for io in DRIVERS {
        for mode in ["cut-through", "auto"] {
            let gate = gate_before(server.address, io, mode, &[]);
            let reply = send(&gate, "nobody@example.test", &awkward("refused"), false);
            assert!(reply.starts_with("550 5.1.1"), "{mode}: {reply}");
            let reply = send(&gate, "later@example.test", &awkward("refused"), false);
            let expected = if mode == "auto" { "250 2.0.0" } else { "450 4.2.1" };
            assert!(reply.starts_with(expected), "{mode}: {reply}");
        }
        let toml = format!(
            "[[listener]]\nname = \"mx\"\naddress = \"127.0.0.1:0\"\n[pool.main]\n[[pool.main.backend]]\n\
             address = \"{}\"\n[route.all]\npool = \"main\"\nverify = \"callout\"\n",
            server.address
        );
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("gatepost.toml");
        std::fs::write(&file, toml).unwrap();
        let gate = Gate::start(&["--io", io, "--config", file.to_str().unwrap()]);
        let mut talk = gate.talk();
        talk.say("EHLO client.example.org", "250");
        talk.say("MAIL FROM:<ann@example.org>", "250");
        talk.say("RCPT TO:<nobody@example.test>", "550");
        talk.say("RCPT TO:<later@example.test>", "450");
        talk.say("RCPT TO:<bob@example.test>", "250");

        let gate = gate_before(server.address, io, "spool", &[]);
        let mark = format!("bounced-{io}");
        let reply = send(&gate, "nobody@example.test", &awkward(&mark), false);
        assert!(reply.starts_with("250"), "{reply}");
        let bounce = server.wait_arrived(&format!("Subject: {mark}\n"));
        let (header, body) = halves(&bounce);
        // The null sender, as Postfix and as Sendmail write it.
        let path = fields(&header, "Return-Path");
        assert!(["Return-Path: <>", "Return-Path: <MAILER-DAEMON>"].contains(&path[0].as_str()), "{header}");
        assert!(header.contains("multipart/report") && header.contains("delivery-status"), "{header}");
        for part in ["Final-Recipient: rfc822;", "nobody@example.test", "Action: failed", "Status: 5.1.1"] {
            assert!(contains(body, part), "{part:?} is not in\n{}", String::from_utf8_lossy(body));
        }
    }
    assert!(!server.arrived().iter().any(|m| contains(m, "Subject: refused\n")), "a refused message arrived");
}

#[test]
fn what_sendmail_refuses_comes_back() {
    if let Some(server) = Server::sendmail() {
        refusals_come_back(&server);
    }
}

#[test]
fn what_postfix_refuses_comes_back() {
    if let Some(server) = Server::postfix() {
        refusals_come_back(&server);
    }
}

/// What became of a load: the marks that got 250, and how many messages did not.
#[derive(Default)]
struct Ledger {
    acknowledged: Vec<String>,
    refused: usize,
}

/// Four clients send until `enough` says so, each on a kept connection that is made anew after a failure.
fn load(gate: &Gate, name: &str, acknowledged: &AtomicUsize, enough: &AtomicBool) -> Ledger {
    let one = |client: usize| {
        let mut ledger = Ledger::default();
        let connect = || {
            let mut talk = gate.talk();
            talk.say("EHLO client.example.org", "250");
            talk
        };
        let mut talk: Talk = connect();
        for n in 0.. {
            if enough.load(Ordering::SeqCst) {
                break;
            }
            let mark = format!("{name}-{client}-{n}");
            let text = format!("Subject: {mark}\r\nMessage-ID: <{mark}@example.org>\r\n\r\n{}", "line\r\n".repeat(200));
            let reply = talk.mail("ann@example.org", &["bob@example.test"], &text);
            if reply.starts_with("250") {
                ledger.acknowledged.push(mark);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            } else {
                assert!(reply.starts_with('4'), "a server that is away is no reason for {reply:?}");
                ledger.refused += 1;
                talk = connect();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        ledger
    };
    std::thread::scope(|s| {
        let clients: Vec<_> = (0..4).map(|c| s.spawn(move || one(c))).collect();
        let mut all = Ledger::default();
        for ledger in clients.into_iter().map(|c| c.join().unwrap()) {
            all.acknowledged.extend(ledger.acknowledged);
            all.refused += ledger.refused;
        }
        all
    })
}

/// The server is killed under load and comes back: what was acknowledged arrives, in every mode.
fn survives_kill(server: &mut Server) {
    for (io, mode) in [("uring", "spool"), ("epoll", "auto"), ("uring", "cut-through")] {
        let mut gate = gate_before(server.address, io, mode, &[]);
        let (acknowledged, enough) = (AtomicUsize::new(0), AtomicBool::new(false));
        let wait_for_more = |n: usize| {
            let from = acknowledged.load(Ordering::SeqCst);
            support::wait_for("more messages", || (acknowledged.load(Ordering::SeqCst) >= from + n).then_some(()));
        };
        let name = format!("killed-{mode}");
        let ledger = std::thread::scope(|s| {
            let sending = s.spawn(|| load(&gate, &name, &acknowledged, &enough));
            wait_for_more(15);
            server.kill();
            if mode == "cut-through" {
                std::thread::sleep(Duration::from_millis(200));
            } else {
                // The gateway goes on saying yes, out of its own queue.
                wait_for_more(15);
            }
            enough.store(true, Ordering::SeqCst);
            sending.join().unwrap()
        });
        if mode == "cut-through" {
            assert!(ledger.refused > 0, "a dead server said yes");
        } else {
            assert_eq!(ledger.refused, 0, "{mode}");
            // And it may die with them.
            gate.kill();
        }
        server.start();
        if mode != "cut-through" {
            gate.restart();
        }
        drain(&gate);
        support::wait_for(&format!("all acknowledged messages at {}, {mode}", server.name), || {
            let arrived = server.arrived().concat();
            let missing = |mark: &&String| !contains(&arrived, &format!("Subject: {mark}\n"));
            let missing = ledger.acknowledged.iter().filter(missing).count();
            (missing == 0).then_some(())
        });
    }
}

#[test]
fn nothing_is_lost_when_sendmail_is_killed() {
    if let Some(mut server) = Server::sendmail() {
        survives_kill(&mut server);
    }
}

#[test]
fn nothing_is_lost_when_postfix_is_killed() {
    if let Some(mut server) = Server::postfix() {
        survives_kill(&mut server);
    }
}

#[test]
fn many_messages_from_smtp_source_to_smtp_sink() {
    for io in DRIVERS {
        for mode in MODES {
            let Some(sink) = Sink::start() else { return };
            let gate = gate_before(sink.address, io, mode, &[]);
            // With a connection per message, then on kept ones.
            for (args, n) in [
                (&["-s", "10", "-m", "100", "-l", "4000"][..], 100),
                (&["-d", "-s", "5", "-m", "200", "-l", "700"], 200),
            ] {
                let before = sink.recipients().len();
                let Some(ok) = source(gate.address("mx"), args) else { return };
                assert!(ok, "{io} {mode}; the gateway said:\n{}", gate.said());
                support::wait_for("the messages", || (sink.recipients().len() >= before + n).then_some(()));
                assert_eq!(sink.recipients().len(), before + n, "{io} {mode}: more than was sent");
            }
            let mut expected = source_recipients(100);
            expected.extend(source_recipients(200));
            expected.sort();
            assert_eq!(sink.recipients(), expected, "{io} {mode}");
        }
    }
}

#[test]
fn a_sink_that_comes_back_gets_the_queue() {
    for io in DRIVERS {
        let Some(mut sink) = Sink::start() else { return };
        let gate = gate_before(sink.address, io, "auto", &[]);
        sink.kill();
        let Some(ok) = source(gate.address("mx"), &["-s", "5", "-m", "200", "-l", "2000"]) else { return };
        assert!(ok, "{io}");
        assert!(sink.recipients().is_empty());
        sink.resume();
        drain(&gate);
        assert_eq!(sink.recipients(), source_recipients(200), "{io}");
    }
}

#[test]
fn postfix_in_front_and_sendmail_behind() {
    for io in DRIVERS {
        let Some(behind) = Server::sendmail() else { return };
        let gate = gate_before(behind.address, io, "cut-through", &["--domain", "example.org"]);
        let Some(front) = Server::postfix_before(Some(gate.address("mx"))) else { return };
        let mut talk = Talk::connect(front.address);
        talk.expect("220");
        talk.say("EHLO client.example.org", "250");
        talk.say("MAIL FROM:<ann@example.test> BODY=8BITMIME", "250");
        talk.say("RCPT TO:<bob@example.org>", "250");
        talk.say("RCPT TO:<eve@example.org>", "250");
        talk.say("DATA", "354");
        let message = awkward("through-three");
        talk.send(dotted(&message));
        talk.expect("250");
        let arrived = behind.wait_arrived("Subject: through-three\n");
        let (header, body) = halves(&arrived);
        let chain = fields(&header, "Received");
        assert_eq!(chain.len(), 3, "{header}");
        assert!(chain[1].contains("from postfix.example.test") && chain[1].contains(" with ESMTPS id "), "{header}");
        let sent: Vec<u8> = message.iter().copied().filter(|&b| b != b'\r').collect();
        assert!(body == halves(&sent).1, "{}", String::from_utf8_lossy(body));
    }
}
