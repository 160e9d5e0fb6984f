//! Sessions out of Sendmail's log. Its lines belong to messages, so every message is a session of its own.
//!
//! How it fails: a line of a form that is not known is passed over.

use super::import::{Gather, Mail, Past, SESSIONS_MAX};
use super::syslog::Entry;
use std::collections::HashMap;
use std::net::IpAddr;

/// See the module's head.
#[derive(Default)]
pub struct Sendmail {
    past: HashMap<String, Past>,
    /// What a process has said of its client before any message: who logged in, version and cipher of TLS.
    clients: HashMap<String, Client>,
    /// Order of beginnings.
    order: std::collections::VecDeque<String>,
}

#[derive(Clone, Debug, Default)]
struct Client {
    user: Option<String>,
    tls: Option<(String, String)>,
}

impl Gather for Sendmail {
    fn line(&mut self, entry: &Entry<'_>) -> bool {
        if !matches!(entry.program, "sendmail" | "sm-mta" | "sendmail-mta") {
            return false;
        }
        self.read(entry).is_some()
    }

    fn over(&mut self, now_ms: u64) -> Vec<Past> {
        let mut over = Vec::new();
        while let Some(id) = self.order.front() {
            let done = self.past.get(id).is_none_or(|p| p.at_ms <= now_ms) || self.order.len() > SESSIONS_MAX;
            if !done {
                break;
            }
            over.extend(self.order.pop_front().and_then(|id| self.past.remove(&id)));
        }
        over
    }
}

impl Sendmail {
    fn read(&mut self, entry: &Entry<'_>) -> Option<()> {
        if self.client(entry).is_some() {
            return Some(());
        }
        // A client that is refused at once has no message yet.
        let made = format!("{}-{}", entry.pid, entry.at_ms);
        let (id, rest) = match entry.message.starts_with("ruleset=") {
            true => (made.as_str(), entry.message),
            false => entry.message.split_once(": ")?,
        };
        if rest.starts_with("from=") {
            let past = self.session(id, entry, relay(value(rest, "relay=")?)?);
            let mail = past.mails.last_mut()?;
            mail.from = Some(address(value(rest, "from=")?).to_owned());
            mail.size = value(rest, "size=").and_then(|n| n.parse().ok());
            mail.message_id = value(rest, "msgid=").map(str::to_owned);
            mail.taken = value(rest, "nrcpts=").is_none_or(|n| n != "0");
            mail.how = Some("queued");
            past.submission |= value(rest, "daemon=").is_some_and(|d| d.contains("MSA") || d.contains("MSP"));
            return Some(());
        }
        if rest.starts_with("to=") {
            let mail = self.past.get_mut(id)?.mails.last_mut()?;
            let status = &rest[rest.find("stat=")? + 5..];
            for to in value(rest, "to=")?.split(',').map(address) {
                if !mail.to.iter().any(|(t, _)| t == to) {
                    mail.to.push((to.to_owned(), None));
                }
            }
            mail.how = match status {
                s if s.starts_with("Sent") => Some("delivered"),
                s if s.starts_with("Deferred") || s.starts_with("queued") => mail.how,
                _ if mail.how != Some("delivered") => Some("bounced"),
                _ => mail.how,
            };
            return Some(());
        }
        let reply = &rest[rest.find("reject=")? + 7..];
        let ruleset = value(rest, "ruleset=")?;
        let past = self.session(id, entry, relay(value(rest, "relay=")?)?);
        match ruleset {
            "check_relay" => past.refused = Some(reply.to_owned()),
            "check_mail" => {
                let mail = past.mails.last_mut()?;
                mail.from = Some(address(value(rest, "arg1=")?).to_owned());
                mail.refused = Some(reply.to_owned());
            }
            "check_rcpt" => {
                let to = address(value(rest, "arg1=")?).to_owned();
                past.mails.last_mut()?.to.push((to, Some(reply.to_owned())));
            }
            _ => return None,
        }
        Some(())
    }

    /// `AUTH=server, relay=…, authid=…, mech=…` and `STARTTLS=server, relay=…, version=…, cipher=…`: one process serves one
    /// client, so what it says holds for its messages.
    fn client(&mut self, entry: &Entry<'_>) -> Option<()> {
        let message = entry.message;
        if !message.starts_with("AUTH=server, ") && !message.starts_with("STARTTLS=server, ") {
            return None;
        }
        if self.clients.len() >= SESSIONS_MAX {
            self.clients.clear();
        }
        let client = self.clients.entry(entry.pid.to_owned()).or_default();
        match message.starts_with("AUTH=") {
            true => client.user = Some(value(message, "authid=")?.to_owned()),
            false => client.tls = Some((value(message, "version=")?.to_owned(), value(message, "cipher=")?.to_owned())),
        }
        Some(())
    }

    fn session(&mut self, id: &str, entry: &Entry<'_>, (name, ip): (Option<&str>, IpAddr)) -> &mut Past {
        let at_ms = entry.at_ms;
        if !self.past.contains_key(id) {
            self.order.push_back(id.to_owned());
        }
        let client = self.clients.get(entry.pid).cloned().unwrap_or_default();
        self.past.entry(id.to_owned()).or_insert_with(|| {
            let mut past = Past::new(id.to_owned(), at_ms, ip);
            (past.user, past.tls) = (client.user, client.tls);
            past.ptr = name.map(str::to_ascii_lowercase);
            past.mails.push(Mail { at_ms, ..Mail::default() });
            past
        })
    }
}

