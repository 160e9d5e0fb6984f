//! Lists in the DNS: of addresses and of names, of those to block and of those to let pass (RFC 5782).
//!
//! How it fails: a list that cannot be asked, that answers with something no list may say, or that refuses us is
//! [`Finding::Unknown`] with the reason: an expired domain that answers every question with its parking page's address
//! must not make every client listed.

use super::breaker::{Breakers, Outcome, Trial};
use super::names::unknown;
use super::question::{Answer, Found, Key, Miss, ascii, is_dns_name};
use super::records::{Reach, Resolve};
use crate::base::address::Domain;
use crate::base::inquiry::{Finding, Subject};
use std::fmt::Write;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};

/// Codes of one answer at most; a list with more is told its first ones.
const CODES_MAX: usize = 32;

/// What public lists answer instead of an answer: for every list or for the zones below a name, a network (its first
/// octets), and what it means.
const REFUSALS: &[(&str, &[u8], &str)] = &[
    ("", &[127, 255, 255, 252], "it takes the zone's name for mistyped"),
    ("", &[127, 255, 255, 254], "it does not answer public resolvers: name servers of one's own are needed"),
    ("", &[127, 255, 255, 255], "it refuses because of too many queries"),
    ("", &[127, 255, 255], "it refuses us"),
    // For these two it is the lowest bit of the mask, kept for refusals; elsewhere it may be a code.
    ("uribl.com", &[127, 0, 0, 1], "it refuses us (127.0.0.1): too many queries, or a public resolver"),
    ("surbl.org", &[127, 0, 0, 1], "it refuses us (127.0.0.1): too many queries, or a public resolver"),
    ("dnswl.org", &[127, 0, 0, 255], "it refuses because of too many queries"),
];

/// Whether the list holds the subject.
pub(super) async fn listed(dns: &Resolve, breakers: &Breakers, zone: &Domain, subject: &Subject) -> Finding {
    let Some(zone) = ascii(zone) else { return unknown(zone, "it cannot be a zone of the DNS") };
    let Some(name) = name_in(&zone, subject) else {
        return unknown(&zone, "the name to look for is too long for the DNS");
    };
    let key = Key::A(name.into());
    if let Some(answer) = dns.records.local(&key) {
        return read(&zone, &answer).unwrap_or_else(|why| unknown(&zone, why));
    }
    let now = dns.records.now();
    if breakers.is_open(&zone, now) {
        return not_asked(&zone);
    }
    if dns.reach == Reach::Local {
        return pending().await;
    }
    if !breakers.admits(&zone, now) {
        return not_asked(&zone);
    }
    let trial = Trial::new(breakers, &zone, &dns.records);
    let answer = dns.get(&key).await;
    let finding = read(&zone, &answer);
    let outcome = match &finding {
        Ok(Finding::Listed(codes)) if !codes.is_empty() => Outcome::Listed,
        Ok(_) => Outcome::NotListed,
        Err(why) => Outcome::Failed(why),
    };
    trial.ended(outcome);
    finding.unwrap_or_else(|why| unknown(&zone, why))
}

fn not_asked(zone: &str) -> Finding {
    unknown(zone, "it failed again and again and is not asked for now")
}

/// The name that stands for the subject in the list's zone; `None` when it is longer than a name may be.
fn name_in(zone: &str, subject: &Subject) -> Option<String> {
    let mut name = String::with_capacity(80 + zone.len());
    match subject {
        Subject::Address(ip) => match ip.to_canonical() {
            // RFC 5782 §2.1
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                let _ = write!(name, "{d}.{c}.{b}.{a}."); // writing to a string cannot fail
            }
            // RFC 5782 §2.4
            IpAddr::V6(ip) => {
                for octet in ip.octets().iter().rev() {
                    let _ = write!(name, "{:x}.{:x}.", octet & 15, octet >> 4);
                }
            }
        },
        // RFC 5782 §2.2
        Subject::Name(domain) => {
            name.push_str(&ascii(domain)?);
            name.push('.');
        }
    }
    name.push_str(zone);
    is_dns_name(&name).then_some(name)
}

