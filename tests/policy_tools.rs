//! The tools around a policy, as an administrator runs them: lints, golden cases, explanations, comparisons and scores
//! tuned from labelled mail. The shipped policies pass through all of them.
//!
//! How it fails: with what the programs said.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod support;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use support::{Ran, gatepost, run};

fn policy_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policy")
}

fn policy(args: &[&str]) -> Ran {
    run(gatepost().arg("policy").args(args), "")
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

fn shipped() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = std::fs::read_dir(policy_dir()).unwrap().map(|e| e.unwrap().path()).collect();
    let name = |p: &PathBuf| p.file_name().unwrap().to_str().unwrap().to_owned();
    all.retain(|p| {
        name(p).ends_with(".toml") && !name(p).ends_with(".cases.toml") && !name(p).starts_with("gatepost.")
    });
    all.sort();
    all
}

#[test]
fn shipped_policies_are_clean_and_their_cases_pass() {
    let policies = shipped();
    let paths: Vec<&str> = policies.iter().map(|p| p.to_str().unwrap()).collect();
    assert!(paths.len() >= 7, "{paths:?}");
    let ran = policy(&[&["check", "--deny-lints", "--domain", "example.test"][..], &paths].concat());
    assert!(ran.ok && ran.out.contains("0 errors, 0 warnings"), "{ran:?}");
    let cases: Vec<String> = paths.iter().map(|p| p.replace(".toml", ".cases.toml")).collect();
    let cases: Vec<&str> = cases.iter().map(String::as_str).collect();
    let ran = policy(&[&["test", "--json"][..], &cases].concat());
    let report = json(&ran);
    assert!(ran.ok && report["failed"] == 0 && report["files"].as_array().unwrap().len() == cases.len(), "{report:#}");
}

#[test]
fn lints_have_a_code_a_place_and_an_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("open.toml");
    std::fs::write(
        &file,
        "[list.idle]\nwords = ['x']\n\n[[rule]]\nname = \"all\"\nstage = \"rcpt\"\nwhen = \"rcpt.count >= 0\"\nthen = \"accept\"\n\
         [[rule]]\nname = \"late\"\nstage = \"rcpt\"\nwhen = \"rcpt.count > 5\"\nthen = \"reject\"\n",
    )
    .unwrap();
    let path = file.to_str().unwrap();
    let ran = policy(&["check", path, "--domain", "example.test"]);
    assert!(ran.ok, "{ran:?}");
    for part in [
        "open.toml:5:8: warning[open-relay]: an open relay: a stranger on `mx` may send",
        "by `all`",
        "open.toml:10:8: warning[shadowed-rule]",
        "warning[unused-list]: no rule uses the list `idle`",
        "^^^^",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let denied = policy(&["check", path, "--domain", "example.test", "--deny-lints", "--json"]);
    assert_eq!(denied.code, Some(1), "{denied:?}");
    let found = json(&denied);
    let codes: Vec<&str> = found["findings"].as_array().unwrap().iter().map(|f| f["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["unused-list", "open-relay", "shadowed-rule"], "{found:#}");
    std::fs::write(&file, "[[rule]]\nname = 'x'\nstage = 'rctp'\nthen = 'reject'\n").unwrap();
    let wrong = policy(&["check", path]);
    assert!(wrong.code == Some(1) && wrong.out.contains("did you mean `rcpt`?"), "{wrong:?}");
}

#[test]
fn an_explanation_knows_facts_and_says_it_without_colours_to_a_pipe() {
    let edge = policy_dir().join("edge.toml");
    let base = ["explain", "--policy", edge.to_str().unwrap(), "--domain", "example.test", "--client", "203.0.113.9"];
    let ran = policy(&[&base[..], &["--from", "a@example.net", "--to", "b@elsewhere.example"]].concat());
    assert!(ran.ok && ran.out.contains("relay-denied") && ran.out.contains("550 5.7.1 Relaying denied"), "{ran:?}");
    assert!(ran.out.contains("\"elsewhere.example\"") && !ran.out.contains('\u{1b}'), "{ran:?}");
    let busy = policy(&[&base[..], &["--fact", "load.memory=97", "--json"]].concat());
    let trace = json(&busy);
    let last = trace["stages"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["stage"], &last["decided_by"]), (&"connect".into(), &"busy".into()), "{trace:#}");
    let part = &last["rules"].as_array().unwrap().last().unwrap()["parts"][0];
    assert_eq!((&part["value"], &part["answer"]), (&"97".into(), &"true".into()), "{trace:#}");
    let wrong = policy(&[&base[..], &["--fact", "load.memroy=97"]].concat());
    assert!(wrong.code == Some(2) && wrong.err.contains("load.memory"), "{wrong:?}");
}

#[test]
fn expectations_are_rewritten_and_comments_stay() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("p.toml"),
        "[[rule]]\nname = 'no'\nstage = 'mail'\nwhen = \"sender.null\"\nthen = 'reject 550 5.7.1 No'\n",
    )
    .unwrap();
    let cases = dir.path().join("p.cases.toml");
    let source = "# head\npolicy = 'p.toml'\n\n[[case]] # one\nname = 'null'\nfrom = ''\nexpect = { verdict = 'accept', rule = 'yes' } # was so\n\n\
                  [[case]]\nname = 'fine'\nfrom = 'a@example.net'\nexpect = { verdict = 'accept' }\n";
    std::fs::write(&cases, source).unwrap();
    let path = cases.to_str().unwrap();
    let failed = policy(&["test", path]);
    assert_eq!(failed.code, Some(1), "{failed:?}");
    for part in [
        "FAILED null (line 4)",
        "- verdict = \"accept\"",
        "+ verdict = \"reject\"    at mail",
        "- rule = \"yes\"",
        "+ no",
    ] {
        assert!(failed.out.contains(part), "{part}: {}", failed.out);
    }
    assert_eq!(std::fs::read_to_string(&cases).unwrap(), source, "not without --update");
    let updated = policy(&["test", "--update", path]);
    assert!(updated.ok && updated.err.contains("1 expectations are rewritten"), "{updated:?}");
    let text = std::fs::read_to_string(&cases).unwrap();
    assert_eq!(text, source.replace("'accept', rule = 'yes'", "\"reject\", rule = \"no\""));
    assert!(policy(&["test", "--deny-uncovered", path]).ok);
}

