//! `gatepost lookup` as a command, before a name server of ours: what it prints and how it ends.
#![allow(missing_docs, clippy::unwrap_used, reason = "a panic is the report")]

#[path = "support/dns.rs"]
mod zones;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use zones::DnsServer;

const ZONES: &str = "192.0.2.1 PTR mail.ok.test\nmail.ok.test A 192.0.2.1\nok.test MX 10 mail.ok.test\n\
                     ok.test TXT \"v=spf1 mx -all\"\n1.2.0.192.bl.test A 127.0.0.4\nok.test.names.test A 127.0.1.2\n\
                     *.dead.test SERVFAIL\n_dmarc.ok.test TXT \"v=DMARC1; p=reject\"\n";

fn lookup(server: &DnsServer, args: &[&str], input: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gatepost"))
        .args(["lookup", "--set", &server.setting()])
        .args(args)
        .current_dir(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_is_known_of_a_client_and_a_sender() {
    let server = DnsServer::start(ZONES);
    let args = ["--client", "192.0.2.1", "--helo", "mail.ok.test", "--from", "a@ok.test", "--list", "bl.test"];
    let output = lookup(&server, &[&args[..], &["--name-list", "names.test"]].concat(), "");
    let (out, err) = said(&output);
    assert!(output.status.success(), "{out}{err}");
    for line in [
        "mail.ok.test, confirmed",
        "listed: 127.0.0.4",
        "listed: 127.0.1.2",
        "has the client's address",
        "pass for ok.test",
        "mx  ",
    ] {
        assert!(out.contains(line), "{line:?} is not in\n{out}");
    }
    let output = lookup(&server, &["--client", "192.0.2.9", "--helo", "nx.test", "--from", "a@ok.test", "--json"], "");
    let (out, _) = said(&output);
    let lines: Vec<serde_json::Value> = out.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let of = |what: &str| &lines.iter().find(|l| l["lookup"] == what).unwrap()["finding"];
    assert_eq!(of("spf")["result"], "fail");
    assert_eq!(of("helo")["matches"], false);
    assert_eq!(of("reverse")["confirmed"], serde_json::Value::Null);
    assert_eq!(of("mail domain")["mail"], "mx");
}

#[test]
fn what_cannot_be_found_out_is_said_and_counts() {
    let server = DnsServer::start(ZONES);
    let output = lookup(&server, &["--client", "192.0.2.1", "--list", "dead.test"], "");
    let (out, err) = said(&output);
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.contains("unknown: dead.test: the name server answered SERVFAIL"), "{out}");
    assert!(err.contains("1 could not be found out"), "{err}");
    let output = lookup(&server, &[], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).1.contains("nothing to look up"));
    let output = lookup(&server, &["--from", "not an address"], "");
    assert!(said(&output).1.contains("--from \"not an address\""));
}

#[test]
fn signatures_of_a_message_on_standard_input() {
    let text = include_str!("data/dkim/rfc8463.txt");
    let (keys, message) = text.split_once("\n\n").unwrap();
    let server = DnsServer::start("_dmarc.example.com TXT \"v=DMARC1; p=reject\"\n");
    for line in keys.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        server.add(&format!("{name} TXT {value}"));
    }
    let output = lookup(&server, &["-"], message);
    let (out, err) = said(&output);
    assert!(output.status.success(), "{out}{err}");
    assert!(out.contains("dmarc pass for football.example.com, which asks for reject"), "{out}");
    assert!(out.contains("dkim pass of football.example.com (selector brisbane)"), "{out}");
    let output = lookup(&server, &["-"], &message.replace("lost", "won"));
    assert!(said(&output).0.contains("dkim fail of football.example.com (selector test): "), "{}", said(&output).0);
}
