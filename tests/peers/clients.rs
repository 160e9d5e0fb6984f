//! Clients people use, against a scripted backend: swaks, curl, Python's smtplib, OpenSSL.

use crate::support::backend::{Backend, Manners};
use crate::support::peers::{self, peer};
use crate::support::{ALL_MECHANISMS, DRIVERS, Gate, Ran, gatepost, run};
use std::process::Command;

const USER: &str = "ann@example.test";
const PASSWORD: &str = "correct horse";

/// A backend that can all, a gateway before it, and an account with a shared secret.
fn relay(io: &str, more: &[&str]) -> (Backend, Gate) {
    let extensions = vec!["PIPELINING", "8BITMIME", "SIZE 50000000", "SMTPUTF8", "CHUNKING"];
    let backend = Backend::start(Manners { extensions, ..Manners::default() });
    let address = backend.address.to_string();
    let mut args = vec!["--io", io, "--cores", "1", "--backend", &address, "--set", ALL_MECHANISMS];
    args.extend_from_slice(more);
    let gate = Gate::start(&args);
    let mut add = gatepost();
    add.args(["account", "add", USER, "--password-stdin", "--shared-secret", "--data"]).arg(&gate.dir);
    let added = run(&mut add, &format!("{PASSWORD}\n"));
    assert!(added.ok, "{added:?}");
    (backend, gate)
}

/// The last message the backend has kept when there are `n`.
fn nth(backend: &Backend, n: usize) -> crate::support::backend::Kept {
    backend.wait_kept(n)[n - 1].clone()
}

fn swaks(gate: &Gate, listener: &str, to: &str, args: &[&str]) -> Ran {
    let mut command = Command::new("swaks");
    let port = gate.address(listener).port().to_string();
    command.args(["--server", "127.0.0.1", "--port", &port, "--helo", "swaks.example.org", "--timeout", "20"]);
    command.args(["--from", USER, "--to", to, "--header", "Subject: by swaks", "--body", "one\n.two\n"]);
    run(command.args(args), "")
}

#[test]
fn swaks_sends_in_every_way_it_can() {
    if peers::swaks().is_none() {
        return;
    }
    for io in DRIVERS {
        let (backend, gate) = relay(io, &[]);
        // Listener, further arguments, what `with` says (RFC 3848).
        let ways: [(&str, &[&str], &str); 6] = [
            ("mx", &[], "ESMTP"),
            ("mx", &["--protocol", "SMTP"], "SMTP"),
            ("mx", &["--tls"], "ESMTPS"),
            ("mx", &["--pipeline"], "ESMTP"),
            ("lmtp", &["--protocol", "LMTP"], "LMTP"),
            ("mx", &["--tls", "--pipeline"], "ESMTPS"),
        ];
        for (n, (listener, args, with)) in ways.into_iter().enumerate() {
            let ran = swaks(&gate, listener, "bob@example.test", args);
            assert!(ran.ok, "{io} {args:?}: {ran:?}");
            let text = nth(&backend, n + 1).text();
            assert!(text.contains("Received: from swaks.example.org"), "{text}");
            assert!(text.contains(&format!("with {with} id ")), "{args:?}: {text}");
            assert!(text.contains("Subject: by swaks\r\n") && text.contains("\r\none\r\n.two\r\n"), "{text}");
        }
        let ran = swaks(&gate, "mx", "bob@elsewhere.example", &[]);
        assert!(!ran.ok && ran.out.contains("5.7.1"), "{ran:?}");
        // Refused at RCPT, accepted for the other.
        let ran = swaks(&gate, "mx", "bob@elsewhere.example,bob@example.test", &[]);
        assert!(ran.ok, "{ran:?}");
        assert_eq!(nth(&backend, ways.len() + 1).to, ["<bob@example.test>"]);
    }
}

