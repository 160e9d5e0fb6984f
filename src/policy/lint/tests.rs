//! Every lint where it is meant and where it is not; policies that are shipped; anything.

use super::*;
use crate::policy::{NoFiles, Severity};
use proptest::prelude::*;

fn findings(source: &str) -> Vec<Diagnostic> {
    let builtins = Builtins::new(["example.test"]).unwrap();
    lint("p.toml", source, &NoFiles, &builtins, "example.test").unwrap_or_else(|e| panic!("{e:?}")).findings
}

fn codes(source: &str) -> Vec<&'static str> {
    findings(source).iter().map(|d| d.code).collect()
}

const FENCE: &str = "[[rule]]\nname = 'fence'\nstage = 'rcpt'\nwhen = \"rcpt.local contains '%' or rcpt.local contains '!' or rcpt.local contains '@'\"\nthen = 'reject'\n";

fn rule(name: &str, stage: &str, when: &str, then: &str) -> String {
    format!("[[rule]]\nname = '{name}'\nstage = '{stage}'\nwhen = \"\"\"{when}\"\"\"\nthen = \"{then}\"\n")
}

#[track_caller]
fn one(when: &str, expected: &[&str]) {
    let found = codes(&(FENCE.to_owned() + &rule("r", "rcpt", when, "reject")));
    assert_eq!(found, expected, "{when}");
}

#[test]
fn conditions_that_never_hold() {
    for when in [
        "rcpt.count > 5 and rcpt.count < 3",
        "rcpt.count > 5 and rcpt.count <= 5",
        "rcpt.count < 0",
        "time.hour == 24",
        "rcpt.count in [1, 2] and rcpt.count > 2",
        "sender.domain == 'a.example' and sender.domain == 'b.example'",
        "sender.domain in ['a.example', 'b.example'] and sender.domain == 'c.example'",
        "helo == 'abc' and helo starts_with 'b'",
        "helo starts_with 'ab' and helo starts_with 'b'",
        "helo ends_with '.com' and helo ends_with '.org'",
        "helo ends_with '.example.com' and not (helo contains 'example')",
        "sender.null and sender.domain == 'a.example'",
        "sender.null and not sender.null",
        "authenticated and user == ''",
        "not tls and tls.version == 'TLSv1.3'",
        "client in 192.0.2.0/24 and client in 198.51.100.0/24",
        "client == 192.0.2.1 and client not in 192.0.2.0/24",
        "client in @loopback and client in 192.0.2.0/24",
        "client.ptr is not known and client.ptr == 'x.example'",
        "rcpt.exists == true and rcpt.exists == false",
        "(rcpt.count > 5 or rcpt.refused > 5) and rcpt.count < 3 and rcpt.refused < 3",
        "rcpt.domain not in @local-domains and rcpt.domain in @local-domains",
        "helo matches /^a/i and helo == 'b'",
    ] {
        one(when, &["never-matches"]);
    }
    for when in [
        "rcpt.count > 5 and rcpt.count < 7",
        "rcpt.count + rcpt.refused > 5 and rcpt.count < 3",
        "sender.domain == 'a.example' or sender.domain == 'b.example'",
        "sender.domain in ['.example.org'] and sender.domain == 'a.example.org'",
        "helo starts_with 'ab' and helo starts_with 'abc'",
        "client in 192.0.2.0/24 and client in 192.0.2.128/25",
        "client in 192.0.2.0/24 and client not in 192.0.2.128/25",
        "helo matches /A/ and helo == 'A'",
        "not (sender.null and sender.domain == 'a.example')",
        "time.hour != 5 and time.hour >= 5 and time.hour < 7",
    ] {
        one(when, &[]);
    }
    let text =
        findings(&(FENCE.to_owned() + &rule("r", "rcpt", "authenticated and user == ''", "reject")))[0].to_string();
    assert!(text.contains("p.toml:9:29: warning[never-matches]: `r` never applies"), "{text}");
    assert!(text.contains("`authenticated` and `user == ''` never hold together") && text.contains("\n  = "), "{text}");
}

