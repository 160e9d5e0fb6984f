//! Facts that must be found out, through a running server: names, lists in the DNS, SPF, DKIM and DMARC, against a name
//! server on loopback that also fails; and the journal of it, replayed without any name server.
//!
//! Every test runs once per driver; each has its own gateway, name server and data directory.
#![allow(clippy::unwrap_used, reason = "a panic is the report of a test")]

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use support::backend::Backend;
use support::dns::DnsServer;
use support::{DRIVERS, Gate, Talk, gatepost, run};

const POLICY: &str = r#"
[dnsbl.zen]
zone = "zen.example.org"
codes = { "127.0.0.2" = 4, "127.0.0.3" = 1.5 }
[dnsbl.domains]
zone = "domains.example.org"
of = "sender"
[[rule]]
name = "listed"
stage = "rcpt"
when = "dnsbl('zen') >= 4"
then = "reject 554 5.7.1 Listed"
[[rule]]
name = "bad-domain"
stage = "mail"
when = "dnsbl('domains') > 0"
then = "reject 550 5.7.1 Bad domain"
[[rule]]
name = "takes-no-mail"
stage = "mail"
when = "sender.domain.mail in ['null-mx', 'none']"
then = "reject 550 5.7.27 Your domain takes no mail"
[[rule]]
name = "spf"
stage = "mail"
when = "spf == 'fail'"
then = "reject 550 5.7.23 SPF"
[[rule]]
name = "name"
stage = "helo"
when = "client.iprev == 'fail'"
then = "tag \"X-Name: none\""
"#;

const ZONES: &str = r#"
    127.0.0.1 PTR gate.example.net
    gate.example.net A 127.0.0.1
    2.0.0.127.zen.example.org A 127.0.0.2
    null.example MX 0 .
    ann.example MX 10 mx.ann.example
    ann.example TXT "v=spf1 ip4:127.0.0.1 -all"
    spoofed.example MX 10 mx.spoofed.example
    spoofed.example TXT "v=spf1 ip4:192.0.2.1 -all"
    slow.example MX 10 mx.slow.example
    slow.example TXT SERVFAIL
    bad.example MX 10 mx.bad.example
    bad.example.domains.example.org A 127.0.0.2
"#;

/// A gateway with this policy in front of `backend`, its lookups going to `dns`.
fn served(io: &str, policy: &str, dns: &str, backend: &Backend, more: &[&str]) -> (Gate, PathBuf, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    std::fs::write(&path, policy).unwrap();
    let address = backend.address.to_string();
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut args = vec!["--io", io, "--cores", "1", "--backend", &address, "--policy", path.to_str().unwrap()];
    args.extend(["--set", dns, "--set", "server.hostname=\"mx.example.test\""]);
    args.extend_from_slice(more);
    (Gate::start_in(&data, &args), path, dir)
}

fn greeted(gate: &Gate) -> Talk {
    let mut talk = gate.talk();
    talk.say("EHLO client.example.org", "250");
    talk
}

fn under_both(test: impl Fn(&str)) {
    for io in DRIVERS {
        eprintln!("driver: {io}");
        test(io);
    }
}

#[test]
fn lists_spf_and_domains_decide_and_temporary_failures_do_not() {
    under_both(|io| {
        let (dns, backend) = (DnsServer::start(ZONES), Backend::plain());
        let (gate, _, _dir) = served(io, POLICY, &dns.setting(), &backend, &[]);
        let mut talk = greeted(&gate);
        talk.say("MAIL FROM:<a@spoofed.example>", "550 5.7.23");
        talk.say("MAIL FROM:<a@null.example>", "550 5.7.27");
        talk.say("MAIL FROM:<a@nowhere.example>", "550 5.7.27");
        talk.say("MAIL FROM:<a@bad.example>", "550 5.7.1 Bad domain");
        // SERVFAIL: no rule fires on what nobody knows.
        assert!(talk.mail("a@slow.example", &["bob@example.test"], "Subject: x\r\n\r\ny").starts_with("250"));
        assert!(talk.mail("Ann@Ann.example", &["bob@example.test"], "Subject: x\r\n\r\ny").starts_with("250"));
        // Pipelined: what comes behind a held question waits with it.
        talk.send("MAIL FROM:<b@ann.example>\r\nRCPT TO:<bob@example.test>\r\nRSET\r\nMAIL FROM:<a@spoofed.example>\r\nNOOP\r\n");
        for code in ["250", "250", "250", "550 5.7.23", "250"] {
            talk.expect(code);
        }
        talk.say("QUIT", "221");
        let kept = backend.wait_kept(2);
        let text = kept[1].text();
        assert!(text.starts_with("Authentication-Results: mx.example.test;\r\n\t"), "{text}");
        assert!(text.contains("iprev=pass policy.iprev=127.0.0.1"), "{text}");
        assert!(text.contains("spf=pass smtp.mailfrom=Ann@Ann.example"), "{text}");
        assert!(text.contains("\r\nReceived: from client.example.org (localhost [127.0.0.1])"), "{text}");
        assert!(kept[0].text().contains("spf=temperror smtp.mailfrom=a@slow.example"), "{}", kept[0].text());
        assert_eq!(dns.asked("ann.example", "TXT"), 1, "answers are kept");
    });
}

