//! One process after the other on the same ports: `gatepost upgrade` under load, successors that fail, and ports that
//! systemd has opened. How it fails: the panic says which message was lost or doubled, or what the server said.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use support::{DRIVERS, Gate, PATIENCE, Talk, gatepost, run, signal, wait_for};

/// Ends whichever process holds the directory when the test is over.
struct Holder<'a>(&'a Path);

impl Holder<'_> {
    fn pid(&self) -> u32 {
        std::fs::read_to_string(self.0.join("lock")).unwrap().trim().parse().unwrap()
    }
    fn end(&self) {
        let pid = self.pid();
        signal(pid, "TERM");
        wait_for("the last process to end", || (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(()));
    }
}

impl Drop for Holder<'_> {
    fn drop(&mut self) {
        if let Ok(pid) = std::fs::read_to_string(self.0.join("lock")) {
            signal(pid.trim().parse().unwrap_or(0), "KILL");
        }
    }
}

/// What senders have seen.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    accepted: AtomicU64,
    /// Ends of connections without a word: a refusal by any other name.
    cut: AtomicU64,
    /// 421, as a server that is leaving may say between two messages.
    told_to_go: AtomicU64,
}

/// Sends one message after the other until told to stop; ids of those that were acknowledged, and of those whose reply was lost.
fn sender(number: usize, to: SocketAddr, tally: Arc<Tally>) -> JoinHandle<(Vec<String>, Vec<String>)> {
    std::thread::spawn(move || {
        let (mut kept, mut unknown) = (Vec::new(), Vec::new());
        let mut next = 0;
        while !tally.stop.load(Ordering::Relaxed) {
            let mut talk = Talk::connect(to);
            let greeting = talk.try_reply();
            match &greeting {
                g if g.starts_with("220") => {}
                g if g.starts_with("421") => {
                    tally.told_to_go.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                _ => {
                    tally.cut.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
            }
            // Several messages a connection, so that upgrades meet sessions in every state.
            for _ in 0..5 {
                let id = format!("m{number}x{next}");
                next += 1;
                let mut step = |line: &str, code: &str| {
                    let reply = if talk.try_send(format!("{line}\r\n")) { talk.try_reply() } else { String::new() };
                    if reply.starts_with("421") {
                        tally.told_to_go.fetch_add(1, Ordering::Relaxed);
                    } else if reply.is_empty() {
                        tally.cut.fetch_add(1, Ordering::Relaxed);
                    }
                    reply.starts_with(code)
                };
                let ready = step("EHLO client.example", "250")
                    && step("MAIL FROM:<a@client.example>", "250")
                    && step("RCPT TO:<demo@example.test>", "250")
                    && step("DATA", "354");
                if !ready {
                    break;
                }
                let text = format!("Subject: {id}\r\nMessage-ID: <{id}@client.example>\r\n\r\nid {id}\r\n.\r\n");
                let reply = if talk.try_send(text) { talk.try_reply() } else { String::new() };
                if reply.starts_with("250") {
                    kept.push(id);
                    tally.accepted.fetch_add(1, Ordering::Relaxed);
                } else if reply.is_empty() {
                    unknown.push(id);
                    tally.cut.fetch_add(1, Ordering::Relaxed);
                    break;
                } else {
                    tally.told_to_go.fetch_add(u64::from(reply.starts_with("421")), Ordering::Relaxed);
                    break;
                }
            }
        }
        (kept, unknown)
    })
}

/// How often each message stands in the mailbox of the demonstration account.
fn in_mailbox(data: &Path) -> HashMap<String, usize> {
    let out = data.join("exported");
    let ran = run(
        gatepost()
            .args(["mailbox", "export", "demo@example.test", "--format", "mbox"])
            .arg(&out)
            .arg("--data")
            .arg(data),
        "",
    );
    assert!(ran.ok, "{ran:?}");
    let mut counts = HashMap::new();
    for entry in std::fs::read_dir(&out).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for id in text.lines().filter_map(|l| l.strip_prefix("id ")) {
            *counts.entry(id.trim().to_owned()).or_insert(0) += 1;
        }
    }
    counts
}

#[test]
fn twenty_upgrades_and_a_hundred_reloads_under_load() {
    for driver in DRIVERS {
        let gate = Gate::start(&["--io", driver, "--cores", "2"]);
        let holder = Holder(&gate.dir);
        let tally = Arc::new(Tally::default());
        let senders: Vec<_> = (0..4).map(|n| sender(n, gate.address("mx"), tally.clone())).collect();
        // Ten and fifty under each driver.
        for round in 0..10 {
            let before = tally.accepted.load(Ordering::Relaxed);
            for _ in 0..5 {
                signal(holder.pid(), "HUP");
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            let old = holder.pid();
            let ran = gate.command(&["upgrade"]);
            assert!(ran.ok && ran.out.contains("has taken over from"), "{driver} {round}: {ran:?}\n{}", gate.said());
            assert_ne!(holder.pid(), old);
            wait_for("mail through the new process", || {
                (tally.accepted.load(Ordering::Relaxed) > before).then_some(())
            });
        }
        tally.stop.store(true, Ordering::Relaxed);
        let mut kept = Vec::new();
        let mut unknown = Vec::new();
        for sender in senders {
            let (k, u) = sender.join().expect("a sender was refused");
            kept.extend(k);
            unknown.extend(u);
        }
        assert_eq!(tally.cut.load(Ordering::Relaxed), 0, "{driver}: connections ended without a word\n{}", gate.said());
        holder.end();
        let counts = in_mailbox(&gate.dir);
        for id in &kept {
            assert_eq!(counts.get(id), Some(&1), "{driver}: {id} of {} accepted", kept.len());
        }
        assert!(counts.values().all(|n| *n == 1), "{driver}: doubled");
        assert!(unknown.is_empty(), "{driver}: {unknown:?}");
    }
}

#[test]
fn a_successor_that_cannot_start_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepost.toml");
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write("[server]\n");
    let data = dir.path().join("data");
    let gate = Gate::start_in(&data, &["--config", file.to_str().unwrap(), "--port-base", "0"]);
    let command = |args: &[&str]| run(gatepost().args(args).arg("--data").arg(&data), "");
    let pid = gate.pid();

    write("[server]\ncores = \"many\"\n");
    let ran = command(&["upgrade", "--config", dir.path().join("none.toml").to_str().unwrap()]);
    assert!(!ran.ok, "a configuration that is not there is no reason to upgrade: {ran:?}");
    // Which configuration the command reads does not matter; the server's is what the successor reads.
    let other = dir.path().join("other.toml");
    std::fs::write(&other, "").unwrap();
    let ran = command(&["upgrade", "--config", other.to_str().unwrap()]);
    assert!(!ran.ok && ran.err.contains(&format!("process {pid} goes on")), "{ran:?}");
    gate.talk().say("NOOP", "250");

    // It reads its configuration, but cannot open its files when it is its turn.
    write("[server]\n[journal]\nenabled = true\ndirectory = \"/proc/nothing/journal\"\n");
    let ran = command(&["upgrade", "--config", other.to_str().unwrap()]);
    assert!(!ran.ok, "{ran:?}");
    wait_for("the old process to serve again", || {
        let mut talk = Talk::connect(gate.address("mx"));
        talk.try_reply().starts_with("220").then_some(())
    });
    assert_eq!(gate.pid(), pid);
    let status = std::fs::read_to_string(data.join("lock")).unwrap();
    assert_eq!(status.trim(), pid.to_string());

    write("[server]\n");
    let ran = command(&["upgrade", "--config", other.to_str().unwrap()]);
    let holder = Holder(&data);
    assert!(ran.ok, "{ran:?}\n{}", gate.said());
    assert_ne!(holder.pid(), pid);
    gate.talk().say("NOOP", "250");
    holder.end();
}

#[test]
fn idle_readers_hear_bye_when_another_process_takes_over() {
    let gate = Gate::start(&[]);
    let holder = Holder(&gate.dir);
    let mut imap = Talk::connect(gate.address("imap"));
    assert!(imap.line().starts_with("* OK"));
    let password = std::fs::read_to_string(gate.dir.join("demo-password")).unwrap();
    imap.send(format!("a login demo@example.test {}\r\n", password.lines().next().unwrap().trim()));
    loop {
        let line = imap.line();
        if line.starts_with("a ") {
            assert!(line.starts_with("a OK"), "{line}");
            break;
        }
    }
    imap.send("b select inbox\r\n");
    while !imap.line().starts_with("b OK") {}
    imap.send("c idle\r\n");
    while !imap.line().starts_with('+') {}
    let ran = gate.command(&["upgrade"]);
    assert!(ran.ok, "{ran:?}");
    let line = imap.line();
    assert!(line.starts_with("* BYE"), "{line:?}");
    holder.end();
}

/// Starts `gatepost serve` with sockets from 3 on, as systemd does.
fn started_by_systemd(data: &Path, sockets: &[(&str, &TcpListener)], args: &[&str]) -> std::process::Child {
    use std::fmt::Write;
    // The shell puts the descriptors in their places and, unlike us, knows the process id that must be named.
    let mut script = String::new();
    for (place, (_, socket)) in sockets.iter().enumerate() {
        // First out of each other's way, then into place.
        write!(script, "exec {}<&{}; ", 200 + place, socket.as_raw_fd()).unwrap();
    }
    for place in 0..sockets.len() {
        write!(script, "exec {}<&{}; ", 3 + place, 200 + place).unwrap();
    }
    let names: Vec<&str> = sockets.iter().map(|(name, _)| *name).collect();
    write!(
        script,
        "export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; exec \"$0\" \"$@\"",
        sockets.len(),
        names.join(":")
    )
    .unwrap();
    for (_, socket) in sockets {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
    }
    let child = Command::new("bash")
        .args(["-c", &script, env!("CARGO_BIN_EXE_gatepost"), "serve", "--data"])
        .arg(data)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for (_, socket) in sockets {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::CLOEXEC).unwrap();
    }
    child
}