#[test]
fn rules_that_others_are_before() {
    let two = |a: &str, then: &str, b: &str| {
        let mut found = codes(&(FENCE.to_owned() + &rule("a", "rcpt", a, then) + &rule("b", "rcpt", b, "defer")));
        found.retain(|code| !code.ends_with("-refused"));
        found
    };
    for (a, b) in [
        ("rcpt.count > 3", "rcpt.count > 5"),
        ("rcpt.count > 3", "rcpt.count > 5 and authenticated"),
        ("client in 192.0.2.0/24 or authenticated", "client in 192.0.2.128/25"),
        ("helo ends_with '.example'", "helo == 'a.example'"),
        ("helo contains 'dyn'", "helo starts_with 'dyn-'"),
        ("sender.domain in ['a.example', 'b.example']", "sender.domain == 'B.example'"),
        ("not authenticated", "user == '' and not authenticated and tls"),
        ("sender == ''", "sender.null"),
        ("rcpt.domain in @local-domains", "rcpt.domain in @local-domains and rcpt.count == 7"),
    ] {
        assert_eq!(two(a, "reject", b), ["shadowed-rule"], "{a} before {b}");
        assert_eq!(two(a, "tarpit 1s", b), [] as [&str; 0], "{a} does not end the stage");
    }
    for (a, b) in [
        ("rcpt.count > 5", "rcpt.count > 3"),
        ("client in 192.0.2.128/25", "client in 192.0.2.0/24"),
        // Where the name is not known, the first does not hold.
        ("client.ptr == 'x' or client.ptr != 'x'", "rcpt.count > 1"),
        ("authenticated", "tls"),
    ] {
        assert_eq!(two(a, "reject", b), [] as [&str; 0], "{a} before {b}");
    }
    let always = FENCE.to_owned() + &rule("a", "mail", "true", "accept") + &rule("b", "mail", "tls", "reject");
    assert_eq!(codes(&always), ["shadowed-rule"]);
}

#[test]
fn lists_and_limits() {
    let source = format!(
        "[list.none]\nnetworks = []\n[list.idle]\nwords = ['x']\n[limit.idle]\nper = 'client'\ncounts = 'message'\nrate = '1/hour'\n{FENCE}{}",
        rule("r", "rcpt", "client in @none", "accept")
    );
    let found = findings(&source);
    assert_eq!(found.iter().map(|d| d.code).collect::<Vec<_>>(), ["unused-list", "unused-limit", "empty-list"]);
    assert_eq!(found[2].severity, Severity::Hint);
    let limits = |a: &str, b: &str| {
        format!(
            "[limit.a]\nper = 'client'\ncounts = 'message'\n{a}\n[limit.b]\nper = 'client'\ncounts = 'message'\n{b}\n{FENCE}[[rule]]\nname = 'r'\nstage = 'mail'\nthen = ['limit a', 'limit b']\n"
        )
    };
    assert_eq!(codes(&limits("rate = '10/hour'", "rate = '20/hour'")), ["limit-never-reached"]);
    assert_eq!(codes(&limits("rate = '10/hour'", "rate = '10/hour'")), ["limit-never-reached"]);
    assert_eq!(codes(&limits("rate = '10/minute'", "rate = '100/hour'")), [] as [&str; 0]);
    assert_eq!(codes(&limits("rate = '10/hour'\nexempt = '@loopback'", "rate = '20/hour'")), [] as [&str; 0]);
    let guesses = format!(
        "[limit.g]\nper = 'client'\ncounts = 'auth-failure'\nrate = '1/hour'\n{FENCE}[[rule]]\nname = 'r'\nstage = 'connect'\nthen = 'limit g'\n"
    );
    assert_eq!(codes(&guesses), ["limit-never-counts"]);
    let volume = format!(
        "[limit.v]\nper = 'client'\ncounts = 'octets'\nrate = '10MiB/hour'\n{FENCE}[[rule]]\nname = 'r'\nstage = 'message'\nthen = 'limit v'\n{}",
        rule("large", "message", "message.size > 25MiB", "reject")
    );
    assert_eq!(codes(&volume), ["limit-below-size"]);
}

#[test]
fn open_relays_are_proved() {
    let relays = |when: &str| codes(&(FENCE.to_owned() + &rule("r", "rcpt", when, "accept")));
    for open in [
        "true",
        "not authenticated",
        "client not in @loopback",
        "client in 0.0.0.0/0",
        "sender.domain in @local-domains",
        "sender.null",
        "helo.valid",
        "listener == 'submission'",
        "rcpt.domain ends_with '.example'",
        "client.ptr is known",
    ] {
        assert!(relays(open).contains(&"open-relay"), "{open}: {:?}", relays(open));
    }
    for closed in ["authenticated", "client in 203.0.113.0/24", "rcpt.domain in @local-domains"] {
        assert_eq!(relays(closed), [] as [&str; 0], "{closed}");
    }
    assert_eq!(codes(""), ["relay-by-local-part"]);
    assert_eq!(codes(&(FENCE.to_owned() + &rule("r", "mail", "sender.null", "reject"))), ["null-sender-refused"]);
    let nobody = rule("r", "rcpt", "rcpt.local == 'postmaster'", "reject");
    assert_eq!(codes(&(FENCE.to_owned() + &nobody)), ["postmaster-refused"]);
    // Where strangers get nothing in at all, nothing is missing.
    assert_eq!(codes(&rule("r", "mail", "not authenticated", "reject")), [] as [&str; 0]);
}