/// A log of Postfix with `count` messages, of which every third is spam from a domain of its own; and their labels.
fn past(count: u32) -> (String, String) {
    let (mut log, mut labels) = (String::new(), String::new());
    for i in 0..count {
        let spam = i % 3 == 0;
        let from = if spam { format!("s{i}@bulk.spam.example") } else { format!("ann{i}@example.net") };
        // A tenth of the good mail has what the second rule looks for.
        let local = if spam || i % 10 == 1 { "list" } else { "bob" };
        let at = format!("Nov 23 {:02}:{:02}:{:02}", 10 + i / 3600, i / 60 % 60, i % 60);
        let _ = write!(
            log,
            "{at} mx postfix/smtpd[7]: connect from h{i}.example.net[198.51.{}.{}]\n\
             {at} mx postfix/smtpd[7]: Q{i}: client=h{i}.example.net[198.51.100.7]\n\
             {at} mx postfix/cleanup[8]: Q{i}: message-id=<{i}@x>\n\
             {at} mx postfix/qmgr[5]: Q{i}: from=<{from}>, size=1234, nrcpt=1 (queue active)\n\
             {at} mx postfix/lmtp[4]: Q{i}: to=<{local}@example.test>, relay=x, status=sent (250 ok)\n\
             {at} mx postfix/smtpd[7]: disconnect from h{i}.example.net[198.51.100.7]\n",
            100 + i / 250,
            i % 250
        );
        let _ = writeln!(labels, "{{\"message_id\":\"<{i}@x>\",\"label\":\"{}\"}}", if spam { "spam" } else { "ham" });
    }
    (log, labels)
}

const SCORES: &str = r#"# scores
[threshold.message]
reject = 10 # for now
[[rule]]
name = "bulk"
stage = "mail"
when = "sender.domain ends_with '.spam.example'"
then = "score +6 bulk sender"
[[rule]]
name = "list"
stage = "rcpt"
when = "rcpt.local == 'list'"
then = "score +3 list address" # guessed
[[rule]]
name = "fence"
stage = "rcpt"
when = "rcpt.local contains '%' or rcpt.local contains '!' or rcpt.local contains '@'"
then = "reject 550 5.7.1 no"
"#;

