//! The journal of a running server: what it recorded, replayed with the same policy, is the same in every decision; with
//! another policy the difference is found, told, and makes the exit code; limits are tuned from it. And a journal made from
//! another server's log.
//!
//! How it fails: with what the programs said.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod support;

use std::path::{Path, PathBuf};
use support::backend::Backend;
use support::{DRIVERS, Gate, Ran, Talk, gatepost, run};

/// Limits that a dozen clients on loopback meet.
const POLICY: &str = r#"
[limit.messages]
per = "client"
counts = "message"
rate = "12/hour" # for the test
[limit.senders]
per = "sender"
counts = "message"
rate = "3/hour"
[limit.guests]
per = "client"
counts = "concurrency"
most = 5
[[rule]]
name = "guests"
stage = "connect"
then = "limit guests"
[[rule]]
name = "messages"
stage = "mail"
then = ["limit messages", "limit senders"]
[[rule]]
name = "nobody"
stage = "rcpt"
when = "rcpt.local == 'nobody'"
then = "reject 550 5.1.1 Nobody is not here"
[[rule]]
name = "pills"
stage = "data"
when = "header('subject') contains 'pills'"
then = "reject 554 5.7.1 No pills"
"#;

fn replay(journal: &Path, policy: &Path, more: &[&str]) -> Ran {
    let mut command = gatepost();
    command
        .args(["policy", "replay", "--domain", "example.test", "--journal"])
        .arg(journal)
        .arg("--policy")
        .arg(policy);
    run(command.args(more), "")
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

/// Clients one beside the other, some of them over a limit, one talking nonsense, one leaving in the middle.
fn traffic(gate: &Gate) {
    let mut talks: Vec<Talk> = (0..4).map(|_| gate.talk()).collect();
    talks.iter_mut().for_each(|talk| drop(talk.say("EHLO client.example.org", "250")));
    for round in 0..5 {
        for (i, talk) in talks.iter_mut().enumerate() {
            let subject = if round == 2 { "cheap\r\n pills" } else { "hello" };
            let from = format!("Sender{i}@Example.ORG");
            talk.send(format!("MAIL FROM:<{from}> SIZE=200\r\n"));
            if !talk.reply().starts_with("250") {
                talk.say("RSET", "250");
                continue;
            }
            talk.say("RCPT TO:<nobody@example.test>", "550");
            talk.say("RCPT TO:<x@elsewhere.example>", "550");
            talk.say("RCPT TO:<Bob@Example.test>", "250");
            talk.say("DATA", "354");
            talk.send(format!("Subject: {subject}\r\nReceived: a\r\nReceived: b\r\n\r\nhello\r\n.\r\n"));
            let reply = talk.reply();
            assert!(reply.starts_with("250") || reply.starts_with("554"), "{reply}");
        }
    }
    // The sixth at once, after the fifth.
    let fifth = gate.talk();
    let mut sixth = Talk::connect(gate.address("mx"));
    assert!(sixth.reply().starts_with("421"));
    drop(fifth);
    talks[0].say("VRFY bob", "252");
    talks[1].say("NONSENSE", "500");
    talks[2].say("MAIL FROM:<>", "4");
    drop(talks);
}

fn served(io: &str, policy: &Path, more: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let backend = Backend::plain();
    let address = backend.address.to_string();
    let policy = policy.to_str().unwrap();
    let args = ["--io", io, "--cores", "2", "--backend", &address, "--policy", policy, "--set", "journal.enabled=true"];
    let mut gate = Gate::start_in(dir.path(), &[&args[..], more].concat());
    traffic(&gate);
    assert_eq!(gate.terminate(), Some(0), "{}", gate.said());
    let journal = dir.path().join("journal");
    (dir, journal)
}

#[test]
fn what_the_server_recorded_is_decided_again_as_it_was() {
    let files = tempfile::tempdir().unwrap();
    let policy = files.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    for io in DRIVERS {
        let (_dir, journal) = served(io, &policy, &[]);
        let same = replay(&journal, &policy, &["--json", "--fail-on-change"]);
        assert_eq!(same.code, Some(0), "{io}: {same:?}");
        let report = json(&same);
        assert_eq!((&report["verdicts_changed"], &report["not_reached"]), (&0.into(), &0.into()), "{io}: {report:#}");
        assert_eq!(report["same"], report["decisions"], "{io}: {report:#}");
        assert!(report["decisions"].as_u64().unwrap() > 60 && report["sessions"].as_u64().unwrap() >= 5, "{report:#}");
        assert!(report["messages"]["then"].as_u64().unwrap() >= 4, "{report:#}");
        assert_eq!(report["unread"], serde_json::json!({ "torn": 0, "foreign": 0, "newer": 0, "damaged": 0 }));
    }
}

#[test]
fn another_policy_is_told_apart_and_limits_are_tuned() {
    let files = tempfile::tempdir().unwrap();
    let policy = files.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let (_dir, journal) = served(DRIVERS[0], &policy, &[]);
    let stricter = files.path().join("stricter.toml");
    std::fs::write(&stricter, POLICY.replace("'nobody'", "'bob'").replace("12/hour", "100/hour")).unwrap();
    let html = files.path().join("report.html");
    let ran = replay(&journal, &stricter, &["--fail-on-change", "--html", html.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("verdicts change") && ran.out.contains("tightened at rcpt"), "{ran:?}");
    assert!(ran.out.contains("loosened at rcpt: reject by nobody"), "{ran:?}");
    // What the backend took then and does not get now is counted.
    let closed = files.path().join("closed.toml");
    std::fs::write(&closed, POLICY.replace("'nobody'", "'bob' or rcpt.local == 'nobody'")).unwrap();
    let report = json(&replay(&journal, &closed, &["--json"]));
    assert_eq!(report["messages"]["now"], 0, "{report:#}");
    assert!(report["messages"]["delivered_stopped"].as_u64().unwrap() >= 4, "{report:#}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("Bob@example.test"), "{page}");
    // Nothing is loaded from anywhere.
    assert!(!page.contains("http") && !page.contains("src="), "{page}");
    let said = gatepost()
        .args(["policy", "tune", "--domain", "example.test", "--write", "--journal"])
        .arg(&journal)
        .arg("--policy")
        .arg(&policy)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("messages") && text.contains("guests"), "{said:?}");
    let tuned = std::fs::read_to_string(&policy).unwrap();
    assert!(tuned.contains("# for the test") && !tuned.contains("\"12/hour\""), "{tuned}");
    // With what was proposed nobody good is refused by a limit.
    let report = json(&replay(&journal, &policy, &["--json"]));
    assert!(report["loosened"].as_u64().unwrap() > 0 && report["tightened"] == 0, "{report:#}");
}

#[test]
fn a_recorded_session_is_explained_decision_by_decision() {
    let files = tempfile::tempdir().unwrap();
    let policy = files.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let (_dir, journal) = served(DRIVERS[0], &policy, &[]);
    let show = |more: &[&str]| run(gatepost().args(["journal", "show", "--journal"]).arg(&journal).args(more), "");
    // The session that met the limit of messages by its sender.
    let found = show(&["--rule", "messages", "--limit", "1"]);
    let line: serde_json::Value = serde_json::from_str(&found.out).unwrap_or_else(|e| panic!("{e}: {found:?}"));
    let session = line["session"].as_str().unwrap();
    let explain = |policy: &Path, more: &[&str]| {
        let mut command = gatepost();
        command
            .args(["policy", "explain", "--domain", "example.test", "--session", session, "--journal"])
            .arg(&journal);
        run(command.arg("--policy").arg(policy).args(more), "")
    };
    let told = explain(&policy, &[]);
    assert!(told.ok && told.out.contains("every decision is as it was recorded"), "{told:?}");
    assert!(told.out.contains("limit senders: exceeded") || told.out.contains("limit messages: exceeded"), "{told:?}");
    assert!(told.out.contains("rcpt.local == 'nobody'") && told.out.contains("\"nobody\""), "{told:?}");
    let other = files.path().join("other.toml");
    std::fs::write(&other, POLICY.replace("'nobody'", "'bob'")).unwrap();
    let report = json(&explain(&other, &["--json"]));
    let decisions = report["decisions"].as_array().unwrap();
    let changed = decisions.iter().any(|d| d["recorded"]["verdict"] != d["now"]["verdict"] && d["event"] == "rcpt");
    assert!(changed && decisions.iter().any(|d| !d["trace"]["stages"].as_array().unwrap().is_empty()), "{report:#}");
    let mut command = gatepost();
    let none = run(command.args(["policy", "explain", "--session", "FFFF", "--journal"]).arg(&journal), "");
    assert!(none.code == Some(1) && none.err.contains("session FFFF is not among"), "{none:?}");
}

#[test]
fn persons_can_be_hidden_and_lines_looked_at() {
    let files = tempfile::tempdir().unwrap();
    let policy = files.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let key = files.path().join("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef\n").unwrap();
    let set = format!("journal.hash_key={}", key.display());
    let (_dir, journal) = served(DRIVERS[0], &policy, &["--set", &set]);
    let shown = run(gatepost().args(["journal", "show", "--journal"]).arg(&journal), "");
    assert!(shown.ok && shown.out.lines().count() >= 5, "{shown:?}");
    let lower = shown.out.to_lowercase();
    assert!(!lower.contains("sender1@") && !lower.contains("bob@") && lower.contains("@example.org"), "{shown:?}");
    // Limits by sender are what they were; rules about persons cannot be decided, and that is said.
    let report = json(&replay(&journal, &policy, &["--json"]));
    assert!(report["undecided"].as_array().unwrap().iter().any(|u| u["rule"] == "nobody"), "{report:#}");
}

#[test]
fn the_log_of_another_server_is_a_journal() {
    let files = tempfile::tempdir().unwrap();
    let log = files.path().join("mail.log");
    std::fs::write(
        &log,
        "Nov 23 12:00:00 mx postfix/smtpd[7]: connect from mail.example.net[192.0.2.1]\n\
         Nov 23 12:00:01 mx postfix/smtpd[7]: 4Q1: client=mail.example.net[192.0.2.1]\n\
         Nov 23 12:00:01 mx postfix/qmgr[5]: 4Q1: from=<ann@example.net>, size=1234, nrcpt=1 (queue active)\n\
         Nov 23 12:00:02 mx postfix/smtpd[7]: disconnect from mail.example.net[192.0.2.1] ehlo=1 mail=1\n\
         Nov 23 12:00:04 mx postfix/lmtp[4]: 4Q1: to=<nobody@example.test>, relay=x, status=sent (250 ok)\n\
         garbage\n",
    )
    .unwrap();
    let journal = files.path().join("past.jsonl.zst");
    let ran = run(gatepost().args(["journal", "import", "--year", "2026", "--output"]).arg(&journal).arg(&log), "");
    assert!(ran.ok && ran.err.contains("1 sessions from 5 of 6 lines"), "{ran:?}");
    let policy = files.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let report = json(&replay(&journal, &policy, &["--json"]));
    assert_eq!((&report["tightened"], &report["messages"]["now"]), (&1.into(), &0.into()), "{report:#}");
    let none = replay(&log, &policy, &[]);
    assert!(none.code == Some(1) && none.err.contains("no session could be read; line 1"), "{none:?}");
}
