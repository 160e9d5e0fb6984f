//! Seeing what a running server does, and changing it, under both drivers: metrics, the admin API by its description, live
//! streams, the dashboard in a real browser, `status`, `top`, `tail`, `session`, `policy hits`, `reload`, `drain`.
//!
//! How it fails: with what the programs said.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::backend::Backend;
use support::{DRIVERS, Gate, PATIENCE, Ran, find_program, run, skipped, wait_for};

const POLICY: &str = r#"
[limit.few]
per = "sender"
counts = "message"
rate = "2/hour"
[list.friends]
domains = ["friend.example"]
[[rule]]
name = "trap"
stage = "rcpt"
when = "rcpt.local == 'trap' and sender.domain not in @friends"
then = "reject 550 5.7.1 That is a trap"
[[rule]]
name = "slow"
stage = "mail"
when = "sender.domain == 'many.example'"
then = "limit few"
"#;

/// A gateway with a backend and [`POLICY`], and the policy's file.
fn watched(io: &str, more: &[&str]) -> (Gate, Backend, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.toml");
    std::fs::write(&policy, POLICY).unwrap();
    let backend = Backend::plain();
    let address = backend.address.to_string();
    let args = ["--io", io, "--cores", "2", "--backend", &address, "--policy", policy.to_str().unwrap()];
    (Gate::start(&[&args[..], more].concat()), backend, dir)
}

/// Three messages that pass, one refused recipient, one refused sender.
fn traffic(gate: &Gate) {
    let mut talk = gate.talk();
    talk.say("EHLO client.example.org", "250");
    for n in 0..3 {
        let reply = talk.mail("ann@example.org", &["bob@example.test"], &format!("Subject: number {n}\r\n\r\nhello"));
        assert!(reply.starts_with("250"), "{reply}");
    }
    talk.say("MAIL FROM:<eve@bad.example>", "250");
    talk.say("RCPT TO:<trap@example.test>", "550");
    talk.say("RSET", "250");
    for code in ["250", "250", "4"] {
        talk.send("MAIL FROM:<news@many.example>\r\n");
        let reply = talk.reply();
        // Whoever comes again is over the limit from the first on.
        assert!(reply.starts_with(code) || reply.starts_with("450"), "{reply}");
        talk.say("RSET", "250");
    }
    talk.say("QUIT", "221");
}

