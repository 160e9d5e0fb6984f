//! What goes wrong around the relay: backends that fail at any step, clients that mean harm, bounces.
//!
//! Every test runs under both drivers, each with gateways of its own. How it fails: a 250 without the message being
//! kept, a reply that is not the truth, or a well-behaved client that is not served at once afterwards.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod support;

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};
use support::backend::{Act, Backend, Kept, Manners};
use support::{DRIVERS, Gate, Talk, wait_for};

/// Runs a test under both drivers.
fn under_both(test: impl Fn(&str)) {
    for io in DRIVERS {
        eprintln!("driver: {io}");
        test(io);
    }
}

/// Short waits, so that a backend that hangs is noticed within a test.
const IMPATIENT: &str = "
    [client]
    greeting_timeout = \"1s\"
    command_timeout = \"1s\"
    mail_timeout = \"1s\"
    rcpt_timeout = \"1s\"
    data_timeout = \"1s\"
    end_of_data_timeout = \"1s\"
    [relay]
    connect_timeout = \"1s\"
    cut_through_wait = \"3s\"
    auto_wait = \"2s\"
    [spool]
    retry_first = \"1s\"
    destination_retry_first = \"100ms\"
    destination_retry_max = \"200ms\"
    segment_octets = \"1MiB\"
    [[listener]]
    name = \"mx\"
    address = \"127.0.0.1:0\"
    [[listener]]
    name = \"lmtp\"
    address = \"127.0.0.1:0\"
    service = \"lmtp\"
";

/// One pool for everything: backends with their priorities.
fn pool(backends: &[(SocketAddr, u32)], mode: &str) -> String {
    let mut toml =
        format!("[pool.main]\nretry_after = \"200ms\"\n[route.all]\npool = \"main\"\nmode = \"{mode}\"\n{IMPATIENT}");
    for (address, priority) in backends {
        write!(toml, "[[pool.main.backend]]\naddress = \"{address}\"\npriority = {priority}\n").unwrap();
    }
    toml
}

fn configured(io: &str, toml: &str) -> (Gate, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepost.toml");
    std::fs::write(&file, toml).unwrap();
    let gate = Gate::start(&["--io", io, "--cores", "1", "--config", file.to_str().unwrap()]);
    (gate, dir)
}

fn hello(gate: &Gate) -> Talk {
    let mut talk = gate.talk();
    talk.say("EHLO c.example.org", "250");
    talk
}

/// Sends a message with this subject over a new connection; the reply that decided it.
fn send(gate: &Gate, id: &str) -> String {
    hello(gate).mail("a@example.org", &["bob@example.test"], &format!("Subject: {id}\r\n\r\nx"))
}

fn copies(backend: &Backend, id: &str) -> usize {
    let subject = format!("Subject: {id}\r\n");
    backend.kept().iter().filter(|k| k.text().contains(&subject)).count()
}

/// Waits until nothing waits, asking for attempts.
fn drain(gate: &Gate) {
    let mut asked: Option<Instant> = None;
    wait_for("an empty queue", || {
        if asked.is_none_or(|at| at.elapsed() > Duration::from_millis(500)) {
            asked = Some(Instant::now());
            assert!(gate.command(&["queue", "retry", "--all"]).ok);
        }
        let list = gate.command(&["queue", "list", "--json"]);
        (list.ok && list.out.trim().is_empty()).then_some(())
    });
}

// --- backends ---

/// Everything a backend may do wrong, and whether trying again helps.
fn faults() -> Vec<(&'static str, Act, bool)> {
    let say = |text: &str| Act::Say(text.to_owned());
    let mut faults = Vec::new();
    for step in ["connect", "EHLO", "MAIL", "RCPT", "DATA", "."] {
        faults.push((step, say("451 4.3.0 not now"), true));
        faults.push((step, say("421 4.3.2 going down"), true));
        faults.push((step, Act::Close, true));
        faults.push((step, Act::Reset, true));
        faults.push((step, Act::Hang, true));
        faults.push((step, say("this is no SMTP"), true));
        // A backend that does not want to speak with us at all has not refused the message.
        faults.push((step, say("550 5.7.1 go away"), matches!(step, "connect" | "EHLO")));
    }
    faults
}

