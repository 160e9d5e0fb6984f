//! Tests of what decides beside plain rules: scores and thresholds, greylisting, modes and guards, reputation.

use super::decision::Guarded;
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

fn findings(source: &str) -> String {
    let builtins = Builtins::new(["example.test"]).unwrap();
    let found = match Policy::compile("test.toml", source, &NoFiles, &builtins) {
        Ok(policy) => policy.warnings().to_vec(),
        Err(found) => found,
    };
    found.iter().map(|f| format!("{f}\n")).collect()
}

fn at(secs: u64) -> Instant {
    Instant::from_nanos((1000 + secs) * 1_000_000_000)
}

fn minutes(n: u64) -> u64 {
    n * 60
}

/// A session that begins so many seconds after the tests' beginning.
fn session(policy: &Arc<Policy>, limits: &Arc<Limits>, ip: &str, secs: u64) -> Session {
    let client = ClientFacts { client: (ip.parse::<std::net::IpAddr>().unwrap(), 4000).into(), ..Default::default() };
    let wall = WallTime::from_millis(1_795_437_121_000) + Duration::from_secs(secs);
    Session::new(policy.clone(), limits.clone(), client, at(secs), wall)
}

fn path(from: &str) -> ReversePath {
    match from {
        "" => ReversePath::Null,
        from => ReversePath::Mailbox(parse_mailbox(from).unwrap()),
    }
}

fn mailbox(to: &str) -> Recipient {
    Recipient::plain(parse_mailbox(to).unwrap())
}

/// Goes as far as RCPT; the decision there, or the refusal before.
fn to_rcpt(s: &mut Session, secs: u64, from: &str, to: &str) -> String {
    let show = |s: &Session, verdict: &str, rule| format!("{verdict} {}", s.rule_name(rule));
    let d = s.connect(at(secs), false);
    if !d.verdict.passes() {
        return show(s, d.verdict.word(), d.rule);
    }
    s.helo(at(secs), "mail.example.net", true);
    let d = s.mail(at(secs), &path(from), &MailParameters::default());
    if !d.verdict.passes() {
        return show(s, d.verdict.word(), d.rule);
    }
    let d = s.rcpt(at(secs), &mailbox(to), None);
    show(s, d.verdict.word(), d.rule)
}

fn message(s: &mut Session, secs: u64) -> Decision {
    let headers = b"Subject: x\r\n\r\n";
    let d = s.data(at(secs), headers);
    if !d.verdict.passes() {
        return d;
    }
    s.message(at(secs), &BodyShape { octets: 100, ..BodyShape::default() }, headers)
}

const SCORES: &str = r#"
[threshold.rcpt]
observe = 1
tag = 2.5
greylist = 6
defer = 8
reject = 12
[[rule]]
name = "bad-helo"
stage = "helo"
when = "helo == 'mail.example.net'"
then = "score +2.5 odd name"
[[rule]]
name = "sender"
stage = "mail"
when = "sender.local == 'spam'"
then = "score 6"
[[rule]]
name = "good"
stage = "mail"
when = "sender.local == 'good'"
then = "score -2"
[[rule]]
name = "rcpt"
stage = "rcpt"
when = "rcpt.local == 'trap'"
then = ["score 4", "tarpit 1s"]
[[rule]]
name = "counted"
stage = "rcpt"
when = "rcpt.local == 'counted'"
then = "score rcpt.count"
"#;

#[test]
fn points_add_up_and_thresholds_act_in_their_order() {
    let (p, limits) = (policy(SCORES), Limits::new(1024, 1));
    let decide = |from: &str, to: &str| {
        let mut s = session(&p, &limits, "192.0.2.1", 0);
        s.connect(at(0), false);
        s.helo(at(0), "mail.example.net", true);
        s.mail(at(0), &path(from), &MailParameters::default());
        let d = s.rcpt(at(0), &mailbox(to), None);
        (d.verdict.word(), s.rule_name(d.rule).to_owned(), d)
    };
    let (word, rule, d) = decide("spam@example.org", "trap@example.test");
    assert_eq!((word, rule.as_str(), d.score), ("reject", "threshold.rcpt", 12_500));
    assert_eq!(d.reason, "score 12.5 reaches reject = 12 (sender +6, rcpt +4, bad-helo +2.5 odd name)");
    let reply = d.verdict.reply().unwrap().to_string();
    assert_eq!(reply, "550 5.7.1 Refused as unwanted; score 12.5 (sender +6, rcpt +4, bad-helo +2.5 odd name)");
    let (word, _, d) = decide("spam@example.org", "bob@example.test");
    assert_eq!((word, d.score), ("defer", 8500));
    // Greylisted, as nothing is known of them.
    let (word, rule, d) = decide("a@example.org", "trap@example.test");
    assert_eq!((word, rule.as_str()), ("defer", "threshold.rcpt"));
    assert_eq!(d.verdict.reply().unwrap().to_string(), "451 4.7.1 Greylisted, try again in 300 seconds");
    assert!(d.reason.starts_with("score 6.5 reaches greylist = 6"), "{}", d.reason);
    let (word, rule, _) = decide("good@example.org", "bob@example.test");
    assert_eq!((word, rule.as_str()), ("accept", "default"));
}

