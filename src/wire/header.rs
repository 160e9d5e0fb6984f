//! The trace fields we put in front of a message: Received and Return-Path (RFC 5321 §4.4).
//!
//! How it fails: the builders are total; what a client said is cleaned first, so that nothing can open or close a
//! comment, fold a line or begin a field.

use crate::base::address::{Mailbox, ReversePath};
use crate::base::envelope::Protocol;
use crate::base::time::WallTime;
use std::fmt::Write;
use std::net::IpAddr;

/// Octets of what the client called itself that a Received field repeats at most: the longest domain.
const HELO_OCTETS_MAX: usize = 255;

/// What a Received field says.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The argument of HELO or EHLO, as the client gave it.
    pub helo: &'a str,
    /// Name of the client's address by reverse look-up, when known.
    pub ptr: Option<&'a str>,
    /// The client's address; `None` for messages made here.
    pub client: Option<IpAddr>,
    /// The name of this host.
    pub host: &'a str,
    /// The `with` clause.
    pub protocol: Protocol,
    /// TLS version and cipher, such as `TLSv1.3 TLS13_AES_256_GCM_SHA384`.
    pub tls: Option<&'a str>,
    /// The `id` clause.
    pub id: &'a str,
    /// The `for` clause: only with a single recipient, so that nobody learns of the others (RFC 5321 §7.2).
    pub recipient: Option<&'a Mailbox>,
    /// When.
    pub date: WallTime,
}

impl Received<'_> {
    /// The field, folded, with its CRLF.
    pub fn emit(&self) -> String {
        let helo = clean(self.helo, self.protocol.utf8);
        let mut out = format!("Received: from {helo}");
        let ptr = self.ptr.map(|p| clean(p, self.protocol.utf8) + " ").unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = match self.client {
            Some(IpAddr::V6(ip)) => write!(out, " ({ptr}[IPv6:{ip}])"),
            Some(IpAddr::V4(ip)) => write!(out, " ({ptr}[{ip}])"),
            None => Ok(()),
        };
        if let Some(tls) = self.tls {
            let _ = write!(out, "\r\n\t(using {})", clean_words(tls));
        }
        let _ = write!(out, "\r\n\tby {} with {} id {}", clean(self.host, true), self.protocol, clean(self.id, false));
        // RFC 6532 §3 wants SMTPUTF8 for UTF-8 in a field.
        if let Some(mailbox) = self.recipient.filter(|m| self.protocol.utf8 || !m.is_international()) {
            let _ = write!(out, "\r\n\tfor <{mailbox}>");
        }
        let _ = write!(out, "; {}\r\n", self.date.rfc5322());
        out
    }
}

/// Return-Path, written where a message leaves SMTP for a mailbox (RFC 5321 §4.4).
pub fn return_path(path: &ReversePath) -> String {
    format!("Return-Path: <{path}>\r\n")
}

/// A client's word without anything that means something in a field: what is no letter, digit or one of `.-_:[]` is `?`.
fn clean(word: &str, utf8: bool) -> String {
    let mut out = String::new();
    for c in word.chars() {
        let keep = c.is_ascii_alphanumeric() || ".-_:[]".contains(c) || utf8 && !c.is_ascii() && !c.is_control();
        let c = if keep { c } else { '?' };
        if out.len() + c.len_utf8() > HELO_OCTETS_MAX {
            break;
        }
        out.push(c);
    }
    if out.is_empty() { "unknown".to_owned() } else { out }
}

/// Words of our own, kept apart by single spaces.
fn clean_words(text: &str) -> String {
    text.split(' ').filter(|w| !w.is_empty()).map(|w| clean(w, false)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::address::parse_mailbox;
    use proptest::prelude::*;

    fn field() -> Received<'static> {
        Received {
            helo: "mail.example.org",
            ptr: None,
            client: Some("192.0.2.1".parse().unwrap()),
            host: "mx.example.test",
            protocol: Protocol { extended: true, tls: true, ..Protocol::default() },
            tls: None,
            id: "0ABC",
            recipient: None,
            date: WallTime::from_millis(1_795_437_121_042),
        }
    }

    #[test]
    fn received() {
        let bob = parse_mailbox("bob@example.test").unwrap();
        let full = Received { ptr: Some("host.example.org"), tls: Some("TLSv1.3 X"), recipient: Some(&bob), ..field() };
        assert_eq!(
            full.emit(),
            "Received: from mail.example.org (host.example.org [192.0.2.1])\r\n\t(using TLSv1.3 X)\r\n\tby mx.example.test \
             with ESMTPS id 0ABC\r\n\tfor <bob@example.test>; Mon, 23 Nov 2026 12:32:01 +0000\r\n"
        );
        let six = Received { client: Some("2001:db8::1".parse().unwrap()), helo: "", ..field() };
        assert!(six.emit().starts_with("Received: from unknown ([IPv6:2001:db8::1])\r\n\tby "));
        let wide = parse_mailbox("é@example.test").unwrap();
        assert!(!Received { recipient: Some(&wide), ..field() }.emit().contains("for <"));
    }

    #[test]
    fn return_paths() {
        assert_eq!(return_path(&ReversePath::Null), "Return-Path: <>\r\n");
    }

    proptest! {
        #[test]
        fn what_a_client_says_stays_in_its_place(helo: String, ptr: String, utf8: bool) {
            let protocol = Protocol { utf8, extended: true, ..Protocol::default() };
            let text = Received { helo: &helo, ptr: Some(&ptr), protocol, ..field() }.emit();
            prop_assert_eq!(text.matches("\r\n").count(), 2);
            prop_assert_eq!(text.matches('(').count(), 1);
            prop_assert!(text.split("\r\n").all(|l| l.len() < 998 && !l.contains(['\r', '\n'])));
            prop_assert!(utf8 || text.is_ascii());
        }
    }
}
