//! What decides beside plain rules, in the running program: greylisting over a restart, its file torn, observing rules, a
//! shadow policy, and what is shed first when memory runs out.
//!
//! How it fails: with what the program said.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod support;

use std::io::Read;
use std::path::Path;
use std::time::Duration;
use support::backend::Backend;
use support::{DRIVERS, Gate, Talk, gatepost, run, wait_for};

const GREY: &str = r#"
[greylist.default]
delay = "1s"
auto-allow = 0
[reputation]
at-least = 1
[[rule]]
name = "past"
stage = "connect"
when = "reputation.client < 50"
then = "score +1 bad past"
[[rule]]
name = "grey"
stage = "rcpt"
when = "rcpt.local != 'nobody'"
then = "greylist"
[[rule]]
name = "nobody"
stage = "rcpt"
when = "rcpt.local == 'nobody'"
then = "reject 550 5.1.1 Nobody"
[threshold.rcpt]
tag = 1
"#;

fn serve(dir: &Path, io: &str, policy: &Path, backend: &Backend, more: &[&str]) -> Gate {
    let (address, policy) = (backend.address.to_string(), policy.to_str().unwrap());
    let args = ["--io", io, "--cores", "1", "--backend", &address, "--policy", policy, "--set", "journal.enabled=true"];
    Gate::start_in(dir, &[&args[..], more].concat())
}

/// What RCPT is answered.
fn rcpt(gate: &Gate, to: &str) -> String {
    let mut talk = gate.talk();
    talk.say("EHLO client.example.org", "250");
    talk.say("MAIL FROM:<ann@example.org>", "250");
    talk.send(format!("RCPT TO:<{to}>\r\n"));
    let reply = talk.reply();
    talk.say("QUIT", "221");
    reply
}

#[test]
fn who_waited_is_known_after_a_restart_and_the_journal_knows_it_too() {
    for io in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, GREY).unwrap();
        let backend = Backend::plain();
        let mut gate = serve(dir.path(), io, &policy, &backend, &[]);
        let reply = rcpt(&gate, "bob@example.test");
        assert!(reply.starts_with("451 4.7.1 Greylisted, try again in 1 seconds"), "{io}: {reply}");
        assert!(rcpt(&gate, "nobody@example.test").starts_with("550"));
        assert_eq!(gate.terminate(), Some(0), "{}", gate.said());
        std::thread::sleep(Duration::from_millis(1100));
        gate.restart();
        assert!(rcpt(&gate, "bob@example.test").starts_with("250"), "{io}: {}", gate.said());
        assert_eq!(gate.terminate(), Some(0));
        // The second run met what the first had left; replayed, both are what they were.
        let mut command = gatepost();
        command.args(["policy", "replay", "--domain", "example.test", "--json", "--fail-on-change", "--journal"]);
        let ran = run(command.arg(dir.path().join("journal")).arg("--policy").arg(&policy), "");
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
        assert_eq!((ran.code, &report["same"]), (Some(0), &report["decisions"]), "{io}: {report:#}");
        let shown = run(gatepost().args(["journal", "show", "--journal"]).arg(dir.path().join("journal")), "");
        assert!(
            shown.out.contains("greylist default") && shown.out.contains("\"added\":\"+1 past: bad past\""),
            "{}",
            shown.out
        );
        // A torn file is put aside and everybody is new.
        let file = dir.path().join("policy-memory");
        let octets = std::fs::read(&file).unwrap();
        std::fs::write(&file, &octets[..octets.len() - 3]).unwrap();
        gate.restart();
        assert!(rcpt(&gate, "bob@example.test").starts_with("451"), "{io}: {}", gate.said());
        let said = wait_for("the log", || Some(gate.said()).filter(|s| s.contains("everybody is new")));
        assert!(said.contains("torn") && dir.path().join("policy-memory.bad").exists(), "{said}");
    }
}