#[test]
fn a_tag_says_the_score_of_the_whole_message() {
    let (p, limits) = (policy(SCORES), Limits::new(1024, 1));
    let mut s = session(&p, &limits, "192.0.2.1", 0);
    assert_eq!(to_rcpt(&mut s, 0, "a@example.org", "bob@example.test"), "accept default");
    // Two of the same kind count once, and a recipient that was refused leaves nothing behind.
    assert_eq!(s.rcpt(at(0), &mailbox("counted@example.test"), None).score, 3500);
    assert_eq!(s.rcpt(at(0), &mailbox("counted@example.test"), None).score, 3500);
    assert_eq!(s.rcpt(at(0), &mailbox("trap@example.test"), None).verdict.word(), "defer");
    let d = message(&mut s, 0);
    assert_eq!(d.tags, [("X-Gatepost-Score".to_owned(), "3.5 (bad-helo +2.5 odd name, counted +1)".to_owned())]);
    s.reset();
    // The connection keeps its part, the next message begins with it.
    s.mail(at(1), &path("good@example.org"), &MailParameters::default());
    assert_eq!(s.fact("score", |v| v.to_string()).unwrap(), "0.5");
    let d = s.rcpt(at(1), &mailbox("bob@example.test"), None);
    assert!(d.verdict.passes() && message(&mut s, 1).tags.is_empty());
    s.helo(at(2), "other.example", true);
    assert_eq!(s.fact("score", |v| v.to_string()).unwrap(), "0");
}

#[test]
fn rules_may_ask_about_the_score() {
    let source = SCORES.split("[[rule]]").skip(1).map(|r| format!("[[rule]]{r}")).collect::<String>()
        + "[[rule]]\nname = \"high\"\nstage = \"rcpt\"\nwhen = \"score > 2 and score.helo == 2.5 and score + 0.5 >= 3\"\nthen = \"reject\"\n";
    let mut s = session(&policy(&source), &Limits::new(1024, 1), "192.0.2.1", 0);
    assert_eq!(to_rcpt(&mut s, 0, "a@example.org", "bob@example.test"), "reject high");
}

#[test]
fn faults_and_lints_of_thresholds() {
    let rule = "[[rule]]\nname = \"a\"\nstage = \"mail\"\nthen = \"score 3\"\n";
    for (source, says) in [
        (format!("[threshold.rcpt]\ndefer = 8\nreject = 6\n{rule}"), "`defer` = 8 is never seen: from 6 on `reject`"),
        (
            format!("[threshold.rcpt]\nreject = 3.5\n{rule}"),
            "`reject` = 3.5 is never reached: the rules until rcpt add 3",
        ),
        (format!("[threshold.rcp]\nreject = 3\n{rule}"), "did you mean `rcpt`"),
        (format!("[threshold.rcpt]\nreject = \"3\"\n{rule}"), "a number with up to three decimals"),
        (format!("[threshold.rcpt]\nexplain = true\n{rule}"), "no threshold in it"),
        (format!("[threshold.mail]\ngreylist = 3\n{rule}"), "not known at stage mail"),
        (format!("[threshold.rcpt]\nreject = 3\nreject-with = \"450 x\"\n{rule}"), "cannot stand here"),
        (
            format!(
                "[threshold.mail]\nreject = 3\n{rule}[[rule]]\nname = \"b\"\nstage = \"mail\"\nthen = \"accept\"\n"
            ),
            "never looked at: the rule `b`",
        ),
        (rule.to_owned(), "adds to a score that nobody looks at"),
        ("[greylist.slow]\ndelay = \"5h\"\nretry-window = \"1h\"\n".into(), "nobody could ever come back"),
        ("[greylist.slow]\ndelay = \"5m\"\n".into(), "no rule uses the greylist `slow`"),
        ("[greylist.x]\nper = \"cliant\"\n".into(), "did you mean `client`"),
        (
            "[[rule]]\nname = \"a\"\nstage = \"rcpt\"\nmode = \"obseve\"\nthen = \"reject\"\n".into(),
            "did you mean `observe`",
        ),
        (
            "[[rule]]\nname = \"a\"\nstage = \"rcpt\"\nguard = { most = \"2 %\" }\nthen = \"reject\"\n".into(),
            "the guard lacks `of`",
        ),
        (
            "[[rule]]\nname = \"a\"\nstage = \"rcpt\"\nwhen = \"limit_used('x') > 3\"\nthen = \"reject\"\n".into(),
            "there is no limit `x`",
        ),
        ("[reputation]\nhalf-life = \"1m\"\n".into(), "a duration from 1h"),
    ] {
        let found = findings(&source);
        assert!(found.contains(says), "{source}\n{found}");
    }
}

