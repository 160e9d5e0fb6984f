//! Tests of the engine as a whole: a policy text, a session, decisions.

use super::*;
use crate::base::address::ReversePath;
use crate::base::body::BodyShape;
use crate::base::envelope::{MailParameters, Recipient};
use crate::base::time::{Instant, WallTime};
use crate::wire::address::parse_mailbox;
use std::sync::Arc;
use std::time::Duration;

fn policy(source: &str) -> Arc<Policy> {
    match Policy::compile("test.toml", source, &NoFiles, &Builtins::new(["example.test"]).unwrap()) {
        Ok(p) => Arc::new(p),
        Err(findings) => panic!("{}", findings.iter().map(|f| format!("{f}\n")).collect::<String>()),
    }
}

fn findings(source: &str) -> Vec<Diagnostic> {
    Policy::compile("test.toml", source, &NoFiles, &Builtins::new(["example.test"]).unwrap()).unwrap_err()
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(1_000_000_000_000 + ms * 1_000_000)
}

struct Client {
    session: Session,
}

impl Client {
    fn new(policy: &Arc<Policy>, limits: &Arc<Limits>, ip: &str) -> Client {
        let facts =
            ClientFacts { client: (ip.parse::<std::net::IpAddr>().unwrap(), 4000).into(), ..ClientFacts::default() };
        let wall = WallTime::from_millis(1_795_437_121_042); // a Monday, 12:32 UTC
        Client { session: Session::new(policy.clone(), limits.clone(), facts, at(0), wall) }
    }
    fn mail(&mut self, from: &str) -> Decision {
        let path = match from {
            "" => ReversePath::Null,
            from => ReversePath::Mailbox(parse_mailbox(from).unwrap()),
        };
        self.session.mail(at(0), &path, &MailParameters::default())
    }
    fn rcpt(&mut self, to: &str) -> String {
        let d = self.session.rcpt(at(0), &Recipient::plain(parse_mailbox(to).unwrap()), None);
        format!("{} {}", d.verdict.word(), self.session.rule_name(d.rule))
    }
}

fn alone(source: &str, ip: &str) -> Client {
    Client::new(&policy(source), &Limits::new(1024, 1), ip)
}

fn rules(rules: &[(&str, &str, &str)]) -> String {
    rules
        .iter()
        .enumerate()
        .map(|(i, (stage, when, then))| {
            let when = if when.is_empty() { String::new() } else { format!("when = \"\"\"{when}\"\"\"\n") };
            format!("[[rule]]\nname = \"r{i}\"\nstage = \"{stage}\"\n{when}then = {then:?}\n")
        })
        .collect()
}

#[test]
fn without_rules_nobody_relays_and_local_mail_passes() {
    let mut c = alone("", "127.0.0.1");
    assert!(c.session.connect(at(0), true).verdict.passes());
    assert!(c.session.helo(at(0), "x", true).verdict.passes());
    assert!(c.mail("").verdict.passes());
    assert_eq!(c.rcpt("a@Example.TEST"), "accept default");
    assert_eq!(c.rcpt("a@elsewhere.example"), "reject default");
    assert_eq!(c.session.vrfy(at(0), "a").verdict.reply().unwrap().code, 252);
}

#[test]
fn a_policy_without_local_domains_still_refuses() {
    let p = Policy::compile("t", "", &NoFiles, &Builtins::default()).unwrap();
    let mut c = Client::new(&Arc::new(p), &Limits::new(1024, 1), "192.0.2.1");
    c.mail("");
    assert_eq!(c.rcpt("a@example.test"), "reject default");
}

/// One `when` at rcpt for a session with known facts.
fn holds(when: &str) -> bool {
    let mut c = alone(&rules(&[("rcpt", when, "defer")]), "2001:db8::1");
    c.session.helo(at(0), "mail.Example.NET", true);
    c.mail("Ann+news@mail.example.org");
    c.rcpt("Bob@example.test") == "defer r0"
}

