//! The jobs of a comparison: what is sent, what stands behind the 250, and who can do it at all.
//!
//! How it fails: a job that is not known is refused with those that are.

use super::CompareArgs;
use super::peer::{Mode, Peer};
use serde::{Deserialize, Serialize};

/// One job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Work {
    /// Name in tables and on the command line.
    pub name: String,
    /// What stands behind the 250: the server's own disk, or the backend.
    pub spool: bool,
    /// Arguments for the sender.
    pub send: Vec<String>,
    /// Connections that are held, when that is the job.
    pub hold: Option<u64>,
}

/// The names `--job` takes, with what each is in a table for people.
const KNOWN: [(&str, &str); 9] = [
    ("spool", "store and forward: 64 kept connections, a command per round trip, each 250 after the disk's sync"),
    ("plain", "passed through: a connection per message, a command per round trip"),
    ("plain-kept", "passed through: kept connections, a command per round trip"),
    ("cut-through", "passed through: a connection per message, pipelined"),
    ("cut-through-kept", "passed through: kept connections, pipelined"),
    ("reject", "refused at RCPT, a session each"),
    ("idle", "idle connections"),
    ("idle-tls", "idle connections under TLS"),
    ("mailstore", "mailstore"),
];

/// What a job is, in words.
pub fn title(name: &str) -> &str {
    KNOWN.iter().find(|(known, _)| *known == name).map_or(name, |(_, title)| title)
}

/// Connections that deliver in store and forward.
const SPOOL_CONNECTIONS: usize = 64;
/// New connections per second at most in store and forward: OpenSMTPD's queue for them has five places.
const SPOOL_CONNECT_RATE: u32 = 200;

/// The job of this name; `None` is the mailstore's, which is not sent by a sender.
pub fn work(name: &str, args: &CompareArgs) -> Result<Option<Work>, String> {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let common = format!("--size {} -s {}", args.size, args.seconds);
    let c = args.connections;
    let (send, spool, hold) = match name {
        "cut-through" => (format!("-c {c} --messages-per-connection 1 {common}"), false, None),
        "cut-through-kept" => (format!("-c {c} {common}"), false, None),
        "plain" => (format!("-c {c} --messages-per-connection 1 --pipeline off {common}"), false, None),
        "plain-kept" => (format!("-c {c} --pipeline off {common}"), false, None),
        "spool" => {
            (format!("-c {SPOOL_CONNECTIONS} --connect-rate {SPOOL_CONNECT_RATE} --pipeline off {common}"), true, None)
        }
        "reject" => (format!("-c {c} --reject-test --pipeline off --to nobody@elsewhere.test {common}"), false, None),
        "idle" | "idle-tls" => {
            let n = args.idle_connections;
            // Time to come up (with TLS, about a thousand handshakes a second), then a while in which memory is read.
            let (hold, tls) = if name == "idle" { (3 + n / 2000, "") } else { (10 + n / 500, "--starttls") };
            (format!("--hold {hold}s {tls} --sources 127.8.0.0/16"), false, Some(n))
        }
        "mailstore" => return Ok(None),
        _ => {
            let known: Vec<&str> = KNOWN.iter().map(|(name, _)| *name).collect();
            return Err(format!("--job: expected some of {}, found {name:?}", known.join(", ")));
        }
    };
    Ok(Some(Work { name: name.into(), spool, send: words(send), hold }))
}

impl Work {
    /// What stands behind the 250.
    pub fn mode(&self) -> Mode {
        if self.spool { Mode::Spool } else { Mode::CutThrough }
    }

    /// Trials of it: an idle connection's memory does not vary as a rate does.
    pub fn rounds(&self, asked: usize) -> usize {
        if self.hold.is_some() { asked.min(1) } else { asked }
    }
}

/// Whether a peer can do a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It can.
    Yes,
    /// It is not what it is for; nobody would expect it in the table.
    No,
    /// It cannot, and whoever reads the table should know why.
    Because(&'static str),
}

/// Whether `peer` can do `work`.
pub fn fit(peer: Peer, work: &Work) -> Fit {
    let pipelined = work.name.starts_with("cut-through");
    let passed = pipelined || work.name.starts_with("plain");
    match peer {
        Peer::Gatepost => Fit::Yes,
        // No server to measure: what the harness can do by itself.
        Peer::Direct if passed => Fit::Yes,
        // A proxy keeps nothing, refuses nothing and begins no TLS in the middle.
        Peer::Haproxy | Peer::NginxStream if passed || work.name == "idle" => Fit::Yes,
        Peer::NginxMail if passed && pipelined => {
            Fit::Because("it takes a command at a time until the first RCPT is answered")
        }
        Peer::NginxMail if passed => Fit::Yes,
        Peer::Haraka if pipelined => Fit::Because("it answers 503 to a MAIL that travels with the end of a message"),
        Peer::Exim | Peer::Haraka if passed => Fit::Yes,
        Peer::Postfix
        | Peer::Exim
        | Peer::Opensmtpd
        | Peer::Sendmail
        | Peer::Haraka
        | Peer::Kumomta
        | Peer::Stalwart
            if work.spool || work.name == "reject" =>
        {
            Fit::Yes
        }
        _ => Fit::No,
    }
}

/// Descriptors a process needs beside those of its connections.
const DESCRIPTORS_OWN: u64 = 300;

/// The connections that `peer` can hold of those asked for: a proxy needs two descriptors for each.
pub fn holdable(peer: Peer, asked: u64, descriptors: u64) -> u64 {
    let each = if matches!(peer, Peer::Haproxy | Peer::NginxStream) { 2 } else { 1 };
    asked.min(descriptors.saturating_sub(DESCRIPTORS_OWN) / each)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_held_than_descriptors_allow() {
        assert_eq!(holdable(Peer::Gatepost, 20_000, 65_536), 20_000);
        assert_eq!(holdable(Peer::Gatepost, 20_000, 20_000), 19_700);
        assert_eq!(holdable(Peer::Haproxy, 20_000, 20_000), 9_850);
    }

    #[test]
    fn only_what_makes_sense_is_measured() {
        let job = |name: &str, spool| Work { name: name.into(), spool, send: Vec::new(), hold: None };
        assert_eq!(fit(Peer::Haproxy, &job("spool", true)), Fit::No);
        assert_eq!(fit(Peer::Sendmail, &job("spool", true)), Fit::Yes);
        assert_eq!(fit(Peer::Sendmail, &job("plain", false)), Fit::No, "what it stores is another promise");
        assert!(matches!(fit(Peer::Haraka, &job("cut-through-kept", false)), Fit::Because(_)));
        assert_eq!(fit(Peer::NginxStream, &job("reject", false)), Fit::No);
        assert!(KNOWN.iter().all(|(name, _)| title(name) != *name || *name == "mailstore"));
    }
}