/// The codes of an answer, or why it is none.
fn read(zone: &str, answer: &Answer) -> Result<Finding, String> {
    let ips = match &answer.result {
        Ok(Found::Addresses(ips)) => ips,
        Err(miss @ Miss::Temporary(_)) => return Err(miss.to_string()),
        _ => return Ok(Finding::Listed(Vec::new())),
    };
    let mut codes: Vec<Ipv4Addr> = Vec::with_capacity(ips.len().min(CODES_MAX));
    for ip in ips.iter() {
        let code = match ip {
            IpAddr::V4(code) if code.is_loopback() => *code,
            // RFC 5782 §2.1: values are in 127.0.0.0/8. Anything else is a parked domain or a lying name server.
            other => return Err(format!("it answered {other}, outside of 127.0.0.0/8, which no list may")),
        };
        if let Some(why) = refusal(zone, code) {
            return Err(why.to_owned());
        }
        if codes.len() < CODES_MAX {
            codes.push(code);
        }
    }
    codes.sort_unstable();
    Ok(Finding::Listed(codes))
}

fn refusal(zone: &str, code: Ipv4Addr) -> Option<&'static str> {
    let of = |suffix: &str| {
        suffix.is_empty() || zone.strip_suffix(suffix).is_some_and(|front| front.is_empty() || front.ends_with('.'))
    };
    REFUSALS.iter().find(|(suffix, net, _)| of(suffix) && code.octets().starts_with(net)).map(|(_, _, why)| *why)
}

#[cfg(test)]
mod tests {
    use super::super::question::Source;
    use super::*;
    use std::time::Duration;

    fn answer(ips: &[&str]) -> Answer {
        let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        Answer { result: Ok(Found::Addresses(ips.into())), ttl: Duration::from_secs(60), source: Source::Dns }
    }

    #[test]
    fn subjects_have_their_names() {
        let name = |s: &Subject| name_in("dnsbl.test", s);
        let ip = |t: &str| Subject::Address(t.parse().unwrap());
        assert_eq!(name(&ip("192.0.2.99")).unwrap(), "99.2.0.192.dnsbl.test");
        assert_eq!(name(&ip("::ffff:192.0.2.99")).unwrap(), "99.2.0.192.dnsbl.test");
        // The example of RFC 5782 §2.4.
        assert_eq!(
            name(&ip("2001:db8:1:2:3:4:567:89ab")).unwrap(),
            "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.dnsbl.test"
        );
        let subject = |t: &str| Subject::Name(Domain::from_checked(t));
        assert_eq!(name(&subject("Example.TEST")).unwrap(), "example.test.dnsbl.test");
        let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(55)].join(".");
        assert_eq!(name(&subject(&long)), None);
    }

    #[test]
    fn codes_are_read_and_nonsense_is_not() {
        let codes = |found: Result<Finding, String>| match found {
            Ok(Finding::Listed(codes)) => codes,
            other => panic!("{other:?}"),
        };
        let read_ips = |zone: &str, ips: &[&str]| read(zone, &answer(ips));
        assert_eq!(codes(read_ips("z.test", &["127.0.0.4", "127.0.0.2"])).len(), 2);
        let nothing = Answer { result: Err(Miss::NoName), ..answer(&[]) };
        assert!(codes(read("z.test", &nothing)).is_empty());
        assert!(read_ips("z.test", &["192.0.2.1"]).unwrap_err().contains("outside of 127.0.0.0/8"));
        assert!(read_ips("z.test", &["127.0.0.2", "::1"]).is_err());
        assert!(read_ips("z.test", &["127.255.255.254"]).unwrap_err().contains("public resolvers"));
        assert!(read_ips("multi.uribl.com", &["127.0.0.1"]).unwrap_err().contains("refuses"));
        assert_eq!(codes(read_ips("z.test", &["127.0.0.1"])).len(), 1);
        assert!(read_ips("list.dnswl.org", &["127.0.0.255"]).is_err());
        assert_eq!(codes(read_ips("notdnswl.org", &["127.0.0.255"])).len(), 1);
        let many: Vec<String> = (2..200).map(|n| format!("127.0.0.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(codes(read_ips("z.test", &many)).len(), CODES_MAX);
    }
}