#[test]
fn conditions() {
    for (when, expected) in [
        ("client in 2001:db8::/32", true),
        ("client in [192.0.2.0/24, 2001:db8::1]", true),
        ("client == 2001:db8::2", false),
        ("client != 2001:db8::2", true),
        ("client not in @loopback", true),
        ("sender == 'ann+NEWS@mail.example.org'", true),
        ("sender.local == \"Ann+news\" and sender.domain == 'mail.example.org'", true),
        ("sender.domain in ['.example.org']", true),
        ("sender.domain in ['example.org', '*.mail.example.org']", false),
        ("sender in ['ann+news@mail.example.org']", true),
        ("rcpt in @local-domains and rcpt.domain in @local-domains", true),
        ("helo ends_with '.example.net' and helo starts_with 'MAIL.' and helo contains 'exam'", true),
        ("sender matches /^Ann\\\\+/", true),
        ("sender matches /^ann/", false),
        ("sender matches /^ann/i", true),
        ("helo.valid and not helo.literal and not tls", true),
        ("rcpt.count + rcpt.refused * 2 == 0 and 5 > rcpt.count", true),
        ("rcpt.count / rcpt.refused == 0 or not rcpt.count / rcpt.refused == 0", false),
        ("time.hour in [11, 12] and time.weekday == 'mon'", true),
        ("session.age < 1s and session.age >= 0s", true),
        ("rcpt.exists or not rcpt.exists", false),
        ("rcpt.exists is known", false),
        ("rcpt.exists is not known and client.ptr is not known", true),
        ("client.ptr == 'x' or client.ptr != 'x' or client.ptr not in @local-domains", false),
        ("not (authenticated or rcpt.exists and tls)", true),
        ("not (authenticated or rcpt.exists)", false),
        ("sender.domain != rcpt.domain", true),
        ("sender.null == false", true),
        ("authenticated != true", true),
        ("true and not false", true),
        ("message.declared_size > 1", false),
        ("user in @local-domains", false),
    ] {
        assert_eq!(holds(when), expected, "{when}");
    }
}

#[test]
fn many_expressions_about_one_fact_answer_as_each_alone() {
    let patterns = ["/^a/", "/B/i", "/n\\\\+/", "/zzz/", "/^$/"];
    let source: String = rules(
        &patterns
            .map(|p| ("mail", format!("sender matches {p}"), "tag X-Hit: yes"))
            .iter()
            .map(|(s, w, t)| (*s, w.as_str(), *t))
            .collect::<Vec<_>>(),
    );
    for sender in ["ann@example.org", "Ann+b@example.org", "zzz@example.org", "x@example.org", ""] {
        let mut c = alone(&source, "192.0.2.1");
        c.session.explain();
        c.mail(sender);
        let got: Vec<bool> = c.session.trace().unwrap().stages[0].rules.iter().map(|r| r.matched).collect();
        let each = patterns.map(|p| {
            let (body, fold) = p.strip_suffix('i').map_or((p, ""), |b| (b, "(?i)"));
            regex::Regex::new(&format!("{fold}{}", body.trim_matches('/').replace("\\\\", "\\")))
                .unwrap()
                .is_match(sender)
        });
        assert_eq!(got, each, "{sender}");
    }
}

#[test]
fn faults_of_a_file_are_all_reported_with_place_and_near_miss() {
    let source = r#"
[list.partners]
networks = ["192.0.2.0/24", "192.0.2.1/24"]
[limit.small]
per = "clinet"
rate = "60/fortnight"
counts = "message"
[[rule]]
name = "a"
stage = "mail"
when = "rcpt.domain in @local-domain"
then = "rejct"
[[rule]]
name = "b"
stage = "rcpt"
when = "rcpt.domian in @local-domains"
then = ["accept", "tarpit 5s"]
[[rules]]
name = "c"
"#;
    let found: Vec<String> = findings(source)
        .iter()
        .map(|d| format!("{}:{} {} ~{}", d.line, d.column, d.word, d.suggestion.as_deref().unwrap_or("")))
        .collect();
    for expected in [
        "3:30 192.0.2.1/24 ~",
        "5:8 clinet ~client",
        "6:9 60/fortnight ~",
        "11:9 rcpt.domain ~",
        "12:9 rejct ~reject",
        "16:9 rcpt.domian ~rcpt.domain",
        "17:20 tarpit 5s ~",
        "18:3 rules ~rule",
    ] {
        assert!(found.iter().any(|f| f == expected), "{expected} is not in {found:#?}");
    }
    let shown = findings("[[rule]]\nname = 'x'\nstage = 'mail'\nwhen = \"clinet in @loopback\"\nthen = 'accept'\n");
    assert_eq!(
        shown[0].to_string(),
        "test.toml:4:9: error: unknown fact `clinet`\n4 | when = \"clinet in @loopback\"\n  |         ^^^^^^ expected a fact; did you mean `client`?"
    );
}