/// The reply a client must get, in a mode.
fn truth(mode: &str, transient: bool) -> &'static str {
    match (mode, transient) {
        ("cut-through", true) => "4",
        ("cut-through" | "auto", false) => "5",
        _ => "250",
    }
}

fn backend_faults_in(io: &str, mode: &str, at_start: bool) {
    let backend = Backend::plain();
    let toml = pool(&[(backend.address, 0)], mode);
    // What happens at the start of a connection needs a new one each time; the rest happens on kept ones, too.
    let toml = if at_start { toml.replace("[pool.main]", "[pool.main]\nidle_max = 0") } else { toml };
    let (gate, _dir) = configured(io, &toml);
    for (number, (step, act, transient)) in faults().into_iter().enumerate() {
        if matches!(step, "connect" | "EHLO") != at_start || mode == "spool" && !transient {
            continue; // bounces have their own test
        }
        let what = format!("{io}, {mode}, {act:?} at {step}");
        let id = format!("fault-{number}");
        backend.act(step, act);
        let reply = send(&gate, &id);
        let truth = truth(mode, transient);
        assert!(reply.starts_with(truth), "{what}: expected {truth}, got {reply}");
        assert_eq!(copies(&backend, &id), 0, "{what}");
        // The backend is let back in as soon as it behaves.
        backend.behave();
        let after = format!("after-{number}");
        wait_for(&format!("mail after {what}"), || send(&gate, &after).starts_with("250").then_some(()));
        drain(&gate);
        let expected = usize::from(truth == "250");
        assert_eq!(copies(&backend, &id), expected, "{what}");
        assert_eq!(copies(&backend, &after), 1, "{what}");
    }
}

#[test]
fn clients_hear_the_truth_whatever_a_backend_does() {
    std::thread::scope(|scope| {
        for io in DRIVERS {
            for mode in ["cut-through", "auto", "spool"] {
                scope.spawn(move || backend_faults_in(io, mode, true));
                scope.spawn(move || backend_faults_in(io, mode, false));
            }
        }
    });
}

#[test]
fn lmtp_clients_hear_it_for_each_recipient() {
    under_both(|io| {
        let backend = Backend::plain();
        let (gate, _dir) = configured(io, &pool(&[(backend.address, 0)], "cut-through"));
        for (act, code) in
            [(Act::Close, "4"), (Act::Say("452 4.2.2 full".into()), "452"), (Act::Say("552 no".into()), "552")]
        {
            backend.act(".", act.clone());
            let mut talk = Talk::connect(gate.address("lmtp"));
            talk.expect("220");
            talk.say("LHLO c.example.org", "250");
            talk.say("MAIL FROM:<a@example.org>", "250");
            talk.say("RCPT TO:<bob@example.test>", "250");
            talk.say("RCPT TO:<ann@example.test>", "250");
            talk.say("DATA", "354");
            talk.send("x\r\n.\r\n");
            talk.expect(code);
            talk.expect(code);
            talk.say("NOOP", "250");
        }
        assert!(backend.kept().is_empty());
    });
}

#[test]
fn a_backend_may_close_between_messages() {
    under_both(|io| {
        for mode in ["cut-through", "spool"] {
            let backend = Backend::plain();
            backend.manners.lock().unwrap().close_after = Some(1);
            let (gate, _dir) = configured(io, &pool(&[(backend.address, 0)], mode));
            let mut talk = hello(&gate);
            for n in 0..8 {
                let message = format!("Subject: close-{n}\r\n\r\nx");
                let reply = talk.mail("a@example.org", &["bob@example.test"], &message);
                assert!(reply.starts_with("250"), "{mode}: {reply}");
            }
            drain(&gate);
            for n in 0..8 {
                assert_eq!(copies(&backend, &format!("close-{n}")), 1, "{mode}");
            }
        }
    });
}

