//! The mailstore from outside: the start without configuration, mail in by SMTP and LMTP, mail out by POP3 and IMAP, with
//! the clients people use; crashes, with a ledger of what was acknowledged.
//!
//! How it fails: a client that is not here is skipped, and in CI missed.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "mailbox/access.rs"]
mod access;
#[path = "mailbox/admin.rs"]
mod admin;
#[path = "mailbox/clients.rs"]
mod clients;
mod support;

use support::{Gate, Ran, gatepost, run};

/// An account of these tests.
const USER: &str = "ann@example.test";
const PASSWORD: &str = "correct horse";

/// A mail system with one account, which has a shared secret too.
fn system(io: &str, more: &[&str]) -> Gate {
    let mut args = vec!["--io", io, "--set", support::ALL_MECHANISMS, "--set", "pop3.apop=true"];
    args.extend_from_slice(more);
    let gate = Gate::start(&args);
    add_account(&gate, USER, &["--shared-secret"]);
    gate
}

fn add_account(gate: &Gate, name: &str, more: &[&str]) {
    let mut add = gatepost();
    add.args(["account", "add", name, "--password-stdin"]).args(more).arg("--data").arg(&gate.dir);
    let added = run(&mut add, &format!("{PASSWORD}\n"));
    assert!(added.ok, "{added:?}");
    // The server looks whether there are new ones a few times a second.
    support::wait_for("the account to be known", || {
        let mut talk = support::Talk::connect(gate.address("lmtp"));
        talk.expect("220");
        talk.say("LHLO client.example", "250");
        talk.say("MAIL FROM:<>", "250");
        talk.send(format!("RCPT TO:<{name}>\r\n"));
        talk.reply().starts_with("250").then_some(())
    });
}

/// Mail for the account, by LMTP.
fn deliver(gate: &Gate, to: &str, message: &str) {
    let mut talk = support::Talk::connect(gate.address("lmtp"));
    talk.expect("220");
    talk.say("LHLO client.example", "250");
    // RFC 5321 §4.5.2
    let reply = talk.mail("bob@example.org", &[to], &message.replace("\r\n.", "\r\n.."));
    assert!(reply.starts_with("250"), "{reply}");
    talk.say("QUIT", "221");
}

/// A small message with this subject.
fn message(subject: &str) -> String {
    format!(
        "From: Bob <bob@example.org>\r\nTo: ann@example.test\r\nSubject: {subject}\r\n\r\nThe text of {subject}.\r\n.A line with a dot."
    )
}

/// A Python script over a standard library; `None` when there is no Python.
fn python(script: &str, args: &[&str]) -> Option<Ran> {
    let program = support::peers::peer("python3")?;
    let mut command = std::process::Command::new(program);
    let packages = support::peers_dir().join("python");
    command.env("PYTHONPATH", packages).arg("-c").arg(script).args(args);
    Some(run(&mut command, ""))
}