/// `host.example [192.0.2.1]`, `[192.0.2.1]`, `… (may be forged)`; a forged name is none.
fn relay(text: &str) -> Option<(Option<&str>, IpAddr)> {
    let (name, rest) = text.split_once('[')?;
    let (ip, rest) = rest.split_once(']')?;
    let ip = ip.strip_prefix("IPv6:").unwrap_or(ip).parse().ok()?;
    let name = name.trim().rsplit('@').next().unwrap_or_default();
    Some(((!name.is_empty() && !rest.contains("forged")).then_some(name), ip))
}

fn address(text: &str) -> &str {
    text.trim().trim_start_matches('<').trim_end_matches('>')
}

/// The value of a key; values end at `, ` before the next key.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = &text[text.find(key)? + key.len()..];
    Some(rest.split(", ").next().unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::journal::syslog::{Clock, Reader};
    use crate::policy::journal::read_line;

    const LOG: &str = "\
Nov 23 12:00:00 mx sm-mta[7]: 5AN1: from=<ann@example.net>, size=900, class=0, nrcpts=1, msgid=<1@example.net>, proto=ESMTPS, daemon=MTA-v4, relay=mail.example.net [192.0.2.1]
Nov 23 12:00:01 mx sm-mta[8]: 5AN2: ruleset=check_rcpt, arg1=<x@elsewhere.example>, relay=[198.51.100.7], reject=550 5.7.1 <x@elsewhere.example>... Relaying denied
Nov 23 12:00:01 mx sm-mta[8]: 5AN2: from=<s@spam.example>, size=0, class=0, nrcpts=0, proto=ESMTP, daemon=MTA-v4, relay=[198.51.100.7]
Nov 23 12:00:02 mx sm-mta[9]: 5AN1: to=<bob@example.test>, delay=00:00:02, xdelay=00:00:01, mailer=local, pri=30900, dsn=2.0.0, stat=Sent";

    #[test]
    fn a_log_becomes_lines_of_a_journal() {
        let mut reader = Reader::new(2026, &Clock::default());
        let mut sendmail = Sendmail::default();
        assert!(LOG.lines().all(|l| sendmail.line(&reader.entry(l).unwrap())));
        let lines: Vec<String> = sendmail.over(u64::MAX).iter().map(|p| String::from_utf8(p.line()).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines.iter().all(|l| read_line(l, &mut Vec::new()).is_ok()), "{lines:?}");
        assert!(lines[0].contains("\"how\":\"delivered\"") && lines[0].contains("mail.example.net"), "{}", lines[0]);
        assert!(lines[1].contains("Relaying denied") && lines[1].contains("\"verdict\":\"reject\""), "{}", lines[1]);
        assert_eq!(relay("forged.example [192.0.2.1] (may be forged)"), Some((None, [192, 0, 2, 1].into())));
    }

    /// A process of its own for every client; TLS and login are told before any message.
    const TODAY: &str = "\
2026-11-23T12:00:00.000000+00:00 mx sm-mta[21]: STARTTLS=server, relay=[192.0.2.99], version=TLSv1.3, verify=NO, cipher=TLS_AES_256_GCM_SHA384, bits=256/256
2026-11-23T12:00:00.100000+00:00 mx sm-mta[21]: AUTH=server, relay=[192.0.2.99], authid=ann, mech=PLAIN, bits=0
2026-11-23T12:00:00.200000+00:00 mx sm-mta[21]: 5ANC00: from=<ann@example.test>, size=1200, class=0, nrcpts=2, msgid=<3@example.test>, proto=ESMTPSA, daemon=MSA, relay=[192.0.2.99]
2026-11-23T12:00:00.900000+00:00 mx sm-mta[23]: 5ANC00: to=<x@elsewhere.example>,<y@elsewhere.example>, delay=00:00:00, xdelay=00:00:00, mailer=esmtp, pri=61200, relay=mx.elsewhere.example. [203.0.113.9], dsn=2.0.0, stat=Sent (ok)
2026-11-23T12:00:01.000000+00:00 mx sm-mta[22]: ruleset=check_relay, arg1=bad.example, arg2=198.51.100.9, relay=bad.example [198.51.100.9], reject=554 5.7.1 Rejected: listed
2026-11-23T12:00:02.000000+00:00 mx sm-mta[24]: 5ANC01: ruleset=check_mail, arg1=<s@nowhere.invalid>, relay=[IPv6:2001:db8::9], reject=553 5.1.8 <s@nowhere.invalid>... Domain of sender address does not exist
2026-11-23T12:00:03.000000+00:00 mx sm-mta[25]: NOQUEUE: connect from [198.51.100.10]";

    #[test]
    fn a_log_of_today() {
        let mut reader = Reader::new(2000, &Clock::default());
        let mut sendmail = Sendmail::default();
        let unused: Vec<&str> = TODAY.lines().filter(|l| !sendmail.line(&reader.entry(l).unwrap())).collect();
        assert!(unused.len() == 1 && unused[0].contains("NOQUEUE"), "{unused:?}");
        let lines: Vec<String> = sendmail.over(u64::MAX).iter().map(|p| String::from_utf8(p.line()).unwrap()).collect();
        assert!(lines.iter().all(|l| read_line(l, &mut Vec::new()).is_ok()), "{lines:?}");
        assert_eq!(lines.len(), 3);
        for part in
            ["\"user\":\"ann\"", "TLSv1.3", "x@elsewhere.example", "y@elsewhere.example", "\"listener\":\"submission\""]
        {
            assert!(lines[0].contains(part), "{part}: {}", lines[0]);
        }
        assert!(lines[1].contains("198.51.100.9") && lines[1].contains("554 5.7.1 Rejected: listed"), "{}", lines[1]);
        assert!(lines[2].contains("2001:db8::9") && lines[2].contains("553 5.1.8"), "{}", lines[2]);
    }
}