#[test]
fn scores_are_tuned_from_labelled_mail_and_policies_compared() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (log, labels) = past(600);
    std::fs::write(at("mail.log"), log).unwrap();
    std::fs::write(at("labels"), labels).unwrap();
    std::fs::write(at("scores.toml"), SCORES).unwrap();
    let journal = at("past.jsonl");
    let ran =
        run(gatepost().args(["journal", "import", "--year", "2026", "--output"]).arg(&journal).arg(at("mail.log")), "");
    assert!(ran.ok && ran.err.contains("600 sessions"), "{ran:?}");
    let journal = journal.to_str().unwrap().to_owned();
    let (scores, labels) = (at("scores.toml"), at("labels"));
    let (html, scores) = (at("curve.html"), scores.to_str().unwrap());
    let tune = [
        "tune",
        "--domain",
        "example.test",
        "--journal",
        &journal,
        "--policy",
        scores,
        "--labels",
        labels.to_str().unwrap(),
    ];
    let ran = policy(&[&tune[..], &["--json", "--html", html.to_str().unwrap()]].concat());
    assert!(ran.ok, "{ran:?}");
    let found = json(&ran);
    assert_eq!((&found["labelled"], &found["threshold"]["now"]), (&600.into(), &10.0.into()), "{found:#}");
    assert_eq!((&found["now"]["spam"], &found["now"]["ham"]), (&200.into(), &400.into()), "{found:#}");
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("<svg") && page.contains("polyline") && !page.contains("http"), "{page}");
    let written = policy(&[&tune[..], &["--write"]].concat());
    assert!(written.ok && written.out.contains("bulk") && written.err.contains("is changed"), "{written:?}");
    let text = std::fs::read_to_string(scores).unwrap();
    assert!(text.starts_with("# scores") && text.contains("# for now") && text.contains("# guessed"), "{text}");
    // What was proposed catches the spam and no ham, in a replay too; beside the policy as it was.
    std::fs::write(at("before.toml"), SCORES).unwrap();
    let before = at("before.toml");
    let replay = [
        "replay",
        "--domain",
        "example.test",
        "--journal",
        &journal,
        "--policy",
        before.to_str().unwrap(),
        "--policy",
        scores,
    ];
    let both = json(&policy(&[&replay[..], &["--json"]].concat()));
    let messages = |i: usize| both["policies"][i]["messages"]["now"].as_u64().unwrap();
    assert_eq!((messages(0), messages(1)), (600, 400), "{both:#}");
    let told = policy(&replay);
    assert!(told.ok && told.out.contains("DELIVERED BUT STOPPED") && told.out.contains("before.toml"), "{told:?}");
    assert_eq!(policy(&[&replay[..], &["--fail-on-stopped"]].concat()).code, Some(1));
    // A part of the day only.
    let part =
        [&replay[..6], &[scores, "--json", "--since", "2026-11-23T10:05:00Z", "--until", "2026-11-23T10:06:00Z"]]
            .concat();
    let part = json(&policy(&part));
    assert_eq!(part["messages"]["then"], 60, "{part:#}");
    let wrong = policy(&[&replay[..], &["--since", "tomorrow"]].concat());
    assert!(wrong.code == Some(2) && wrong.err.contains("expected 2026-11-23"), "{wrong:?}");
    // Lines by what was decided.
    let shown = |more: &[&str]| run(gatepost().args(["journal", "show", "--journal", &journal]).args(more), "");
    assert_eq!(shown(&["--rcpt", "list@", "--count"]).out.trim(), "240");
    assert_eq!(shown(&["--sender", "spam.example", "--since", "2026-11-23T10:05:00Z", "--count"]).out.trim(), "100");
    assert_eq!(shown(&["--limit", "3"]).out.lines().count(), 3);
    assert_eq!(shown(&["--verdict", "reject", "--count"]).out.trim(), "0");
}
