//! The program as scripts and administrators use it: exit codes, one clear line per failure, the same queue commands on
//! a running server and on a stopped one's directory, accounts, checks.
//!
//! How it fails: with what the program said.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod support;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{Gate, Ran, gatepost, run};

fn gate(dir: &Path, args: &[&str]) -> Ran {
    run(gatepost().args(args).current_dir(dir), "")
}

/// It failed with this code and one line that has these words in it.
#[track_caller]
fn refused(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:?}");
    let last = ran.err.lines().last().unwrap_or_default();
    assert!(last.starts_with("gatepost: ") && words.iter().all(|word| last.contains(word)), "{ran:?}");
    assert!(ran.out.is_empty(), "{ran:?}");
}

const QUIET: [&str; 2] = ["--log-level", "error"];
/// Held mail: nothing has a route, so what is accepted stays in the queue.
const ANYWHERE: [&str; 4] = ["--port-base", "0", "--cores", "1"];

#[test]
fn wrong_usage_is_2_and_everything_else_1() {
    let dir = tempfile::tempdir().unwrap();
    for wrong in [
        &["--nonsense"][..],
        &["queue"],
        &["queue", "retry"],
        &["queue", "remove", "X", "--all"],
        &["--port-base", "70000"],
    ] {
        let ran = gate(dir.path(), wrong);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert!(ran.err.contains("Usage") || ran.err.contains("--help"), "{ran:?}");
    }
    refused(&gate(dir.path(), &["--set", "x"]), 2, &["expected SECTION.KEY=VALUE"]);
    refused(
        &gate(dir.path(), &["serve", "--config", "nowhere.toml"]),
        1,
        &["cannot read nowhere.toml", "No such file"],
    );
    refused(&gate(dir.path(), &["serve", "--cores", "99"]), 1, &["--cores: expected 0 to 64"]);
    refused(&gate(dir.path(), &["--policy", "nowhere.toml", "--port-base", "0"]), 1, &["nowhere.toml"]);
    refused(&gate(dir.path(), &["queue", "list", "--data", "nowhere"]), 1, &["cannot open nowhere"]);
    assert!(gate(dir.path(), &["--version"]).out.starts_with("gatepost "));
}

#[test]
fn check_says_everything_and_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ok = gate(dir.path(), &["check"]);
    assert!(ok.ok && ok.out.ends_with("ok\n") && ok.err.is_empty(), "{ok:?}");
    assert!(!dir.path().join("gatepost-data").exists());

    std::fs::write(dir.path().join("gatepost.toml"), "[server]\nhostnam = \"x\"\n[smtp]\nrecipients_max = \"many\"\n")
        .unwrap();
    let bad = gate(dir.path(), &["check"]);
    refused(&bad, 1, &["2 errors", "nothing was started"]);
    for expected in [
        "gatepost.toml:2:1: error: unknown key \"hostnam\"",
        "did you mean \"hostname\"?",
        "gatepost.toml:4:18: error:",
    ] {
        assert!(bad.err.contains(expected), "{expected}: {bad:?}");
    }
    // The same file stops `serve` in the same words.
    let serve = gate(dir.path(), &["serve"]);
    assert_eq!((serve.code, serve.err), (bad.code, bad.err));

    let rules = "[[rule]]\nname = \"x\"\nstage = \"rcpt\"\nwhen = \"rcpt.domian == 'x'\"\nthen = \"accept\"\n";
    std::fs::write(dir.path().join("policy.toml"), rules).unwrap();
    std::fs::write(dir.path().join("gatepost.toml"), "[server]\npolicy = \"policy.toml\"\n").unwrap();
    let bad = gate(dir.path(), &["check"]);
    refused(&bad, 1, &["1 problem"]);
    assert!(bad.err.contains("policy.toml:4:") && bad.err.contains("rcpt.domain"), "{bad:?}");
    let serve = gate(dir.path(), &["serve", "--port-base", "0"]);
    refused(&serve, 1, &["the policy has errors; nothing was started"]);
    assert!(serve.err.contains("policy.toml:4:"), "{serve:?}");
}

