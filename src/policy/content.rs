//! Reads a message for what rules ask about its octets: faults of its header section, its subject, attachments, hosts of
//! URLs, the test line of filters. Only what some rule needs is read, once, before the stage is decided.
//!
//! How it fails: it does not. Every answer is bounded; what needs the body is unknown when the body is not in memory.

use super::header::{fields_in_order, first};
use super::texts::normal_domain;
use super::value::Given;
use crate::wire::mime::{Structure, attachments, decoded_field, parse_date, text_parts};
use std::collections::BTreeSet;

/// Attachments and hosts that are told of one message at most.
const ITEMS_MAX: usize = 100;
/// Octets of text that are searched for URLs at most.
const TEXT_OCTETS_MAX: usize = 256 * 1024;
/// Octets of a header field that are looked at for faults of the field.
const FIELD_OCTETS_MAX: usize = 64 * 1024;

/// What is read of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// `subject`
    Subject,
    /// `message.header_faults`
    HeaderFaults,
    /// `message.attachments`, `attachment_names`, `attachment_types`
    Attachments,
    /// `url_hosts`
    UrlHosts,
    /// `message.gtube`
    Gtube,
}

impl Reading {
    /// Whether the header section is enough.
    pub fn is_of_header(self) -> bool {
        matches!(self, Reading::Subject | Reading::HeaderFaults)
    }

    /// The facts that it tells. `message` is the whole message, where it is at hand; `utf8` says whether SMTPUTF8 was
    /// asked for.
    pub fn read(self, headers: &[u8], message: Option<&[u8]>, utf8: bool) -> Vec<(&'static str, Given)> {
        let lines = |items: Vec<String>| Given::Text(items.join("\n"));
        match (self, message) {
            (Reading::Subject, _) => vec![("subject", Given::Text(subject(headers)))],
            (Reading::HeaderFaults, _) => vec![("message.header_faults", lines(header_faults(headers, utf8)))],
            (Reading::Attachments, Some(message)) => {
                let found = attachments(message, &Structure::parse(message), ITEMS_MAX);
                let names = found.iter().map(|a| a.name.clone()).filter(|n| !n.is_empty()).collect();
                let types = found.iter().map(|a| a.kind.clone()).collect();
                let count = Given::Number(found.len() as i64);
                vec![
                    ("message.attachments", count),
                    ("attachment_names", lines(names)),
                    ("attachment_types", lines(types)),
                ]
            }
            (Reading::UrlHosts, Some(message)) => vec![("url_hosts", lines(url_hosts(message)))],
            (Reading::Gtube, Some(message)) => vec![("message.gtube", Given::Flag(holds_gtube(message)))],
            (Reading::Attachments, None) => {
                ["message.attachments", "attachment_names", "attachment_types"].map(|f| (f, Given::Unknown)).into()
            }
            (Reading::UrlHosts, None) => vec![("url_hosts", Given::Unknown)],
            (Reading::Gtube, None) => vec![("message.gtube", Given::Unknown)],
        }
    }
}

/// The subject, decoded, on one line.
pub fn subject(headers: &[u8]) -> String {
    let raw = fields_in_order(headers).find(|(name, _)| name.eq_ignore_ascii_case(b"subject"));
    let text = raw.map(|(_, value)| decoded_field(&value[..value.len().min(FIELD_OCTETS_MAX)])).unwrap_or_default();
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Fields that stand in a header section at most once (RFC 5322 §3.6).
const ONCE: [&str; 9] = ["date", "from", "sender", "reply-to", "to", "cc", "message-id", "in-reply-to", "subject"];

fn header_faults(headers: &[u8], utf8: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let count = |name: &str| fields_in_order(headers).filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).count();
    for name in ["date", "from", "message-id"] {
        if count(name) == 0 {
            faults.push(format!("missing-{name}"));
        }
    }
    faults.extend(ONCE.into_iter().filter(|name| count(name) > 1).map(|name| format!("duplicate-{name}")));
    // RFC 5322 §3.3, §3.6.2 and §3.6.4.
    let good = |name: &str, is: fn(&str) -> bool| first(headers, name).is_none_or(|text| is(&text));
    if !good("date", |t| parse_date(t.as_bytes()).is_some()) {
        faults.push("bad-date".into());
    }
    if !good("from", |t| t.contains('@') || t.trim_end().ends_with(';')) {
        faults.push("bad-from".into());
    }
    if !good("message-id", |t| t.starts_with('<') && t.ends_with('>') && t.contains('@')) {
        faults.push("bad-message-id".into());
    }
    if has_bad_line(headers) {
        faults.push("bad-line".into());
    }
    // RFC 6532 §3.1: UTF-8, and only where SMTPUTF8 was asked for (RFC 6531 §3.6).
    let allowed = headers.is_ascii() || utf8 && std::str::from_utf8(headers).is_ok();
    if !allowed {
        faults.push("8bit".into());
    }
    faults
}

/// Whether a line is neither a field nor the continuation of one (RFC 5322 §2.2).
fn has_bad_line(headers: &[u8]) -> bool {
    let mut after_field = false;
    for line in headers.split(|b| *b == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return false;
        }
        if matches!(line[0], b' ' | b'\t') {
            if !after_field {
                return true;
            }
            continue;
        }
        let name = line.iter().position(|b| *b == b':').map(|colon| line[..colon].trim_ascii_end());
        if name.is_none_or(|n| n.is_empty() || !n.iter().all(u8::is_ascii_graphic)) {
            return true;
        }
        after_field = true;
    }
    false
}

