//! The walls around the process: what the running server can no longer do, and that it still serves. How it fails: the
//! panic shows what the kernel says of the process, or what the server said.
#![allow(missing_docs, clippy::unwrap_used)]

mod support;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use support::{DRIVERS, Gate, gatepost, run};

/// A line of `/proc/PID/status`.
fn status(pid: u32, key: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|l| l.starts_with(&format!("{key}:"))).unwrap_or_default();
    line.split_once(':').map(|(_, v)| v.trim().to_owned()).unwrap_or_default()
}

fn deliver(gate: &Gate) {
    let mut talk = gate.talk();
    talk.say("EHLO client.example", "250");
    talk.say("MAIL FROM:<a@client.example>", "250");
    talk.say("RCPT TO:<demo@example.test>", "250");
    talk.say("DATA", "354");
    talk.say("Subject: walls\r\n\r\nText.\r\n.", "250");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

#[test]
fn system_calls_are_filtered_and_nothing_is_dumped() {
    for driver in DRIVERS {
        let gate = Gate::start(&["--io", driver, "--set", "walls.calls=on"]);
        deliver(&gate);
        assert_eq!(status(gate.pid(), "NoNewPrivs"), "1");
        assert_eq!(status(gate.pid(), "Seccomp"), "2", "{}", gate.said());
        for thread in std::fs::read_dir(format!("/proc/{}/task", gate.pid())).unwrap() {
            let text = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert!(text.contains("Seccomp:\t2"), "{text}");
        }
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", gate.pid())).unwrap();
        let core = limits.lines().find(|l| l.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    }
    let gate = Gate::start(&["--set", "walls.calls=off"]);
    assert_eq!(status(gate.pid(), "Seccomp"), "0");
}

#[test]
fn behind_the_wall_around_files_only_what_is_named_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("etc/gatepost.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::create_dir(dir.path().join("backups")).unwrap();
    std::fs::create_dir(dir.path().join("elsewhere")).unwrap();
    std::fs::write(&file, "[walls]\nfiles = \"on\"\nwrite = [\"../backups\"]\n").unwrap();
    let data = dir.path().join("data");
    let ran = run(
        gatepost().args(["account", "add", "demo@example.test", "--password-stdin", "--data"]).arg(&data),
        "secret-word\n",
    );
    assert!(ran.ok, "{ran:?}");
    for driver in DRIVERS {
        let gate = Gate::start_in(&data, &["--config", file.to_str().unwrap(), "--port-base", "0", "--io", driver]);
        deliver(&gate);
        let backup = |to: &Path| run(gatepost().args(["mailbox", "backup"]).arg(to).arg("--data").arg(&data), "");
        let refused = backup(&dir.path().join("elsewhere").join(driver));
        assert!(!refused.ok && refused.err.contains("walls.write"), "{refused:?}\n{}", gate.said());
        let done = backup(&dir.path().join("backups").join(driver));
        assert!(done.ok, "{done:?}\n{}", gate.said());
        // What is named in the configuration is read again at a reload.
        std::fs::write(file.with_file_name("new.toml"), "").unwrap();
        gate.signal("HUP");
        support::wait_for("the reload", || gate.said().contains("are read again").then_some(()));
        assert!(
            gate.said().contains("files=\"all of it\"") || gate.said().contains("as far as this kernel can"),
            "{}",
            gate.said()
        );
    }
}

#[test]
fn root_is_given_up() {
    if !is_root() {
        return support::skipped("root, to be given up");
    }
    // Where a user without rights may go.
    let dir = tempfile::Builder::new().prefix("gatepost-walls").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let data = dir.path().join("data");
    for driver in DRIVERS {
        let mut gate = Gate::start_in(&data, &["--io", driver, "--set", "walls.user=nobody"]);
        deliver(&gate);
        let uids = status(gate.pid(), "Uid");
        assert!(uids.split_whitespace().all(|uid| uid != "0"), "{uids}");
        assert!(status(gate.pid(), "Groups").split_whitespace().all(|gid| gid != "0"));
        assert_ne!(std::fs::metadata(data.join("lock")).unwrap().uid(), 0);
        assert_eq!(gate.terminate(), Some(0), "{}", gate.said());
    }
    // A directory of somebody else's is not taken silently.
    let other = dir.path().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("accounts"), "").unwrap();
    let ran =
        run(gatepost().args(["serve", "--port-base", "0", "--set", "walls.user=nobody", "--data"]).arg(&other), "");
    assert!(!ran.ok && ran.err.contains("chown -R nobody"), "{ran:?}");
    let ran = run(
        gatepost().args(["serve", "--port-base", "0", "--set", "walls.user=no-such-user", "--data"]).arg(&other),
        "",
    );
    assert!(!ran.ok && ran.err.contains("there is no user \"no-such-user\""), "{ran:?}");
}

#[test]
fn pages_and_completions_come_from_the_command_line_itself() {
    let dir = tempfile::tempdir().unwrap();
    let ran = run(gatepost().arg("man").arg(dir.path().join("man")), "");
    assert!(ran.ok, "{ran:?}");
    for page in ["gatepost.1", "gatepost-serve.1", "gatepost-queue-list.1"] {
        let text = std::fs::read_to_string(dir.path().join("man").join(page)).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    for (shell, word) in
        [("bash", "complete -F _gatepost"), ("zsh", "#compdef gatepost"), ("fish", "complete -c gatepost")]
    {
        let ran = run(gatepost().args(["completions", shell]), "");
        assert!(ran.ok && ran.out.contains(word), "{shell}: {ran:?}");
    }
}
