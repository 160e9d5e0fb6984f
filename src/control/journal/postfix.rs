//! Sessions out of Postfix's log: `smtpd` by its process, messages by their queue ids.
//!
//! How it fails: a line of a form that is not known is passed over; a session without its beginning (the log was rotated)
//! is not made up.

use super::import::{Gather, Mail, Past, SESSIONS_MAX};
use super::syslog::Entry;
use std::collections::HashMap;
use std::net::IpAddr;

/// See the module's head.
#[derive(Default)]
pub struct Postfix {
    /// Sessions that go on, by process.
    open: HashMap<String, Past>,
    /// Sessions that are over, by number; some wait for what becomes of their messages.
    ended: std::collections::BTreeMap<u64, Past>,
    /// Which message of which session: a process while it is open, a number afterwards.
    mails: HashMap<String, (Place, usize)>,
    count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Open(String),
    Ended(u64),
}

impl Gather for Postfix {
    fn line(&mut self, entry: &Entry<'_>) -> bool {
        let Some(service) = entry.program.strip_prefix("postfix") else { return false };
        match service.rsplit('/').next() {
            Some("smtpd") => self.smtpd(entry, service.contains("submission") || service.contains("smtps")),
            Some("postscreen") => self.postscreen(entry).is_some(),
            Some("cleanup" | "qmgr" | "smtp" | "lmtp" | "local" | "virtual" | "pipe" | "relay" | "error") => {
                self.queue(entry.message).is_some()
            }
            _ => false,
        }
    }

    fn over(&mut self, now_ms: u64) -> Vec<Past> {
        if now_ms == u64::MAX {
            let rest: Vec<String> = self.open.keys().cloned().collect();
            rest.into_iter().for_each(|pid| self.end(&pid, None));
        }
        let crowded = self.ended.len().saturating_sub(SESSIONS_MAX);
        let mut over = Vec::new();
        while let Some(first) = self.ended.first_entry() {
            if first.get().ended_ms > now_ms && over.len() >= crowded {
                break;
            }
            let (number, past) = first.remove_entry();
            over.push((number, past));
        }
        if !over.is_empty() {
            let last = over.last().map_or(0, |(n, _)| *n);
            self.mails.retain(|_, (place, _)| !matches!(place, Place::Ended(n) if *n <= last));
        }
        over.into_iter().map(|(_, past)| past).collect()
    }
}

impl Postfix {
    fn smtpd(&mut self, entry: &Entry<'_>, submission: bool) -> bool {
        let message = entry.message;
        if let Some(client) = message.strip_prefix("connect from ") {
            let Some((name, ip)) = client_of(client) else { return false };
            self.count += 1;
            let mut past = Past::new(format!("{}-{}", entry.pid, self.count), entry.at_ms, ip);
            // "unknown" may be a name that was not confirmed, or a lookup that failed: the log does not tell.
            past.ptr = (name != "unknown").then(|| name.to_ascii_lowercase());
            past.submission = submission;
            self.end(entry.pid, None);
            self.open.insert(entry.pid.to_owned(), past);
            return true;
        }
        if message.starts_with("disconnect from ") {
            let known = self.open.contains_key(entry.pid);
            self.end(entry.pid, Some(entry.at_ms));
            return known;
        }
        let Some(past) = self.open.get_mut(entry.pid) else { return false };
        past.ended_ms = entry.at_ms;
        if let Some((_, tls)) = message.split_once("TLS connection established from ") {
            let words: Vec<&str> = tls.split_once("]: ").map_or(tls, |(_, t)| t).split(' ').collect();
            past.tls = Some(match words.as_slice() {
                [version, "with", "cipher", cipher, ..] => ((*version).to_owned(), (*cipher).to_owned()),
                _ => (String::new(), String::new()),
            });
            return true;
        }
        if message.contains(" authentication failed") && message.starts_with("warning: ") {
            past.failures.push(entry.at_ms);
            return true;
        }
        let Some((id, rest)) = message.split_once(": ") else { return false };
        if rest.starts_with("client=") {
            if let Some(user) = value(rest, "sasl_username=") {
                past.user = Some(user.to_owned());
            }
            past.mails.push(Mail { at_ms: entry.at_ms, taken: true, how: Some("queued"), ..Mail::default() });
            let place = (Place::Open(entry.pid.to_owned()), past.mails.len() - 1);
            self.mails.insert(id.to_owned(), place);
            return true;
        }
        let refusal = rest.strip_prefix("reject: ").or_else(|| rest.strip_prefix("milter-reject: "));
        refusal.is_some_and(|refusal| refused(past, entry.at_ms, refusal))
    }