#[test]
fn an_observing_rule_is_in_the_log_and_a_shadow_says_where_it_differs() {
    let dir = tempfile::tempdir().unwrap();
    let (policy, second) = (dir.path().join("policy.toml"), dir.path().join("second.toml"));
    let observe = "[[rule]]\nname = \"watch\"\nstage = \"rcpt\"\nmode = \"observe\"\nthen = \"reject 550 5.7.1 no\"\n";
    std::fs::write(&policy, observe).unwrap();
    let strict = "[[rule]]\nname = \"bob\"\nstage = \"rcpt\"\nwhen = \"rcpt.local == 'bob'\"\nthen = \"reject 550 5.7.1 not bob\"\n";
    let asks = "[[rule]]\nname = \"ptr\"\nstage = \"helo\"\nwhen = \"client.ptr == 'x.example'\"\nthen = \"reject\"\n";
    std::fs::write(&second, format!("{strict}{asks}")).unwrap();
    let backend = Backend::plain();
    let mut gate = serve(dir.path(), DRIVERS[0], &policy, &backend, &[]);
    let status = |args: &[&str]| -> serde_json::Value {
        let ran = gate.command(&[&["policy", "shadow", "--json"], args].concat());
        assert!(ran.ok, "{ran:?}");
        serde_json::from_str(&ran.out).unwrap()
    };
    assert_eq!(status(&[]), serde_json::Value::Null);
    let begun = status(&[second.to_str().unwrap()]);
    assert_eq!(begun["decisions"], 0);
    assert!(rcpt(&gate, "bob@example.test").starts_with("250"));
    assert!(rcpt(&gate, "ann@example.test").starts_with("250"));
    let counts = status(&[]);
    // Asked before the recipient is looked up, it is refused there already.
    assert_eq!(
        (&counts["tightened"], &counts["loosened"], &counts["undecided"]),
        (&1.into(), &0.into(), &2.into()),
        "{counts:#}"
    );
    let bad = gate.command(&["policy", "shadow", "/nowhere/else.toml"]);
    assert!(bad.code == Some(1) && bad.err.contains("cannot read"), "{bad:?}");
    assert_eq!(status(&["--stop"])["tightened"], 1);
    assert_eq!(status(&[]), serde_json::Value::Null);
    let said = wait_for("the log", || Some(gate.said()).filter(|s| s.contains("differs") && s.contains("would")));
    assert!(said.contains("reject by bob: 550 5.7.1 not bob") && said.contains("reject 550 5.7.1 no"), "{said}");
    assert_eq!(gate.terminate(), Some(0));
    let shown = run(gatepost().args(["journal", "show", "--journal"]).arg(dir.path().join("journal")), "");
    assert!(
        shown.out.contains("\"event\":\"shadow\"") && shown.out.contains("watch: reject 550 5.7.1 no"),
        "{}",
        shown.out
    );
}

/// Whether the client hears something within a while.
fn hears(talk: &Talk, within: Duration) -> bool {
    let mut stream = talk.stream();
    stream.set_read_timeout(Some(within)).unwrap();
    let heard = matches!(stream.read(&mut [0; 512]), Ok(n) if n > 0);
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    heard
}

#[test]
fn near_the_end_of_memory_the_newest_clients_wait_and_new_ones_wait_longer() {
    for io in DRIVERS {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        std::fs::write(&policy, "").unwrap();
        let backend = Backend::plain();
        let knobs = [
            "server.memory_max=16MiB",
            "smtp.body_memory_octets_max=1MiB",
            "server.shed_reading=50",
            "server.shed_accepting=80",
        ];
        let knobs: Vec<&str> = knobs.iter().flat_map(|knob| ["--set", knob]).collect();
        let gate = serve(dir.path(), io, &policy, &backend, &knobs);
        let mut idle: Vec<Talk> = (0..4).map(|_| gate.talk()).collect();
        let mut busy: Vec<Talk> = (0..7).map(|_| gate.talk()).collect();
        for talk in &mut busy {
            talk.say("EHLO client.example.org", "250");
            talk.say("MAIL FROM:<ann@example.org> SIZE=1048576", "250");
            talk.say("RCPT TO:<bob@example.test>", "250");
            talk.say("DATA", "354");
        }
        wait_for("the load to be noticed", || gate.said().contains("Accepting").then_some(()));
        // 87 %: of four idle clients the three newest wait, the oldest is heard; nobody new is taken.
        idle.iter_mut().for_each(|talk| talk.send("NOOP\r\n"));
        let while_full = Duration::from_millis(700);
        let heard: Vec<bool> = idle.iter().map(|talk| hears(talk, while_full)).collect();
        assert_eq!(heard, [true, false, false, false], "{io}: {}", gate.said());
        let new = Talk::connect(gate.address("mx"));
        assert!(!hears(&new, while_full), "{io}");
        // What is under way goes on, and with it the rest.
        for talk in &mut busy {
            talk.send("Subject: x\r\n\r\nhello\r\n.\r\n");
            assert!(talk.reply().starts_with("250"), "{io}");
        }
        assert!(idle[1..].iter().chain([&new]).all(|talk| hears(talk, support::PATIENCE)), "{io}: {}", gate.said());
        drop(gate);
    }
}