const GREY: &str = r#"
[greylist.default]
delay = "5m"
retry-window = "4h"
remember = "10d"
auto-allow = 2
exempt = "client in 198.51.100.0/24"
[[rule]]
name = "grey"
stage = "rcpt"
then = "greylist"
"#;

/// What a client hears that comes at this time.
fn comes(p: &Arc<Policy>, limits: &Arc<Limits>, ip: &str, secs: u64, from: &str) -> String {
    to_rcpt(&mut session(p, limits, ip, secs), secs, from, "bob@example.test")
}

#[test]
fn who_comes_back_in_time_is_known() {
    let (p, limits) = (policy(GREY), Limits::new(1024, 1));
    let come = |ip: &str, secs: u64, from: &str| comes(&p, &limits, ip, secs, from);
    assert_eq!(come("192.0.2.1", 0, "a@example.org"), "defer grey");
    assert_eq!(come("192.0.2.1", minutes(4), "a@example.org"), "defer grey");
    // Another host of the network, a tag in the address: the same sender.
    assert_eq!(come("192.0.2.77", minutes(5), "A+x@Example.org"), "accept default");
    assert_eq!(come("192.0.2.1", minutes(6), "a@example.org"), "accept default");
    assert_eq!(come("192.0.2.1", minutes(6), "b@example.org"), "defer grey");
    assert_eq!(come("203.0.113.1", minutes(6), "a@example.org"), "defer grey");
    assert_eq!(come("203.0.113.1", minutes(6 + 241), "a@example.org"), "defer grey"); // too late: new again
    assert_eq!(come("198.51.100.9", 0, "x@example.org"), "accept default");
    // A second sender of the network came back: the network is known, also for senders never seen.
    assert_eq!(come("192.0.2.1", minutes(20), "b@example.org"), "accept default");
    assert_eq!(come("192.0.2.9", minutes(21), "new@example.org"), "accept default");
    // After ten days of silence nobody is.
    assert_eq!(come("192.0.2.9", minutes(21 + 60 * 24 * 11), "new@example.org"), "defer grey");
    // The null sender has an entry like others.
    assert_eq!(come("203.0.113.7", 0, ""), "defer grey");
    assert_eq!(come("203.0.113.7", minutes(6), ""), "accept default");
}

#[test]
fn a_probe_notes_who_has_to_wait_and_users_do_not_wait() {
    let (p, limits) = (policy(GREY), Limits::new(1024, 1));
    let begin = |secs: u64| {
        let mut s = session(&p, &limits, "192.0.2.1", secs);
        s.helo(at(secs), "x.example", true);
        s
    };
    let mut s = begin(0);
    s.mail(at(0), &path("a@example.org"), &MailParameters::default());
    let d = s.probe_rcpt(at(0), &mailbox("bob@example.test")).unwrap();
    assert_eq!(d.verdict.reply().unwrap().to_string(), "451 4.7.1 Greylisted, try again in 300 seconds");
    assert_eq!(d.reason, "greylist default: not known yet, again in 5m");
    let mut s = begin(minutes(5));
    s.mail(at(minutes(5)), &path("a@example.org"), &MailParameters::default());
    assert!(s.probe_rcpt(at(minutes(5)), &mailbox("bob@example.test")).is_none());
    let mut s = begin(0);
    s.auth(at(0), Authentication::Succeeded("ann"));
    s.mail(at(0), &path("z@example.org"), &MailParameters::default());
    assert!(s.probe_rcpt(at(0), &mailbox("bob@example.test")).is_none());
}

