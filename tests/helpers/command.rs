//! `gatepost consult`: a helper asked by hand.

use crate::fake::nobody;
use crate::filter::{all, filter, go_on};
use crate::support::{Ran, gatepost, run};
use gatepost::wire::milter::{Command, Response, Steps};

fn consult(config: &str, args: &[&str], input: &str) -> Ran {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("gatepost.toml");
    std::fs::write(&file, config).unwrap();
    run(gatepost().arg("consult").args(args).arg("--config").arg(&file).current_dir(dir.path()), input)
}

fn section(address: &str) -> String {
    format!("[server]\nhostname = \"mx.example.test\"\n[helper.filter]\nkind = \"milter\"\naddress = \"{address}\"\n")
}

#[test]
fn the_advice_is_shown() {
    let fake = filter(all(), |command| match command {
        Command::Recipient(path) if path[0].starts_with(b"<no") => vec![Response::Reject],
        Command::EndOfMessage(_) => {
            vec![Response::AddHeader { name: b"X-Seen".into(), value: b"yes".into() }, Response::Continue]
        }
        other => go_on(other, Steps::SKIP),
    });
    let config = section(&fake.address.to_string());
    let args = ["filter", "-", "--client", "192.0.2.7", "--from", "", "--to", "a@example.test", "--user", "ann"];
    let ran = consult(&config, &args, "Subject: by hand\n\ntext\n");
    assert!(ran.ok, "{ran:?}");
    assert!(ran.out.starts_with("action   accept\nedit     add X-Seen: yes\ntook     "), "{}", ran.out);
    let heard = fake.heard();
    for line in
        ["connect [192.0.2.7] Internet(192.0.2.7:25025)", "mail <>", "header Subject:by hand", "body 6 text\r\n"]
    {
        assert!(heard.iter().any(|l| l == line), "{line}: {heard:?}");
    }
    let ran = consult(&config, &["filter", "--to", "no@example.test", "--json"], "");
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{ran:?}"));
    assert_eq!((ran.ok, &json["action"]), (true, &"reject".into()));
}

#[test]
fn what_went_wrong_is_said() {
    let config = section(&format!("inet:{}", nobody()));
    let ran = consult(&config, &["filter"], "");
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("gatepost: helper filter: cannot connect: "), "{}", ran.err);
    let ran = consult(&config, &["fitler"], "");
    assert_eq!(
        (ran.code, ran.err.trim()),
        (Some(2), "gatepost: there is no [helper.fitler]; did you mean \"filter\"?")
    );
    let ran = consult(&config, &["filter", "no-such-file"], "");
    assert!(ran.code == Some(1) && ran.err.contains("cannot read no-such-file: "), "{}", ran.err);
    let ran = consult(&config, &["filter", "--from", "nonsense"], "");
    assert!(ran.code == Some(2) && ran.err.contains("--from \"nonsense\": the address has no @domain"), "{}", ran.err);
}