#[test]
fn swaks_logs_in_by_every_mechanism_it_has() {
    if peers::swaks().is_none() {
        return;
    }
    for io in DRIVERS {
        let (backend, gate) = relay(io, &[]);
        let mut sent = 0;
        for mechanism in ["PLAIN", "LOGIN", "CRAM-MD5"] {
            for (listener, tls) in [("submission", "--tls"), ("submissions", "--tls-on-connect"), ("submission", "")] {
                let login = ["--auth", mechanism, "--auth-user", USER, "--auth-password", PASSWORD, tls];
                let args: Vec<_> = login.into_iter().filter(|a| !a.is_empty()).collect();
                let ran = swaks(&gate, listener, "friend@elsewhere.example", &args);
                assert!(ran.ok, "{io} {args:?}: {ran:?}");
                sent += 1;
                let kept = nth(&backend, sent);
                let with = if tls.is_empty() { "with ESMTPA id " } else { "with ESMTPSA id " };
                assert!(kept.text().contains(with), "{}", kept.text());
                assert_eq!(kept.to, ["<friend@elsewhere.example>"]);
            }
        }
        // A failure costs the client three seconds, and the test too: one mechanism by driver.
        let mechanism = if io == "epoll" { "PLAIN" } else { "CRAM-MD5" };
        let wrong = ["--tls", "--auth", mechanism, "--auth-user", USER, "--auth-password", "battery staple"];
        let ran = swaks(&gate, "submission", "friend@elsewhere.example", &wrong);
        assert!(!ran.ok && ran.out.contains("* 535 5.7.8"), "{ran:?}");
        let ran = swaks(&gate, "submission", "friend@elsewhere.example", &["--tls"]);
        assert!(!ran.ok && ran.out.contains("* 530 5.7.0"), "{ran:?}");
        assert_eq!(backend.kept().len(), sent);
    }
}

#[test]
fn swaks_comes_through_a_proxy_and_by_xclient() {
    if peers::swaks().is_none() {
        return;
    }
    for io in DRIVERS {
        let (backend, gate) = relay(io, &["--set", "server.proxy_from=[\"loopback\"]"]);
        let ends = [
            "--proxy-source",
            "192.0.2.77",
            "--proxy-source-port",
            "4711",
            "--proxy-dest",
            "198.51.100.1",
            "--proxy-dest-port",
            "25",
        ];
        let versions: [&[&str]; 2] = [
            &["--proxy-version", "1", "--proxy-family", "TCP4"],
            &[
                "--proxy-version",
                "2",
                "--proxy-family",
                "AF_INET",
                "--proxy-protocol",
                "STREAM",
                "--proxy-command",
                "PROXY",
            ],
        ];
        for (n, version) in versions.into_iter().enumerate() {
            let args = [version, &ends].concat();
            let ran = swaks(&gate, "mx", "bob@example.test", &args);
            assert!(ran.ok, "{io} {args:?}: {ran:?}");
            let text = nth(&backend, n + 1).text();
            assert!(text.starts_with("Received: from swaks.example.org ([192.0.2.77])\r\n"), "{text}");
        }
        let (backend, gate) = relay(io, &["--set", "server.xclient_from=[\"loopback\"]"]);
        let args = ["--xclient-addr", "203.0.113.5", "--xclient-name", "mail.example.com"];
        let ran = swaks(&gate, "mx", "bob@example.test", &args);
        assert!(ran.ok, "{ran:?}");
        let text = nth(&backend, 1).text();
        assert!(text.contains("(mail.example.com [203.0.113.5])"), "{text}");
    }
}

fn curl(url: &str, to: &str, message: &str, args: &[&str]) -> Ran {
    let mut command = Command::new("curl");
    command.args(["-sS", "-k", "--max-time", "30", "--url", url, "--mail-from", USER, "--mail-rcpt", to]);
    run(command.args(["--upload-file", "-"]).args(args), message)
}