#[test]
fn a_port_or_a_directory_in_use_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("mx={}", taken.local_addr().unwrap());
    let ran = gate(dir.path(), &[&["serve", "--listen", &listen][..], &QUIET].concat());
    refused(&ran, 1, &["mx", &taken.local_addr().unwrap().to_string(), "in use"]);

    let running = Gate::start(&QUIET);
    let data = running.dir.to_str().unwrap();
    let ran = gate(dir.path(), &[&["serve", "--data", data, "--port-base", "0"][..], &QUIET].concat());
    refused(&ran, 1, &["held by process", &running.pid().to_string()]);
}

#[test]
fn the_queue_of_a_running_and_of_a_stopped_server() {
    // A backend that is not there, so that the mail stays.
    let away = ["--backend", "127.0.0.1:1", "--mode", "spool"];
    let mut server = Gate::start(&[&ANYWHERE[2..], &QUIET, &away].concat());
    let socket = std::fs::metadata(server.dir.join("admin.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
    assert_eq!(server.command(&["queue", "list"]).out, "the queue is empty\n");

    let mut talk = server.talk();
    talk.say("EHLO client.example.net", "250");
    for n in 0..3 {
        let reply = talk.mail("ann@example.net", &["bob@example.test"], &format!("Subject: number {n}\r\n\r\nhello"));
        assert!(reply.starts_with("250"), "{reply}");
    }
    let entries = |server: &Gate| -> Vec<serde_json::Value> {
        let ran = server.command(&["queue", "list", "--json"]);
        assert!(ran.ok, "{ran:?}");
        ran.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let alive = entries(&server);
    assert_eq!(alive.len(), 3, "{alive:?}");
    let ids: Vec<String> = alive.iter().map(|e| e["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(alive[0]["sender"], "ann@example.net");
    assert_eq!(alive[0]["recipients"][0]["address"], "bob@example.test");

    let held = server.command(&["queue", "hold", &ids[0], "0000000000000", "--reason", "to be looked at"]);
    assert_eq!((held.code, held.out.as_str()), (Some(1), "held 1 message\n"), "{held:?}");
    assert!(held.err.contains("not in the queue: 0000000000000"), "{held:?}");
    let shown = server.command(&["queue", "show", &ids[0]]);
    assert!(shown.out.contains("to be looked at") && shown.out.contains("Subject: number 0"), "{shown:?}");
    assert_eq!(server.command(&["queue", "remove", &ids[1]]).out, "removed 1 message\n");

    assert_eq!(server.terminate(), Some(0), "{}", server.said());
    assert!(!server.dir.join("admin.sock").exists());
    // What was ordered is on disk, and the same commands work on the directory.
    let left: Vec<serde_json::Value> = entries(&server);
    let left: Vec<&str> = left.iter().map(|e| e["id"].as_str().unwrap()).collect();
    assert_eq!(left, [ids[0].as_str(), ids[2].as_str()]);
    let table = server.command(&["queue", "list", "--state", "held"]);
    assert!(table.out.contains("to be looked at"), "{table:?}");
    assert_eq!(server.command(&["queue", "remove", "--all"]).out, "removed 2 messages\n");
    assert_eq!(server.command(&["queue", "list"]).out, "the queue is empty\n");
    let gone = server.command(&["queue", "show", &ids[0]]);
    refused(&gone, 1, &[]);
}

#[test]
fn accounts_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let account =
        |args: &[&str], input: &str| run(gatepost().arg("account").args(args).arg("--data").arg(&data), input);
    assert!(account(&["add", "ann@example.test", "--password-stdin"], "secret one\n").ok);
    assert!(account(&["add", "bob", "--password-stdin", "--shared-secret"], "secret two\n").ok);
    let list = account(&["list"], "");
    assert!(list.out.contains("ann@example.test") && list.out.contains("CRAM-MD5"), "{list:?}");
    refused(&account(&["add", "bob", "--password-stdin"], "x y z 1 2 3\n"), 1, &["bob"]);
    refused(&account(&["passwd", "carol", "--password-stdin"], "secret\n"), 1, &["carol"]);
    refused(&account(&["passwd", "bob", "--password-stdin"], "\n"), 1, &["empty"]);
    refused(&account(&["passwd", "bob"], ""), 2, &["--password-stdin"]);
    assert!(account(&["passwd", "bob", "--password-stdin"], "secret three\n").ok);
    assert!(account(&["remove", "bob"], "").ok);
    let list = account(&["list", "--json"], "");
    assert_eq!(list.out.lines().count(), 1, "{list:?}");
    let stored = std::fs::read_to_string(data.join("accounts")).unwrap();
    assert!(!stored.contains("secret"), "a password stands in the file");
}

#[test]
fn aliases_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let with =
        |word: &str, args: &[&str], input: &str| run(gatepost().arg(word).args(args).arg("--data").arg(&data), input);
    let alias = |args: &[&str]| with("alias", args, "");
    assert_eq!(alias(&["list"]).out, "there are no aliases and no lists\n");
    assert!(with("account", &["add", "ann@example.test", "--password-stdin"], "secret one\n").ok);
    assert!(alias(&["add", "sales@example.test", "ann@example.test"]).ok);
    assert!(alias(&["add", "--list", "team@example.test", "ann@example.test", "carol@example.net"]).ok);
    refused(&alias(&["add", "sales@example.test", "bob"]), 1, &["bob", "neither an account"]);
    refused(&alias(&["add", "sales@example.org", "ann@example.test"]), 1, &["not a local domain"]);
    refused(&alias(&["add", "ann@example.test", "sales@example.test"]), 1, &["mail would go round"]);
    let list = alias(&["list"]);
    assert!(list.out.contains("team@example.test") && list.out.contains("carol@example.net"), "{list:?}");
    let show = alias(&["show", "sales+new@example.test"]);
    assert!(show.out.contains("account ann@example.test") && show.out.contains("mailbox new"), "{show:?}");
    assert!(alias(&["remove", "team@example.test", "carol@example.net"]).ok);
    assert!(alias(&["remove", "sales@example.test"]).ok);
    refused(&alias(&["remove", "sales@example.test"]), 1, &["sales@example.test"]);
    assert_eq!(alias(&["list", "--json"]).out.lines().count(), 1);
    assert!(alias(&["domain", "example.org"]).ok && alias(&["domain"]).out.ends_with("example.org\n"));
    refused(&alias(&["domain", "example.org"]), 1, &["there already"]);
    assert!(alias(&["domain", "example.org", "--remove"]).ok);
    assert_eq!(alias(&["add", "sales"]).code, Some(2));
}

#[test]
fn what_is_printed_is_what_is_published() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (args, file) in
        [(["config", "reference"], "CONFIGURATION.md"), (["config", "schema"], "policy/gatepost.schema.json")]
    {
        let ran = gate(root, &args);
        assert!(ran.ok && ran.out == std::fs::read_to_string(root.join(file)).unwrap(), "{file}");
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("gatepost.toml"), gate(root, &["config", "default"]).out).unwrap();
    assert!(gate(dir.path(), &["check"]).ok);
    let cases = root.join("policy/edge.cases.toml");
    let ran = gate(dir.path(), &["policy", "test", cases.to_str().unwrap()]);
    assert!(ran.ok && ran.out.contains(" 0 failed"), "{ran:?}");
    let ran = gate(dir.path(), &["policy", "explain", "--from", "a@example.net", "--to", "b@elsewhere.example"]);
    assert!(ran.ok && ran.out.contains("relay-denied"), "{ran:?}");
}
