//! The published suites (`tests/data`): RFC 7208's by openspf, the examples of RFC 6376 and RFC 8463, an ARC chain.

use super::messages::{body, case, split};
use super::*;
use crate::base::address::{Host, Mailbox};
use crate::base::inquiry::{Spf, Verified};
use serde_json::Value;

const SUITE: &str = include_str!("../../../tests/data/spf/rfc7208-tests.json");

/// Cases that come out otherwise here, and why. A case that agrees again must leave this list.
const DIFFERENT: &[(&str, &str)] = &[("mx-colon-domain", NO_HOST_NAME), ("mx-colon-domain-ip4mapped", NO_HOST_NAME)];
/// RFC 5321 section 2.3.5 has letters, digits and hyphens; mail would not be sent there either.
const NO_HOST_NAME: &str = "the only exchanger is foo:bar/baz.example.com, which no host can be called: temperror";

/// The suite's zone in the lines of our server. TIMEOUT becomes SERVFAIL: both are a failure, this one is quicker.
fn lines(zone: &Value) -> String {
    let mut text = String::new();
    for (owner, records) in zone.as_object().unwrap() {
        let records = records.as_array().unwrap();
        let has_txt = records.iter().any(|r| r.get("TXT").is_some());
        if owner.split('.').any(|label| label.len() > 63) {
            continue; // no name of the DNS
        }
        let owner = owner.replace(' ', "\\032");
        text.push_str(&format!("{owner} EMPTY\n"));
        for record in records {
            if record.as_str() == Some("TIMEOUT") {
                text.push_str(&format!("{owner} SERVFAIL\n"));
                continue;
            }
            let (kind, value) = record.as_object().unwrap().iter().next().unwrap();
            if value.as_str() == Some("NONE") || (kind == "SPF" && has_txt) {
                continue;
            }
            let line = match kind.as_str() {
                // The suite's SPF records stand for TXT where there is none.
                "SPF" | "TXT" => format!("{owner} TXT {}\n", quoted(value)),
                "MX" => format!("{owner} MX {} {}.\n", value[0], value[1].as_str().unwrap()),
                kind => format!("{owner} {kind} {}\n", value.as_str().unwrap()),
            };
            text.push_str(&line);
        }
    }
    text
}

fn quoted(value: &Value) -> String {
    let parts = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
    if parts.is_empty() {
        return "\"\"".into(); // on the wire a text has at least one string
    }
    let quote = |part: &Value| {
        let escaped: String = part.as_str().unwrap().bytes().map(|b| format!("\\{b:03}")).collect();
        format!("\"{escaped}\"")
    };
    parts.iter().map(quote).collect::<Vec<_>>().join(" ")
}

/// The sender as the SMTP grammar would give it; `None` where there is none.
fn sender(text: &str) -> Option<Mailbox> {
    let (local, host) = text.rsplit_once('@').unwrap_or(("", text));
    (!host.is_empty()).then(|| Mailbox::from_checked(local, Host::Domain(domain(host))))
}

fn outcome(desk: &Desk, test: &Value) -> Spf {
    let text = |key: &str| test[key].as_str().unwrap_or_default();
    let inquiry = Inquiry::Spf {
        client: text("host").parse().unwrap(),
        helo: text("helo").into(),
        sender: sender(text("mailfrom")),
    };
    match desk.find(&inquiry) {
        Finding::Spf(spf) => spf,
        other => panic!("{other:?}"),
    }
}

fn agrees(test: &Value, spf: &Spf) -> Result<(), String> {
    let wanted: Vec<&str> = match &test["result"] {
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        one => vec![one.as_str().unwrap()],
    };
    if !wanted.contains(&spf.result.word()) {
        return Err(format!("{} instead of {wanted:?}", spf.result.word()));
    }
    let said = spf.explanation.as_deref().unwrap_or("DEFAULT");
    match test["explanation"].as_str() {
        // The digits of `%{i}` may be of either case.
        Some(wanted) if !wanted.eq_ignore_ascii_case(said) => Err(format!("explained {said:?} instead of {wanted:?}")),
        _ => Ok(()),
    }
}

#[test]
fn the_openspf_suite_of_rfc_7208() {
    let suite: Value = serde_json::from_str(SUITE).unwrap();
    let (mut run, mut report) = (0, String::new());
    for scenario in suite.as_array().unwrap() {
        let desk = Desk::with(&lines(&scenario["zonedata"]), |knobs| knobs.failure_ttl = Duration::ZERO);
        for (name, test) in scenario["tests"].as_object().unwrap() {
            run += 1;
            let spf = outcome(&desk, test);
            let known = DIFFERENT.iter().find(|(n, _)| n == name);
            match (agrees(test, &spf), known) {
                (Ok(()), None) => {}
                (Err(_), Some((_, why))) => println!("{name} differs: {why}"),
                (Ok(()), Some(_)) => report.push_str(&format!("{name}: agrees now, but is listed as different\n")),
                (Err(how), None) => {
                    let section = scenario["description"].as_str().unwrap_or_default();
                    report.push_str(&format!("{section}: {name} ({}): {how}\n", test["spec"]));
                }
            }
        }
    }
    assert_eq!(run, 203, "the whole suite");
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn the_examples_of_dkim() {
    for (name, text) in [
        ("RFC 6376", include_str!("../../../tests/data/dkim/rfc6376.txt")),
        ("RFC 8463", include_str!("../../../tests/data/dkim/rfc8463.txt")),
        ("simple canonicalization", include_str!("../../../tests/data/dkim/simple-dkimpy.txt")),
    ] {
        let (zones, message) = split(text);
        let desk = Desk::new(&zones);
        let finding = desk.find_for(&Inquiry::Signatures, Some(case(Some(body(&message)), None)));
        let Finding::Signatures(found) = finding else { panic!("{name}: {finding:?}") };
        assert!(!found.dkim.is_empty(), "{name}");
        for dkim in &found.dkim {
            assert_eq!(dkim.result, Verified::Pass, "{name}: {dkim:?}");
        }
    }
}

#[test]
fn a_chain_of_arc() {
    let (zones, message) = split(include_str!("../../../tests/data/arc/two-sets.txt"));
    let desk = Desk::new(&zones);
    let find = |message: &[u8]| {
        let finding = desk.find_for(&Inquiry::Signatures, Some(case(Some(body(message)), None)));
        let Finding::Signatures(found) = finding else { panic!("{finding:?}") };
        found
    };
    let found = find(&message);
    assert_eq!((found.arc, found.arc_domain.as_deref()), (Verified::Pass, Some("manchego.org")));
    let text = String::from_utf8(message).unwrap();
    assert_eq!(find(text.replace("cv=none", "cv=pass").as_bytes()).arc, Verified::Fail);
    let mut changed = text.clone().into_bytes();
    changed.extend_from_slice(b"more\r\n");
    assert_eq!(find(&changed).arc, Verified::Fail);
    let lone = text.replace("ARC-Message-Signature:", "X-Was:");
    assert_eq!(find(lone.as_bytes()).arc, Verified::Fail, "seals without what they seal");
    let silent = Desk::new("*.manchego.org SERVFAIL\n*.scamorza.org SERVFAIL");
    let finding = silent.find_for(&Inquiry::Signatures, Some(case(Some(body(text.as_bytes())), None)));
    let Finding::Signatures(found) = finding else { panic!("{finding:?}") };
    assert_eq!(found.arc, Verified::Temperror);
}
