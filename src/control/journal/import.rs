//! A journal out of another server's log: sessions are gathered from lines and written when they are over.
//!
//! What the log does not tell is named in `missing`, so that rules that need it are in doubt in a replay. How it fails: a
//! file that cannot be read or written is named; lines that are not of the server are counted.

use super::syslog::{Clock, Entry, Reader, year_of};
use super::{Format, postfix, sendmail};
use crate::control::cli::{Failure, print};
use crate::policy::journal::{Event, Head, Headers, Said, Told, What, begin, end, write_event};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// A session is written so long after its end, whatever is still to come of its messages: then they wait in the queue.
pub const SETTLE_MS: u64 = 10 * 60_000;
/// Sessions that are gathered at the same time, at most; beyond it the oldest are written.
pub const SESSIONS_MAX: usize = 200_000;
/// Octets of a log's line that are read, at most.
const LINE_OCTETS_MAX: usize = 64 * 1024;

/// Facts that no log of another server tells.
const MISSING: [&str; 13] = [
    "early_talker",
    "load",
    "client.port",
    "message.declared_size",
    "message.smtputf8",
    "message.body",
    "message.8bit",
    "message.binary",
    "message.hops",
    "message.header_size",
    "rcpt.exists",
    "session.errors",
    "tls.client_name",
];

/// A message of the past.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// When it began.
    pub at_ms: u64,
    /// Its sender, once it is known; empty for the null path.
    pub from: Option<String>,
    /// Its recipients; with the reply when refused.
    pub to: Vec<(String, Option<String>)>,
    /// Refusal of the sender.
    pub refused: Option<String>,
    /// Refusal of the text.
    pub text_refused: Option<String>,
    /// Its size.
    pub size: Option<u64>,
    /// Its Message-ID.
    pub message_id: Option<String>,
    /// `delivered`, `queued`, `bounced`.
    pub how: Option<&'static str>,
    /// Whether it was taken.
    pub taken: bool,
}

/// A session of the past.
#[derive(Clone, Debug)]
pub struct Past {
    /// Its name.
    pub id: String,
    /// When it began.
    pub at_ms: u64,
    /// When it ended.
    pub ended_ms: u64,
    /// The client.
    pub client: IpAddr,
    /// Its confirmed name, when the log has one.
    pub ptr: Option<String>,
    /// Whether users come here.
    pub submission: bool,
    /// Version and cipher of TLS.
    pub tls: Option<(String, String)>,
    /// What it called itself, and whether by EHLO.
    pub helo: Option<(String, bool)>,
    /// Who logged in.
    pub user: Option<String>,
    /// Failed logins: when.
    pub failures: Vec<u64>,
    /// Refusal at connect.
    pub refused: Option<String>,
    /// Whether it spoke before the greeting, where the log watched for that.
    pub early_talker: Option<bool>,
    /// Its messages.
    pub mails: Vec<Mail>,
}

impl Past {
    /// A session that begins.
    pub fn new(id: String, at_ms: u64, client: IpAddr) -> Past {
        Past {
            id,
            at_ms,
            ended_ms: at_ms,
            client,
            ptr: None,
            submission: false,
            tls: None,
            helo: None,
            user: None,
            failures: Vec::new(),
            refused: None,
            early_talker: None,
            mails: Vec::new(),
        }
    }

    /// Its line.
    pub fn line(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut missing: Vec<_> = MISSING.iter().map(|name| (*name).into()).collect();
        if self.helo.is_none() {
            missing.push("helo".into());
        }
        if self.early_talker.is_some() {
            missing.retain(|name| *name != "early_talker");
        }
        // In order of time, and of lines within a millisecond, which a log does not tell apart.
        let order = |at_ms: u64| at_ms << 10;
        let seq = order(self.at_ms);
        let listener = if self.submission { "submission" } else { "mx" };
        let head = Head {
            run: "import".into(),
            session: self.id.as_str().into(),
            at_ms: self.at_ms,
            start_ns: self.at_ms.saturating_mul(1_000_000),
            seq,
            listener: listener.into(),
            client: self.client,
            missing,
            ..Head::default()
        };
        begin(&head, &mut out);
        let mut count = 0;
        let mut add = |at_ms: u64, what: What<'_>, said: Option<Said<'_>>| {
            let after_ms = at_ms.saturating_sub(self.at_ms);
            count += 1;
            let seq = (after_ms << 10) + count;
            write_event(&Event { after_ns: after_ms * 1_000_000, seq, what, said }, &mut out);
        };
        self.events(&mut add);
        let after_ms = self.ended_ms.saturating_sub(self.at_ms);
        end(after_ms * 1_000_000, (after_ms << 10) + 1000, false, &mut out);
        out.push(b'\n');
        out
    }