/// Status, head and body of a request to the admin listener.
fn http(gate: &Gate, method: &str, path: &str, more: &str, body: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(gate.address("admin")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let host = if more.contains("Host:") { "" } else { "Host: localhost\r\n" };
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\nContent-Length: {length}\r\n{more}\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = Vec::new();
    stream.read_to_end(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{text}"));
    (status, head.to_owned(), body.to_owned())
}

fn get(gate: &Gate, path: &str) -> Value {
    let (status, _, body) = http(gate, "GET", path, "", "");
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"))
}

/// The scrape: every sample with its labels as they stand.
fn scrape(gate: &Gate) -> BTreeMap<String, f64> {
    let (status, head, text) = http(gate, "GET", "/metrics", "", "");
    assert!(status == 200 && head.contains("application/openmetrics-text"), "{head}");
    assert!(text.ends_with("# EOF\n"), "{text}");
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        let value: f64 = value.parse().unwrap_or_else(|e| panic!("{line}: {e}"));
        assert!(samples.insert(name.to_owned(), value).is_none(), "{name} twice");
    }
    samples
}

/// Sum of the samples whose name begins so and whose labels have all of these in them.
fn sum(samples: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let fits = |key: &str| key.split('{').next() == Some(name) && labels.iter().all(|label| key.contains(label));
    samples.iter().filter(|(key, _)| fits(key)).map(|(_, value)| value).sum()
}

#[test]
fn a_scrape_is_read_and_grows_with_the_mail() {
    for io in DRIVERS {
        let (gate, backend, _dir) = watched(io, &[]);
        let before = scrape(&gate);
        assert_eq!(sum(&before, "gatepost_build_info", &[&format!("driver=\"{io}\"")]), 1.0, "{before:#?}");
        assert_eq!(sum(&before, "gatepost_messages_total", &[]), 0.0);
        traffic(&gate);
        backend.wait_kept(3);
        // Levels are published at a core's tick.
        let after = wait_for("the session to be over", || {
            let after = scrape(&gate);
            (after["gatepost_connections"] == 0.0 && sum(&after, "gatepost_backend_connections", &[]) > 0.0)
                .then_some(after)
        });
        let grown = |name: &str, labels: &[&str]| sum(&after, name, labels) - sum(&before, name, labels);
        assert_eq!(grown("gatepost_sessions_total", &["service=\"mx\""]), 1.0, "{io}: {after:#?}");
        assert_eq!(grown("gatepost_messages_total", &["outcome=\"delivered\""]), 3.0, "{io}: {after:#?}");
        assert_eq!(grown("gatepost_message_recipients_total", &[]), 3.0);
        assert_eq!(grown("gatepost_verdicts_total", &["rule=\"trap\"", "stage=\"rcpt\"", "verdict=\"reject\""]), 1.0);
        assert_eq!(grown("gatepost_verdicts_total", &["rule=\"slow\"", "verdict=\"defer\""]), 1.0);
        assert_eq!(grown("gatepost_verdicts_total", &["rule=\"default\"", "stage=\"message\""]), 3.0);
        assert_eq!(grown("gatepost_limit_hits_total", &["limit=\"few\""]), 1.0);
        // Of a large table a part is looked at, so a single entry need not be seen.
        assert!(after.keys().any(|key| key.starts_with("gatepost_limit_entries")), "{after:#?}");
        assert_eq!(grown("gatepost_backend_answer_seconds_count", &["pool="]), 3.0, "{after:#?}");
        assert_eq!(sum(&after, "gatepost_backend_up", &[]), 1.0);
        assert_eq!(grown("gatepost_message_reply_seconds_count", &[]), 3.0);
        for (name, at_least) in [
            ("gatepost_received_bytes_total", 500.0),
            ("gatepost_sent_bytes_total", 500.0),
            ("gatepost_core_turns_total", 10.0),
            ("gatepost_core_events_total", 10.0),
            ("gatepost_core_busy_seconds_total", 0.0001),
            ("gatepost_core_turn_seconds_count", 10.0),
        ] {
            assert!(grown(name, &[]) >= at_least, "{io}: {name}: {after:#?}");
        }
        for peer in ["client", "backend"] {
            let label = format!("peer=\"{peer}\"");
            assert!(
                grown("gatepost_sent_bytes_total", &[&label]) > 100.0
                    && grown("gatepost_received_bytes_total", &[&label]) > 100.0
            );
        }
        for there in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_cpu_seconds_total",
            "gatepost_memory_bytes{consumer=\"limits\"}",
        ] {
            assert!(after.get(there).is_some_and(|n| *n > 0.0), "{there}: {after:#?}");
        }
        histograms_add_up(&after);
        // Who prefers the older format gets it.
        let (_, head, text) = http(&gate, "GET", "/metrics", "Accept: text/plain;version=0.0.4\r\n", "");
        assert!(head.contains("version=0.0.4") && text.contains("# TYPE gatepost_messages_total counter\n"), "{head}");
        check_with_promtool(&text);
    }
}

/// Places only grow, the last is the count.
fn histograms_add_up(samples: &BTreeMap<String, f64>) {
    let mut checked = 0;
    for (name, count) in samples.iter().filter(|(name, _)| name.split('{').next().unwrap().ends_with("_seconds_count"))
    {
        let bucket = name.replacen("_count", "_bucket", 1);
        let infinite = match bucket.split_once('{') {
            Some((name, labels)) => format!("{name}{{le=\"+Inf\",{labels}"),
            None => format!("{bucket}{{le=\"+Inf\"}}"),
        };
        assert_eq!(samples.get(&infinite), Some(count), "{infinite}");
        checked += 1;
    }
    assert!(checked >= 4, "{checked}");
}

fn check_with_promtool(text: &str) {
    let Some(promtool) = find_program(&["promtool"]) else { return skipped("promtool") };
    let ran = run(Command::new(promtool).args(["check", "metrics"]), text);
    assert!(ran.ok && ran.out.is_empty() && ran.err.is_empty(), "{ran:?}");
}