#[test]
fn a_listed_client_is_refused_where_the_rule_stands_and_asked_about_once() {
    under_both(|io| {
        let (dns, backend) = (DnsServer::start("1.0.0.127.zen.example.org A 127.0.0.2"), Backend::plain());
        let (gate, _, _dir) = served(io, POLICY, &dns.setting(), &backend, &[]);
        for _ in 0..3 {
            let mut talk = greeted(&gate);
            talk.say("MAIL FROM:<>", "250");
            talk.say("RCPT TO:<bob@example.test>", "554 5.7.1 Listed");
        }
        assert_eq!(dns.asked("1.0.0.127.zen.example.org", "A"), 1);
    });
}

#[test]
fn a_dead_name_server_costs_its_time_and_no_more() {
    under_both(|io| {
        let (dns, backend) = (DnsServer::start(ZONES), Backend::plain());
        dns.silence(true);
        let limits = [
            "--set",
            "lookup.timeout=\"200ms\"",
            "--set",
            "lookup.attempts=0",
            "--set",
            "lookup.inquiry_deadline=\"600ms\"",
        ];
        let (gate, _, _dir) = served(io, POLICY, &dns.setting(), &backend, &limits);
        let began = Instant::now();
        let mut talk = greeted(&gate);
        assert!(talk.mail("a@spoofed.example", &["bob@example.test"], "Subject: x\r\n\r\ny").starts_with("250"));
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        // One that goes while its question is held leaves nothing behind.
        let mut leaver = gate.talk();
        leaver.send("EHLO x.example.org\r\nMAIL FROM:<a@other.example>\r\n");
        drop(leaver);
        let mut talk = greeted(&gate);
        talk.say("NOOP", "250");
    });
}

#[test]
fn fields_in_our_name_are_removed_also_from_large_messages() {
    under_both(|io| {
        let (dns, backend) = (DnsServer::start(ZONES), Backend::plain());
        let policy = "[[rule]]\nname = \"all\"\nstage = \"mail\"\nthen = \"accept\"\n";
        let more = ["--set", "smtp.body_memory_octets_max=\"16KiB\"", "--set", "smtp.header_octets_max=\"16KiB\""];
        let (gate, _, _dir) = served(io, policy, &dns.setting(), &backend, &more);
        let head = "Authentication-Results: MX.example.test; spf=pass\r\n\tsmtp.mailfrom=bank.example\r\n\
                    Authentication-Results: other.example; spf=fail smtp.mailfrom=x\r\nSubject: x\r\n";
        for lines in [1, 4000] {
            let mut talk = greeted(&gate);
            let text = format!("{head}\r\n{}", "a line of the text\r\n".repeat(lines));
            assert!(talk.mail("a@ann.example", &["bob@example.test"], text.trim_end()).starts_with("250"));
            let kept = backend.wait_kept(if lines == 1 { 1 } else { 2 });
            let got = kept.last().unwrap().text();
            assert!(got.starts_with("Received: "), "nothing was checked: {}", &got[..200]);
            assert!(
                !got.to_lowercase().contains("mx.example.test; spf") && !got.contains("bank.example"),
                "{}",
                &got[..400]
            );
            assert!(got.contains(
                "\r\nAuthentication-Results: other.example; spf=fail smtp.mailfrom=x\r\nSubject: x\r\n\r\na line"
            ));
            assert_eq!(got.matches("a line of the text\r\n").count(), lines);
        }
        assert_eq!(dns.queries(), 0, "no rule needs anything");
    });
}