#[test]
fn the_pool_of_a_large_sender_is_one_where_spf_confirms_it() {
    let (p, limits) = (policy(GREY), Limits::new(1024, 1));
    let come = |ip: &str, secs: u64, spf: &str| {
        let mut s = session(&p, &limits, ip, secs);
        s.connect(at(secs), false);
        s.helo(at(secs), "out.example.net", true);
        s.mail_told(&path("news@big.example"), &MailParameters::default());
        s.set_fact("spf", Given::Text(spf.into())).unwrap();
        s.mail(at(secs), &path("news@big.example"), &MailParameters::default());
        s.rcpt(at(secs), &mailbox("bob@example.test"), None).verdict.passes()
    };
    assert!(!come("192.0.2.1", 0, "pass"));
    assert!(come("203.0.113.1", minutes(5), "pass"));
    assert!(!come("203.0.113.1", minutes(5), "softfail") && !come("198.18.0.1", minutes(5), "none"));
}

#[test]
fn greylisting_outlives_the_process() {
    let p = policy(GREY);
    let limits = Limits::new(1024, 1);
    assert_eq!(comes(&p, &limits, "192.0.2.1", 0, "a@example.org"), "defer grey");
    let memory = Memory::restore(MemorySize::default(), &limits.memory().snapshot()).unwrap();
    let limits = Limits::with_memory(1024, 99, memory);
    assert_eq!(comes(&p, &limits, "192.0.2.1", minutes(6), "a@example.org"), "accept default");
    assert_eq!(limits.remembered(at(0)).greylist, 2);
}

fn ruled(practice: &str, then: &str) -> String {
    format!("[[rule]]\nname = \"r\"\nstage = \"rcpt\"\n{practice}\nthen = {then}\n")
}

#[test]
fn an_observing_rule_says_what_it_would_do_and_does_nothing() {
    let source = "[limit.m]\nper = \"client\"\ncounts = \"recipient\"\nrate = \"1/hour\"\n".to_owned()
        + &ruled(
            "mode = \"observe\"",
            "[\"score 3\", \"tag X-A: b\", \"limit m\", \"greylist\", \"reject 550 5.7.1 no\"]",
        );
    let (p, limits) = (policy(&source), Limits::new(1024, 1));
    let mut s = session(&p, &limits, "192.0.2.1", 0);
    s.mail(at(0), &path("a@example.org"), &MailParameters::default());
    let d = s.rcpt(at(0), &mailbox("bob@example.test"), None);
    let would = |d: &Decision<_>| d.would.iter().map(|w| w.what.clone()).collect::<Vec<_>>();
    assert!(d.verdict.passes() && d.score == 0 && s.tags().count() == 0);
    assert_eq!(would(&d), ["score +3", "tag \"X-A: b\"", "greylist 300s", "reject 550 5.7.1 no"]);
    let d = s.rcpt(at(1), &mailbox("bob@example.test"), None);
    assert_eq!(would(&d)[2], "limit m: defer 450 4.7.0 Limit m exceeded, try again later");
    let counts: Vec<_> = p.rule_counts().collect();
    assert_eq!(counts, [("r", RuleCounts { hits: 0, would_hits: 2, refused: 0 })]);
    assert_eq!(p.limit_counts().next().unwrap().1.would_exceed, 1);
    // The limit has counted nothing for rules that act.
    let acts = policy(&source.replace("mode = \"observe\"", "").replace("\"greylist\", ", ""));
    let mut s = session(&acts, &limits, "192.0.2.1", 2);
    s.mail(at(2), &path("a@example.org"), &MailParameters::default());
    assert_eq!(s.rcpt(at(2), &mailbox("bob@example.test"), None).verdict.word(), "reject");
}

#[test]
fn a_share_is_of_networks_and_stays() {
    let (p, limits) = (policy(&ruled("mode = \"25 %\"", "\"reject\"")), Limits::new(1024, 1));
    let refused = |secs: u64, last: u8| {
        (0..1000u32)
            .map(|n| {
                comes(&p, &limits, &format!("10.{}.{}.{last}", n / 250, n % 250), secs, "a@example.org") == "reject r"
            })
            .collect::<Vec<_>>()
    };
    let first = refused(0, 1);
    let share = first.iter().filter(|r| **r).count();
    assert!((200..300).contains(&share), "{share}");
    assert_eq!(first, refused(90_000, 200));
}

