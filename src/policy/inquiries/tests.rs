//! What is asked, when, and what comes of it.

use super::*;
use crate::base::inquiry::{Action, Advice, Dkim, MailDomain, Signatures, Subject, Verified};
use crate::base::time::{Instant, WallTime};
use crate::policy::limits::Limits;
use crate::policy::state::ClientFacts;
use crate::policy::value::Value;
use crate::policy::{Builtins, NoFiles};
use crate::wire::address::parse_mailbox;
use std::net::Ipv4Addr;

const LISTS: &str = "[dnsbl.zen]\nzone = 'zen.example.org'\ncodes = { '127.0.0.2' = 4, '127.0.0.3' = 2.5 }\n\
                     [dnsbl.names]\nzone = 'names.example.org'\nof = 'helo'\n\
                     [dnsbl.domains]\nzone = 'domains.example.org'\nof = 'sender'\n";

fn policy(rules: &[(&str, &str, &str)]) -> Arc<Policy> {
    let mut source = String::from(LISTS);
    for (i, (stage, when, then)) in rules.iter().enumerate() {
        let when = if when.is_empty() { String::new() } else { format!("when = \"\"\"{when}\"\"\"\n") };
        source += &format!("[[rule]]\nname = 'r{i}'\nstage = '{stage}'\n{when}then = '{then}'\n");
    }
    let builtins = Builtins::new(["example.test"]).unwrap().with_helpers(["spamd".to_owned(), "postgrey".to_owned()]);
    match Policy::compile("test.toml", &source, &NoFiles, &builtins) {
        Ok(p) => Arc::new(p),
        Err(findings) => panic!("{}", findings.iter().map(|f| format!("{f}\n")).collect::<String>()),
    }
}

fn session(rules: &[(&str, &str, &str)]) -> Session {
    of(policy(rules), "mx")
}

fn of(policy: Arc<Policy>, listener: &str) -> Session {
    let client = ClientFacts { client: "192.0.2.9:4000".parse().unwrap(), listener: listener.into(), tls: None };
    let mut session = Session::new(policy, Limits::new(64, 1), client, NOW, WallTime::from_millis(1_795_437_121_042));
    session.connect_told(false);
    session
}

const NOW: Instant = Instant::ZERO;

