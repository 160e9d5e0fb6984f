//! Every scenario, shortened, against the gateway under both drivers; a crash run; a capacity search; the page made of
//! their results.

#![allow(clippy::unwrap_used, reason = "helpers of tests, outside #[test] functions")]

use gatepost::reactor::{Driver, Io, ReactorKnobs};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;

/// A time in an expectation may take this many times longer here: debug builds, on machines that do other things.
const SLACK: &str = "20";

/// One run at a time: each has several processes of its own, and they are what is measured.
static ONE: Mutex<()> = Mutex::new(());

fn load() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gatepost-load"))
}

/// Both drivers, or one of them with the reason said.
fn drivers() -> Vec<&'static str> {
    let uring = ReactorKnobs { driver: Io::Uring, ..ReactorKnobs::default() };
    match Driver::open(&uring) {
        Ok(_) => vec!["epoll", "uring"],
        Err(why) => {
            println!("skipped: io_uring: {why}");
            vec!["epoll"]
        }
    }
}

/// The gateway beside the load generator; `cargo test -p gatepost-load` alone does not build it.
fn gateway_is_here() -> bool {
    let here = Path::new(env!("CARGO_BIN_EXE_gatepost-load")).with_file_name("gatepost").is_file();
    if !here {
        assert!(std::env::var_os("GATEPOST_REQUIRE_PEERS").is_none_or(|v| v != "1"), "gatepost is not built");
        println!("skipped: gatepost is not built (cargo build --workspace)");
    }
    here
}

fn said(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a scenario under both drivers; its results.
fn passes(name: &str, scale: &str, more: &[&str]) -> Vec<Value> {
    if !gateway_is_here() {
        return Vec::new();
    }
    let _one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("result.json");
    let mut results = Vec::new();
    for io in drivers() {
        let output = load()
            .args(["scenario", name, "--scale", scale, "--slack", SLACK, "--io", io, "--scratch"])
            .arg(dir.path())
            .arg("--json")
            .arg(&json)
            .args(more)
            .output()
            .unwrap();
        let text = std::fs::read_to_string(&json).unwrap_or_default();
        let result: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name} {io}: {e}: {}", said(&output)));
        assert!(output.status.success(), "{name} {io}: {:#}\n{}", result["verdicts"], said(&output));
        assert!(result["verdicts"].as_array().is_some_and(|v| !v.is_empty()));
        results.push(result);
        std::fs::remove_file(&json).unwrap();
    }
    results
}

#[test]
fn clean() {
    for result in passes("clean", "0.04", &[]) {
        let trial = &result["trials"][0];
        assert!(trial["ledger"]["accepted"].as_u64().unwrap() > 50, "{trial}");
        assert!(trial["timeline"].as_array().unwrap().len() >= 3, "{trial}");
        assert!(trial["server"]["cpu_s"].as_f64().unwrap() > 0.0, "{trial}");
    }
}

#[test]
fn botnet() {
    for result in passes("botnet", "0.04", &[]) {
        let bots = &result["trials"][0]["clients"]["dictionary"];
        assert!(bots["refused"].as_u64().unwrap() > 100, "{bots}");
    }
}

#[test]
fn slowloris() {
    passes("slowloris", "0.05", &[]);
}

#[test]
fn connection_flood() {
    passes("connection-flood", "0.04", &["--factor", "0.5"]);
}

#[test]
fn list_burst() {
    passes("list-burst", "0.05", &[]);
}

#[test]
fn attachments() {
    passes("attachments", "0.04", &[]);
}

#[test]
fn backend_outage() {
    for result in passes("backend-outage", "0.08", &[]) {
        // Two sinks, one before and one after; everything arrived at one of them.
        assert!(result["trials"][0]["sink"]["messages"].as_f64().unwrap() > 100.0, "{result}");
    }
}

#[test]
fn greylist_retry() {
    passes("greylist-retry", "0.03", &[]);
}

#[test]
fn password_guessing() {
    passes("password-guessing", "0.1", &[]);
}

#[test]
fn a_day() {
    passes("a-day", "0.015", &["--factor", "0.5"]);
}

#[test]
fn imap_morning_rush() {
    for result in passes("imap-morning-rush", "0.08", &[]) {
        let clients = &result["trials"][0]["clients"];
        assert!(clients["idlers"]["pushes"].as_u64().unwrap() > 0, "{clients}");
        assert!(clients["readers"]["messages"].as_u64().unwrap() > 0, "{clients}");
    }
}

#[test]
fn mailbox_crash() {
    // The scenario's own expectations say it all: how much is accepted between two crashes is the machine's affair.
    passes("mailbox-crash", "0.12", &[]);
}

#[test]
fn an_expectation_that_does_not_hold_is_a_failure_and_a_wrong_file_starts_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("own.toml");
    let text = r#"