    /// One process speaks with many clients: `CONNECT from [address]:port to …`, tests, `DISCONNECT` or, when it is
    /// handed on to `smtpd`, `PASS`. Who passes is told by `smtpd` again.
    fn postscreen(&mut self, entry: &Entry<'_>) -> Option<()> {
        let message = entry.message;
        let (word, rest) = message.split_once(' ')?;
        let peer = |text: &str| -> Option<(String, IpAddr)> {
            let (ip, rest) = text.strip_prefix('[')?.split_once("]:")?;
            let port = rest.split(|c: char| !c.is_ascii_digit()).next()?;
            Some((format!("postscreen [{ip}]:{port}"), ip.parse().ok()?))
        };
        match word {
            "CONNECT" => {
                let (key, ip) = peer(rest.strip_prefix("from ")?)?;
                self.count += 1;
                let mut past = Past::new(format!("{}-{}", entry.pid, self.count), entry.at_ms, ip);
                past.early_talker = Some(false);
                self.end(&key, None);
                self.open.insert(key, past);
            }
            "PREGREET" => {
                let (key, _) = peer(&rest[rest.find(" from ")? + 6..])?;
                let past = self.open.get_mut(&key)?;
                past.early_talker = Some(true);
                past.ended_ms = entry.at_ms;
            }
            "PASS" => {
                let (key, _) = peer(rest.split_once(' ')?.1)?;
                self.open.remove(&key)?;
            }
            "DISCONNECT" => {
                let (key, _) = peer(rest)?;
                self.open.contains_key(&key).then(|| self.end(&key, Some(entry.at_ms)))?;
            }
            "NOQUEUE:" => {
                let refusal = rest.strip_prefix("reject: ")?;
                let (_, from) = refusal.split_once(" from ")?;
                let past = self.open.get_mut(&peer(from)?.0)?;
                past.ended_ms = entry.at_ms;
                return refused(past, entry.at_ms, refusal).then_some(());
            }
            _ => return None,
        }
        Some(())
    }

    /// `QUEUEID: key=value, …` of the other processes.
    fn queue(&mut self, message: &str) -> Option<()> {
        let (id, rest) = message.split_once(": ")?;
        let (place, index) = self.mails.get(id)?;
        let past = match place {
            Place::Open(pid) => self.open.get_mut(pid)?,
            Place::Ended(number) => self.ended.get_mut(number)?,
        };
        let mail = past.mails.get_mut(*index)?;
        if let Some(text) = rest.strip_prefix("message-id=") {
            mail.message_id = Some(text.to_owned());
        } else if rest.starts_with("from=<") {
            mail.from = Some(bracketed(rest, "from=<")?.to_owned());
            mail.size = value(rest, "size=").and_then(|n| n.parse().ok());
        } else if rest.starts_with("to=<") {
            let to = bracketed(rest, "orig_to=<").or_else(|| bracketed(rest, "to=<"))?;
            if !mail.to.iter().any(|(t, _)| t == to) {
                mail.to.push((to.to_owned(), None));
            }
            mail.how = match value(rest, "status=").map(|s| s.split(' ').next().unwrap_or(s)) {
                Some("sent") => Some("delivered"),
                Some("bounced") if mail.how != Some("delivered") => Some("bounced"),
                _ => mail.how,
            };
        } else if let Some(refusal) = rest.strip_prefix("milter-reject: ").or_else(|| rest.strip_prefix("reject: ")) {
            // `END-OF-MESSAGE from host[address]: 5.7.1 text; from=<a> to=<b> …`, by cleanup
            let (reply, facts) = refusal.rsplit_once("; ").unwrap_or((refusal, ""));
            let (_, reply) = reply.split_once("]: ")?;
            mail.taken = false;
            mail.text_refused = Some(if reply.starts_with("4.") { format!("450 {reply}") } else { reply.to_owned() });
            mail.from = mail.from.take().or_else(|| bracketed(facts, "from=<").map(str::to_owned));
            if let Some(to) = bracketed(facts, " to=<").filter(|to| !mail.to.iter().any(|(t, _)| t == to)) {
                mail.to.push((to.to_owned(), None));
            }
        } else {
            return None;
        }
        Some(())
    }