#[test]
fn others_take_over_and_give_back() {
    under_both(|io| {
        let (first, second, standby) = (Backend::plain(), Backend::plain(), Backend::plain());
        let backends = [(first.address, 0), (second.address, 0), (standby.address, 10)];
        let (gate, _dir) = configured(io, &pool(&backends, "cut-through"));
        let five = |what: &str| {
            for n in 0..5 {
                let reply = send(&gate, &format!("{what}-{n}"));
                assert!(reply.starts_with("250"), "{what}: {reply}\n{}", gate.said());
            }
        };
        five("healthy");
        assert!(standby.kept().is_empty(), "a standby has mail while others are well");
        first.act("connect", Act::Say("421 4.3.2 going down".into()));
        first.act("MAIL", Act::Say("421 4.3.2 going down".into()));
        // A message that meets the 421 in the middle may hear 451; after it nobody does.
        wait_for("the first to be set aside", || send(&gate, "moving").starts_with("250").then_some(()));
        five("one down");
        assert!(standby.kept().is_empty());
        let before = second.kept().len();
        assert!(before >= 5, "the second has {before}");
        second.act("connect", Act::Close);
        second.act("MAIL", Act::Close);
        wait_for("the second to be set aside", || send(&gate, "moving").starts_with("250").then_some(()));
        five("two down");
        assert!(standby.kept().len() >= 5);
        first.behave();
        second.behave();
        let before = first.kept().len() + second.kept().len();
        wait_for("one of them to be used again", || {
            assert!(send(&gate, "back").starts_with("250"));
            (first.kept().len() + second.kept().len() > before).then_some(())
        });
        let spared = standby.kept().len();
        five("back");
        assert!(standby.kept().len() <= spared + 1, "a standby goes on working");
    });
}

#[test]
fn nobody_listens_and_nothing_is_lost() {
    under_both(|io| {
        let gone = Backend::plain();
        let address = gone.address;
        gone.stop();
        drop(gone);
        let (gate, _dir) = configured(io, &pool(&[(address, 0)], "cut-through"));
        let reply = send(&gate, "nobody");
        assert!(reply.starts_with("45"), "{reply}");
        let (gate, _dir) = configured(io, &pool(&[(address, 0)], "auto"));
        let reply = send(&gate, "later");
        assert!(reply.starts_with("250"), "{reply}");
        let backend = Backend::start_at(address, Manners::default());
        drain(&gate);
        assert_eq!(copies(&backend, "later"), 1);
    });
}

// --- bounces ---

fn bounces(backend: &Backend) -> Vec<Kept> {
    backend.kept().into_iter().filter(|k| k.from.starts_with("<>")).collect()
}

/// Sends in spool mode to recipients with their parameters, over a backend that refuses `nobody@`.
fn send_to(gate: &Gate, mail: &str, recipients: &[&str]) {
    let mut talk = hello(gate);
    talk.say(&format!("MAIL FROM:{mail}"), "250");
    for rcpt in recipients {
        talk.say(&format!("RCPT TO:{rcpt}"), "250");
    }
    talk.say("DATA", "354");
    talk.send("Subject: original\r\nX-Mark: header\r\n\r\nthe body itself\r\n.\r\n");
    talk.expect("250");
}

fn refusing(io: &str) -> (Backend, Gate, tempfile::TempDir) {
    let backend = Backend::plain();
    backend.manners.lock().unwrap().recipients =
        HashMap::from([("nobody@".to_owned(), "550 5.1.1 no such user".to_owned())]);
    let (gate, dir) = configured(io, &pool(&[(backend.address, 0)], "spool"));
    (backend, gate, dir)
}

