//! The commands as a user types them: sink, send and ledger as processes, other people's tools against ours, and a short
//! comparison of servers.

#![allow(clippy::unwrap_used)] // helpers of tests, outside #[test] functions

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn load() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gatepost-load"))
}

/// Whether a program is on this machine; where peers are required, a missing one is a failure.
fn here(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain([Path::new("/usr/sbin").to_owned()])
        .any(|dir| dir.join(program).is_file());
    if !found {
        assert!(std::env::var_os("GATEPOST_REQUIRE_PEERS").is_none_or(|v| v != "1"), "missing peer: {program}");
        println!("skipped: {program} not found");
    }
    found
}

struct Sink {
    child: Child,
    address: String,
}

impl Sink {
    fn start(args: &[&str]) -> Sink {
        let mut command = load();
        command.args(["sink", "--listen", "127.0.0.1:0", "--json", "-"]).args(args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}")).to_owned();
        Sink { child, address }
    }

    fn finish(mut self) -> Value {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&text).unwrap()
    }
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

#[test]
fn sink_send_and_ledger_as_processes() {
    let dir = tempfile::tempdir().unwrap();
    let (sent, seen) = (dir.path().join("sent"), dir.path().join("seen"));
    let sink = Sink::start(&["--cores", "2", "--ledger", seen.to_str().unwrap()]);
    let output = load()
        .args([
            "send",
            &sink.address,
            "-m",
            "200",
            "-c",
            "5",
            "--messages-per-connection",
            "3",
            "--json",
            "-",
            "--ledger",
        ])
        .arg(&sent)
        .output()
        .unwrap();
    let report = json(&output);
    assert_eq!(report["messages"], 200, "{report}");
    let tally = sink.finish();
    assert_eq!((&tally["messages"], &tally["errors"]), (&200.into(), &0.into()), "{tally}");
    let join = |seen: &Path| {
        let output =
            load().args(["ledger", "--json", "-", "--sent"]).arg(&sent).arg("--seen").arg(seen).output().unwrap();
        (output.status.success(), json(&output))
    };
    let (good, account) = join(&seen);
    assert!(good && account["lost"] == 0 && account["accepted"] == 200, "{account}");
    // One line fewer in the sink's ledger is one message lost, and a failure.
    let text = std::fs::read_to_string(&seen).unwrap();
    let short = dir.path().join("short");
    std::fs::write(&short, text.split_once('\n').unwrap().1).unwrap();
    let (good, account) = join(&short);
    assert!(!good && account["lost"] == 1, "{account}");
}

#[test]
fn a_run_with_everything_as_processes() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let users = path("users", "ann:secret\nbob:geheim\n");
    let mbox = path("mbox", "From a@b Mon\nSubject: one\n\n.dot\n\nFrom a@b Tue\nSubject: two\n\ntwo\n");
    let curve = path("curve.toml", "points = [[0, 20], [2, 60]]\n[[burst]]\nat = 1\nseconds = 0.2\nadd = 50\n");
    let (sent, seen, hgrm) = (dir.path().join("sent"), dir.path().join("seen"), dir.path().join("hgrm"));
    let sink = Sink::start(&[
        "--starttls",
        "--password-file",
        &users,
        "--delay",
        "lognormal:5ms,0.5",
        "--fault",
        "rcpt:451:0.2",
        "--ledger",
        seen.to_str().unwrap(),
    ]);
    let output = load()
        .args(["send", &sink.address, "--starttls", "0.5", "--auth", "0.5", "--password-file", &users])
        .args(["--curve", &curve, "--arrivals", "poisson", "--corpus", &mbox, "--bdat"])
        .args(["--senders", "100", "--mailboxes", "1000", "--zipf", "1", "--domain", "a.test", "--domain", "b.test"])
        .args(["--messages-per-connection", "2", "--retries", "20", "--retry-pause", "50ms", "--seed", "7"])
        .args(["--sources", "127.8.0.0/24", "--json", "-", "--ledger", sent.to_str().unwrap()])
        .args(["--hgrm", hgrm.to_str().unwrap()])
        .output()
        .unwrap();
    let report = json(&output);
    let messages = report["messages"].as_u64().unwrap();
    assert!((50..150).contains(&messages) && report["refused"] == 0, "about 90: {report}");
    assert_eq!(report["errors"], serde_json::json!({}), "{report}");
    assert!(report["retried"].as_u64().unwrap() > 2, "{report}");
    let tally = sink.finish();
    assert_eq!((&tally["messages"], &tally["errors"]), (&report["messages"], &0.into()), "{tally}");
    assert!(tally["tls_sessions"].as_u64().unwrap() > 5 && tally["logins"].as_u64().unwrap() > 5, "{tally}");
    let join = load().args(["ledger", "--json", "-", "--sent"]).arg(&sent).arg("--seen").arg(&seen).output().unwrap();
    let account = json(&join);
    assert_eq!((&account["accepted"], &account["lost"]), (&report["messages"], &0.into()), "{account}");
    assert_eq!(account["corrupted_messages"], 0, "dots and line ends came through: {account}");
    assert!(hgrm.join("latency.hgrm").is_file() && hgrm.join("tls.hgrm").is_file());
}