#[test]
fn commits_of_the_queue_are_measured() {
    for io in DRIVERS {
        let away = ["--io", io, "--cores", "1", "--backend", "127.0.0.1:1", "--mode", "spool"];
        let gate = Gate::start(&away);
        let mut talk = gate.talk();
        talk.say("EHLO client.example.org", "250");
        for _ in 0..2 {
            assert!(talk.mail("ann@example.org", &["bob@example.test"], "Subject: x\r\n\r\nhello").starts_with("250"));
        }
        let samples = scrape(&gate);
        assert!(sum(&samples, "gatepost_commit_batch_count", &["log=\"spool\""]) >= 2.0, "{samples:#?}");
        assert!(sum(&samples, "gatepost_sync_seconds_count", &[]) >= 2.0, "{samples:#?}");
        assert_eq!(sum(&samples, "gatepost_messages_total", &["outcome=\"queued\""]), 2.0);
        assert_eq!(sum(&samples, "gatepost_queue_committed_total", &[]), 2.0);
        // The queue by destination is looked through every few seconds.
        wait_for("the queue by destination", || {
            let samples = scrape(&gate);
            (sum(&samples, "gatepost_queue_destination_messages", &["destination=\"pool:"]) == 2.0
                && sum(&samples, "gatepost_queue_age_messages", &["age=\"1m\""]) == 2.0)
                .then_some(())
        });
        wait_for("the backend to be set aside", || {
            (sum(&scrape(&gate), "gatepost_backend_failures_total", &[]) > 0.0).then_some(())
        });
    }
}

#[test]
fn the_api_is_what_its_description_says() {
    let (gate, _backend, _dir) = watched(DRIVERS[0], &[]);
    traffic(&gate);
    let api = get(&gate, "/api/v1/openapi.json");
    let session = wait_for("the session to end", || {
        get(&gate, "/api/v1/sessions")["entries"][0]["id"].as_str().map(str::to_owned)
    });
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = path.replace("{id}", &session);
            if path == "/api/v1/live" {
                continue; // it does not end
            }
            let kind = "Content-Type: application/json\r\n";
            let (status, head, body) =
                http(&gate, &method.to_uppercase(), &path, kind, if method == "post" { "{}" } else { "" });
            let expected = match (operation["x-changes"] == true, path.starts_with("/api/v1/queue/1")) {
                // Without a token the listener changes nothing.
                (true, _) => 403,
                // No message has a session's id.
                (false, true) => 404,
                _ => 200,
            };
            assert_eq!(status, expected, "{method} {path}: {body}");
            let documented = operation["responses"]["200"]["content"].as_object().unwrap().keys().next().unwrap();
            assert!(
                status != 200 || head.to_lowercase().contains(&format!("content-type: {documented}")),
                "{path}: {head}"
            );
            if status != 200 {
                let error: Value = serde_json::from_str(&body).unwrap();
                assert!(error["error"]["code"].is_string() && error["error"]["message"].is_string(), "{body}");
            } else if documented == "application/json" && path != "/api/v1/openapi.json" {
                conforms(
                    &serde_json::from_str(&body).unwrap(),
                    &operation["responses"]["200"]["content"][documented]["schema"],
                    &api,
                    &path,
                );
            }
        }
    }
}

/// Whether a value has the types that are described, as far as this goes: fields, items, plain types.
fn conforms(value: &Value, schema: &Value, api: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        return conforms(value, api.pointer(reference.trim_start_matches('#')).unwrap(), api, place);
    }
    let fits = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => true,
    };
    assert!(fits, "{place}: {value} is no {schema}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place}: {value} is none of {words:?}");
    }
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        match value.get(name) {
            Some(Value::Null) | None => {}
            Some(value) => conforms(value, schema, api, &format!("{place}.{name}")),
        }
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(item, &schema["items"], api, &format!("{place}[]"));
    }
}