#[test]
fn a_guard_makes_its_rule_observe_and_says_so_once() {
    let guard = "when = \"sender.local == 'bad'\"\nguard = { most = \"10 %\", of = \"client in 192.0.2.0/24\", over = \"1h\", at-least = 10 }";
    let (p, limits) = (policy(&ruled(guard, "[\"score 1\", \"reject\"]")), Limits::new(1024, 1));
    let come = |secs: u64, ip: &str, from: &str| {
        let mut s = session(&p, &limits, ip, secs);
        s.mail(at(secs), &path(from), &MailParameters::default());
        s.rcpt(at(secs), &mailbox("bob@example.test"), None)
    };
    for i in 0..9 {
        assert!(come(i, "192.0.2.1", "good@example.org").verdict.passes());
    }
    assert_eq!(come(10, "203.0.113.1", "bad@example.org").verdict.word(), "reject"); // not of that traffic
    assert_eq!(come(11, "192.0.2.1", "bad@example.org").verdict.word(), "reject"); // one of ten
    let d = come(12, "192.0.2.1", "bad@example.org"); // two of eleven
    assert!(d.verdict.passes() && d.guard.is_some_and(|(_, what)| what == Guarded::Observes));
    assert_eq!((d.score, d.would.len()), (0, 2));
    let d = come(13, "203.0.113.1", "bad@example.org");
    assert!(d.verdict.passes() && d.guard.is_none() && d.would.len() == 2);
    let d = come(3700, "203.0.113.1", "bad@example.org");
    assert!(d.verdict.word() == "reject" && d.guard.is_some_and(|(_, what)| what == Guarded::Acts));
    // A reload begins anew at once.
    for i in 0..12 {
        come(3800 + i, "192.0.2.1", "bad@example.org");
    }
    assert!(come(3900, "192.0.2.1", "bad@example.org").verdict.passes());
    limits.reloaded();
    assert_eq!(come(3901, "192.0.2.1", "bad@example.org").verdict.word(), "reject");
}

#[test]
fn limits_in_use_are_numbers_for_rules() {
    let source = r#"
[limit.m]
per = "client"
counts = "message"
rate = "10/hour"
[limit.open]
per = "client"
counts = "concurrency"
most = 4
[[rule]]
name = "open"
stage = "connect"
then = "limit open"
[[rule]]
name = "half"
stage = "mail"
when = "limit_used('m') >= 50 and limit_used('open') == 25"
then = ["tag X-Busy: yes", "limit m"]
[[rule]]
name = "m"
stage = "mail"
when = "limit_used('m') < 50"
then = "limit m"
"#;
    let (p, limits) = (policy(source), Limits::new(1024, 1));
    let mut s = session(&p, &limits, "192.0.2.1", 0);
    s.connect(at(0), false);
    for i in 0..10 {
        s.mail(at(0), &path("a@example.org"), &MailParameters::default());
        assert_eq!(s.tags().count(), usize::from(i >= 5), "{i}");
    }
    assert_eq!(s.mail(at(0), &path("a@example.org"), &MailParameters::default()).verdict.word(), "defer");
    let counts = p.limit_counts().find(|(name, _)| *name == "m").unwrap().1;
    assert_eq!((counts.passed, counts.exceeded, counts.headroom_percent()), (10, 1, 0));
    assert_eq!(p.limit_counts().find(|(name, _)| *name == "m").unwrap().1.peak_percent, 0);
}

const REPUTATION: &str = r#"
[reputation]
half-life = "1d"
at-least = 2
[[rule]]
name = "bad-client"
stage = "connect"
when = "reputation.client < 30"
then = "drop 554 5.7.1 bad reputation"
[[rule]]
name = "stranger"
stage = "connect"
when = "not client.seen"
then = "tarpit 1s"
[[rule]]
name = "bad-domain"
stage = "mail"
when = "reputation.domain < 50 and sender.domain != 'spam.example'"
then = "defer"
[[rule]]
name = "spam"
stage = "mail"
when = "sender.local == 'spam'"
then = "reject"
"#;