#[test]
fn types_and_stages_are_held() {
    for (stage, when, word, expected) in [
        ("mail", "rcpt.count > 1", "rcpt.count", "rcpt"),
        ("data", "rcpt == 'x@y.example'", "rcpt", "only one"),
        ("vrfy", "sender.null", "sender.null", "mail"),
        ("connect", "authenticated", "authenticated", "auth"),
        ("message", "message.size > 5m", "5m", "size"),
        ("mail", "session.age > 5", "5", "duration"),
        ("mail", "session.age + 1 > 5m", "1", "duration"),
        ("mail", "client == 'x'", "'x'", "IP address"),
        ("mail", "client > 192.0.2.1", "192.0.2.1", "`in`"),
        ("mail", "helo in [1]", "1", "domain"),
        ("mail", "client in @local-domains", "@local-domains", "networks"),
        ("mail", "client.port in @loopback", "@loopback", "comparison"),
        ("mail", "client", "client", "in @list"),
        ("mail", "helo matches /(/", "/(/", "regular"),
        ("mail", "1 > 2", "1", "fact"),
        ("mail", "listener == submission", "submission", "'submission'"),
        ("mail", "header('x') == 'y'", "header('x')", "data"),
        ("data", "header('a b') == 'y'", "header('a b')", "Subject"),
        ("data", "headr('a') == 'y'", "headr", "header"),
        ("mail", "client in @loopbck", "@loopbck", "list"),
        ("mail", "client.port contains 'x'", "client.port", "text"),
        ("mail", "helo contains client", "client", "'word'"),
    ] {
        let found = findings(&rules(&[(stage, when, "accept")]));
        let d = &found[0];
        assert_eq!(d.word, word, "{when}: {d}");
        assert!(d.to_string().contains(expected), "{when}: {d}");
    }
}

#[test]
fn a_default_that_opens_the_relay_does_not_compile() {
    assert!(findings("[settings.default]\nrcpt = 'accept'\n")[0].message.contains("open relay"));
    let mut c = alone("[settings.default]\nrcpt = 'defer 451 4.7.1 later'\nmail = 'reject'\n", "192.0.2.1");
    assert_eq!(c.mail("").verdict.word(), "reject");
    assert_eq!(c.rcpt("a@b.example"), "defer default");
}

#[test]
fn trust_lasts_as_long_as_what_it_was_founded_on() {
    let source = rules(&[
        ("connect", "client in 192.0.2.0/24", "trust"),
        ("mail", "sender.domain == 'friend.example'", "trust"),
        ("rcpt", "rcpt.local == 'abuse'", "trust"),
        ("rcpt", "", "reject"),
    ]);
    let mut c = alone(&source, "192.0.2.1");
    c.session.connect(at(0), false);
    c.mail("");
    assert_eq!(c.rcpt("x@elsewhere.example"), "accept r0");
    let mut c = alone(&source, "198.51.100.1");
    c.session.connect(at(0), false);
    c.mail("a@friend.example");
    assert_eq!(c.rcpt("x@elsewhere.example"), "accept r1");
    c.mail("a@foe.example");
    assert_eq!(c.rcpt("abuse@example.test"), "accept r2");
    assert_eq!(c.rcpt("x@example.test"), "reject r3");
}