#[test]
fn foreign_names_and_pages_get_nothing() {
    let (gate, _backend, _dir) = watched(DRIVERS[0], &[]);
    let (status, _, body) = http(&gate, "GET", "/api/v1/status", "Host: evil.example\r\n", "");
    assert!(status == 421 && !body.contains("uptime"), "{body}");
    assert_eq!(http(&gate, "GET", "/metrics", "Host: evil.example:2580\r\n", "").0, 421);
    let explain = |more: &str| http(&gate, "POST", "/api/v1/policy/explain", more, "{}").0;
    assert_eq!(explain("Content-Type: application/json\r\n"), 200);
    assert_eq!(explain("Content-Type: application/json\r\nOrigin: https://evil.example\r\n"), 403);
    assert_eq!(explain("Content-Type: text/plain\r\n"), 415);
    let (_, head, _) = http(&gate, "GET", "/", "", "");
    let lower = head.to_lowercase();
    assert!(lower.contains("content-security-policy: default-src 'none'; script-src 'sha256-"), "{head}");
    assert!(!lower.contains("access-control-allow"), "{head}");
}

/// What `curl` says: the status in a line of its own behind the body.
fn curl(args: &[&str]) -> Option<(u16, String)> {
    let program = find_program(&["curl"])?;
    let ran = run(Command::new(program).args(["-sS", "-k", "--max-time", "30", "-w", "\n%{http_code}"]).args(args), "");
    let (body, status) = ran.out.rsplit_once('\n').unwrap_or_else(|| panic!("{ran:?}"));
    Some((status.parse().unwrap(), body.to_owned() + &ran.err))
}

#[test]
fn with_a_token_it_is_https_and_can_change_things() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, "a-token-of-enough-octets\n").unwrap();
    let set = format!("admin.token_file={}", token.display());
    let listen = ["--set", &set, "--set", "admin.listen=127.0.0.1:0"];
    let (gate, _backend, _dir) = watched(DRIVERS[0], &listen);
    let url = |path: &str| format!("https://{}{path}", gate.address("admin"));
    let json = ["-H", "Content-Type: application/json", "-d", "{}"];
    let shown = ["-H", "Authorization: Bearer a-token-of-enough-octets"];
    let Some((status, body)) = curl(&[&url("/api/v1/status")]) else { return skipped("curl") };
    assert_eq!(status, 401, "{body}");
    let ask = |args: &[&str]| curl(args).unwrap();
    assert_eq!(ask(&["-H", "Authorization: Bearer another-token-altogether", &url("/api/v1/status")]).0, 401);
    assert_eq!(ask(&[shown[0], shown[1], &url("/api/v1/status")]).0, 200);
    assert_eq!(ask(&["-u", "anybody:a-token-of-enough-octets", &url("/")]).0, 200);
    assert_eq!(ask(&[&json[..], &[&url("/api/v1/reload")]].concat()).0, 401);
    let (status, body) = ask(&[&json[..], &shown[..], &[&url("/api/v1/reload")]].concat());
    assert!(status == 200 && body.contains("\"version\""), "{body}");
    let foreign = ["-H", "Origin: https://evil.example"];
    assert_eq!(ask(&[&json[..], &shown[..], &foreign[..], &[&url("/api/v1/reload")]].concat()).0, 403);
    // In clear nothing is said.
    let (status, body) = ask(&[&url("/api/v1/status").replace("https", "http")]);
    assert!(status == 0 && !body.contains("uptime"), "{status} {body}");
}

#[test]
fn a_client_certificate_opens_the_door() {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority = |name: &str| {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, theirs) = (authority("ours.example"), authority("theirs.example"));
    let client = |authority: &CertifiedIssuer<'_, KeyPair>, name: &str| {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new(vec!["admin.example".to_owned()]).unwrap().signed_by(&key, authority).unwrap();
        (put(&format!("{name}.pem"), certificate.pem()), put(&format!("{name}.key"), key.serialize_pem()))
    };
    let set = format!("admin.client_ca={}", put("ca.pem", ours.pem()));
    let (gate, _backend, _dir) = watched(DRIVERS[0], &["--set", &set, "--set", "admin.listen=127.0.0.1:0"]);
    let url = format!("https://{}/api/v1/reload", gate.address("admin"));
    let order = ["-H", "Content-Type: application/json", "-d", "{}", &url];
    let with = |(certificate, key): (String, String)| {
        curl(&[&["--cert", &certificate, "--key", &key][..], &order[..]].concat())
    };
    let Some((status, body)) = with(client(&ours, "good")) else { return skipped("curl") };
    assert_eq!(status, 200, "{body}");
    assert_eq!(with(client(&theirs, "foreign")).unwrap().0, 0);
    assert_eq!(curl(&order).unwrap().0, 0, "nobody comes in without one");
}