#[test]
fn wrong_usage_is_told_in_one_line() {
    for (args, wanted) in [
        (vec!["send", "192.0.2.1:25", "-m", "1"], "--i-own 192.0.2.1"),
        (vec!["send", "127.0.0.1:25"], "--messages, --seconds"),
        (vec!["send", "127.0.0.1:25", "-m", "1", "--rate", "-5"], "--rate"),
        (vec!["send", "127.0.0.1:25", "-m", "1", "--size", "huge"], "expected a size"),
        (vec!["send", "127.0.0.1:25", "--curve", "/nonexistent"], "curve /nonexistent"),
        (vec!["send", "127.0.0.1:25", "-m", "1", "--auth"], "--password-file"),
        (vec!["sink", "--reject-rcpt", "2"], "expected a share from 0 to 1"),
        (vec!["sink", "--fault", "rcpt:250"], "expected STAGE:ACTION:SHARE"),
        (vec!["compare", "--job", "everything"], "expected some of spool"),
        (vec!["compare", "--peer", "qmail"], "expected some of direct, gatepost"),
        (vec!["table"], "expected a result"),
        (vec!["ping-pong", "-c", "0"], "at least one connection"),
        (vec!["attack", "127.0.0.1:1", "--do", "early-talk", "--starttls", "-m", "1"], "expected --tls"),
        (vec!["ledger", "--sent", "/nonexistent", "--seen", "/nonexistent"], "ledger /nonexistent"),
    ] {
        let output = load().args(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(wanted), "{args:?}: {said}");
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_fault() {
    let sink = Sink::start(&[]);
    let mut send = load();
    send.args(["send", &sink.address, "-m", "5"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = send.spawn().unwrap();
    // As `| head` does when it is done.
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("panicked"), "{output:?}");
    sink.finish();
}

#[test]
fn connections_come_no_faster_than_asked_for() {
    let sink = Sink::start(&[]);
    let args = ["send", &sink.address, "--hold", "700ms", "-c", "1000", "--connect-rate", "100", "--json", "-"];
    let report = json(&load().args(args).output().unwrap());
    let held = report["held_max"].as_u64().unwrap();
    assert!((1..=72).contains(&held), "a hundred a second for 0.7 s: {held}");
    sink.finish();
}

#[test]
fn the_tables_of_a_readme_are_those_of_its_result() {
    // The README at the root, when it names a result, and the harness's own.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readmes = [root.join("README.md"), root.join("loadtest/README.md")];
    let named = |p: &&std::path::PathBuf| std::fs::read_to_string(p).unwrap().contains("<!-- measured: ");
    let found: Vec<_> = readmes.iter().filter(named).collect();
    // Results are kept for their tables: where there are any, a README shows one.
    let kept = std::fs::read_dir(root.join("benches/results")).is_ok_and(|mut dir| dir.next().is_some());
    assert!(!kept || !found.is_empty(), "benches/results has results, and no README names one");
    for readme in found {
        let checked = load().args(["table", "--check"]).arg(readme).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn other_peoples_tools_agree() {
    if here("smtp-source") {
        let sink = Sink::start(&[]);
        let status = Command::new("smtp-source")
            .args(["-s", "5", "-m", "100", "-l", "5000", &format!("inet:{}", sink.address)])
            .status();
        assert!(status.unwrap().success());
        let tally = sink.finish();
        assert_eq!((&tally["messages"], &tally["errors"]), (&100.into(), &0.into()), "{tally}");
    }
    if here("smtp-sink") {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // Root is told to give its rights up, anybody else needs not.
        let mut command = Command::new("smtp-sink");
        if Path::new("/root").read_dir().is_ok() {
            command.args(["-u", "nobody"]);
        }
        let mut theirs = command.args([&free.to_string(), "100"]).spawn().unwrap();
        let started = std::time::Instant::now();
        while std::net::TcpStream::connect(free).is_err() && started.elapsed().as_secs() < 10 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for mode in [vec!["--pipeline", "on"], vec!["--pipeline", "off"], vec!["--messages-per-connection", "1"]] {
            let output =
                load().args(["send", &free.to_string(), "-m", "100", "-c", "5", "--json", "-"]).args(&mode).output();
            let report = json(&output.unwrap());
            assert_eq!((&report["messages"], &report["refused"]), (&100.into(), &0.into()), "{mode:?}: {report}");
            assert_eq!(report["errors"], serde_json::json!({}), "{mode:?}");
        }
        theirs.kill().unwrap();
        theirs.wait().unwrap();
    }
}

/// Servers that are installed, or unpacked by loadtest/peers/setup; where peers are required, a missing one is a failure.
fn compared(job: &str, peers: &[&str], more: &[&str]) -> (Value, String) {
    let dir = tempfile::tempdir().unwrap();
    let result = dir.path().join("result.json");
    let mut command = load();
    command.args(["compare", "--job", job, "--rounds", "2", "--seconds", "0.5", "--connections", "5"]).args(more);
    peers.iter().for_each(|peer| {
        command.args(["--peer", peer]);
    });
    let output =
        command.arg("--markdown").arg("--scratch").arg(dir.path()).arg("--json").arg(&result).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let measured: Value = serde_json::from_slice(&std::fs::read(&result).unwrap()).unwrap();
    // Nothing of a run stays behind.
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["result.json"]);
    (measured, String::from_utf8_lossy(&output.stdout).into_owned())
}

fn row<'a>(measured: &'a Value, peer: &str) -> Option<&'a Value> {
    measured["rows"].as_array().unwrap().iter().find(|r| r["peer"] == peer)
}

#[test]
fn servers_are_measured_side_by_side() {
    if !here("haproxy") {
        return;
    }
    let (measured, said) = compared("plain-kept", &["haproxy"], &["--syscall-messages", "0"]);
    assert!(said.contains("| plain-kept | haproxy |"), "{said}");
    let haproxy = row(&measured, "haproxy").unwrap();
    assert_eq!(haproxy["trials"].as_array().map(Vec::len), Some(2));
    assert!(haproxy["cpu_us"]["median"].as_f64().unwrap() > 1.0, "{haproxy}");
    assert!(haproxy["memory_octets_peak"].as_u64().unwrap() > 1_000_000, "{haproxy}");
    assert_eq!((&haproxy["lost"], &haproxy["duplicated"]), (&0.into(), &0.into()), "{haproxy}");
    // What went in came out, the warm-up included.
    let trial = &haproxy["trials"][0];
    assert_eq!(trial["sink"]["messages"].as_u64(), trial["send"]["messages"].as_u64().map(|n| n + 50), "{trial}");
}

#[test]
fn every_queue_syncs_what_it_accepts_or_is_told_apart() {
    // Root alone may start them, each in a mount name space of its own.
    if !here("postfix") || std::fs::read_dir("/root").is_err() {
        return;
    }
    let (measured, said) =
        compared("spool", &["postfix", "exim", "opensmtpd", "sendmail"], &["--syscall-messages", "50"]);
    for peer in ["postfix", "exim", "opensmtpd", "sendmail"] {
        let Some(row) = row(&measured, peer) else {
            let skipped = format!("skipped: {peer}: {peer} not found");
            let told =
                measured["skipped"].as_array().unwrap().iter().any(|s| s.as_str().unwrap().starts_with(&skipped));
            assert!(told && peer != "postfix", "{peer}: {}", measured["skipped"]);
            println!("{skipped}");
            continue;
        };
        assert!(said.contains(&format!("| spool | {peer} |")), "{said}");
        assert_eq!(row["lost"], 0, "{row}");
        // Where tracing is not allowed it says so, and counts nothing.
        if let Some(syncs) = row["syncs"].as_f64() {
            let told = format!("not the same durability: spool {peer}");
            let told = measured["skipped"].as_array().unwrap().iter().any(|s| s.as_str().unwrap().starts_with(&told));
            assert!(syncs >= 0.9 || told, "{peer}: {syncs} syncs a message is another promise");
            // OpenSMTPD's packages differ in it; the others' default is to sync.
            assert!(!told || peer == "opensmtpd", "{peer}");
        }
    }
}