fn names(inquiries: &[Inquiry]) -> String {
    let one = |i: &Inquiry| match i {
        Inquiry::Reverse(_) => "reverse".to_owned(),
        Inquiry::Listed { zone, subject: Subject::Address(_) } => format!("listed {}", zone.as_str()),
        Inquiry::Listed { zone, subject: Subject::Name(n) } => format!("listed {} {}", zone.as_str(), n.as_str()),
        Inquiry::MailDomain(d) => format!("mail {}", d.as_str()),
        Inquiry::HeloHost { name, .. } => format!("helo {}", name.as_str()),
        Inquiry::Spf { sender: Some(s), .. } => format!("spf {s}"),
        Inquiry::Spf { sender: None, helo, .. } => format!("spf of {helo}"),
        Inquiry::Origin(_) => "origin".into(),
        Inquiry::Signatures => "signatures".into(),
        Inquiry::Consult(name) => format!("consult {name}"),
    };
    inquiries.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Session {
    fn asks_now(&mut self) -> String {
        let wanted = self.inquiries();
        names(&wanted)
    }
    fn mail_from(&mut self, from: &str) {
        let path = match from {
            "" => ReversePath::Null,
            from => ReversePath::Mailbox(parse_mailbox(from).unwrap()),
        };
        self.mail_told(&path, &MailParameters::default());
    }
    fn text(&self, fact: &str) -> String {
        self.fact(fact, |v| v.to_string()).unwrap()
    }
}

fn rcpt(to: &str) -> Recipient {
    Recipient::plain(parse_mailbox(to).unwrap())
}

fn message(text: &str) -> Body {
    let text = text.replace('\n', "\r\n");
    let header_octets = text.find("\r\n\r\n").map_or(text.len(), |n| n + 4) as u64;
    let shape = BodyShape { octets: text.len() as u64, header_octets, ..BodyShape::default() };
    Body::memory(shape, vec![Arc::new(text.into_bytes())])
}

fn codes(codes: &[[u8; 4]]) -> Finding {
    Finding::Listed(codes.iter().copied().map(Ipv4Addr::from).collect())
}

fn spf(result: Verified) -> Finding {
    Finding::Spf(Spf { result, domain: "b.example".into(), of_helo: false, explanation: None })
}

#[test]
fn nothing_is_asked_that_no_rule_can_need() {
    for (when, listener, asked) in [
        ("dnsbl('zen') > 3", "mx", "listed zen.example.org"),
        ("listener == 'mx' and dnsbl('zen') > 3", "mx", "listed zen.example.org"),
        ("listener == 'mx' and dnsbl('zen') > 3", "submission", ""),
        ("dnsbl('zen') > 3 and listener == 'mx'", "submission", ""),
        ("(dnsbl('zen') > 3 and listener == 'mx') or client.iprev == 'fail'", "submission", "reverse"),
        ("not (dnsbl('zen') > 3 and listener == 'mx')", "submission", ""),
        ("dnsbl('zen') + dnsbl('zen') * 2 > 3.5", "mx", "listed zen.example.org"),
        ("client in 198.51.100.0/24 and client.asn == 64500", "mx", ""),
        ("client.fcrdns or client.ptr ends_with 'x' or client.country == 'DE'", "mx", "reverse, origin"),
    ] {
        for stage in ["connect", "helo", "mail", "message"] {
            let mut session = of(policy(&[(stage, when, "reject")]), listener);
            assert_eq!(session.asks_now(), asked, "{when} at {stage} for {listener}");
            assert_eq!(session.asks_now(), "", "each once");
        }
    }
    // Whoever has logged in is not looked up, but nobody knows yet who will.
    let rule = [("mail", "not authenticated and dnsbl('zen') > 3", "reject")];
    assert_eq!(session(&rule).asks_now(), "listed zen.example.org");
    let first = ("connect", "client in 192.0.2.0/24", "accept");
    assert_eq!(session(&[first, ("connect", "dnsbl('zen') > 3", "reject")]).asks_now(), "", "the first one ends it");
    let other = ("helo", "client in 192.0.2.0/24", "accept");
    assert!(!session(&[other, ("connect", "dnsbl('zen') > 3", "reject")]).asks_now().is_empty());
    let trusted = session(&[("connect", "", "trust"), ("mail", "spf == 'fail'", "reject")]);
    let mut trusted = trusted;
    trusted.connect(NOW, false);
    trusted.mail_from("a@b.example");
    assert_eq!(trusted.asks_now(), "");
}

#[test]
fn inputs_come_first_and_stages_wait_for_what_they_need() {
    let mut s = session(&[
        ("connect", "dnsbl('zen') >= 4", "drop"),
        ("helo", "dnsbl('names') > 0", "reject"),
        ("mail", "sender.domain.mail == 'null-mx' or spf == 'fail'", "reject"),
        ("rcpt", "helo.matches == false and dnsbl('domains') > 0", "reject"),
        ("message", "dmarc == 'fail' and dmarc.policy == 'reject'", "reject"),
    ]);
    let asked = s.inquiries();
    assert_eq!(names(&asked), "listed zen.example.org");
    assert!(s.awaits(Stage::Connect));
    s.found(&asked[0], &codes(&[[127, 0, 0, 3]]));
    assert!(!s.awaits(Stage::Connect));
    assert!(s.connect(NOW, false).verdict.passes());
    s.helo_told("mail.b.example", true);
    let asked = s.inquiries();
    assert_eq!(names(&asked), "listed names.example.org mail.b.example, helo mail.b.example");
    s.found(&asked[0], &codes(&[]));
    assert!(!s.awaits(Stage::Helo), "the other one is for later");
    assert!(s.helo(NOW, "mail.b.example", true).verdict.passes());
    s.found(&asked[1], &Finding::HeloHost(false));
    s.mail_from("A@B.example");
    let asked = s.inquiries();
    assert_eq!(names(&asked), "mail b.example, spf A@B.example, listed domains.example.org b.example");
    s.found(&asked[0], &Finding::MailDomain(MailDomain::NullMx));
    assert!(!s.awaits(Stage::Mail), "whatever SPF says, the rule holds");
    let sender = ReversePath::Mailbox(parse_mailbox("A@B.example").unwrap());
    assert_eq!(s.mail(NOW, &sender, &MailParameters::default()).verdict.word(), "reject");
}

#[test]
fn a_policy_that_asks_nothing_is_told_nothing() {
    let mut s = session(&[("mail", "sender.null", "accept")]);
    assert!(!s.policy().asks_anything() && s.asks_now().is_empty());
}

#[test]
fn literals_and_null_senders_need_nobody() {
    let mut s = session(&[
        ("mail", "helo.matches or dnsbl('names') > 0 or dnsbl('domains') > 0", "accept"),
        ("mail", "sender.domain.mail == 'none' or spf == 'pass' or spf.helo == 'pass'", "accept"),
    ]);
    s.helo_told("[192.0.2.9]", true);
    // The literal is the client: the first rule holds, and at mail nothing else is needed.
    assert_eq!(s.asks_now(), "");
    assert_eq!(s.text("helo.matches"), "true");
    s.helo_told("[192.0.2.10]", true);
    let asked = s.inquiries();
    assert_eq!(names(&asked), "spf of [192.0.2.10]");
    s.found(&asked[0], &spf(Verified::None));
    assert_eq!(s.text("helo.matches"), "false");
    s.helo(NOW, "[192.0.2.10]", true);
    s.mail_from("");
    // The null sender's SPF is that of the name, which is known already.
    assert_eq!(s.asks_now(), "");
    assert_eq!((s.text("spf"), s.text("spf.helo")), ("\"none\"".into(), "\"none\"".into()));
    assert_eq!(s.text("sender.domain.mail"), "\"\"");
}

#[test]
fn what_is_about_one_transaction_ends_with_it() {
    let mut s = session(&[("rcpt", "spf == 'fail' and dnsbl('zen') > 0", "reject")]);
    let zen = s.inquiries();
    s.found(&zen[0], &codes(&[[127, 0, 0, 2]]));
    s.helo_told("h.example", true);
    s.helo(NOW, "h.example", true);
    s.mail_from("a@b.example");
    let first = s.inquiries();
    s.mail(NOW, &ReversePath::Mailbox(parse_mailbox("a@b.example").unwrap()), &MailParameters::default());
    s.reset();
    s.found(&first[0], &spf(Verified::Fail));
    assert_eq!(s.text("spf"), "unknown", "too late");
    s.mail_from("c@d.example");
    let second = s.inquiries();
    assert_eq!(names(&second), "spf c@d.example");
    s.found(&second[0], &spf(Verified::Pass));
    assert_eq!((s.text("spf"), s.text("client.ptr")), ("\"pass\"".into(), "unknown".into()));
    s.mail(NOW, &ReversePath::Null, &MailParameters::default());
    s.reset();
    assert_eq!(s.text("spf"), "unknown");
    let zen = |s: &Session| s.state.found.call("dnsbl", "zen").cloned();
    assert_eq!(zen(&s), Some(Given::Score(4000)), "the client stays who it is");
    s.tls_started(Default::default());
    assert_eq!(zen(&s), Some(Given::Score(4000)));
}

#[test]
fn failures_are_values() {
    let mut s = session(&[
        ("connect", "dnsbl('zen') > 0 or client.iprev == 'fail' or client.asn == 1", "reject"),
        ("mail", "spf == 'fail' or sender.domain.mail == 'none' or helo.matches == false", "reject"),
    ]);
    let unknown = Finding::Unknown("time".into());
    for inquiry in s.inquiries() {
        s.found(&inquiry, &unknown);
    }
    assert!(!s.awaits(Stage::Connect));
    assert!(s.connect(NOW, false).verdict.passes(), "no rule fires on what is unknown");
    assert_eq!((s.text("client.iprev"), s.text("client.ptr")), ("\"temperror\"".into(), "unknown".into()));
    s.helo_told("h.example", true);
    s.helo(NOW, "h.example", true);
    s.mail_from("a@b.example");
    for inquiry in s.inquiries() {
        s.found(&inquiry, &unknown);
    }
    assert!(!s.awaits(Stage::Mail));
    assert_eq!(s.text("spf"), "\"temperror\"");
    let sender = ReversePath::Mailbox(parse_mailbox("a@b.example").unwrap());
    assert!(s.mail(NOW, &sender, &MailParameters::default()).verdict.passes());
}

/// A session at the end of a message to `rcpt`, everything before it decided.
fn with_message(rules: &[(&str, &str, &str)], text: &str) -> (Session, Body) {
    let mut s = session(rules);
    s.connect(NOW, false);
    s.helo_told("h.example", true);
    s.helo(NOW, "h.example", true);
    s.mail_from("a@b.example");
    s.mail(NOW, &ReversePath::Mailbox(parse_mailbox("a@b.example").unwrap()), &MailParameters::default());
    s.rcpt_told(&rcpt("bob@example.test"));
    s.rcpt(NOW, &rcpt("bob@example.test"), Some(true));
    let body = message(text);
    s.message_told(&body);
    (s, body)
}

fn decide(s: &mut Session, body: &Body) -> String {
    let head = body.head();
    let d = s.data(NOW, &head);
    let d = if d.verdict.passes() { s.message(NOW, &body.shape, &head) } else { d };
    format!("{} {}", d.verdict.word(), s.rule_name(d.rule))
}

#[test]
fn dmarc_has_spf_first_and_signatures_tell_everything() {
    let rules =
        [("message", "dmarc == 'fail' and dmarc.policy == 'reject' and not dkim.domains in ['x.example']", "reject")];
    let (mut s, body) = with_message(&rules, "From: a@b.example\n\nhello\n");
    let asked = s.inquiries();
    assert_eq!(names(&asked), "spf a@b.example");
    assert_eq!(s.asks_now(), "");
    s.found(&asked[0], &spf(Verified::Fail));
    let asked = s.inquiries();
    assert_eq!(names(&asked), "signatures");
    assert!(s.spf().is_some() && s.awaits(Stage::Message) && !s.awaits(Stage::Data));
    let dkim = |domain: &str, result| Dkim {
        result,
        domain: domain.into(),
        selector: "s".into(),
        signature: "b".into(),
        reason: None,
    };
    let signatures = Signatures {
        dkim: vec![dkim("Mail.B.example", Verified::Pass), dkim("x.example", Verified::Fail)],
        dmarc: Verified::Fail,
        dmarc_policy: Some("reject"),
        from_domain: Some("b.example".into()),
        ..Signatures::default()
    };
    s.found(&asked[0], &Finding::Signatures(Box::new(signatures)));
    assert_eq!((s.text("dkim"), s.text("dkim.domains")), ("\"pass\"".into(), "\"mail.b.example\"".into()));
    assert_eq!((s.text("dkim.aligned"), s.text("arc")), ("true".into(), "\"none\"".into()));
    assert_eq!(decide(&mut s, &body), "reject r0");
}

#[test]
fn spf_for_dmarc_is_asked_early_and_once() {
    let mut s = session(&[("message", "dmarc == 'fail'", "reject")]);
    s.helo_told("h.example", true);
    s.helo(NOW, "h.example", true);
    s.mail_from("a@b.example");
    let asked = s.inquiries();
    assert_eq!(names(&asked), "spf a@b.example");
    assert!(!s.awaits(Stage::Mail) && !s.awaits(Stage::Rcpt));
    s.found(&asked[0], &spf(Verified::Fail));
    assert_eq!(s.asks_now(), "", "the message has not come");
    let body = message("From: a@b.example\n\nx\n");
    s.message_told(&body);
    assert_eq!(s.asks_now(), "signatures");
}

#[test]
fn the_message_is_read_for_what_rules_need() {
    let text = "Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\n\
                see http://bad.example/x\n--b\nContent-Disposition: attachment; filename=a.exe\n\nx\n--b--\n";
    for (stage, when, matches) in [
        ("data", "subject contains 'grüße'", true),
        ("data", "message.header_faults == 'missing-date'", true),
        ("data", "message.header_faults in ['8bit', 'bad-line']", false),
        ("message", "attachment_names matches /[.]exe$/i", true),
        ("message", "attachment_names ends_with '.txt'", false),
        ("message", "not attachment_names ends_with '.txt'", true),
        ("message", "attachment_types == 'text/plain' and message.attachments == 1", true),
        ("message", "url_hosts in ['.bad.example']", true),
        ("message", "url_hosts in ['good.example']", false),
        ("message", "message.gtube", false),
        ("message", "has_header('x-no') and url_hosts is known", false),
    ] {
        let (mut s, body) = with_message(&[(stage, when, "reject")], text);
        assert!(s.inquiries().is_empty());
        assert_eq!(decide(&mut s, &body), if matches { "reject r0" } else { "accept default" }, "{when}");
    }
    let (s, _) = with_message(&[("message", "has_header('x-no') and url_hosts == 'x'", "reject")], text);
    assert_eq!(s.text("url_hosts"), "unknown", "not read when no rule can need it");
}

#[test]
fn helpers_are_asked_about_recipients_and_messages() {
    let rules = [
        ("rcpt", "rcpt.local == 'bob'", "obey postgrey"),
        ("message", "helper_score('spamd') >= 4.5", "tag \"X-Spam: yes\""),
        ("message", "helper('spamd') == 'failed'", "defer"),
        ("message", "helper_symbols('spamd') in ['BAD']", "obey spamd"),
    ];
    let mut s = session(&rules);
    s.mail_from("a@b.example");
    assert_eq!(s.asks_now(), "");
    s.rcpt_told(&rcpt("ann@example.test"));
    assert_eq!(s.asks_now(), "");
    s.rcpt(NOW, &rcpt("ann@example.test"), None);
    s.rcpt_told(&rcpt("bob@example.test"));
    let asked = s.inquiries();
    assert_eq!(names(&asked), "consult postgrey");
    assert!(s.awaits(Stage::Rcpt));
    let advice = Advice { action: Action::Defer, reply: Some("450 4.2.0 Greylisted".into()), ..Advice::default() };
    s.found(&asked[0], &Finding::Advice(Box::new(advice)));
    let d = s.rcpt(NOW, &rcpt("bob@example.test"), None);
    assert_eq!(d.verdict.reply().unwrap().to_string(), "450 4.2.0 Greylisted");
    let body = message("Subject: x\n\ny\n");
    s.message_told(&body);
    let asked = s.inquiries();
    assert_eq!(names(&asked), "consult spamd");
    let edit = Edit::AddField { name: "X-S".into(), value: "1".into() };
    let advice = Advice {
        action: Action::Quarantine,
        score: Some(4.5),
        symbols: vec!["GOOD".into(), "BAD".into()],
        edits: vec![edit.clone()],
        ..Advice::default()
    };
    s.found(&asked[0], &Finding::Advice(Box::new(advice)));
    assert!(!s.awaits(Stage::Message));
    let head = body.head();
    assert!(s.data(NOW, &head).verdict.passes());
    let d = s.message(NOW, &body.shape, &head);
    assert_eq!((d.quarantine.as_deref(), d.tags.len()), (Some("spamd advises it"), 1));
    assert_eq!(s.edits(), [edit]);
    s.reset();
    assert!(s.edits().is_empty());
}

#[test]
fn texts_and_names_are_checked() {
    let said = |rules: &[(&str, &str, &str)]| {
        let mut source = String::from(LISTS);
        for (stage, when, then) in rules {
            source += &format!("[[rule]]\nname = 'x'\nstage = '{stage}'\nwhen = \"\"\"{when}\"\"\"\nthen = '{then}'\n");
        }
        let builtins = Builtins::new(["example.test"]).unwrap().with_helpers(["rspamd".to_owned()]);
        let found = Policy::compile("p", &source, &NoFiles, &builtins).unwrap_err();
        found.iter().map(ToString::to_string).collect::<String>()
    };
    for (stage, when, then, words) in [
        ("message", "helper('rspmd') == 'x'", "reject", "did you mean `rspamd`"),
        ("message", "true", "obey rspmd", "did you mean `rspamd`"),
        ("mail", "helper('rspamd') == 'x'", "reject", "not known at stage mail"),
        ("mail", "true", "obey rspamd", "makes no sense at stage mail"),
        ("mail", "dnsbl('zn') > 1", "reject", "[dnsbl.zn]"),
        ("mail", "dnsbl('zen') == 'x'", "reject", "a number such as 4.5"),
        ("mail", "dnsbl('zen') * dnsbl('zen') > 1", "reject", "two scores"),
        ("mail", "rcpt.count > 1.5", "reject", "rcpt.count"),
        ("message", "sender.domain == url_hosts", "reject", "several texts"),
        ("mail", "dkim == 'pass'", "reject", "message"),
    ] {
        let text = said(&[(stage, when, then)]);
        assert!(text.contains(words), "{when}, {then}: {text}");
    }
}

#[test]
fn faults_of_the_protocol_are_facts() {
    let mut s = session(&[("mail", "errors.pipelining > 0 and errors.commands + errors.bare_lf >= 2", "reject")]);
    let path = ReversePath::Null;
    assert!(s.mail(NOW, &path, &MailParameters::default()).verdict.passes());
    s.faults(Faults { errors: 3, pipelining: 1, bare_lf: 1, foreign: 1 });
    assert!(!s.mail(NOW, &path, &MailParameters::default()).verdict.passes());
    assert_eq!(s.fact("session.errors", |v| v == Value::Number(3)), Some(true));
}

#[test]
fn unknown_recipients_are_counted_over_the_session() {
    let mut s = session(&[("rcpt", "rcpt.unknown >= 2", "drop")]);
    for (to, exists, word) in
        [("a", Some(false), "accept"), ("b", None, "accept"), ("c", Some(false), "accept"), ("d", Some(true), "drop")]
    {
        s.rcpt_told(&rcpt(&format!("{to}@example.test")));
        assert_eq!(s.rcpt(NOW, &rcpt(&format!("{to}@example.test")), exists).verdict.word(), word, "{to}");
    }
}