duration = "1s"
expect = ["lost = 0", "load.messages > 1000000"]
[sink]
[[client]]
name = "load"
kind = "send"
to = "sink"
rate = 50
"#;
    std::fs::write(&file, text).unwrap();
    let run = || load().arg("scenario").arg(&file).output().unwrap();
    let output = run();
    let told = said(&output);
    assert!(!output.status.success(), "{told}");
    assert!(told.contains("pass lost = 0") && told.contains("FAIL load.messages > 1000000"), "{told}");
    std::fs::write(&file, text.replace("lost = 0", "lots = 0")).unwrap();
    let told = said(&run());
    assert!(told.contains("own.toml:3:12: error: nothing is called \"lots\"") && told.contains("`lost`"), "{told}");
}

#[test]
fn a_server_that_is_killed_again_and_again_loses_nothing_it_accepted() {
    if !gateway_is_here() {
        return;
    }
    let _one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let gatepost = Path::new(env!("CARGO_BIN_EXE_gatepost-load")).with_file_name("gatepost");
    for io in drivers() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("crash.toml");
        let json = dir.path().join("result.json");
        // The command has its ports from placeholders, so the file names none.
        std::fs::write(&config, "[spool]\nretry_first = \"1s\"\ndestination_retry_first = \"500ms\"\n").unwrap();
        let server = format!(
            "{} serve --config {} --data {{dir}}/data --io {io} --cores 1 --log-level error --mode spool \
             --backend {{sink}} --port-base 0 --listen mx={{target}}",
            gatepost.display(),
            config.display()
        );
        let output = load()
            .args(["crash", "--server", &server, "--kill-every", "1s", "--rate", "60", "-s", "4s", "--slack", SLACK])
            .arg("--json")
            .arg(&json)
            .args(["--", "--size", "4KiB", "--messages-per-connection", "1"])
            .output()
            .unwrap();
        let text = std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("{io}: {}", said(&output)));
        let result: Value = serde_json::from_str(&text).unwrap();
        assert!(output.status.success(), "{io}: {:#}\n{}", result["verdicts"], said(&output));
        let trial = &result["trials"][0];
        assert!(trial["server"]["restarts"].as_u64().unwrap() >= 2, "{io}: {trial}");
        assert!(trial["ledger"]["accepted"].as_u64().unwrap() > 50, "{io}: {trial}");
    }
}

#[test]
fn a_server_that_loses_mail_is_found_out() {
    // A sink that takes mail and throws it away, in front of nothing: what it said 250 to never arrives.
    let _one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let server = format!("{} sink --listen {{target}}", env!("CARGO_BIN_EXE_gatepost-load"));
    let output = load()
        .args(["crash", "--server", &server, "--kill-every", "10s", "--rate", "50", "-s", "1s", "--settle", "500ms"])
        .args(["--json", "-"])
        .output()
        .unwrap();
    let result: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    assert!(!output.status.success());
    let ledger = &result["trials"][0]["ledger"];
    assert_eq!((&ledger["lost"], &ledger["seen"]), (&ledger["accepted"], &0.into()), "{ledger}");
    assert!(ledger["lost"].as_u64().unwrap() >= 40, "{ledger}");
}

#[test]
fn capacity_is_found_and_a_page_is_made_of_it() {
    let _one = ONE.lock().unwrap_or_else(|broken| broken.into_inner());
    let dir = tempfile::tempdir().unwrap();
    let json = dir.path().join("capacity.json");
    // A sink that answers after 50 ms over one connection: 20 messages a second and no more, without pipelining.
    let server = format!("{} sink --listen {{target}} --delay 50ms", env!("CARGO_BIN_EXE_gatepost-load"));
    let output = load()
        .args(["capacity", "--server", &server, "--start", "5", "--duration", "2s", "--precision", "0.3"])
        .args(["--expect", "load.p99_ms < 300 ms", "--confirm", "1", "--json"])
        .arg(&json)
        .args(["--", "--connections", "1", "--pipeline", "off", "--size", "600"])
        .output()
        .unwrap();
    let result: Value =
        serde_json::from_str(&std::fs::read_to_string(&json).unwrap_or_else(|_| panic!("{}", said(&output)))).unwrap();
    let capacity = result["capacity"].as_f64().unwrap_or_else(|| panic!("{result:#}"));
    // Two seconds bear a little more than 20 a second before 300 ms have piled up.
    assert!((8.0..27.0).contains(&capacity), "{result:#}");
    assert!(result["points"].as_array().unwrap().iter().any(|p| p["held"] == false), "{result:#}");
    let page = |more: &[&str]| load().arg("report").arg(&json).args(more).output().unwrap();
    assert!(page(&[]).status.success());
    let html = std::fs::read_to_string(dir.path().join("capacity.html")).unwrap();
    assert!(html.contains("<svg") && html.contains("Latency by rate") && !html.contains("http"), "{html}");
    // Another machine's result is not compared silently.
    let other = dir.path().join("other.json");
    let mut theirs = result.clone();
    theirs["machine"] = "another".into();
    std::fs::write(&other, theirs.to_string()).unwrap();
    let other = other.to_str().unwrap();
    let refused = page(&[other]);
    assert!(!refused.status.success() && said(&refused).contains("--anyway"), "{}", said(&refused));
    assert!(page(&[other, "--anyway"]).status.success());
}