/// Reads a stream of events until this is in it.
fn until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let start = Instant::now();
    let mut buffer = [0; 16 * 1024];
    while !text.contains(wanted) {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {wanted}: {text:.2000}");
        match stream.read(&mut buffer) {
            Ok(0) => panic!("the stream ended: {text:.2000}"),
            Ok(n) => text.push_str(&String::from_utf8_lossy(&buffer[..n])),
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(e) => panic!("{e}: {text:.2000}"),
        }
    }
    text
}

fn view(gate: &Gate, query: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gate.address("admin")).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(format!("GET /api/v1/live?{query} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
    stream
}

#[test]
fn ten_viewers_hear_of_a_refusal() {
    for io in DRIVERS {
        let (gate, _backend, _dir) = watched(io, &[]);
        let mut viewers: Vec<TcpStream> = (0..10).map(|_| view(&gate, "overview=1&verdict=refused")).collect();
        let mut friend = view(&gate, "verdict=accept&rcpt=bob@*");
        let mut other = view(&gate, "client=192.0.2.0/24");
        viewers.iter_mut().for_each(|viewer| drop(until(viewer, "event: overview")));
        until(&mut friend, "retry:");
        until(&mut other, "retry:");
        traffic(&gate);
        for viewer in &mut viewers {
            let heard = until(viewer, "\"rule\":\"trap\"");
            assert!(heard.contains("trap@example.test") && heard.contains("That is a trap"), "{heard}");
        }
        let heard = until(&mut friend, "bob@example.test");
        assert!(!heard.contains("trap"), "{heard}");
        assert_eq!(sum(&scrape(&gate), "gatepost_admin_viewers", &[]), 12.0);
        other.set_nonblocking(true).unwrap();
        let mut rest = String::new();
        let _ = other.read_to_string(&mut rest);
        assert!(!rest.contains("decision"), "{rest}");
        drop((viewers, friend, other));
        wait_for("the viewers to be forgotten", || {
            (sum(&scrape(&gate), "gatepost_admin_viewers", &[]) == 0.0).then_some(())
        });
    }
}

fn said(ran: &Ran) -> &str {
    assert!(ran.ok, "{ran:?}");
    &ran.out
}

#[test]
fn the_command_line_tells_why_a_message_was_refused() {
    for io in DRIVERS {
        let (gate, _backend, _dir) = watched(io, &[]);
        traffic(&gate);
        let tail = gate.command(&["tail", "--no-follow", "--json", "--reason", "trap", "--rcpt", "trap@*"]);
        let decision: Value = serde_json::from_str(said(&tail).trim()).unwrap_or_else(|e| panic!("{e}: {tail:?}"));
        assert_eq!(
            (&decision["rule"], &decision["verdict"], &decision["stage"]),
            (&json!("trap"), &json!("reject"), &json!("rcpt"))
        );
        let id = decision["session"].as_str().unwrap();
        let story = gate.command(&["session", id, "--trace"]);
        for part in [
            "EHLO client.example.org",
            "MAIL FROM:<eve@bad.example>",
            "RCPT TO:<trap@example.test>",
            "→ reject by trap: 550 5.7.1 That is a trap",
            "+ trap",
            "rcpt.local == 'trap'",
            "→ defer by slow, limit few: more than 2/hour",
            "message delivered",
        ] {
            assert!(said(&story).contains(part), "{io}: {part}\n{}", story.out);
        }
        let list = gate.command(&["session"]);
        assert!(said(&list).contains(id) && list.out.contains("client.example.org"), "{list:?}");
        let status = gate.command(&["status"]);
        for part in ["cores        2", "messages     3 accepted", "refusals     2\n", "up, 3 answers"] {
            assert!(said(&status).contains(part), "{part}\n{}", status.out);
        }
        let hits = gate.command(&["policy", "hits"]);
        assert!(said(&hits).contains("1 reject") && hits.out.contains("few"), "{hits:?}");
        let top = gate.command(&["top", "--once"]);
        assert!(said(&top).contains("decisions by rule") && top.out.contains("trap"), "{top:?}");
        let unknown = gate.command(&["session", "0000000000000"]);
        assert!(unknown.code == Some(1) && unknown.err.contains("nothing is kept"), "{unknown:?}");
        let wrong = gate.command(&["tail", "--verdict", "maybe"]);
        assert!(wrong.code == Some(2) && wrong.err.contains("expected one of"), "{wrong:?}");
    }
}

#[test]
fn a_session_that_goes_on_has_a_story_too() {
    for io in DRIVERS {
        let (gate, _backend, _dir) = watched(io, &[]);
        let mut talk = gate.talk();
        talk.say("EHLO open.example.org", "250");
        talk.say("MAIL FROM:<eve@bad.example>", "250");
        talk.say("RCPT TO:<trap@example.test>", "550");
        let id =
            get(&gate, "/api/v1/decisions?q=trap@example.test")["entries"][0]["session"].as_str().unwrap().to_owned();
        let story = get(&gate, &format!("/api/v1/sessions/{id}?trace=true"));
        assert_eq!(story["state"], "open", "{io}: {story:#}");
        let last = story["events"].as_array().unwrap().last().unwrap();
        assert_eq!((&last["what"], &last["rule"]), (&json!("rcpt"), &json!("trap")), "{io}: {story:#}");
        assert_eq!(last["trace"][0]["decided_by"], "trap", "{io}: {story:#}");
        talk.say("QUIT", "221");
        wait_for("its end", || (get(&gate, &format!("/api/v1/sessions/{id}"))["state"] == "ended").then_some(()));
    }
}

#[test]
fn nobody_is_recorded_when_nothing_is_kept() {
    let (gate, _backend, _dir) =
        watched(DRIVERS[0], &["--set", "admin.sessions_kept=0", "--set", "admin.listen=127.0.0.1:0"]);
    traffic(&gate);
    assert_eq!(get(&gate, "/api/v1/sessions")["entries"], json!([]));
    let entries = get(&gate, "/api/v1/decisions?rule=trap");
    let id = entries["entries"][0]["session"].as_str().unwrap();
    let story = get(&gate, &format!("/api/v1/sessions/{id}"));
    assert!(story["state"] == "partial" && story["note"].as_str().unwrap().contains("Only the refusals"), "{story:#}");
}

#[test]
fn a_reload_says_what_is_different_and_a_bad_file_changes_nothing() {
    for io in DRIVERS {
        let (gate, _backend, dir) = watched(io, &[]);
        let policy = dir.path().join("policy.toml");
        let mut before = gate.talk();
        before.say("EHLO before.example.org", "250");
        let stricter = POLICY.replace("'trap'", "'bob'").replace("2/hour", "9/hour")
            + "[[rule]]\nname = \"new\"\nstage = \"helo\"\nwhen = \"helo == 'x'\"\nthen = \"reject\"\n";
        // One step, so that the watcher sees whole files only.
        let put = |text: &str| {
            std::fs::write(dir.path().join("next"), text).unwrap();
            std::fs::rename(dir.path().join("next"), &policy).unwrap();
        };
        put(&stricter);
        let reloaded = gate.command(&["reload"]);
        assert!(said(&reloaded).contains("is in force for new sessions"), "{reloaded:?}");
        // The watcher of files may have been faster; then the log says it.
        let told = format!("{}{}", reloaded.out, gate.said());
        for part in
            ["+ rule new: at helo, when helo == 'x', then reject", "~ limit few: 2/hour per sender → 9/hour per sender"]
        {
            assert!(told.contains(part), "{io}: {part}\n{told}");
        }
        // Whoever was there keeps the policy it began with.
        before.say("MAIL FROM:<a@example.org>", "250");
        before.say("RCPT TO:<bob@example.test>", "250");
        let mut after = gate.talk();
        after.say("EHLO after.example.org", "250");
        after.say("MAIL FROM:<a@example.org>", "250");
        after.say("RCPT TO:<bob@example.test>", "550");
        let version = get(&gate, "/api/v1/status")["policy_version"].clone();
        put(&stricter.replace("helo == 'x'", "heol == 'x'"));
        let bad = gate.command(&["reload"]);
        assert!(bad.code == Some(1) && bad.err.contains("nothing was changed"), "{bad:?}");
        assert!(bad.err.contains("policy.toml:") && bad.err.contains("heol"), "{bad:?}");
        assert_eq!(get(&gate, "/api/v1/status")["policy_version"], version);
        let hits = get(&gate, "/api/v1/policy");
        assert_eq!(hits["rules"].as_array().unwrap().len(), 3, "{hits:#}");
        // What was counted under the policy before is still there.
        assert!(sum(&scrape(&gate), "gatepost_verdicts_total", &["stage=\"connect\""]) >= 2.0);
    }
}

#[test]
fn a_drain_lets_sessions_end_and_then_the_server() {
    for io in DRIVERS {
        let (mut gate, _backend, _dir) = watched(io, &["--set", "server.shutdown_grace=20s"]);
        let mut talk = gate.talk();
        talk.say("EHLO last.example.org", "250");
        // In the middle of a message: that it may end.
        talk.say("MAIL FROM:<ann@example.org>", "250");
        talk.say("RCPT TO:<bob@example.test>", "250");
        talk.say("DATA", "354");
        let told = gate.command(&["drain", "--no-wait"]);
        assert!(said(&told).contains("accepts nobody any more; 1 connections"), "{told:?}");
        wait_for("the port to close", || TcpStream::connect(gate.address("mx")).is_err().then_some(()));
        let status: Value = get(&gate, "/api/v1/status");
        assert_eq!(status["draining"], true, "{status}");
        talk.send("Subject: last\r\n\r\nx\r\n.\r\n");
        let reply = talk.reply();
        assert!(reply.starts_with("250"), "{reply}");
        drop(talk);
        assert_eq!(gate.terminate(), Some(0), "{}", gate.said());
        let nobody = gate.command(&["status"]);
        assert!(nobody.code == Some(1) && nobody.err.contains("no server runs"), "{nobody:?}");
    }
}

#[test]
fn the_default_port_taken_is_a_warning_and_a_named_one_an_error() {
    let first = Gate::start(&[]);
    let listen = format!("admin.listen={}", first.address("admin"));
    let dir = tempfile::tempdir().unwrap();
    let ran = run(
        support::gatepost().args(["serve", "--port-base", "0", "--data"]).arg(dir.path()).args(["--set", &listen]),
        "",
    );
    assert!(ran.code == Some(1) && ran.err.contains("admin.listen: cannot listen on"), "{ran:?}");
}

/// What the browser saw.
fn browse(chromium: &Path, url: &str, dir: &Path, steps: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operation/browser.py");
    let ran = run(
        Command::new("timeout")
            .args(["120", "python3"])
            .arg(script)
            .arg(chromium)
            .arg(url)
            .arg(dir.join("profile"))
            .arg(steps.to_string()),
        "",
    );
    let seen: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    assert_eq!(seen["failure"], Value::Null, "{seen:#}");
    assert_eq!(seen["console"], json!([]), "{seen:#}");
    let foreign =
        seen["requests"].as_array().unwrap().iter().filter(|r| !r.as_str().unwrap().starts_with(url) && *r != "data:,");
    assert_eq!(foreign.count(), 0, "nothing is fetched from elsewhere: {seen:#}");
    seen
}

#[test]
fn the_dashboard_lives_in_a_real_browser() {
    let Some(chromium) = find_program(&["chromium", "chromium-browser"]) else { return skipped("chromium") };
    if find_program(&["python3"]).is_none() {
        return skipped("python3");
    }
    let (gate, _backend, _dir) = watched(DRIVERS[0], &[]);
    traffic(&gate);
    let dir = tempfile::tempdir().unwrap();
    let url = format!("http://{}/", gate.address("admin"));
    let shot = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // Mail goes on while the page is open.
    let ended = std::sync::atomic::AtomicBool::new(false);
    let busy = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                traffic(&gate);
                std::thread::sleep(Duration::from_millis(300));
            }
        });
        let text = |id: &str| format!("document.getElementById('{id}').textContent");
        let rows = "document.querySelectorAll('#refused tbody tr').length";
        let seen = browse(
            &chromium,
            &url,
            dir.path(),
            &json!([
                ["size", [1280, 1500]],
                ["theme", "light"],
                ["wait", "document.querySelectorAll('#tiles dd').length === 8"],
                ["wait", format!("{rows} >= 2 && {}.includes('That is a trap')", text("refused"))],
                ["wait", "document.querySelectorAll('#traffic polyline').length === 2"],
                ["wait", format!("/[1-9]/.test({})", text("tiles"))],
                ["value", "window.firstTiles = document.getElementById('tiles').textContent, 1"],
                ["wait", "document.getElementById('tiles').textContent !== window.firstTiles"],
                ["wait", format!("{}.includes('up')", text("backends"))],
                ["shot", shot("light.png")],
                ["theme", "dark"],
                ["shot", shot("dark.png")],
                ["size", [400, 1500]],
                ["shot", shot("narrow.png")],
                ["value", "document.documentElement.scrollWidth <= 400"],
                ["size", [1280, 1500]],
                // The search by keyboard: a slash, words, the result, nothing.
                ["key", "/"],
                ["value", "document.activeElement.id"],
                ["type", "TRAP eve@bad.example"],
                [
                    "wait",
                    format!(
                        "[...document.querySelectorAll('#refused tbody tr')].every(r => r.textContent.includes('trap@example.test')) && {rows} > 0"
                    )
                ],
                ["type", " nonesuch"],
                ["wait", format!("{}.includes('no refusal has all of this')", text("refused"))],
                [
                    "value",
                    "document.getElementById('search').value = '', document.getElementById('search').dispatchEvent(new Event('input')), 1"
                ],
                ["wait", format!("{rows} > 1")],
                // A session's story from its link.
                [
                    "value",
                    "[...document.querySelectorAll('#refused tbody tr')].find(r => r.textContent.includes('trap@')).querySelector('a').click(), 1"
                ],
                [
                    "wait",
                    format!("!document.getElementById('story').hidden && {}.includes('That is a trap')", text("story"))
                ],
                ["value", "document.querySelectorAll('#story details').length > 3"],
                ["value", "document.activeElement.tagName"],
                // The policy, its hits, and an explanation.
                ["value", "location.hash = 'policy', 1"],
                ["wait", format!("{}.includes('trap')", text("rules"))],
                ["value", format!("{}.includes('[limit.few]')", text("source"))],
                ["value", "document.querySelector('[name=to]').focus(), 1"],
                ["type", "trap@example.test"],
                ["key", "Enter"],
                ["wait", format!("{}.includes('550 5.7.1 That is a trap')", text("explain-state"))],
                ["value", "location.hash = 'about', 1"],
                ["wait", format!("{}.includes('Driver')", text("status"))],
                ["value", "document.querySelectorAll('nav a[aria-current=page]').length"],
                // Everything that can be operated has a name.
                [
                    "value",
                    "[...document.querySelectorAll('input, textarea, button, a')].filter(e => !(e.textContent.trim() || e.labels?.length || e.getAttribute('aria-label'))).length"
                ],
                ["value", "[...document.querySelectorAll('table')].filter(t => !t.caption || !t.tHead).length"],
            ]),
        );
        ended.store(true, std::sync::atomic::Ordering::Relaxed);
        sender.join().unwrap();
        seen
    });
    assert_eq!(busy["values"], json!([1, true, "search", 1, 1, true, "H2", 1, true, 1, 1, 1, 0, 0]), "{busy:#}");
    let mut sizes = Vec::new();
    for (name, width) in [("light.png", 1280), ("dark.png", 1280), ("narrow.png", 400)] {
        let bytes = std::fs::read(dir.path().join(name)).unwrap();
        assert_eq!(&bytes[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(u32::from_be_bytes(bytes[16..20].try_into().unwrap()), width, "{name}");
        // A blank page takes some kilobytes.
        assert!(bytes.len() > 40_000, "{name}: {} octets: nearly nothing was drawn", bytes.len());
        sizes.push(bytes);
    }
    assert_ne!(sizes[0], sizes[1], "dark is not light");
}