#[test]
fn a_refused_recipient_is_reported_to_the_sender() {
    under_both(|io| {
        let (backend, gate, _dir) = refusing(io);
        send_to(
            &gate,
            "<ann@example.org> RET=FULL ENVID=QQ+2B314159",
            &["<nobody@example.test> ORCPT=rfc822;Nobody+40Example.TEST", "<bob@example.test>"],
        );
        drain(&gate);
        let originals = backend.kept().iter().filter(|k| k.to == ["<bob@example.test>"]).count();
        assert_eq!(originals, 1, "{:?}", backend.kept());
        let [bounce] = &bounces(&backend)[..] else { panic!("expected one report: {:?}", backend.kept()) };
        assert_eq!(bounce.to, ["<ann@example.org>"]);
        let text = bounce.text();
        let folded = text.replace("\r\n\t", " ").replace("\r\n ", " ");
        for part in [
            "Auto-Submitted: auto-replied",
            "Content-Type: multipart/report; report-type=delivery-status;",
            "Content-Type: message/delivery-status",
            "Reporting-MTA: dns; ",
            "Original-Envelope-Id: QQ+314159",
            "Original-Recipient: rfc822;Nobody@Example.TEST",
            "Final-Recipient: rfc822; nobody@example.test",
            "Action: failed",
            "Status: 5.1.1",
            "Diagnostic-Code: smtp; 550 5.1.1 no such user",
            "Content-Type: message/rfc822",
            "X-Mark: header",
            "the body itself",
        ] {
            assert!(folded.to_ascii_lowercase().contains(&part.to_ascii_lowercase()), "no {part:?} in:\n{text}");
        }
        assert!(!text.contains("bob@example.test"), "a report names who has it:\n{text}");
        let boundary = text.split("boundary=\"").nth(1).and_then(|t| t.split('"').next()).unwrap().to_owned();
        assert_eq!(text.matches(&format!("\r\n--{boundary}\r\n")).count(), 3, "{text}");
        assert!(text.trim_end().ends_with(&format!("--{boundary}--")), "{text}");
    });
}

#[test]
fn reports_are_made_for_those_who_want_them() {
    under_both(|io| {
        let (backend, gate, _dir) = refusing(io);
        send_to(&gate, "<ann@example.org>", &["<nobody@example.test> NOTIFY=NEVER"]);
        send_to(&gate, "<ann@example.org>", &["<nobody@example.test> NOTIFY=SUCCESS,DELAY"]);
        send_to(&gate, "<>", &["<nobody@example.test>"]);
        drain(&gate);
        assert!(backend.kept().is_empty(), "{:?}", backend.kept());
        send_to(&gate, "<ann@example.org> RET=HDRS", &["<nobody@example.test> NOTIFY=FAILURE"]);
        drain(&gate);
        let [bounce] = &bounces(&backend)[..] else { panic!("expected one report: {:?}", backend.kept()) };
        let text = bounce.text();
        assert!(text.contains("X-Mark: header") && !text.contains("the body itself"), "{text}");
        // A report that is refused itself is not reported (RFC 5321 §6.1).
        backend.manners.lock().unwrap().recipients.insert("ann@".into(), "550 5.1.1 nor she".into());
        send_to(&gate, "<ann@example.org>", &["<nobody@example.test>"]);
        drain(&gate);
        assert_eq!(backend.kept().len(), 1, "{:?}", backend.kept());
    });
}

// --- hostile clients ---

/// A gateway with its default services in front of a good backend.
fn relay(io: &str, backend: &Backend, more: &[&str]) -> Gate {
    let address = backend.address.to_string();
    let mut args = vec!["--io", io, "--cores", "1", "--backend", &address];
    args.extend_from_slice(more);
    Gate::start(&args)
}

/// A well-behaved client is served at once.
fn is_well(gate: &Gate, after: &str) {
    let start = Instant::now();
    let reply = send(gate, "well");
    assert!(reply.starts_with("250"), "after {after}: {reply}");
    assert!(start.elapsed() < Duration::from_secs(5), "after {after}: {:?}", start.elapsed());
}

/// A transaction up to the text.
fn begun(gate: &Gate) -> Talk {
    let mut talk = hello(gate);
    talk.say("MAIL FROM:<a@example.org>", "250");
    talk.say("RCPT TO:<bob@example.test>", "250");
    talk
}