#[test]
fn ports_that_systemd_has_opened_are_used() {
    for driver in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let (mx, imap) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let addresses = (mx.local_addr().unwrap(), imap.local_addr().unwrap());
        let args = ["--port-base", "0", "--io", driver, "--cores", "2"];
        let mut child = started_by_systemd(&dir.path().join("data"), &[("mx", &mx), ("imap", &imap)], &args);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|l| l == "ready"), "{driver}");
        // Systemd holds them too; without a server somebody would wait for ever.
        drop((mx, imap));
        for _ in 0..20 {
            let mut talk = Talk::connect(addresses.0);
            talk.expect("220");
            talk.say("QUIT", "221");
        }
        assert!(Talk::connect(addresses.1).line().starts_with("* OK"), "{driver}");
        signal(child.id(), "TERM");
        assert!(child.wait().unwrap().success(), "{driver}");
    }
}

#[test]
fn a_socket_that_no_listener_wants_stops_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let child = started_by_systemd(&dir.path().join("data"), &[("web", &socket)], &["--port-base", "0"]);
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("systemd passed the socket \"web\""), "{said}");
}

#[test]
fn readiness_is_told_to_systemd() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut command = gatepost();
    command.args(["serve", "--port-base", "0", "--data"]).arg(dir.path().join("data"));
    let mut child = command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "1000000")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut buffer = [0; 512];
    while !(said.contains("READY=1") && said.contains("WATCHDOG=1")) {
        let n = socket.recv(&mut buffer).unwrap_or_else(|e| panic!("{e}; so far {said:?}"));
        said.push_str(&String::from_utf8_lossy(&buffer[..n]));
        said.push('\n');
    }
    assert!(said.contains(&format!("MAINPID={}", child.id())), "{said}");
    signal(child.id(), "TERM");
    assert!(child.wait().unwrap().success());
}