    fn end(&mut self, pid: &str, at_ms: Option<u64>) {
        let Some(mut past) = self.open.remove(pid) else { return };
        past.ended_ms = at_ms.unwrap_or(past.ended_ms);
        // Ends come in order of time, so numbers are in order of ends.
        self.count += 1;
        let number = self.count;
        for (place, _) in self.mails.values_mut() {
            if matches!(place, Place::Open(p) if p == pid) {
                *place = Place::Ended(number);
            }
        }
        self.ended.insert(number, past);
    }
}

/// `RCPT from host[ip]: 550 5.1.1 <to>: …; from=<a> to=<b> proto=ESMTP helo=<c>`
fn refused(past: &mut Past, at_ms: u64, text: &str) -> bool {
    let Some((stage, rest)) = text.split_once(" from ") else { return false };
    // `host[address]: reply`, `host[address]:port: reply`
    let behind = rest.split_once(']').map_or(rest, |(_, behind)| behind);
    let Some((_, rest)) = behind.split_once(": ") else { return false };
    let (reply, facts) = rest.rsplit_once("; ").unwrap_or((rest, ""));
    if let Some(helo) = bracketed(facts, "helo=<") {
        past.helo = Some((helo.to_owned(), facts.contains("proto=ESMTP")));
    }
    let from = bracketed(facts, "from=<").map(str::to_owned);
    if let Some(user) = value(facts, "sasl_username=") {
        past.user = Some(user.to_owned());
    }
    match stage {
        "CONNECT" => past.refused = Some(reply.to_owned()),
        "RCPT" => {
            let Some(to) = bracketed(facts, " to=<") else { return false };
            let same = |m: &&mut Mail| !m.taken && m.refused.is_none() && m.from == from;
            if past.mails.last_mut().filter(same).is_none() {
                past.mails.push(Mail { at_ms, from, ..Mail::default() });
            }
            if let Some(mail) = past.mails.last_mut() {
                mail.to.push((to.to_owned(), Some(reply.to_owned())));
            }
        }
        "MAIL" => past.mails.push(Mail { at_ms, from, refused: Some(reply.to_owned()), ..Mail::default() }),
        "END-OF-MESSAGE" | "DATA" => match past.mails.last_mut() {
            Some(mail) => {
                mail.taken = false;
                mail.text_refused = Some(reply.to_owned());
                mail.from = mail.from.take().or(from);
            }
            None => return false,
        },
        _ => return false,
    }
    true
}

/// `name[address]`, perhaps with more behind it.
fn client_of(text: &str) -> Option<(&str, IpAddr)> {
    let (name, rest) = text.split_once('[')?;
    let (ip, _) = rest.split_once(']')?;
    Some((name, ip.parse().ok()?))
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = &text[text.find(key)? + key.len()..];
    Some(rest.split([',', ';']).next().unwrap_or(rest).trim())
}