#[test]
fn lines_that_are_none_are_refused_and_forgotten() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        let mut talk = hello(&gate);
        talk.send(format!("MAIL FROM:<{}", "a".repeat(1 << 20)));
        talk.expect("500");
        talk.send("\r\n");
        talk.say("NOOP", "250");
        talk.say("MAIL FROM:<a\0b@example.org>", "5");
        talk.say("MAIL FROM:<\u{e9}@example.org>", "5");
        talk.send(b"MAIL FROM:<\xff\xfe@example.org>\r\n");
        talk.expect("5");
        talk.send("MAIL FROM:<a@example.org>\nRCPT TO:<bob@example.test>\r\n");
        talk.expect("5");
        for bad in
            ["MAIL FROM:a b", "MAIL FROM:<@>", "MAIL FROM:<a@[999.1.1.1]>", "RCPT TO:<>", "DATA", "BDAT 3 LAST x"]
        {
            talk.send(format!("{bad}\r\n"));
            let reply = talk.reply();
            assert!(reply.starts_with('5'), "{bad}: {reply}");
        }
        assert_eq!(talk.rest(), "", "an unreadable chunk size ends the connection");
        is_well(&gate, "lines that are none");
        assert_eq!(backend.kept().len(), 1);
    });
}

#[test]
fn sizes_that_lie_cost_nothing() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate =
            relay(io, &backend, &["--set", "smtp.message_octets_max=64KiB", "--set", "smtp.header_octets_max=64KiB"]);
        for size in ["65537", "18446744073709551615"] {
            hello(&gate).say(&format!("MAIL FROM:<a@example.org> SIZE={size}"), "552");
        }
        for size in ["-1", "1e9", "999999999999999999999999999999", ""] {
            hello(&gate).say(&format!("MAIL FROM:<a@example.org> SIZE={size}"), "501");
        }
        // What is larger than was said, and than it may be: refused at its end, and nothing of it is kept.
        let mut talk = hello(&gate);
        talk.say("MAIL FROM:<a@example.org> SIZE=10", "250");
        talk.say("RCPT TO:<bob@example.test>", "250");
        talk.say("DATA", "354");
        talk.send(format!("Subject: x\r\n\r\n{}.\r\n", "seventy octets or so in each line of this\r\n".repeat(5000)));
        talk.expect("552");
        talk.say("NOOP", "250");
        for chunk in
            ["BDAT 18446744073709551616", "BDAT -1", "BDAT 99999999999999999999999999 LAST", "BDAT 0x10", "BDAT"]
        {
            let mut talk = begun(&gate);
            talk.say(chunk, "5");
            assert_eq!(talk.rest(), "", "{chunk}");
        }
        // A chunk that is too large is swallowed, and what follows it is a command again.
        let mut talk = begun(&gate);
        talk.send("BDAT 100000 LAST\r\n");
        talk.send("x".repeat(100_000));
        talk.expect("552");
        talk.say("NOOP", "250");
        let mut talk = begun(&gate);
        talk.send("BDAT 18446744073709551615 LAST\r\n");
        talk.expect("5");
        assert_eq!(talk.rest(), "");
        is_well(&gate, "sizes that lie");
        assert_eq!(backend.kept().len(), 1);
    });
}