#[test]
fn patterns() {
    one("helo matches /a*/", &["regex-matches-everything"]);
    one("helo matches /^(dyn|dhcp)[0-9]+/i", &[]);
    one("helo matches /^(\\\\w{8}x)/", &["slow-regex"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever compiles is linted, and a rule that is said never to apply does not apply to any session that is tried.
    #[test]
    fn nothing_makes_it_panic_and_what_is_dead_is_dead(
        parts in prop::collection::vec((0usize..9, 0i64..4, any::<bool>()), 1..6),
        ors in any::<u8>(),
        tried in prop::collection::vec((0u8..4, 0usize..4, 0usize..3), 1..20),
    ) {
        let words = ["a.example", "b.example", "", "ab"];
        let text: Vec<String> = parts.iter().enumerate().map(|(i, (kind, n, negate))| {
            let word = words[*n as usize];
            let atom = match kind {
                0 => format!("rcpt.count > {n}"),
                1 => format!("rcpt.count <= {n}"),
                2 => format!("rcpt.count in [{n}, 1]"),
                3 => format!("helo == '{word}'"),
                4 => format!("helo starts_with '{}'", ["a", "ab", "b", "x"][*n as usize]),
                5 => format!("helo in ['{word}', 'ab']"),
                6 => format!("client in 192.0.2.{}/31", n & 2),
                7 => "sender.null".to_owned(),
                _ => format!("sender.domain == '{word}'"),
            };
            let joined = if i == 0 { "" } else if ors >> i & 1 == 1 { " or " } else { " and " };
            format!("{joined}{}{atom}", if *negate { "not " } else { "" })
        }).collect();
        let source = FENCE.to_owned() + &rule("r", "rcpt", &text.concat(), "defer");
        let builtins = Builtins::new(["example.test"]).unwrap();
        let Ok(linted) = lint("p", &source, &NoFiles, &builtins, "example.test") else { return Ok(()) };
        if !linted.findings.iter().any(|d| d.code == "never-matches") {
            return Ok(());
        }
        for (host, helo, sender) in tried {
            prop_assert!(!applies(&linted.policy, host, words[helo], sender), "{}", text.concat());
        }
    }

    #[test]
    fn any_text_is_linted_or_refused(text in "(\\[\\[rule\\]\\]\nname = '[a-z]'\nstage = '(rcpt|mail|helo)'\nwhen = '[a-z .<>=0-9@]{0,20}'\nthen = '[a-z 0-9]{0,12}'\n){0,3}") {
        let builtins = Builtins::new(["example.test"]).unwrap();
        let _ = lint("p", &text, &NoFiles, &builtins, "example.test");
    }
}

/// Whether rule `r` decides a recipient of such a session.
fn applies(policy: &Arc<Policy>, host: u8, helo: &str, sender: usize) -> bool {
    use crate::base::address::ReversePath;
    use crate::base::envelope::{MailParameters, Recipient};
    use crate::base::time::{Instant, WallTime};
    use crate::policy::{ClientFacts, Limits, Session};
    use crate::wire::address::parse_mailbox;
    let now = Instant::from_nanos(1);
    let facts = ClientFacts { client: ([192, 0, 2, host], 1).into(), ..ClientFacts::default() };
    let mut session = Session::new(policy.clone(), Limits::new(64, 0), facts, now, WallTime::default());
    session.helo(now, helo, true);
    let senders = ["", "x@a.example", "x@ab"];
    let path = match senders[sender] {
        "" => ReversePath::Null,
        text => ReversePath::Mailbox(parse_mailbox(text).unwrap()),
    };
    session.mail(now, &path, &MailParameters::default());
    let to = Recipient::plain(parse_mailbox("u@example.test").unwrap());
    (0..4).any(|_| {
        let d = session.rcpt(now, &to, None);
        session.rule_name(d.rule) == "r"
    })
}
