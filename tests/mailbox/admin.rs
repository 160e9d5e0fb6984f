//! `gatepost mailbox` and `gatepost alias` on a running server and on a stopped one's directory.

use crate::access::Imap;
use crate::support::{Gate, Talk};
use crate::{USER, add_account, deliver, message, system};
use std::path::Path;

/// UIDVALIDITY and the UIDs with their subjects.
fn inbox(gate: &Gate, user: &str) -> (String, Vec<String>) {
    let mut imap = Imap::login(gate, user);
    let selected = imap.ok("SELECT INBOX");
    let validity = selected.iter().find(|l| l.contains("UIDVALIDITY")).unwrap().clone();
    let lines = imap.ok("FETCH 1:* (UID FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])");
    // \Recent is a session's (RFC 3501 §2.3.2), and which messages were new is not in the log.
    let told = |line: String| line.replace(" \\Recent", "").replace("\\Recent", "");
    (validity, lines.into_iter().filter(|l| !l.is_empty() && l != ")").map(told).collect())
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn a_backup_taken_while_mail_comes_in_is_a_store_of_its_own() {
    let gate = system("auto", &[]);
    for n in 0..20 {
        deliver(&gate, USER, &message(&format!("before {n}")));
    }
    let mut imap = Imap::login(&gate, USER);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 3:4 +FLAGS (\\Deleted)");
    imap.ok("EXPUNGE");
    imap.ok("STORE 5 +FLAGS (\\Flagged $Work)");
    let before = inbox(&gate, USER);
    let to = tempfile::tempdir().unwrap();
    let backup = to.path().join("backup");
    std::thread::scope(|scope| {
        let more = scope.spawn(|| (0..40).for_each(|n| deliver(&gate, USER, &message(&format!("during {n}")))));
        let ran = gate.command(&["mailbox", "backup", backup.to_str().unwrap()]);
        assert!(ran.ok && ran.out.starts_with("backed up to "), "{ran:?}");
        more.join().unwrap();
    });
    let again = gate.command(&["mailbox", "backup", backup.to_str().unwrap()]);
    assert!(!again.ok && again.err.contains("is there already"), "{again:?}");
    // Restored into another data directory: the same UIDs, flags and keywords.
    let data = tempfile::tempdir().unwrap();
    copy(&backup, &data.path().join("mail"));
    copy(&gate.dir.join("accounts"), &data.path().join("accounts"));
    let restored = Gate::start_in(data.path(), &[]);
    let there = inbox(&restored, USER);
    assert_eq!(there.0, before.0);
    assert_eq!(there.1[..before.1.len()], before.1[..]);
    drop(restored);
    let verified =
        crate::support::run(crate::support::gatepost().args(["mailbox", "verify", "--data"]).arg(data.path()), "");
    assert!(verified.ok, "{verified:?}");
}

#[test]
fn mail_goes_out_and_in_with_flags_dates_and_folders() {
    let mut gate = system("auto", &[]);
    add_account(&gate, "eve@example.test", &[]);
    deliver(&gate, USER, &message("one"));
    deliver(&gate, USER, &message("two"));
    let mut imap = Imap::login(&gate, USER);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1 +FLAGS (\\Seen \\Flagged)");
    imap.ok("CREATE Work/Inner");
    imap.ok("COPY 2 Work/Inner");
    let date = imap.ok("FETCH 1 INTERNALDATE").join("");
    let files = tempfile::tempdir().unwrap();
    let maildir = files.path().join("maildir");
    for round in ["running", "stopped"] {
        let _ = std::fs::remove_dir_all(&maildir);
        let out = gate.command(&["mailbox", "export", USER, maildir.to_str().unwrap()]);
        assert!(out.ok && out.out.starts_with("exported 3 messages"), "{round}: {out:?}");
        let back = gate.command(&["mailbox", "import", "eve@example.test", maildir.to_str().unwrap()]);
        assert!(back.ok && back.out.starts_with("imported 3 messages"), "{round}: {back:?}");
        gate.terminate();
    }
    let list = gate.command(&["mailbox", "list", "--json", "eve@example.test"]);
    let entries: Vec<serde_json::Value> = list.out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let messages = |name: &str| entries.iter().find(|e| e["mailbox"] == name).unwrap()["messages"].as_u64();
    assert_eq!((messages("INBOX"), messages("Work/Inner")), (Some(4), Some(2)), "{list:?}");
    let mbox = files.path().join("mbox");
    let out = gate.command(&["mailbox", "export", USER, mbox.to_str().unwrap(), "--format", "mbox"]);
    assert!(out.ok, "{out:?}");
    gate.restart();
    let mut eve = Imap::login(&gate, "eve@example.test");
    eve.ok("SELECT INBOX");
    let found = eve.ok("SEARCH FLAGGED SEEN SUBJECT one").join("");
    assert_eq!(found.split_whitespace().count(), 4, "two of them: {found}");
    let first = found.split_whitespace().nth(2).unwrap().to_owned();
    let theirs = eve.ok(&format!("FETCH {first} INTERNALDATE")).join("");
    assert_eq!(theirs.split('"').nth(1), date.split('"').nth(1));
}

#[test]
fn verify_finds_a_lost_index_and_compact_gives_room_back() {
    let mut gate = system("auto", &["--set", "mailbox.segment_octets=1 MiB"]);
    let large = format!("Subject: large\r\n\r\n{}", "0123456789abcdef\r\n".repeat(10_000));
    for _ in 0..24 {
        deliver(&gate, USER, &large);
    }
    deliver(&gate, USER, &message("stays"));
    let mut imap = Imap::login(&gate, USER);
    imap.ok("SELECT INBOX");
    imap.ok("STORE 1:24 +FLAGS.SILENT (\\Deleted)");
    imap.ok("EXPUNGE");
    let before = inbox(&gate, USER);
    let running = gate.command(&["mailbox", "verify"]);
    assert!(!running.ok && running.err.contains("stop the server"), "{running:?}");
    gate.terminate();
    let compacted = gate.command(&["mailbox", "compact"]);
    let numbers: Vec<u64> = compacted.out.split_whitespace().filter_map(|w| w.parse().ok()).collect();
    assert!(compacted.ok && numbers[1] < numbers[0], "{compacted:?}");
    std::fs::remove_file(gate.dir.join("mail/index.sqlite")).unwrap();
    let verified = gate.command(&["mailbox", "verify"]);
    assert!(verified.ok, "{verified:?}");
    gate.restart();
    assert_eq!(inbox(&gate, USER), before, "UIDs and UIDVALIDITY are the same after all that");
}

#[test]
fn aliases_lists_and_sub_addresses_lead_to_mailboxes() {
    let gate = system("auto", &[]);
    add_account(&gate, "eve@example.test", &[]);
    for words in [
        &["alias", "add", "postmaster@example.test", USER][..],
        &["alias", "add", "team@example.test", USER, "eve@example.test", "--list"],
    ] {
        let ran = gate.command(words);
        assert!(ran.ok, "{ran:?}");
    }
    let ready = || {
        let mut talk = Talk::connect(gate.address("lmtp"));
        talk.expect("220");
        talk.say("LHLO c", "250");
        talk.say("MAIL FROM:<>", "250");
        talk.send("RCPT TO:<team@example.test>\r\n");
        talk.reply().starts_with("250").then_some(())
    };
    crate::support::wait_for("the list to be known", ready);
    let mut imap = Imap::login(&gate, USER);
    imap.ok("CREATE Lists");
    deliver(&gate, "team@example.test", &message("to the team"));
    deliver(&gate, "postmaster@example.test", &message("to the postmaster"));
    deliver(&gate, "ann+Lists@example.test", &message("to a folder"));
    assert!(imap.ok("STATUS INBOX (MESSAGES)").join("").contains("MESSAGES 2"));
    assert!(imap.ok("STATUS Lists (MESSAGES)").join("").contains("MESSAGES 1"));
    assert_eq!(inbox(&gate, "eve@example.test").1.iter().filter(|l| l.contains("to the team")).count(), 1);
    let mut talk = gate.talk();
    talk.say("EHLO client.example", "250");
    let expanded = talk.say("EXPN team@example.test", "25");
    let authorised = !expanded.starts_with("252");
    assert_eq!(authorised, expanded.contains("eve@example.test"), "{expanded}");
}

/// Messages in an account's INBOX, by IMAP.
fn messages(gate: &Gate, user: &str) -> usize {
    let status = Imap::login(gate, user).ok("STATUS INBOX (MESSAGES)").join("");
    status.split("MESSAGES ").nth(1).unwrap().trim_end_matches(')').parse().unwrap()
}

#[test]
fn a_quota_is_set_while_the_server_runs() {
    let gate = system("auto", &[]);
    let quota = |more: &[&str]| gate.command(&[&["account", "quota", USER][..], more].concat());
    assert!(quota(&[]).out.contains("storage: none (as the settings have it)"), "{:?}", quota(&[]));
    let set = quota(&["--storage", "2GiB", "--messages", "2"]);
    assert!(set.ok && set.out == "storage: 2GiB\nmessages: 2\n", "{set:?}");
    assert!(gate.command(&["account", "list"]).out.contains("2GiB"));
    let refused = quota(&["--messages", "a few"]);
    assert!(!refused.ok && refused.err.contains("none or default"), "{refused:?}");
    deliver(&gate, USER, &message("one"));
    deliver(&gate, USER, &message("two"));
    let mut talk = Talk::connect(gate.address("lmtp"));
    talk.expect("220");
    talk.say("LHLO client.example", "250");
    let third = talk.mail("bob@example.org", &[USER], &message("three"));
    assert!(third.starts_with("552 5.2.2"), "{third}");
    let mut imap = Imap::login(&gate, USER);
    let told = imap.ok("GETQUOTAROOT INBOX").join(" ");
    assert!(told.contains("STORAGE 0 2097152") || told.contains("STORAGE 1 2097152"), "{told}");
    assert!(told.contains("MESSAGE 2 2"), "{told}");
    imap.ok("SELECT INBOX");
    assert!(imap.say("COPY 1 Sent").1.contains("[OVERQUOTA]"));
    assert!(quota(&["--messages", "default"]).ok);
    deliver(&gate, USER, &message("three"));
    assert_eq!(messages(&gate, USER), 3);
}

#[test]
fn an_account_that_is_removed_leaves_its_mail_until_it_is_purged() {
    let mut gate = system("auto", &[]);
    for eve in ["eve@example.test", "joe@example.test"] {
        add_account(&gate, eve, &[]);
        deliver(&gate, eve, &message("private"));
    }
    let removed = gate.command(&["account", "remove", "eve@example.test"]);
    assert!(removed.ok && removed.out.contains("1 messages stay") && removed.out.contains("--purge"), "{removed:?}");
    // Who gets the name gets the mail: that was said.
    add_account(&gate, "eve@example.test", &[]);
    assert_eq!(messages(&gate, "eve@example.test"), 1);
    let purged = gate.command(&["account", "remove", "eve@example.test", "--purge"]);
    assert!(purged.ok && purged.out.starts_with("1 messages in "), "{purged:?}");
    add_account(&gate, "eve@example.test", &[]);
    assert_eq!(messages(&gate, "eve@example.test"), 0);
    // An account that was removed before, and a server that is stopped.
    assert!(gate.command(&["account", "remove", "joe@example.test"]).ok);
    gate.terminate();
    let purged = gate.command(&["account", "remove", "joe@example.test", "--purge"]);
    assert!(purged.ok && purged.out.starts_with("1 messages in "), "{purged:?}");
    let unknown = gate.command(&["account", "remove", "nobody@example.test", "--purge"]);
    assert!(!unknown.ok && unknown.err.contains("no mail of one"), "{unknown:?}");
    gate.restart();
    assert_eq!(messages(&gate, USER), 0);
}

#[test]
fn a_local_domain_is_taken_while_the_server_runs() {
    let gate = system("auto", &[]);
    let takes = |address: &str| {
        let mut talk = gate.talk();
        talk.say("EHLO client.example", "250");
        talk.say("MAIL FROM:<bob@example.org>", "250");
        talk.send(format!("RCPT TO:<{address}>\r\n"));
        talk.reply().starts_with("250")
    };
    assert!(!takes("ann@new.example"));
    assert!(gate.command(&["alias", "domain", "new.example"]).ok);
    assert!(gate.command(&["alias", "add", "ann@new.example", USER]).ok);
    crate::support::wait_for("the domain to be local", || takes("ann@new.example").then_some(()));
    let mut talk = gate.talk();
    talk.say("EHLO client.example", "250");
    let reply = talk.mail("bob@example.org", &["ann@new.example"], &message("to the new domain"));
    assert!(reply.starts_with("250"), "{reply}");
    crate::support::wait_for("the message", || (messages(&gate, USER) == 1).then_some(()));
    assert!(gate.command(&["alias", "remove", "ann@new.example"]).ok);
    assert!(gate.command(&["alias", "domain", "new.example", "--remove"]).ok);
    crate::support::wait_for("the domain to be gone", || (!takes("ann@new.example")).then_some(()));
}

#[test]
fn a_full_member_of_a_list_does_not_keep_the_others_from_their_mail() {
    let gate = system("auto", &[]);
    add_account(&gate, "eve@example.test", &[]);
    assert!(gate.command(&["account", "quota", "eve@example.test", "--messages", "1"]).ok);
    deliver(&gate, "eve@example.test", &message("fills it"));
    assert!(gate.command(&["alias", "add", "team@example.test", USER, "eve@example.test", "--list"]).ok);
    crate::support::wait_for("the list to be known", || {
        let mut talk = gate.talk();
        talk.say("EHLO client.example", "250");
        talk.say("MAIL FROM:<>", "250");
        talk.send("RCPT TO:<team@example.test>\r\n");
        talk.reply().starts_with("250").then_some(())
    });
    let mut talk = gate.talk();
    talk.say("EHLO client.example", "250");
    let reply = talk.mail("bob@example.org", &["team@example.test"], &message("by SMTP"));
    assert!(reply.starts_with("250"), "{reply}");
    deliver(&gate, "team@example.test", &message("by LMTP"));
    assert_eq!((messages(&gate, USER), messages(&gate, "eve@example.test")), (2, 1));
    // Only she waits in the queue, and gets hers when there is room.
    let queue = gate.command(&["queue", "list"]).out;
    assert!(queue.contains("eve@example.test") && !queue.contains("team@"), "{queue}");
    assert!(gate.command(&["account", "quota", "eve@example.test", "--messages", "default"]).ok);
    assert!(gate.command(&["queue", "retry", "--all"]).ok);
    crate::support::wait_for("what waited", || (messages(&gate, "eve@example.test") == 3).then_some(()));
    assert_eq!(messages(&gate, USER), 2, "nobody has it twice");
}