#[test]
fn tags_routes_delays_quarantine_and_discard() {
    let source = rules(&[
        ("connect", "", "tag \"X-Connect: yes\""),
        ("mail", "", "route mailwide"),
        ("rcpt", "rcpt.local == 'special'", "route inner"),
        ("rcpt", "rcpt.local == 'slow'", "tarpit 3s"),
        ("rcpt", "rcpt.local == 'slow'", "tarpit 3m58s"),
        ("rcpt", "rcpt.local == 'no'", "tag X-No: yes"),
        ("rcpt", "rcpt.local == 'no'", "reject"),
        ("data", "header('Subject') contains 'odd'", "quarantine odd subject"),
        ("data", "header('Subject') contains 'waste'", "discard"),
        ("data", "header('Subject') contains 'far'", "route far"),
    ]);
    let mut c = alone(&source, "192.0.2.1");
    c.session.connect(at(0), false);
    for (subject, verdict, quarantine, route) in [
        ("odd", "accept", Some("odd subject"), None),
        ("waste", "discard", None, None),
        ("far", "accept", None, Some("far")),
    ] {
        c.mail("");
        let to = |local: &str| Recipient::plain(parse_mailbox(&format!("{local}@example.test")).unwrap());
        assert_eq!(c.session.rcpt(at(0), &to("special"), None).route.as_deref(), Some("inner"));
        let slow = c.session.rcpt(at(0), &to("slow"), None);
        assert_eq!((slow.route.as_deref(), slow.delay), (Some("mailwide"), Duration::from_secs(240)));
        assert!(!c.session.rcpt(at(0), &to("no"), None).verdict.passes());
        let headers = format!("Subject: {subject}\r\n\r\n");
        assert!(c.session.data(at(0), headers.as_bytes()).verdict.passes());
        let d = c.session.message(at(0), &BodyShape::default(), headers.as_bytes());
        assert_eq!((d.verdict.word(), d.quarantine.as_deref(), d.route.as_deref()), (verdict, quarantine, route));
        assert_eq!(d.tags, [("X-Connect".to_owned(), "yes".to_owned())]);
    }
}

fn limited(limit: &str, rest: &str) -> String {
    format!("[limit.l]\n{limit}\n{rest}")
}

#[test]
fn what_a_later_rule_refuses_is_not_counted() {
    let source = limited(
        "per = 'client'\nrate = '2/hour'\ncounts = 'recipient'",
        &rules(&[("rcpt", "", "limit l"), ("rcpt", "rcpt.local == 'bad'", "reject")]),
    );
    let mut c = alone(&source, "192.0.2.1");
    c.mail("");
    for _ in 0..10 {
        assert_eq!(c.rcpt("bad@example.test"), "reject r1");
    }
    let probe = |c: &mut Client| {
        c.session.probe_rcpt(at(0), &Recipient::plain(parse_mailbox("a@example.test").unwrap())).map(|d| d.rule)
    };
    assert_eq!(probe(&mut c), None);
    assert_eq!(c.rcpt("a@example.test"), "accept default");
    assert_eq!(c.rcpt("b@example.test"), "accept default");
    assert!(probe(&mut c).is_some());
    assert_eq!(c.rcpt("c@example.test"), "defer r0");
    let d = c.session.rcpt(at(0), &Recipient::plain(parse_mailbox("c@example.test").unwrap()), None);
    assert_eq!(d.reason, "limit l: more than 2/hour per client, again in 30m");
    assert_eq!(c.session.fact("rcpt.count", |v| v.to_string()).unwrap(), "2");
}

#[test]
fn limits_survive_a_reload_and_change_with_their_declaration() {
    let source = |rate: &str| {
        limited(
            &format!("per = ['client/24', 'sender']\nrate = '{rate}'\ncounts = 'message'"),
            &rules(&[("mail", "", "limit l")]),
        )
    };
    let limits = Limits::new(1024, 9);
    let mail = |p: &Arc<Policy>, ip: &str, from: &str| Client::new(p, &limits, ip).mail(from).verdict.word();
    let first = policy(&source("1/hour"));
    assert_eq!(mail(&first, "192.0.2.1", "Ann@example.org"), "accept");
    assert_eq!(mail(&first, "192.0.2.99", "ann+x@example.org"), "defer");
    assert_eq!(mail(&first, "192.0.3.1", "ann@example.org"), "accept");
    assert_eq!(mail(&first, "192.0.2.1", ""), "accept"); // a part of the key is empty: does not apply
    let again = policy(&format!("# reloaded\n{}", source("1/hour")));
    assert_eq!(mail(&again, "192.0.2.1", "ann@example.org"), "defer");
    assert_ne!(first.version(), again.version());
    assert_eq!(mail(&policy(&source("2/hour")), "192.0.2.1", "ann@example.org"), "accept");
}