fn bracketed<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let rest = &text[text.find(key)? + key.len()..];
    rest.split_once('>').map(|(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::journal::syslog::{Clock, Reader};
    use crate::policy::journal::{read_event, read_line};

    const LOG: &str = "\
Nov 23 12:00:00 mx postfix/smtpd[7]: connect from mail.example.net[192.0.2.1]
Nov 23 12:00:00 mx postfix/smtpd[7]: Anonymous TLS connection established from mail.example.net[192.0.2.1]: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)
Nov 23 12:00:01 mx postfix/smtpd[8]: connect from unknown[2001:db8::5]
Nov 23 12:00:01 mx postfix/smtpd[7]: 4Q1: client=mail.example.net[192.0.2.1]
Nov 23 12:00:01 mx postfix/cleanup[9]: 4Q1: message-id=<1@example.net>
Nov 23 12:00:01 mx postfix/qmgr[5]: 4Q1: from=<Ann@Example.NET>, size=1234, nrcpt=1 (queue active)
Nov 23 12:00:02 mx postfix/smtpd[8]: NOQUEUE: reject: RCPT from unknown[2001:db8::5]: 550 5.1.1 <x@example.test>: Recipient address rejected: User unknown; from=<s@spam.example> to=<x@example.test> proto=ESMTP helo=<spam>
Nov 23 12:00:02 mx postfix/smtpd[8]: warning: unknown[2001:db8::5]: SASL LOGIN authentication failed: x
Nov 23 12:00:02 mx postfix/smtpd[8]: disconnect from unknown[2001:db8::5] ehlo=1 mail=1 rcpt=0/1 commands=2/3
Nov 23 12:00:03 mx postfix/smtpd[7]: disconnect from mail.example.net[192.0.2.1] ehlo=2 mail=1 rcpt=1 data=1 quit=1
Nov 23 12:00:04 mx postfix/smtp[4]: 4Q1: to=<bob@in.example>, orig_to=<bob@example.test>, relay=in.example[192.0.2.9]:25, delay=1, dsn=2.0.0, status=sent (250 ok)
Nov 23 12:00:04 mx postfix/qmgr[5]: 4Q1: removed
Nov 23 12:00:05 mx dovecot: something else";

    #[test]
    fn a_log_becomes_lines_of_a_journal() {
        let mut reader = Reader::new(2026, &Clock::default());
        let mut postfix = Postfix::default();
        let used = LOG.lines().filter(|l| postfix.line(&reader.entry(l).unwrap())).count();
        assert_eq!(used, 11);
        assert!(postfix.over(0).is_empty());
        let past = postfix.over(u64::MAX);
        let lines: Vec<String> = past.iter().map(|p| String::from_utf8(p.line()).unwrap()).collect();
        let words = |line: &str| {
            let mut places = Vec::new();
            let (head, end) = read_line(line, &mut places).unwrap();
            assert!(head.missing.iter().any(|m| m == "rcpt.exists") && end.seq > 0);
            let events = places.iter().map(|p| read_event(line, p).unwrap());
            let words =
                events.map(|e| format!("{} {}", e.what.word(), e.said.map_or(String::new(), |s| s.verdict.into())));
            (head.client.to_string(), words.collect::<Vec<_>>().join(", "))
        };
        let (client, spam) = words(&lines[0]);
        assert_eq!(client, "2001:db8::5");
        assert_eq!(spam, "connect accept, helo accept, auth accept, mail accept, rcpt reject");
        let (_, good) = words(&lines[1]);
        assert_eq!(
            good,
            "fact , connect accept, tls , mail accept, rcpt accept, data accept, message accept, settled "
        );
        assert!(lines[1].contains("\"from\":\"Ann@example.net\"") && lines[1].contains("\"to\":\"bob@example.test\""));
        assert!(lines[1].contains("\"how\":\"delivered\"") && lines[1].contains("\"octets\":1234"));
        assert!(lines[1].contains("\"helo\"]") && !lines[0].contains("\"helo\"]"), "{}", lines[1]);
    }

    /// As a server of today writes it: RFC 3339 times with a zone, long queue ids, postscreen, submission, a milter.
    const TODAY: &str = "\
2026-11-23T13:00:00.100001+01:00 mx postfix/postscreen[3]: CONNECT from [198.51.100.7]:40001 to [203.0.113.1]:25
2026-11-23T13:00:00.200001+01:00 mx postfix/postscreen[3]: CONNECT from [2001:db8::25]:40002 to [2001:db8::1]:25
2026-11-23T13:00:00.300001+01:00 mx postfix/postscreen[3]: PREGREET 14 after 0.1 from [198.51.100.7]:40001: EHLO spammer\\r\\n
2026-11-23T13:00:06.100001+01:00 mx postfix/postscreen[3]: NOQUEUE: reject: RCPT from [198.51.100.7]:40001: 550 5.5.1 Protocol error; from=<s@spam.example>, to=<bob@example.test>, proto=ESMTP, helo=<spammer>
2026-11-23T13:00:06.100002+01:00 mx postfix/postscreen[3]: DISCONNECT [198.51.100.7]:40001
2026-11-23T13:00:06.200001+01:00 mx postfix/postscreen[3]: PASS NEW [2001:db8::25]:40002
2026-11-23T13:00:06.210001+01:00 mx postfix/smtpd[9]: connect from mail.example.net[2001:db8::25]
2026-11-23T13:00:06.310001+01:00 mx postfix/smtpd[9]: 4bT1xK2Lz9z8sX: client=mail.example.net[2001:db8::25]
2026-11-23T13:00:06.320001+01:00 mx postfix/cleanup[10]: 4bT1xK2Lz9z8sX: message-id=<7@example.net>
2026-11-23T13:00:06.330001+01:00 mx postfix/cleanup[10]: 4bT1xK2Lz9z8sX: milter-reject: END-OF-MESSAGE from mail.example.net[2001:db8::25]: 5.7.1 Spam message rejected; from=<a@example.net> to=<bob@example.test> proto=ESMTP helo=<mail.example.net>
2026-11-23T13:00:06.400001+01:00 mx postfix/smtpd[9]: disconnect from mail.example.net[2001:db8::25] ehlo=1 mail=1 rcpt=1 data=0/1 quit=1 commands=4/5
2026-11-23T13:00:07.000001+01:00 mx postfix/submission/smtpd[11]: connect from unknown[192.0.2.99]
2026-11-23T13:00:07.100001+01:00 mx postfix/submission/smtpd[11]: 4bT1xL0Abcz8sY: client=unknown[192.0.2.99], sasl_method=PLAIN, sasl_username=ann
2026-11-23T13:00:07.200001+01:00 mx postfix/qmgr[5]: 4bT1xL0Abcz8sY: from=<ann@example.test>, size=900, nrcpt=2 (queue active)
2026-11-23T13:00:07.300001+01:00 mx postfix/smtp[12]: 4bT1xL0Abcz8sY: to=<x@elsewhere.example>, relay=mx.elsewhere.example[203.0.113.9]:25, delay=0.4, delays=0.1/0/0.1/0.2, dsn=2.0.0, status=sent (250 2.0.0 Ok)
2026-11-23T13:00:07.400001+01:00 mx postfix/smtp[12]: 4bT1xL0Abcz8sY: to=<y@elsewhere.example>, relay=mx.elsewhere.example[203.0.113.9]:25, delay=0.4, delays=0.1/0/0.1/0.2, dsn=5.1.1, status=bounced (host said: 550 5.1.1 no)
2026-11-23T13:00:07.500001+01:00 mx postfix/submission/smtpd[11]: lost connection after DATA from unknown[192.0.2.99]
2026-11-23T13:00:07.500002+01:00 mx postfix/submission/smtpd[11]: disconnect from unknown[192.0.2.99] ehlo=1 auth=1 mail=1 rcpt=2 data=1 commands=6
2026-11-23T13:00:08.000001+01:00 mx postfix/smtpd[9]: connect from unknown[192.0.2.50]
2026-11-23T13:00:08.100001+01:00 mx postfix/smtpd[9]: NOQUEUE: reject: RCPT from unknown[192.0.2.50]: 451 4.3.5 <x@example.test>: Recipient address rejected: Greylisted; from=<> to=<x@example.test> proto=SMTP helo=<h>
2026-11-23T13:00:08.200001+01:00 mx postfix/smtpd[9]: disconnect from unknown[192.0.2.50] helo=1 mail=1 rcpt=0/1 quit=1 commands=3/4";

    #[test]
    fn a_log_of_today() {
        let mut reader = Reader::new(2000, &Clock::default());
        let mut postfix = Postfix::default();
        let unused: Vec<&str> = TODAY.lines().filter(|l| !postfix.line(&reader.entry(l).unwrap())).collect();
        assert!(unused.iter().all(|l| l.contains("lost connection")), "{unused:#?}");
        let lines: Vec<String> = postfix.over(u64::MAX).iter().map(|p| String::from_utf8(p.line()).unwrap()).collect();
        let read = |line: &str| {
            let mut places = Vec::new();
            let (head, _) = read_line(line, &mut places).unwrap();
            let words: Vec<String> = places
                .iter()
                .map(|p| read_event(line, p).unwrap())
                .map(|e| format!("{}{}", e.what.word(), e.said.filter(|s| !s.passes()).map_or("", |_| "!")))
                .collect();
            (head.client.to_string(), head.listener.to_string(), head.at_ms, words.join(" "))
        };
        let all: Vec<_> = lines.iter().map(|l| read(l)).collect();
        assert_eq!(all.len(), 4, "{all:#?}");
        let (client, _, at, words) = &all[0];
        assert_eq!(
            (client.as_str(), *at, words.as_str()),
            ("198.51.100.7", 1_795_435_200_100, "connect helo mail rcpt!")
        );
        assert!(lines[0].contains("\"early_talker\":true") && !lines[0].contains("\"early_talker\"]"), "{}", lines[0]);
        assert_eq!((&*all[1].0, &*all[1].3), ("2001:db8::25", "fact connect mail rcpt data!"));
        let (client, listener, _, words) = &all[2];
        assert_eq!((client.as_str(), listener.as_str()), ("192.0.2.99", "submission"));
        assert_eq!(words, "connect auth mail rcpt rcpt data message settled");
        assert!(lines[2].contains("\"user\":\"ann\"") && lines[2].contains("\"how\":\"delivered\""), "{}", lines[2]);
        assert_eq!(all[3].3, "connect helo mail rcpt!");
        assert!(lines[3].contains("\"verdict\":\"defer\"") && lines[3].contains("\"from\":\"\""), "{}", lines[3]);
    }
}
