//! Readers and attackers as a user runs them: against Dovecot, where it is installed, and against our own sink.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside #[test] functions")]

use serde_json::Value;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn load() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gatepost-load"))
}

/// Runs a subcommand that writes its report to standard output.
fn report(args: &[&str]) -> Value {
    let output = load().args(args).args(["--json", "-"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{args:?}: {e}: {output:?}"))
}

/// A process that is ended by its id.
struct Running {
    child: Child,
    dir: tempfile::TempDir,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_for(port: u16, what: &str) {
    let started = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(started.elapsed() < Duration::from_secs(20), "{what} did not come up");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn id(what: &str) -> String {
    String::from_utf8(Command::new("id").arg(what).output().unwrap().stdout).unwrap().trim().to_owned()
}

/// Dovecot with ports for IMAP, POP3 and LMTP; `None` where it is not installed.
fn dovecot() -> Option<(Running, [u16; 3])> {
    let program = ["/usr/sbin/dovecot", "/usr/local/sbin/dovecot"].iter().map(PathBuf::from).find(|p| p.is_file());
    let Some(program) = program else {
        assert!(std::env::var_os("GATEPOST_REQUIRE_PEERS").is_none_or(|v| v != "1"), "missing peer: dovecot");
        println!("skipped: dovecot not found");
        return None;
    };
    let dir = tempfile::tempdir().unwrap();
    let [imap, pop3, lmtp] = [free_port(), free_port(), free_port()];
    // Root gives its rights up, anybody else keeps his own.
    let (user, group, uid, gid) = if id("-u") == "0" {
        ("nobody".to_owned(), "nogroup".to_owned(), "65534".to_owned(), "65534".to_owned())
    } else {
        (id("-un"), id("-gn"), id("-u"), id("-g"))
    };
    let mut text = include_str!("../peers/dovecot/readers.conf").to_owned();
    for (name, value) in [
        ("@DIR@", dir.path().display().to_string()),
        ("@USER@", user),
        ("@GROUP@", group),
        ("@UID@", uid.clone()),
        ("@GID@", gid.clone()),
        ("@IMAP@", imap.to_string()),
        ("@POP3@", pop3.to_string()),
        ("@LMTP@", lmtp.to_string()),
    ] {
        text = text.replace(name, &value);
    }
    std::fs::write(dir.path().join("dovecot.conf"), text).unwrap();
    for name in ["run", "mail"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let [key, cert] = ["key.pem", "cert.pem"].map(|name| dir.path().join(name));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    openssl.args(["-subj", "/CN=mail.example.test", "-keyout"]).arg(&key).arg("-out").arg(&cert);
    assert!(openssl.output().is_ok_and(|o| o.status.success()), "dovecot needs a certificate, which openssl makes");
    let owned = Command::new("chown").arg("-R").arg(format!("{uid}:{gid}")).arg(dir.path().join("mail")).status();
    assert!(owned.unwrap().success());
    assert!(Command::new("chmod").arg("755").arg(dir.path()).status().unwrap().success());
    let child = Command::new(program)
        .arg("-F")
        .arg("-c")
        .arg(dir.path().join("dovecot.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running { child, dir };
    [imap, pop3, lmtp].into_iter().for_each(|p| wait_for(p, "dovecot"));
    Some((running, [imap, pop3, lmtp]))
}

fn account(sent: &[&Path], read: &[&Path]) -> Value {
    let mut command = load();
    command.args(["ledger", "--json", "-"]);
    for (flag, paths) in [("--sent", sent), ("--read", read)] {
        paths.iter().for_each(|p| {
            command.arg(flag).arg(p);
        });
    }
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn what_was_delivered_is_read_back_whole_over_both_protocols() {
    let Some((running, [imap, pop3, lmtp])) = dovecot() else { return };
    let dir = running.dir.path();
    let at = |port: u16| format!("127.0.0.1:{port}");
    let path = |name: &str| dir.join(name).display().to_string();
    let password = path("password");
    std::fs::write(&password, "secret\n").unwrap();
    let mut sent = Vec::new();
    for (user, size) in [("u1@example.test", "3KiB"), ("u2@example.test", "300KiB"), ("u3@example.test", "700")] {
        let ledger = path(&format!("{user}.sent"));
        let r = report(&["send", &at(lmtp), "--lmtp", "-m", "10", "--size", size, "--to", user, "--ledger", &ledger]);
        assert_eq!(r["messages"], 10, "{r}");
        sent.push(PathBuf::from(ledger));
    }
    let sent: Vec<&Path> = sent.iter().map(PathBuf::as_path).collect();
    let users = ["--user", "u{}@example.test", "--users", "3", "--password-file", &password];
    for (protocol, port, io) in
        [("imap", imap, "epoll"), ("pop3", pop3, "epoll"), ("imap", imap, "auto"), ("pop3", pop3, "auto")]
    {
        let ledger = path(&format!("{protocol}.{io}.read"));
        let mut args = vec!["read"];
        let target = at(port);
        // Six sessions: everybody reads everything twice, which is not twice the mail.
        args.extend([target.as_str(), "--protocol", protocol, "--do", "fetch-all", "-m", "6", "-c", "3", "--io", io]);
        args.extend(["--cores", "2", "--ledger", &ledger]);
        args.extend(users);
        let r = report(&args);
        assert_eq!((&r["sessions"], &r["failed"], &r["login_refused"]), (&6.into(), &0.into(), &0.into()), "{r:#}");
        assert_eq!((&r["messages"], &r["unmarked"]), (&60.into(), &0.into()), "{protocol}: {r:#}");
        let a = account(&sent, &[Path::new(&ledger)]);
        assert_eq!((&a["accepted"], &a["seen"], &a["lost"]), (&30.into(), &30.into(), &0.into()), "{protocol}: {a:#}");
        assert_eq!((&a["duplicated"], &a["corrupted_messages"]), (&0.into(), &0.into()), "{protocol}: {a:#}");
    }
    // The same under TLS, which each protocol asks for in its own words.
    for (protocol, port) in [("imap", imap), ("pop3", pop3)] {
        let target = at(port);
        let mut args =
            vec!["read", target.as_str(), "--protocol", protocol, "--do", "fetch-all", "-m", "3", "--starttls"];
        args.extend(users);
        let r = report(&args);
        assert_eq!(
            (&r["sessions"], &r["messages"], &r["failed"]),
            (&3.into(), &30.into(), &0.into()),
            "{protocol}: {r:#}"
        );
        assert_eq!(r["commands"]["tls"]["count"], 3, "{protocol}: {r:#}");
    }
    // What is deleted over POP3 is gone for the next reader: its ledger says it is lost.
    let target = at(pop3);
    let mut args = vec!["read", target.as_str(), "--protocol", "pop3", "--do", "fetch-all", "--delete", "-m", "3"];
    args.extend(users);
    assert_eq!(report(&args)["messages"], 30);
    let ledger = path("after.read");
    let target = at(imap);
    let mut args =
        vec!["read", target.as_str(), "--protocol", "imap", "--do", "fetch-all", "-m", "3", "--ledger", &ledger];
    args.extend(users);
    assert_eq!(report(&args)["messages"], 0);
    assert_eq!(account(&sent, &[Path::new(&ledger)])["lost"], 30);
}

#[test]
fn polls_searches_flags_and_idle_are_timed() {
    let Some((running, [imap, pop3, lmtp])) = dovecot() else { return };
    let password = running.dir.path().join("password").display().to_string();
    std::fs::write(&password, "secret\n").unwrap();
    let (imap, pop3, lmtp) = (format!("127.0.0.1:{imap}"), format!("127.0.0.1:{pop3}"), format!("127.0.0.1:{lmtp}"));
    let deliver = |n: &str| report(&["send", &lmtp, "--lmtp", "-m", n, "--to", "u1@example.test"]);
    assert_eq!(deliver("5")["messages"], 5);
    let common = ["--user", "u1@example.test", "--password-file", &password];
    for (what, target, protocol, more, command, times) in [
        ("poll", &pop3, "pop3", ["--rate", "20", "-m", "10"], "stat", 10),
        ("poll", &imap, "imap", ["--rounds", "5", "-m", "2"], "poll", 10),
        ("search", &imap, "imap", ["--rounds", "6", "-m", "2"], "search", 12),
        ("flags", &imap, "imap", ["--rounds", "4", "-m", "2"], "flags", 8),
    ] {
        let mut args = vec!["read", target.as_str(), "--protocol", protocol, "--do", what];
        args.extend(more);
        args.extend(common);
        let r = report(&args);
        assert!(r["errors"] == serde_json::json!({}) && r["failed"] == 0, "{what}: {r:#}");
        assert_eq!(r["commands"][command]["count"], times, "{what}: {r:#}");
    }
    // Mail that arrives while somebody idles is noticed.
    let idler = std::thread::spawn({
        let (imap, password) = (imap.clone(), password.clone());
        move || {
            let args = ["read", &imap, "--protocol", "imap", "--do", "idle", "--pause", "30s", "-s", "3", "-c", "2"];
            let more = ["--user", "u1@example.test", "--password-file", &password];
            report(&[&args[..], &more[..]].concat())
        }
    });
    std::thread::sleep(Duration::from_millis(1200));
    deliver("1");
    let r = idler.join().unwrap();
    assert!(r["pushes"].as_u64().unwrap() >= 2 && r["failed"] == 0, "{r:#}");
    assert!(r["elapsed_s"].as_f64().unwrap() < 20.0, "{r:#}");
    // A wrong password is a refusal, not an error.
    std::fs::write(&password, "wrong\n").unwrap();
    let args = ["read", &imap, "--protocol", "imap", "--do", "poll", "-m", "1"];
    let r = report(&[&args[..], &common[..]].concat());
    assert_eq!((&r["login_refused"], &r["sessions"]), (&1.into(), &1.into()), "{r:#}");
}

#[test]
fn attackers_count_what_they_are_refused() {
    let start = |args: &[&str]| {
        let port = free_port();
        let mut command = load();
        command.args(["sink", "--listen", &format!("127.0.0.1:{port}")]).args(args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let running = Running { child, dir: tempfile::tempdir().unwrap() };
        wait_for(port, "sink");
        (running, format!("127.0.0.1:{port}"))
    };
    let (_open, open) = start(&[]);
    let (_shut, shut) = start(&["--reject-rcpt", "1"]);
    let dictionary = |at: &str| report(&["attack", at, "--do", "dictionary", "--tries", "4", "-m", "10", "-c", "3"]);
    let r = dictionary(&open);
    assert_eq!((&r["accepted"], &r["refused"], &r["sessions"]), (&40.into(), &0.into(), &10.into()), "{r:#}");
    let r = dictionary(&shut);
    assert_eq!((&r["accepted"], &r["refused"]), (&0.into(), &40.into()), "{r:#}");
    assert_eq!(r["replies"]["550"], 40);
    let r = report(&["attack", &open, "--do", "flood", "--rate", "100", "-s", "1", "--sources", "127.9.0.0/24"]);
    assert_eq!((&r["accepted"], &r["failed"]), (&100.into(), &0.into()), "{r:#}");
    // Under TLS, asked for and from the first octet; who does not offer it is told from a server that breaks.
    for (sink, client) in [("--starttls", "--starttls"), ("--tls", "--tls")] {
        let (_secure, secure) = start(&[sink, "--reject-rcpt", "1"]);
        let r = report(&["attack", &secure, "--do", "dictionary", "--tries", "2", "-m", "6", "-c", "2", client]);
        assert_eq!((&r["refused"], &r["failed"]), (&12.into(), &0.into()), "{client}: {r:#}");
        assert_eq!(r["commands"]["tls"]["count"], 6, "{client}: {r:#}");
    }
    let r = report(&["attack", &open, "--do", "flood", "-m", "2", "--starttls"]);
    assert_eq!((&r["failed"], &r["accepted"]), (&2.into(), &0.into()), "{r:#}");
    assert!(r["errors"].as_object().unwrap().keys().all(|k| k.starts_with("TLS was refused: 5")), "{r:#}");
    let args = ["attack", &open, "--do", "slowloris", "-c", "20", "-s", "1", "--interval", "100ms"];
    let r = report(&args);
    assert_eq!((&r["held_max"], &r["cut"], &r["sessions"]), (&20.into(), &0.into(), &20.into()), "{r:#}");
    let closed = format!("127.0.0.1:{}", free_port());
    let output = load().args(["attack", &closed, "--do", "flood", "-s", "0.5", "--json", "-"]).output().unwrap();
    assert!(!output.status.success());
    let r: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(r["errors"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum::<u64>() < 30, "{r:#}");
}