#[test]
fn concurrency_is_given_back_with_the_session() {
    let source = limited(
        "per = 'client'\nmost = 2\ncounts = 'concurrency'\nexempt = '@loopback'",
        &rules(&[("connect", "", "limit l else drop 421 4.7.0 full")]),
    );
    let (p, limits) = (policy(&source), Limits::new(1024, 9));
    let open = |ip: &str| {
        let mut c = Client::new(&p, &limits, ip);
        (c.session.connect(at(0), false).verdict.word(), c)
    };
    let (a, b) = (open("192.0.2.1"), open("192.0.2.1"));
    assert_eq!((a.0, b.0, open("192.0.2.1").0, open("192.0.2.2").0), ("accept", "accept", "drop", "accept"));
    drop(a);
    assert_eq!(open("192.0.2.1").0, "accept");
    let all: Vec<_> = (0..5).map(|_| open("127.0.0.1")).collect();
    assert!(all.iter().all(|(v, _)| *v == "accept"));
}

#[test]
fn failed_authentications_count_and_then_even_success_waits() {
    let source = limited(
        "per = 'client'\nrate = '2/hour'\ncounts = 'auth-failure'",
        &rules(&[("auth", "", "limit l else drop 421 4.7.0 enough"), ("connect", "", "limit l else drop")]),
    );
    let (p, limits) = (policy(&source), Limits::new(1024, 9));
    let mut c = Client::new(&p, &limits, "192.0.2.1");
    assert!(c.session.connect(at(0), false).verdict.passes());
    assert!(c.session.auth(at(0), Authentication::Succeeded("ann")).verdict.passes());
    assert!(c.session.auth(at(0), Authentication::Failed).verdict.passes());
    assert!(c.session.auth(at(0), Authentication::Failed).verdict.passes());
    assert_eq!(c.session.auth(at(0), Authentication::Failed).verdict.word(), "drop");
    assert_eq!(Client::new(&p, &limits, "192.0.2.1").session.connect(at(0), false).verdict.word(), "drop");
    let mut later = Client::new(&p, &limits, "192.0.2.1");
    assert!(later.session.connect(at(3_600_000), false).verdict.passes());
    let refused = Client::new(&p, &limits, "192.0.2.1").session.auth(at(0), Authentication::Succeeded("ann"));
    assert_eq!(refused.verdict.word(), "drop");
}

#[test]
fn the_compiler_knows_what_is_needed() {
    let p =
        policy(&rules(&[("mail", "helo.matches_client or tls", "accept"), ("rcpt", "rcpt.exists == false", "reject")]));
    assert!(p.needs(Stage::Mail).lookups().contains("client.ptr") && !p.needs(Stage::Mail).lookups().contains("tls"));
    assert!(p.needs(Stage::Rcpt).contains("rcpt.exists") && p.needs(Stage::Rcpt).lookups().is_empty());
    assert!(p.needs(Stage::Connect).is_empty());
}

#[test]
fn facts_are_told_and_refused() {
    let mut c = alone(&rules(&[("mail", "client.ptr ends_with '.example.org'", "reject")]), "192.0.2.1");
    assert!(c.mail("").verdict.passes());
    c.session.set_fact("client.ptr", Given::Text("mx.example.org".into())).unwrap();
    assert!(!c.mail("").verdict.passes());
    assert_eq!(c.session.set_fact("client.prt", Given::Unknown), Err(FactError::Unknown(Some("client.ptr"))));
    assert!(matches!(c.session.set_fact("tls", Given::Number(1)), Err(FactError::WrongType(_))));
    assert_eq!(c.session.set_fact("helo.valid", Given::Flag(true)), Err(FactError::Derived));
}

#[test]
fn warnings_do_not_stop_a_policy() {
    let p = policy(
        &format!(
            "[list.idle]\nwords = ['x']\n[limit.idle]\nper='client'\nrate='1/s'\ncounts='message'\n{}",
            rules(&[("mail", "", "accept"), ("mail", "tls", "reject"), ("rcpt", "false", "reject")])
        )
        .replace("1/s", "1/second"),
    );
    let text: String = p.warnings().iter().map(|w| w.message.clone() + "\n").collect();
    assert!(
        text.contains("list `idle`") && text.contains("limit `idle`") && text.contains("never tried: `r0`"),
        "{text}"
    );
    assert!(text.contains("never holds"), "{text}");
}