/// Hosts of the URLs in the text parts, in lower case and A-labels, each once.
fn url_hosts(message: &[u8]) -> Vec<String> {
    let mut hosts = BTreeSet::new();
    for text in text_parts(message, &Structure::parse(message), TEXT_OCTETS_MAX) {
        for (at, _) in text.match_indices("://") {
            let scheme = text[..at].trim_end_matches(|c: char| c.is_ascii_alphanumeric()).len();
            if !["http", "https", "ftp"].iter().any(|s| text[scheme..at].eq_ignore_ascii_case(s)) {
                continue;
            }
            if let Some(host) = host(&text[at + 3..]).filter(|_| hosts.len() < ITEMS_MAX) {
                hosts.insert(host);
            }
        }
        for (at, _) in text.match_indices("www.") {
            let begins = !text[..at].ends_with(|c: char| c.is_alphanumeric() || "./@-_".contains(c));
            if let Some(host) =
                host(&text[at..]).filter(|h| begins && h.matches('.').count() > 1 && hosts.len() < ITEMS_MAX)
            {
                hosts.insert(host);
            }
        }
    }
    hosts.into_iter().collect()
}

/// The host at the front of what follows `://` (RFC 3986 §3.2).
fn host(text: &str) -> Option<String> {
    let over = |c: char| c.is_whitespace() || c.is_control() || "/?#\"'<>()\\,;|{}^`".contains(c);
    let authority = &text[..text.find(over).unwrap_or(text.len())];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(literal) => return Some(format!("[{}]", literal.split(']').next()?.to_ascii_lowercase())),
        None => host.split(':').next()?,
    };
    let decoded = host.replace("%2e", ".").replace("%2E", ".");
    normal_domain(decoded.trim_end_matches(['.', '!'])).filter(|h| h.contains('.') && h.len() > 3)
}

/// The line that filters take for spam by agreement, in two halves so that no filter refuses this file.
const GTUBE: [&[u8]; 2] = [b"XJS*C4JDBQADN1.NSBN3*2IDNEN*", b"GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"];

fn holds_gtube(message: &[u8]) -> bool {
    memchr::memmem::find_iter(message, GTUBE[0]).any(|at| message[at + GTUBE[0].len()..].starts_with(GTUBE[1]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn faults(headers: &str) -> String {
        header_faults(headers.replace('\n', "\r\n").as_bytes(), false).join(" ")
    }

    #[test]
    fn what_is_wrong_with_a_header_section() {
        let good = "Date: Mon, 23 Nov 2026 12:32:01 +0000\nFrom: a@b.example\nMessage-ID: <1@b.example>\n";
        assert_eq!(faults(&format!("{good}Subject: x\n\ty\n\n")), "");
        assert_eq!(faults("Subject: x\n\n"), "missing-date missing-from missing-message-id");
        assert_eq!(faults(&format!("{good}from: c@d.example\nTo: x@y\nTO: z@y\n\n")), "duplicate-from duplicate-to");
        assert_eq!(faults("Date: yesterday\nFrom: nobody\nMessage-ID: 1\n\n"), "bad-date bad-from bad-message-id");
        assert_eq!(faults(&format!(" x\n{good}\n")), "bad-line");
        assert_eq!(faults(&format!("{good}no field\n\nbody: none\n")), "bad-line");
        assert_eq!(faults(&format!("{good}Subject: grüße\n\n")), "8bit");
        let wide = format!("{good}Subject: grüße\n\n").replace('\n', "\r\n");
        assert!(header_faults(wide.as_bytes(), true).is_empty());
    }

    #[test]
    fn subjects_are_decoded() {
        assert_eq!(subject(b"To: x\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n there\r\n\r\n"), "Grüße there");
        assert_eq!(subject(b"To: x\r\n\r\nSubject: body\r\n"), "");
    }

    #[test]
    fn hosts_of_urls() {
        let text = "Subject: x\r\n\r\nsee https://User@Bad.Example:8080/x?y, (http://a.b.example) HTTP://bücher.example! \
                    mailto://c.example xhttp://d.example www.e.example. notwww.f.example www.g http://[2001:DB8::1]/ \
                    http://evil%2eexample/ http://localhost/\r\n";
        let expected =
            ["[2001:db8::1]", "a.b.example", "bad.example", "evil.example", "www.e.example", "xn--bcher-kva.example"];
        assert_eq!(url_hosts(text.as_bytes()), expected);
        let html = b"Content-Type: text/html\r\n\r\n<a href='http://hidden.example/'>good.example</a>\r\n";
        assert_eq!(url_hosts(html), ["hidden.example"]);
    }

    #[test]
    fn the_test_line_is_found() {
        let line = [b"Subject: x\r\n\r\n", GTUBE[0], GTUBE[1], b"\r\n"].concat();
        assert!(holds_gtube(&line) && !holds_gtube(&line[..line.len() - 4]));
        let told = Reading::Gtube.read(b"", Some(&line), false);
        assert_eq!(told, [("message.gtube", Given::Flag(true))]);
        assert_eq!(Reading::Gtube.read(b"", None, false), [("message.gtube", Given::Unknown)]);
    }

    proptest! {
        #[test]
        fn no_message_is_too_strange(message: Vec<u8>, text in "(http://|www\\.|[a-z.@:/\\[\\]%é ]){0,30}") {
            for reading in [Reading::Subject, Reading::HeaderFaults, Reading::Attachments, Reading::UrlHosts, Reading::Gtube] {
                let _ = reading.read(&message, Some(&message), false);
            }
            let hosts = url_hosts(format!("\r\n\r\n{text}").as_bytes());
            prop_assert!(hosts.iter().all(|h| !h.contains('\n')));
        }
    }
}