#[test]
fn floods_end_and_slowness_is_borne() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        for command in ["NOOP", "RSET", "HELP", "VRFY bob", "XYZZY", "EHLO c.example.org", ""] {
            let mut talk = hello(&gate);
            let mut sent = talk.stream().try_clone().unwrap();
            let flood = format!("{command}\r\n").repeat(10_000);
            let writer = std::thread::spawn(move || std::io::Write::write_all(&mut sent, flood.as_bytes()));
            let replies = talk.rest();
            let _ = writer.join().unwrap();
            let last = replies.lines().last().unwrap_or_default();
            assert!(last.starts_with("421"), "{command:?}: {last:?} after {} lines", replies.lines().count());
        }
        // Talk before the greeting is served in order; octet by octet, too.
        let mut talk = Talk::connect(gate.address("mx"));
        for byte in b"EHLO c.example.org\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<bob@example.test>\r\nDATA\r\n" {
            talk.send([*byte]);
        }
        for code in ["220", "250", "250", "250", "354"] {
            talk.expect(code);
        }
        for byte in b"Subject: slow\r\n\r\n..\r\n.\r\nQUIT\r\n" {
            talk.send([*byte]);
        }
        talk.expect("250");
        talk.expect("221");
        assert!(backend.wait_kept(1)[0].text().ends_with("Subject: slow\r\n\r\n.\r\n"));
        is_well(&gate, "floods");
    });
}

#[test]
fn half_closed_clients_hear_their_reply_or_nothing() {
    under_both(|io| {
        for mode in ["cut-through", "spool"] {
            let backend = Backend::plain();
            backend.act(".", Act::Wait(Duration::from_millis(200)));
            let gate = relay(io, &backend, &["--mode", mode]);
            let mut talk = begun(&gate);
            talk.say("DATA", "354");
            talk.send("Subject: half\r\n\r\nx\r\n.\r\n");
            talk.stream().shutdown(Shutdown::Write).unwrap();
            talk.expect("250");
            assert_eq!(talk.rest(), "");
            // Half a message is none.
            let mut talk = begun(&gate);
            talk.say("DATA", "354");
            talk.send("Subject: cut\r\n\r\nx\r\n.");
            talk.stream().shutdown(Shutdown::Write).unwrap();
            assert!(!talk.rest().contains("250"));
            is_well(&gate, "half-closed clients");
            backend.wait_kept(2);
            assert_eq!(copies(&backend, "half"), 1);
            assert_eq!(copies(&backend, "cut"), 0);
        }
    });
}

#[test]
fn garbage_in_tls_and_auth_is_no_way_in() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        let record = [0x16, 0x03, 0x01, 0xff, 0xff];
        for garbage in [&b"EHLO c.example.org\r\n"[..], &[0; 4096], &[0xff; 70_000], &record] {
            let mut talk = Talk::connect(gate.address("submissions"));
            talk.try_send(garbage);
            let _ = talk.stream().shutdown(Shutdown::Write);
            assert!(!talk.rest().contains("220"));
        }
        let login = |line: &str, code: &str| {
            let mut talk = Talk::connect(gate.address("submission"));
            talk.expect("220");
            talk.say("EHLO c.example.org", "250");
            talk.say(line, code);
            talk
        };
        login("AUTH PLAIN !!!!", "501");
        login("AUTH PLAIN AAAA=AAA", "501");
        login("AUTH PLAIN /////w==", "5");
        login(&format!("AUTH PLAIN {}", "A".repeat(100_000)), "5");
        login("AUTH NOSUCH", "504");
        login("AUTH NOSUCH abc", "50");
        login("AUTH LOGIN", "334").say("*", "501");
        login("AUTH LOGIN", "334").say("\u{1}\u{2}", "501");
        login("AUTH LOGIN", "334").say(&"A".repeat(100_000), "5");
        login("AUTH SCRAM-SHA-256 biwsbj0scj0=", "5");
        // What was sent in clear behind STARTTLS is no command (RFC 3207 §5).
        let mut talk = hello(&gate);
        talk.send("STARTTLS\r\nMAIL FROM:<a@example.org>\r\nNOOP\r\n");
        talk.expect("220");
        talk.try_send("NOOP\r\n");
        let _ = talk.stream().shutdown(Shutdown::Write);
        assert!(!talk.rest().contains("250"));
        is_well(&gate, "garbage");
    });
}