    fn events(&self, add: &mut impl FnMut(u64, What<'_>, Option<Said<'_>>)) {
        let start = self.at_ms;
        if let Some(ptr) = &self.ptr {
            add(start, What::Fact { name: "client.ptr".into(), value: Some(Told::Text(ptr.as_str().into())) }, None);
        }
        add(
            start,
            What::Connect { early_talker: self.early_talker == Some(true), load: Default::default() },
            Some(said(self.refused.as_deref())),
        );
        if let Some((version, cipher)) = &self.tls {
            let tls = crate::policy::journal::Tls {
                version: version.as_str().into(),
                cipher: cipher.as_str().into(),
                client_name: "".into(),
            };
            add(start, What::Tls(tls), None);
        }
        if let Some((name, extended)) = &self.helo {
            add(start, What::Helo { name: name.as_str().into(), extended: *extended }, Some(said(None)));
        }
        for at in &self.failures {
            add(*at, What::Auth { user: None }, Some(said(None)));
        }
        let mut user = self.user.as_deref();
        for mail in &self.mails {
            if let Some(user) = user.take() {
                add(mail.at_ms, What::Auth { user: Some(user.into()) }, Some(said(None)));
            }
            mail.events(add);
        }
    }
}

impl Mail {
    fn events(&self, add: &mut impl FnMut(u64, What<'_>, Option<Said<'_>>)) {
        // Without a sender there is nothing that a rule could be asked about.
        let Some(from) = &self.from else { return };
        let what = What::Mail {
            sender: normal(from).into(),
            size: None,
            body: Default::default(),
            smtputf8: false,
            load: Default::default(),
        };
        add(self.at_ms, what, Some(said(self.refused.as_deref())));
        for (to, refused) in &self.to {
            add(self.at_ms, What::Rcpt { to: normal(to).into(), exists: None }, Some(said(refused.as_deref())));
        }
        if !self.taken && self.text_refused.is_none() {
            return;
        }
        let fields = self.message_id.iter().map(|id| ("message-id".into(), Some(id.as_str().into()))).collect();
        // Without a size there is no message to judge: then it was the text that was refused.
        let early = self.text_refused.as_deref().filter(|_| self.size.is_none());
        add(self.at_ms, What::Data(Headers { fields, cut: true, ..Headers::default() }), Some(said(early)));
        if let Some(octets) = self.size {
            let shape = crate::base::body::BodyShape { octets, ..Default::default() };
            add(self.at_ms, What::Message(shape), Some(said(self.text_refused.as_deref())));
        }
        if let (Some(how), true) = (self.how, self.taken) {
            add(self.at_ms, What::Settled { how: how.into(), reply: "".into() }, None);
        }
    }
}

/// What the other server said; its rules are its own.
fn said(refusal: Option<&str>) -> Said<'_> {
    let verdict = match refusal {
        None => "accept",
        Some(reply) if reply.starts_with("421") => "drop",
        Some(reply) if reply.starts_with('4') => "defer",
        Some(_) => "reject",
    };
    Said { verdict: verdict.into(), reply: refusal.unwrap_or_default().into(), ..Said::default() }
}

/// An address as rules see it: the domain in lower case.
fn normal(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_ascii_lowercase()),
        None => address.to_owned(),
    }
}