#[test]
fn messages_are_read_for_what_rules_ask() {
    under_both(|io| {
        let (dns, backend) = (DnsServer::start(ZONES), Backend::plain());
        let policy = r#"
            [list.hosts]
            domains = [".bad.example"]
            [[rule]]
            name = "no-date"
            stage = "data"
            when = "message.header_faults in ['missing-date', 'duplicate-from'] and subject contains 'grüße'"
            then = "reject 554 5.6.0 Date"
            [[rule]]
            name = "programs"
            stage = "message"
            when = "attachment_names matches /\\.(exe|js)$/i"
            then = "reject 554 5.7.1 Programs"
            [[rule]]
            name = "hosts"
            stage = "message"
            when = "url_hosts in @hosts"
            then = "reject 554 5.7.1 Hosts"
            [[rule]]
            name = "gtube"
            stage = "message"
            when = "message.gtube"
            then = "reject 554 5.7.1 GTUBE"
            [[rule]]
            name = "impatient"
            stage = "mail"
            when = "errors.commands > 1"
            then = "drop 421 4.7.0 Enough"
        "#;
        let (gate, _, _dir) = served(io, policy, &dns.setting(), &backend, &[]);
        let mut talk = greeted(&gate);
        let mut send = |text: &str| talk.mail("a@ann.example", &["bob@example.test"], text);
        assert!(send("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n\r\nx").starts_with("554 5.6.0"));
        let attached = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Disposition: attachment; filename*=utf-8''a%2Eexe\r\n\r\nx\r\n--b--";
        assert!(send(attached).starts_with("554 5.7.1 Programs"));
        assert!(send("Subject: x\r\n\r\nhttp://www.Bad.example/").starts_with("554 5.7.1 Hosts"));
        let gtube = ["XJS*C4JDBQADN1.NSBN3*2IDNEN*", "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"].concat();
        assert!(send(&format!("Subject: x\r\n\r\n{gtube}")).starts_with("554 5.7.1 GTUBE"));
        assert!(send("Subject: x\r\n\r\nhttp://good.example/").starts_with("250"));
        talk.say("GREETINGS", "500");
        talk.say("WELCOME", "500");
        talk.say("MAIL FROM:<a@ann.example>", "421 4.7.0 Enough");
    });
}

/// Two signatures of RFC 8463 appendix A, one of each kind.
const SIGNED: &str = include_str!("data/dkim/rfc8463.txt");

#[test]
fn signatures_and_dmarc_decide_and_are_told() {
    let policy = r#"
        [[rule]]
        name = "dmarc"
        stage = "message"
        when = "dmarc == 'fail' and dmarc.policy == 'reject'"
        then = "reject 550 5.7.26 DMARC"
        [[rule]]
        name = "signed"
        stage = "message"
        when = "dkim.domains in ['football.example.com']"
        then = "tag \"X-Signed: yes\""
    "#;
    let (records, message) = SIGNED.split_once("\n\n").unwrap();
    let mut zones = String::from(
        "_dmarc.football.example.com TXT \"v=DMARC1; p=reject\"\nfootball.example.com TXT \"v=spf1 -all\"\n",
    );
    for line in records.lines() {
        let (name, record) = line.split_once(' ').unwrap();
        zones += &format!("{name} TXT \"{}\"\n", record.replacen("; p=", "; p=\" \"", 1));
    }
    let message = message.trim_end_matches('\n').replace('\n', "\r\n");
    under_both(|io| {
        let (dns, backend) = (DnsServer::start(&zones), Backend::plain());
        let (gate, _, _dir) = served(io, policy, &dns.setting(), &backend, &[]);
        let mut talk = greeted(&gate);
        let reply = talk.mail("joe@football.example.com", &["bob@example.test"], &message);
        assert!(reply.starts_with("250"), "{reply}");
        let text = backend.wait_kept(1)[0].text();
        assert!(text.starts_with("Authentication-Results: mx.example.test;\r\n"), "{text}");
        for told in [
            "spf=fail smtp.mailfrom=joe@football.example.com",
            "dkim=pass header.d=football.example.com header.s=brisbane",
            "header.s=test",
            "dmarc=pass header.from=football.example.com policy.dmarc=reject",
            "\r\nX-Signed: yes\r\n",
        ] {
            assert!(text.contains(told), "{told} in {text}");
        }
        // Whoever changes a word breaks the signatures, and the domain wants it refused.
        let reply = talk.mail("joe@football.example.com", &["bob@example.test"], &message.replace("hungry", "angry"));
        assert!(reply.starts_with("550 5.7.26"), "{reply}");
        // A domain that cannot be asked decides nothing.
        dns.add(
            "_dmarc.football.example.com SERVFAIL\nother.example.com TXT SERVFAIL\n_dmarc.other.example.com SERVFAIL",
        );
        let other = message.replace("joe@football", "joe@other");
        let reply = talk.mail("joe@other.example.com", &["bob@example.test"], &other);
        assert!(reply.starts_with("250"), "{reply}");
    });
}