#[test]
fn the_past_of_a_client_counts_and_is_forgiven() {
    let (p, limits) = (policy(REPUTATION), Limits::new(1024, 1));
    let come = |secs: u64, ip: &str, from: &str| comes(&p, &limits, ip, secs, from);
    let mut s = session(&p, &limits, "192.0.2.1", 0);
    assert_eq!(s.connect(at(0), false).delay, Duration::from_secs(1));
    let mut s = session(&p, &limits, "192.0.2.1", 1);
    assert_eq!(s.connect(at(1), false).delay, Duration::ZERO);
    (0..3).for_each(|i| assert_eq!(come(10 + i, "192.0.2.1", "spam@spam.example"), "reject spam"));
    assert_eq!(come(20, "192.0.2.1", "a@example.org"), "drop bad-client");
    assert_eq!(come(20, "192.0.2.2", "a@example.org"), "accept default");
    // The domain is known to everybody.
    assert_eq!(come(30, "203.0.113.5", "a@spam.example"), "accept default");
    let mut s = session(&p, &limits, "203.0.113.6", 31);
    s.mail(at(31), &path("a@spam.example"), &MailParameters::default());
    assert_eq!(s.fact("reputation.domain", |v| v.to_string()).unwrap(), "0");
    // Two days later too little is left to say anything.
    assert_eq!(come(3 * 86_400, "192.0.2.1", "a@example.org"), "accept default");
}

#[test]
fn what_the_backend_refuses_was_no_good_message() {
    let (p, limits) = (policy(REPUTATION), Limits::new(1024, 1));
    for i in 0..4 {
        let mut s = session(&p, &limits, "192.0.2.9", i);
        assert_eq!(to_rcpt(&mut s, i, "a@mixed.example", "bob@example.test"), "accept default");
        assert!(message(&mut s, i).verdict.passes());
        let (how, reply) = if i == 0 { ("refused", "554 5.7.1 spam") } else { ("delivered", "250 ok") };
        s.settled(at(i), how, reply);
        s.reset();
    }
    let mut s = session(&p, &limits, "192.0.2.9", 10);
    s.connect(at(10), false);
    assert_eq!(s.fact("reputation.client", |v| v.to_string()).unwrap(), "75");
    s.helo(at(10), "x.example", true);
    s.mail(at(10), &path("a@mixed.example"), &MailParameters::default());
    assert_eq!(s.fact("reputation.domain", |v| v.to_string()).unwrap(), "75");
    assert_eq!(limits.remembered(at(10)).reputation, 3);
}

#[test]
fn a_policy_that_asks_nothing_remembers_nothing() {
    let (p, limits) = (policy(&ruled("", "\"accept\"")), Limits::new(1024, 1));
    comes(&p, &limits, "192.0.2.1", 0, "a@example.org");
    assert!(limits.memory().is_empty());
}

#[test]
fn a_shadow_decides_beside_and_is_heard_by_nobody() {
    let serving =
        policy("[[rule]]\nname = \"no-eve\"\nstage = \"rcpt\"\nwhen = \"rcpt.local == 'eve'\"\nthen = \"reject\"\n");
    let second = policy(
        "[limit.m]\nper = \"client\"\ncounts = \"recipient\"\nrate = \"1/hour\"\n\
         [[rule]]\nname = \"hangs\"\nstage = \"helo\"\nwhen = \"client.ptr == 'x.example'\"\nthen = \"reject\"\n\
         [[rule]]\nname = \"one\"\nstage = \"rcpt\"\nthen = \"limit m\"\n",
    );
    let run = ShadowPolicy::new(second, Limits::new(1024, 5), false);
    let limits = Limits::new(1024, 1);
    let mut s = session(&serving, &limits, "192.0.2.1", 0);
    s.shadow(&run);
    assert_eq!(to_rcpt(&mut s, 0, "a@example.org", "bob@example.test"), "accept default");
    assert!(s.take_differences().is_empty());
    assert_eq!(s.rcpt(at(1), &mailbox("eve@example.test"), None).verdict.word(), "reject");
    assert!(s.rcpt(at(2), &mailbox("ann@example.test"), None).verdict.passes());
    let differences = s.take_differences();
    let changes: Vec<_> = differences.iter().map(|d| (d.stage, d.change)).collect();
    assert_eq!(changes, [("rcpt", "other refusal"), ("rcpt", "tightened")], "{differences:?}");
    assert!(differences[1].then == "accept by default" && differences[1].now.starts_with("defer by one: 450 4.7.0"));
    let counts = run.counts();
    assert_eq!((counts.undecided, counts.tightened, counts.other_refusal), (1, 1, 1), "{counts:?}");
    // The limits of the policy that serves know nothing of it.
    assert!(limits.memory().is_empty() && limits.remembered(at(2)).keys == 0);
}