#[test]
fn curl_sends_plain_by_tls_and_logged_in() {
    if peer("curl").is_none() {
        return;
    }
    for io in DRIVERS {
        let (backend, gate) = relay(io, &[]);
        let url = |scheme: &str, listener: &str| format!("{scheme}://{}/curl.example.org", gate.address(listener));
        let login = format!("{USER}:{PASSWORD}");
        let large = format!("Subject: large\r\n\r\n{}", ".a line that begins with a dot\r\n".repeat(100_000));
        let ways: [(String, &str, &[&str], &str); 6] = [
            (url("smtp", "mx"), "bob@example.test", &[], "ESMTP"),
            (url("smtp", "mx"), "bob@example.test", &["--ssl-reqd"], "ESMTPS"),
            (url("smtp", "submission"), "f@elsewhere.example", &["--user", &login, "--ssl-reqd"], "ESMTPSA"),
            (
                url("smtps", "submissions"),
                "f@elsewhere.example",
                &["--user", &login, "--login-options", "AUTH=PLAIN"],
                "ESMTPSA",
            ),
            (
                url("smtps", "submissions"),
                "f@elsewhere.example",
                &["--user", &login, "--login-options", "AUTH=LOGIN"],
                "ESMTPSA",
            ),
            (
                url("smtps", "submissions"),
                "f@elsewhere.example",
                &["--user", &login, "--login-options", "AUTH=CRAM-MD5"],
                "ESMTPSA",
            ),
        ];
        for (n, (url, to, args, with)) in ways.iter().enumerate() {
            let ran = curl(url, to, &large, args);
            assert!(ran.ok, "{io} {url} {args:?}: {ran:?}");
            let kept = nth(&backend, n + 1);
            let text = kept.text();
            assert!(text.contains(&format!("with {with} id ")), "{args:?}: {}", &text[..400]);
            assert!(text.ends_with(&large), "{} of {} octets", text.len(), large.len());
            assert_eq!(kept.to, [format!("<{to}>")]);
        }
        let wrong = curl(&ways[3].0, "f@elsewhere.example", "x\r\n", &["--user", "ann@example.test:wrong"]);
        assert!(!wrong.ok, "{wrong:?}");
        let denied = curl(&ways[0].0, "f@elsewhere.example", "x\r\n", &[]);
        assert!(!denied.ok && denied.err.contains("550"), "{denied:?}");
    }
}

const PYTHON: &str = include_str!("smtplib_script.py");

#[test]
fn python_smtplib_works_as_its_manual_says() {
    let Some(python) = peer("python3") else { return };
    for io in DRIVERS {
        let (backend, gate) = relay(io, &[]);
        let ports = ["mx", "submission", "submissions", "lmtp"].map(|l| gate.address(l).port().to_string());
        // What a wrong password costs is long: under one driver only.
        let wrong = if io == "uring" { "battery staple" } else { "" };
        let ran = run(Command::new(&python).args(["-c", PYTHON, USER, PASSWORD, wrong]).args(ports), "");
        assert!(ran.ok && ran.out.ends_with("all done\n"), "{io}: {ran:?}");
        let kept = backend.wait_kept(8);
        assert_eq!(kept.len(), 8, "{:?}", kept.iter().map(|k| &k.to).collect::<Vec<_>>());
        let unicode = kept.iter().find(|k| k.to == ["<bøb@example.test>"]).expect("the internationalised recipient");
        assert!(unicode.from.contains("SMTPUTF8"), "{}", unicode.from);
        assert!(unicode.text().contains("Subject: Grüße\r\n"), "{}", unicode.text());
        let large = kept.iter().find(|k| k.text().contains("Subject: large\r\n")).expect("the large message");
        assert!(large.data.len() > 8_000_000, "{}", large.data.len());
        assert_eq!(large.text().matches("\r\n.dotted line").count(), 400_000);
    }
}

#[test]
fn openssl_agrees_about_tls() {
    let Some(openssl) = peer("openssl") else { return };
    for io in DRIVERS {
        let (_backend, gate) = relay(io, &[]);
        for (listener, how) in [("mx", &["-starttls", "smtp"][..]), ("submissions", &[])] {
            for (version, well) in [("-tls1_2", true), ("-tls1_3", true), ("-tls1_1", false)] {
                let mut command = Command::new(&openssl);
                let address = gate.address(listener).to_string();
                command.args([
                    "s_client",
                    "-connect",
                    &address,
                    "-quiet",
                    "-crlf",
                    version,
                    "-servername",
                    "mx.example.test",
                ]);
                let ran = run(command.args(how), "EHLO openssl.example.org\nQUIT\n");
                // OpenSSL's own exit code also tells of the certificate, which nobody has signed.
                assert_eq!(ran.out.contains("221 2.0.0"), well, "{io} {listener} {version}: {ran:?}");
                assert!(!ran.out.contains("STARTTLS"), "offered within TLS: {ran:?}");
            }
        }
    }
}
