//! Writes the line of one session while the session goes on.
//!
//! Everything that happens in a run has a number, drawn before the policy is asked; by these numbers a replay has the
//! sessions of all cores in the order in which they met the limits. How it fails: it does not; a session that goes on for
//! long is written in parts, so that no line grows without bound and none is written long after it began.

use super::encode;
use super::event::{Event, Head, Said, What};
use super::headers::Keep;
use super::scrub::Scrub;
use crate::base::time::{Instant, WallTime};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Octets after which a part ends.
pub const PART_OCTETS: usize = 64 * 1024;
/// Time after which a part ends with the next event. Clients are silent for minutes at most, so a line is written within a
/// quarter of an hour after its beginning; the replay's window relies on that.
pub const PART_TIME: Duration = Duration::from_secs(300);

/// Where lines go. Called on the cores: must not block.
pub trait Sink: Send + Sync {
    /// Takes a line, without its line end.
    fn line(&self, line: Vec<u8>);
}

/// One run of a process that writes a journal.
pub struct Run {
    id: String,
    seq: AtomicU64,
    scrub: Option<Scrub>,
    keep: Keep,
    sink: Box<dyn Sink>,
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Run {
    /// A run. `id` must be different from all other runs whose journals are read together.
    pub fn new(id: impl Into<String>, scrub: Option<Scrub>, keep: Keep, sink: Box<dyn Sink>) -> Arc<Run> {
        Arc::new(Run { id: id.into(), seq: AtomicU64::new(1), scrub, keep, sink })
    }
    /// The next number.
    fn next(&self) -> u64 {
        self.seq.fetch_add(1, Ordering::Relaxed)
    }
    /// Hands a line over as it is.
    pub fn write_line(&self, line: Vec<u8>) {
        self.sink.line(line);
    }
    /// Fields whose text is kept; `None` when texts are personal and hidden.
    pub fn keep(&self) -> Option<&Keep> {
        self.scrub.is_none().then_some(&self.keep)
    }
}

/// The line of one session.
#[derive(Debug)]
pub struct Recorder {
    run: Arc<Run>,
    session: String,
    opened: Instant,
    opened_wall: WallTime,
    out: Vec<u8>,
    part: u64,
    part_seq: u64,
    /// Whether anything happened in this part.
    has_events: bool,
    began: Instant,
    last: Instant,
}

impl Recorder {
    /// A recorder for a session; its first part begins with [`Recorder::begin`].
    pub fn new(run: Arc<Run>, session: String, opened: Instant, opened_wall: WallTime) -> Recorder {
        let (out, began, last) = (Vec::new(), opened, opened);
        Recorder { run, session, opened, opened_wall, out, part: 0, part_seq: 0, has_events: false, began, last }
    }
    /// The run.
    pub fn run(&self) -> &Run {
        &self.run
    }
    /// Draws a number for what is about to happen.
    pub fn order(&self) -> u64 {
        self.run.next()
    }

    /// Begins a part; `head` says what the session knows, the rest is filled in.
    pub fn begin(&mut self, head: Head<'_>) {
        self.part_seq = self.run.next();
        let head = Head {
            run: self.run.id.as_str().into(),
            session: self.session.as_str().into(),
            part: self.part,
            at_ms: self.opened_wall.as_millis(),
            start_ns: self.opened.as_nanos(),
            seq: self.part_seq,
            hashed: self.run.scrub.is_some(),
            ..head
        };
        encode::begin(&head, &mut self.out);
    }

    /// Whether the part has had its time or octets.
    pub fn is_full(&self) -> bool {
        self.out.len() >= PART_OCTETS || self.last.since(self.began) >= PART_TIME
    }

    /// Adds what happened at `now` under the number `order`.
    pub fn event(&mut self, now: Instant, order: u64, what: What<'_>, said: Option<Said<'_>>) {
        self.last = now;
        self.has_events = true;
        let what = match &self.run.scrub {
            Some(scrub) => hidden(what, scrub),
            None => what,
        };
        let after_ns = now.as_nanos().saturating_sub(self.opened.as_nanos());
        let seq = order.saturating_sub(self.part_seq);
        encode::event(&Event { after_ns, seq, what, said }, &mut self.out);
    }

    /// The part as it would be written if it ended now.
    pub fn so_far(&self) -> Vec<u8> {
        let after_ns = self.last.as_nanos().saturating_sub(self.opened.as_nanos());
        let mut out = self.out.clone();
        encode::end(after_ns, self.run.next().saturating_sub(self.part_seq), true, &mut out);
        out
    }

    /// Ends the part and hands it over.
    pub fn end(&mut self, more: bool) {
        let after_ns = self.last.as_nanos().saturating_sub(self.opened.as_nanos());
        let seq = self.run.next().saturating_sub(self.part_seq);
        encode::end(after_ns, seq, more, &mut self.out);
        self.run.write_line(std::mem::take(&mut self.out));
        self.part += 1;
        self.has_events = false;
        self.began = self.last;
    }
}

impl Drop for Recorder {
    /// The session is over, and its line with it. One that was never judged (a scan of ports) leaves none.
    fn drop(&mut self) {
        if self.has_events || self.part > 0 {
            self.end(false);
        }
    }
}

fn hidden<'a>(what: What<'a>, scrub: &Scrub) -> What<'a> {
    match what {
        What::Auth { user } => What::Auth { user: user.map(|user| scrub.address(&user)) },
        What::Mail { sender, size, body, smtputf8, load } => {
            What::Mail { sender: scrub.address(&sender), size, body, smtputf8, load }
        }
        What::Probe { to } => What::Probe { to: scrub.address(&to) },
        What::Rcpt { to, exists } => What::Rcpt { to: scrub.address(&to), exists },
        What::Vrfy { argument } => What::Vrfy { argument: scrub.text(&argument) },
        What::Shadow { stage, change, now } => {
            What::Shadow { stage, change, now: now.split(':').next().unwrap_or_default().to_owned().into() }
        }
        // The code stays; the text may name anybody.
        What::Settled { how, reply } => What::Settled { how, reply: reply.chars().take(3).collect::<String>().into() },
        other => other,
    }
}