/// An rspamd that says this to everybody.
fn rspamd(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let (mut heard, mut piece) = (Vec::new(), [0; 4096]);
                // The whole request: its header section, and as much text as that says.
                loop {
                    let text = String::from_utf8_lossy(&heard).to_ascii_lowercase();
                    if let Some((head, _)) = text.split_once("\r\n\r\n") {
                        let length = head
                            .lines()
                            .find_map(|l| l.strip_prefix("content-length:"))
                            .map_or(0, |n| n.trim().parse().unwrap());
                        if heard.len() >= head.len() + 4 + length {
                            break;
                        }
                    }
                    match stream.read(&mut piece) {
                        Ok(n) if n > 0 => heard.extend_from_slice(&piece[..n]),
                        _ => return,
                    }
                }
                let _ = write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
                    answer.len()
                );
            });
        }
    });
    address
}

#[test]
fn helpers_advise_and_their_changes_are_made() {
    let policy = r#"
        [[rule]]
        name = "spam"
        stage = "message"
        when = "helper_score('rspamd') > 20"
        then = "reject"
        [[rule]]
        name = "advice"
        stage = "message"
        when = "header('subject') contains 'check'"
        then = "obey rspamd"
    "#;
    let answer = r#"{"action":"add header","score":6.5,"required_score":15.0,"symbols":{"BAD":{"name":"BAD","score":6.5}},"milter":{"add_headers":{"X-Spam":{"value":"Yes, 6.5","order":0}},"remove_headers":{"X-Old":1}}}"#;
    under_both(|io| {
        let dir = tempfile::tempdir().unwrap();
        let (dns, backend) = (DnsServer::start(ZONES), Backend::plain());
        let config = dir.path().join("gatepost.toml");
        std::fs::write(
            &config,
            format!("[helper.rspamd]\nkind = \"rspamd\"\naddress = \"http://{}\"\n", rspamd(answer)),
        )
        .unwrap();
        let mut more = vec!["--config".to_owned(), config.to_str().unwrap().to_owned()];
        for name in ["mx", "submission", "submissions", "lmtp", "pop3", "pop3s", "imap", "imaps"] {
            more.extend(["--listen".to_owned(), format!("{name}=127.0.0.1:0")]);
        }
        more.extend(["--set".to_owned(), "smtp.body_memory_octets_max=\"16KiB\"".to_owned()]);
        more.extend(["--set".to_owned(), "smtp.header_octets_max=\"16KiB\"".to_owned()]);
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let (gate, _, _dir) = served(io, policy, &dns.setting(), &backend, &more);
        let mut talk = greeted(&gate);
        for (number, lines) in [1, 3000].into_iter().enumerate() {
            let text = format!("X-Old: 1\r\nSubject: check this\r\n\r\n{}", "a line of the text\r\n".repeat(lines));
            assert!(talk.mail("a@ann.example", &["bob@example.test"], text.trim_end()).starts_with("250"));
            let got = backend.wait_kept(number + 1)[number].text();
            assert!(got.contains("X-Spam: Yes, 6.5\r\n") && !got.contains("X-Old"), "{}", &got[..400]);
            assert_eq!(got.matches("a line of the text\r\n").count(), lines);
        }
        assert!(
            talk.mail("a@ann.example", &["bob@example.test"], "X-Old: 1\r\nSubject: x\r\n\r\ny").starts_with("250")
        );
        assert!(backend.wait_kept(3)[2].text().contains("X-Old: 1\r\n"), "no rule obeys");
    });
}

/// What was found out is in the journal: a replay decides the same without any name server.
#[test]
fn a_journal_replays_alike_without_a_name_server() {
    under_both(|io| {
        let (dns, backend) = (DnsServer::start(ZONES), Backend::plain());
        let more = ["--set", "journal.enabled=true"];
        let (mut gate, policy, dir) = served(io, POLICY, &dns.setting(), &backend, &more);
        for from in ["a@spoofed.example", "a@null.example", "a@slow.example", "a@ann.example", "", "a@bad.example"] {
            let mut talk = greeted(&gate);
            talk.send(format!("MAIL FROM:<{from}>\r\n"));
            if talk.reply().starts_with("250") {
                talk.say("RCPT TO:<bob@example.test>", "250");
                talk.say("DATA", "354");
                talk.say("Subject: x\r\n\r\ny\r\n.", "250");
            }
            talk.say("EHLO again.example.org", "250");
            talk.say("QUIT", "221");
        }
        gate.terminate();
        drop(dns);
        let ran = run(
            gatepost()
                .args(["policy", "replay", "--domain", "example.test", "--json", "--fail-on-change", "--journal"])
                .arg(dir.path().join("data/journal"))
                .arg("--policy")
                .arg(&policy),
            "",
        );
        assert_eq!(ran.code, Some(0), "{io}: {ran:?}");
        let report: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(report["same"], report["decisions"], "{io}: {report:#}");
        assert_eq!(report["undecided"], serde_json::json!([]), "{io}: {report:#}");
        assert!(report["decisions"].as_u64().unwrap() > 20, "{report:#}");
    });
}