#[test]
fn heaps_of_recipients_and_headers_are_bounded() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        let before = resident_kib(gate.pid());
        let mut talk = hello(&gate);
        talk.say("MAIL FROM:<a@example.org>", "250");
        let mut sent = talk.stream().try_clone().unwrap();
        let writer = std::thread::spawn(move || {
            let lines = |n| (0..1000).map(move |m| format!("RCPT TO:<u{n}.{m}@example.test>\r\n")).collect::<String>();
            (0..100).try_for_each(|n| std::io::Write::write_all(&mut sent, lines(n).as_bytes()))
        });
        let (mut taken, mut put_off) = (0, 0);
        let last = loop {
            match talk.reply() {
                reply if reply.starts_with("250") => taken += 1,
                reply if reply.starts_with("452") => put_off += 1,
                reply => break reply,
            }
        };
        let _ = writer.join().unwrap();
        // RFC 5321 §4.5.3.1.10: 452 for those beyond the limit; who goes on all the same is sent away.
        assert!(
            last.starts_with("421") && taken == 1000 && put_off < 10_000,
            "{taken} taken, {put_off} put off: {last}"
        );
        let mut talk = begun(&gate);
        talk.say("DATA", "354");
        for n in 0..1000 {
            let field = format!("X-Bomb-{n}: {}\r\n", "b".repeat(900));
            talk.send(field.repeat(20));
        }
        talk.send("\r\n.\r\n");
        talk.expect("552");
        talk.say("NOOP", "250");
        let grown = resident_kib(gate.pid()).saturating_sub(before);
        assert!(grown < 32 * 1024, "grown by {grown} KiB");
        is_well(&gate, "heaps");
        assert_eq!(backend.kept().len(), 1);
    });
}

/// Resident memory of a process.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn one_connection_too_many_is_told_so() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &["--set", "server.connections_max=8"]);
        let mut open: Vec<Talk> = (0..8).map(|_| hello(&gate)).collect();
        for _ in 0..20 {
            let mut talk = Talk::connect(gate.address("mx"));
            talk.expect("421");
            assert_eq!(talk.rest(), "");
        }
        // Those who are in are served, and who leaves makes room.
        let reply = open[7].mail("a@example.org", &["bob@example.test"], "Subject: in\r\n\r\nx");
        assert!(reply.starts_with("250"), "{reply}");
        open.pop().unwrap().say("QUIT", "221");
        wait_for("room for one", || Talk::connect(gate.address("mx")).reply().starts_with("220").then_some(()));
    });
}

/// Idle connections of one test.
const IDLE: usize = 2000;
/// What an idle connection may take, in a debug build.
const IDLE_KIB_MAX: u64 = 8;

#[test]
fn idle_connections_are_cheap_and_given_back() {
    under_both(|io| {
        let backend = Backend::plain();
        let gate = relay(io, &backend, &[]);
        is_well(&gate, "nothing");
        let before = resident_kib(gate.pid());
        let mut peaks = Vec::new();
        for _ in 0..2 {
            let idle: Vec<Talk> = (0..IDLE).map(|_| hello(&gate)).collect();
            peaks.push(resident_kib(gate.pid()));
            is_well(&gate, "many idle connections");
            drop(idle);
            wait_for("the connections to be given back", || (connections(gate.pid()) < 40).then_some(()));
        }
        let after = resident_kib(gate.pid());
        eprintln!("{io}: {before} KiB, with {IDLE} idle connections {peaks:?}, afterwards {after}");
        let ceiling = before + IDLE as u64 * IDLE_KIB_MAX;
        assert!(peaks.iter().all(|p| *p < ceiling), "{peaks:?} KiB, expected less than {ceiling}");
        // The second wave takes the room of the first: what the allocator keeps does not grow.
        assert!(peaks[1] < peaks[0] + 2048 && after < peaks[0] + 2048, "{before} KiB, {peaks:?}, {after}");
        is_well(&gate, "all of it");
    });
}

/// Open sockets of a process.
fn connections(pid: u32) -> usize {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    files
        .filter_map(|f| std::fs::read_link(f.ok()?.path()).ok())
        .filter(|p| p.to_string_lossy().starts_with("socket:"))
        .count()
}