#[test]
fn the_trace_names_rules_parts_and_values() {
    let mut c = alone(
        &rules(&[("mail", "tls or sender.domain == 'x.example'", "reject"), ("mail", "", "tarpit 1s")]),
        "192.0.2.1",
    );
    c.session.explain();
    c.mail("a@y.example");
    assert_eq!(
        c.session.trace().unwrap().to_string(),
        "mail: accept by default\n  - r0\n      false   tls   (false)\n      false   sender.domain == 'x.example'   (\"y.example\")\n  + r1\n      => tarpit 1s\n"
    );
}

proptest::proptest! {
    #[test]
    fn nothing_makes_the_compiler_panic(when in "[a-z@()\\[\\]' .0-9!=<>+*/-]{0,60}", then in "[a-z0-9 .:]{0,30}") {
        let source = format!("[[rule]]\nname = 'x'\nstage = 'rcpt'\nwhen = {when:?}\nthen = {then:?}\n");
        let _ = Policy::compile("t", &source, &NoFiles, &Builtins::default());
    }
    #[test]
    fn nothing_makes_the_reader_panic(source in "[\\[\\]a-z=\"'\\n.0-9 ]{0,80}") {
        let _ = Policy::compile("t", &source, &NoFiles, &Builtins::default());
    }
}

/// Every policy that is shipped has cases, which pass and reach every rule, and is without a lint.
#[test]
fn shipped_policies_do_what_their_cases_say() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("policy");
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let mut names: Vec<String> =
        std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|n| n.ends_with(".toml") && !n.ends_with(".cases.toml") && !n.starts_with("gatepost."));
    names.sort();
    let common = ["backup-mx", "edge", "isp-edge", "load-balancer", "small-office", "strict", "submission-only"]
        .map(str::to_owned);
    assert!(common.iter().all(|n| names.contains(&format!("{n}.toml"))), "{names:?}");
    for name in names {
        let (source, cases) = (read(&name), read(&name.replace(".toml", ".cases.toml")));
        let show = |found: Vec<Diagnostic>| found.iter().map(|f| format!("{f}\n")).collect::<String>();
        let file = CaseFile::parse("cases", &cases).map_err(show).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(file.policy.as_deref(), Some(&*name));
        let builtins = Builtins::new(&file.local_domains).unwrap().with_routes(["primary".to_owned()]);
        let linted = lint(&name, &source, &NoFiles, &builtins, &file.local_domains[0]).map_err(show);
        let linted = linted.unwrap_or_else(|e| panic!("{e}"));
        let warnings = linted.findings.into_iter().filter(|d| d.severity != Severity::Hint).collect();
        assert_eq!(show(warnings), "");
        let report = file.run(&linted.policy);
        assert!(report.passed(), "{name}\n{report}");
        // The default policy lists no relay hosts; see the test below.
        let uncovered: &[&str] = if name == "edge.toml" { &["hosts-may-relay"] } else { &[] };
        assert_eq!(report.uncovered, uncovered, "{name}: rules without a case");
    }
}

#[test]
fn a_case_that_goes_wrong_says_so() {
    let p = policy(&rules(&[("mail", "", "reject 550 5.7.1 no"), ("rcpt", "", "accept")]));
    let run = |expect: &str| {
        let source =
            format!("[[case]]\nname = 'c'\nfrom = 'a@b.example'\nto = 'c@d.example'\nexpect = {{ {expect} }}\n");
        CaseFile::parse("cases", &source).unwrap().run(&p)
    };
    assert!(run("verdict = 'reject', rule = 'r0', reply = '550 5.7.1', stage = 'mail'").passed());
    let wrong = run("verdict = 'accept', rule = 'r1', reply = '250'");
    assert_eq!(wrong.results[0].failures.len(), 3);
    assert!(wrong.to_string().contains("- verdict = \"accept\"\n  + verdict = \"reject\"    at mail"), "{wrong}");
    let short = &run("verdict = 'accept', stage = 'rcpt'").results[0];
    assert_eq!((short.failures[0].key, &*short.failures[0].came), ("stage", "mail"));
    assert_eq!(wrong.uncovered, ["r1"]);
    for (source, word) in [
        ("[[case]]\nname = 'x'\n", "proves nothing"),
        ("[[case]]\nclinet = 'x'\nexpect = { verdict = 'accept' }", "unknown key"),
        ("[[case]]\nexpect = { verdict = 'acept' }", "cannot stand"),
        ("[[case]]\nfacts = { 'rcpt.count' = 1 }\nexpect = { verdict = 'accept' }", "cannot be set"),
        ("[[case]]\nfrom = 'a'\nexpect = { verdict = 'accept' }", "cannot stand"),
    ] {
        let found = CaseFile::parse("cases", source).unwrap_err();
        assert!(found[0].message.contains(word), "{}", found[0]);
    }
}