/// Gathers sessions from the lines of one kind of server.
pub trait Gather {
    /// Takes a line; `false` when it is not one of the server's that tell something.
    fn line(&mut self, entry: &Entry<'_>) -> bool;
    /// Sessions that are over by then, in order of their ends.
    fn over(&mut self, now_ms: u64) -> Vec<Past>;
}

/// Runs the import.
pub fn run(files: &[impl AsRef<Path>], format: Format, output: Option<&Path>, clock: &Clock) -> Result<(), Failure> {
    let mut gather: Box<dyn Gather> = match format {
        Format::Postfix => Box::<postfix::Postfix>::default(),
        Format::Sendmail => Box::<sendmail::Sendmail>::default(),
    };
    let mut out = Output::open(output)?;
    let (mut lines, mut used, mut sessions) = (0u64, 0u64, 0u64);
    let mut skipped: BTreeMap<&str, u64> = BTreeMap::new();
    let mut now_ms = 0;
    let mut reader: Option<Reader> = None;
    for path in files {
        let path = path.as_ref();
        let fail = |e: io::Error| Failure::new(format!("cannot read {}: {e}", path.display()));
        let (mut input, year) = open(path, clock).map_err(fail)?;
        let reader = reader.get_or_insert_with(|| Reader::new(year, clock));
        let mut line = Vec::new();
        while {
            line.clear();
            input.read_until(b'\n', &mut line).map_err(fail)? > 0
        } {
            lines += 1;
            line.truncate(LINE_OCTETS_MAX);
            let text = String::from_utf8_lossy(&line);
            let Some(entry) = reader.entry(text.trim_end()) else {
                *skipped.entry("are no lines of syslog").or_default() += 1;
                continue;
            };
            now_ms = entry.at_ms.max(now_ms);
            used += u64::from(gather.line(&entry));
            for past in gather.over(now_ms.saturating_sub(SETTLE_MS)) {
                sessions += 1;
                out.write(&past.line())?;
            }
        }
    }
    for past in gather.over(u64::MAX) {
        sessions += 1;
        out.write(&past.line())?;
    }
    out.finish()?;
    eprintln!(
        "gatepost: {sessions} sessions from {used} of {lines} lines; what the log cannot tell is marked as missing"
    );
    for (what, count) in skipped {
        eprintln!("gatepost: {count} lines {what} and were passed over");
    }
    if sessions == 0 && lines > 0 {
        return Err(Failure::new("no session was found; is it the log of the server that --format names?"));
    }
    Ok(())
}

fn open(path: &Path, clock: &Clock) -> io::Result<(Box<dyn BufRead>, u64)> {
    if path == Path::new("-") {
        let now = crate::reactor::clock::wall().as_millis();
        return Ok((Box::new(io::stdin().lock()), clock.year.map_or_else(|| year_of(now), u64::from)));
    }
    let file = File::open(path)?;
    let changed = file.metadata()?.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    let year = clock.year.map_or_else(|| year_of(changed.as_millis() as u64), u64::from);
    Ok((Box::new(BufReader::new(file)), year))
}

/// Where the journal goes.
enum Output {
    Stdout,
    Plain(BufWriter<File>),
    Packed(Box<zstd::Encoder<'static, BufWriter<File>>>),
}

impl Output {
    fn open(path: Option<&Path>) -> Result<Output, Failure> {
        let Some(path) = path else { return Ok(Output::Stdout) };
        let fail = |e: io::Error| Failure::new(format!("cannot write {}: {e}", path.display()));
        let file = BufWriter::new(File::create(path).map_err(fail)?);
        match path.extension().is_some_and(|e| e == "zst") {
            true => Ok(Output::Packed(Box::new(zstd::Encoder::new(file, 3).map_err(fail)?))),
            false => Ok(Output::Plain(file)),
        }
    }
    fn write(&mut self, line: &[u8]) -> Result<(), Failure> {
        let written = match self {
            Output::Stdout => return print(&String::from_utf8_lossy(line)),
            Output::Plain(file) => file.write_all(line),
            Output::Packed(file) => file.write_all(line),
        };
        written.map_err(|e| Failure::new(format!("cannot write the journal: {e}")))
    }
    fn finish(self) -> Result<(), Failure> {
        let done = match self {
            Output::Stdout => Ok(()),
            Output::Plain(mut file) => file.flush(),
            Output::Packed(file) => file.finish().and_then(|mut file| file.flush()),
        };
        done.map_err(|e| Failure::new(format!("cannot write the journal: {e}")))
    }
}