#[test]
fn listed_hosts_relay_under_the_default_policy() {
    let source = Policy::DEFAULT.replacen("networks = []", "networks = [\"192.0.2.0/24\"]", 1);
    let p = policy(&source);
    for (ip, expected) in [("192.0.2.7", "accept hosts-may-relay"), ("192.0.3.7", "reject relay-denied")] {
        let mut c = Client::new(&p, &Limits::new(1024, 1), ip);
        assert!(c.session.connect(at(0), false).verdict.passes());
        assert!(c.mail("a@example.net").verdict.passes());
        assert_eq!(c.rcpt("b@elsewhere.example"), expected);
    }
}

#[test]
fn the_published_schema_and_reference_are_those_of_the_program() {
    if std::env::var_os("GATEPOST_BLESS").is_some() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/policy/");
        std::fs::write(format!("{folder}policy.schema.json"), schema()).unwrap();
        std::fs::write(format!("{folder}REFERENCE.md"), reference()).unwrap();
        return;
    }
    // The messages are short on purpose: both texts are long.
    assert!(schema() == include_str!("../../policy/policy.schema.json"), "GATEPOST_BLESS=1 cargo test writes it");
    assert!(reference() == include_str!("../../policy/REFERENCE.md"), "GATEPOST_BLESS=1 cargo test writes it");
}

proptest::proptest! {
    /// The naive twin of gates and guards: the same rules, each in a policy of its own, where nothing is shared.
    #[test]
    fn rules_together_match_as_each_alone(
        parts in proptest::collection::vec((0usize..9, "[ab]{1,2}", proptest::bool::ANY, proptest::bool::ANY), 3..40),
        sender in "[ab]{1,3}",
        last in 0u8..4,
    ) {
        let condition = |(kind, word, negate, or): &(usize, String, bool, bool)| {
            let part = match kind {
                0 => format!("sender.local == '{word}'"),
                1 => format!("sender.local starts_with '{word}'"),
                2 => format!("sender.local ends_with '{word}'"),
                3 => format!("sender.local contains '{word}'"),
                4 => format!("sender.local matches /^{word}/i"),
                5 => format!("client in 192.0.2.{}/31", word.len() * 2 - 2),
                6 => format!("client in [192.0.2.{}, 10.0.0.0/8]", word.len()),
                7 => format!("client.ptr == '{word}'"),
                _ => "client in @loopback".to_owned(),
            };
            let part = if *negate { format!("not ({part})") } else { part };
            if *or { format!("{part} or tls") } else { format!("sender.local != 'zz' and {part}") }
        };
        let matched = |conditions: &[String]| -> Vec<bool> {
            let list: Vec<_> = conditions.iter().map(|c| ("mail", c.as_str(), "tag X-Hit: yes")).collect();
            let mut c = alone(&rules(&list), &format!("192.0.2.{last}"));
            c.session.explain();
            c.mail(&format!("{sender}@example.org"));
            c.session.trace().unwrap().stages[0].rules.iter().map(|r| r.matched).collect()
        };
        let conditions: Vec<String> = parts.iter().map(condition).collect();
        let each: Vec<bool> = conditions.iter().flat_map(|c| matched(std::slice::from_ref(c))).collect();
        proptest::prop_assert_eq!(&matched(&conditions), &each);
        // Without a trace, rules whose gate is closed are passed over: the first that matches must still be found.
        let rejecting: Vec<_> = conditions.iter().map(|c| ("mail", c.as_str(), "reject")).collect();
        let mut c = alone(&rules(&rejecting), &format!("192.0.2.{last}"));
        let decision = c.mail(&format!("{sender}@example.org"));
        let first = each.iter().position(|m| *m).map_or("default".to_owned(), |i| format!("r{i}"));
        proptest::prop_assert_eq!(c.session.rule_name(decision.rule), first);
    }
}
