//! Recorded sessions judged again, by the engine that serves: every event in the order in which it happened in its run, so
//! that limits and concurrency evolve as they would have.
//!
//! [`Replay::feed`] takes lines as they were written, which is in order of their ends; a window (see
//! [`Replay::WINDOW`]) gives those that began earlier and ended later their place. A [`Visitor`] hears of every decision
//! with what was recorded and what the policy says now; [`Diff`] is the visitor that counts. How it fails: a line that
//! cannot be read is counted with its reason and passed over; a fact the line does not tell is unknown, and a decision
//! that hangs on it is in doubt.

mod compare;
mod diff;
mod live;
mod story;
#[cfg(test)]
mod tests;
mod timeline;
mod top;

pub use compare::{Change, Seen, compare};
pub use diff::{Diff, Example, Flow, Tally, Touched};
pub use story::explain;
pub use timeline::{Bucket, Timeline};
pub use top::Top;

use super::journal::{End, Place, Unread, quick_line, read_event};
use super::limits::Limits;
use super::rules::Policy;
use super::trace::StageTrace;
use super::tune::Ledger;
pub(in crate::policy) use live::{Live, Spare};
use parking_lot::Mutex;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Sessions that are over whose buffers are kept, at most.
const SPARE_MAX: usize = 1024;

/// Hears of what is played.
pub trait Visitor {
    /// A decision, as recorded and as the policy says now.
    fn decision(&mut self, seen: &Seen<'_>);
    /// How a decision of the session that is explained came about: stages that were judged for it, none when nothing was.
    fn explained(&mut self, _seen: &Seen<'_>, _stages: &[StageTrace]) {}
    /// What became of a message that passed both times, in words of the settlement.
    fn settled(&mut self, _seen: &Seen<'_>, _how: &str) {}
    /// A session is over.
    fn ended(&mut self, _session: &str) {}
    /// A session, or a part of it, begins.
    fn began(&mut self, _at_ms: u64, _policy: &str) {}
}

impl Visitor for () {
    fn decision(&mut self, _: &Seen<'_>) {}
}

/// What was read and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions that began.
    pub sessions: u64,
    /// Events that were played.
    pub events: u64,
    /// Runs of servers.
    pub runs: u64,
    /// Torn lines.
    pub torn: u64,
    /// Lines that are none of a journal.
    pub foreign: u64,
    /// Lines of a newer format.
    pub newer: u64,
    /// Lines, and events in lines, with something wrong in them.
    pub bad: u64,
    /// Parts whose beginnings are not in the journal; they are not played.
    pub orphans: u64,
    /// Lines that came later than the window allows; they were played when they came.
    pub late: u64,
    /// The first line that was not read: its number, and why.
    pub first_unread: Option<(u64, String)>,
}

impl Counts {
    /// Lines that were not read.
    pub fn unread(&self) -> u64 {
        self.torn + self.foreign + self.newer + self.bad
    }
}

/// A replay under way.
pub struct Replay<'j> {
    policy: Arc<Policy>,
    keys_max: usize,
    window_ms: u64,
    /// Where the demand on limits is gathered, when somebody wants it.
    demand: Option<Arc<Mutex<Ledger>>>,
    /// The session whose decisions are explained.
    explained: Option<String>,
    run: Option<Run<'j>>,
    lines: u64,
    counts: Counts,
    places: Vec<Place>,
}

/// One run of a server: its limits, and the lines that are being played.
struct Run<'j> {
    id: String,
    limits: Arc<Limits>,
    /// Number of the next event, and whose it is.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    lines: Vec<Option<Line<'j>>>,
    free: Vec<usize>,
    /// Sessions between two of their parts.
    between: HashMap<String, (u64, Box<Live>)>,
    /// Buffers of sessions that are over, and places of their events.
    spare: Vec<Spare>,
    spare_places: Vec<Vec<Place>>,
    newest_ms: u64,
    played: u64,
}

struct Line<'j> {
    text: Cow<'j, str>,
    places: Vec<Place>,
    at: usize,
    seq: u64,
    at_ms: u64,
    end: End,
    live: Box<Live>,
    part: u64,
    /// Whether what the part before left has been taken over.
    joined: bool,
    /// Whether there was no part before, so that nothing of it is played.
    orphan: bool,
}

impl Line<'_> {
    /// Number and time of the next event, of the end when there is none.
    fn due(&self) -> (u64, u64) {
        let place = self.places.get(self.at);
        let (seq, after_ns) = place.map_or((self.end.seq, self.end.after_ns), |p| (p.seq, p.after_ns));
        (self.seq.saturating_add(seq), self.at_ms.saturating_add(after_ns / 1_000_000))
    }
}

impl<'j> Replay<'j> {
    /// How long after its beginning a line is written, at most, that the order is still exact. Lines are written when their
    /// part ends: see `PART_TIME` of the recorder, and the time a client may be silent.
    pub const WINDOW: Duration = Duration::from_secs(20 * 60);
    /// Lines held in the window, at most; beyond it the oldest are played early.
    pub const LINES_MAX: usize = 4 << 20;

    /// A replay with this policy. `keys_max` is the size of the table of limits, as the server's setting.
    pub fn new(policy: Arc<Policy>, keys_max: usize) -> Replay<'j> {
        let window_ms = Self::WINDOW.as_millis() as u64;
        Replay {
            policy,
            keys_max,
            window_ms,
            demand: None,
            explained: None,
            run: None,
            lines: 0,
            counts: Counts::default(),
            places: Vec::new(),
        }
    }
    /// With another window.
    pub fn with_window(mut self, window: Duration) -> Replay<'j> {
        self.window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        self
    }
    /// Lets every limit pass and gathers what is asked of it.
    pub fn with_demand(mut self, ledger: Arc<Mutex<Ledger>>) -> Replay<'j> {
        self.demand = Some(ledger);
        self
    }
    /// Explains the decisions of this session to the visitor.
    pub fn with_explained(mut self, session: &str) -> Replay<'j> {
        self.explained = Some(session.to_owned());
        self
    }
    /// What was read so far.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
    /// The policy.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Takes a line, and plays what is due by then.
    pub fn feed(&mut self, line: Cow<'j, str>, visitor: &mut impl Visitor) {
        self.lines += 1;
        if line.trim_ascii().is_empty() {
            return;
        }
        if let Err(unread) = self.read(line, visitor) {
            self.unread(&unread);
        }
    }

    /// Octets that are no text, or a line that is too long: not a line of a journal.
    pub fn feed_foreign(&mut self) {
        self.lines += 1;
        self.unread(&Unread::Foreign);
    }

    /// Plays the rest.
    pub fn finish(&mut self, visitor: &mut impl Visitor) {
        if let Some(mut run) = self.run.take() {
            run.play(u64::MAX, visitor, &mut self.counts);
        }
    }

    fn unread(&mut self, unread: &Unread) {
        match unread {
            Unread::Torn => self.counts.torn += 1,
            Unread::Foreign => self.counts.foreign += 1,
            Unread::Version(_) => self.counts.newer += 1,
            Unread::Bad(_) => self.counts.bad += 1,
        }
        let number = self.lines;
        self.counts.first_unread.get_or_insert_with(|| (number, unread.to_string()));
    }

    fn read(&mut self, line: Cow<'j, str>, visitor: &mut impl Visitor) -> Result<(), Unread> {
        let (head, end) = quick_line(&line, &mut self.places)?;
        if self.run.as_ref().is_none_or(|run| run.id != head.run) {
            // A new run forgets what limits had counted, as the server's start did.
            self.finish(visitor);
            self.counts.runs += 1;
            self.run = Some(Run::new(&head.run, self.keys_max));
        }
        let Some(run) = &mut self.run else { return Ok(()) };
        let (seq, at_ms, part) = (head.seq, head.at_ms, head.part);
        let ended_ms = at_ms.saturating_add(end.after_ns / 1_000_000);
        let begun_ms = at_ms.saturating_add(self.places.first().map_or(0, |p| p.after_ns) / 1_000_000);
        self.counts.late += u64::from(seq < run.played);
        let spare = run.spare.pop().unwrap_or_default();
        let mut live = Box::new(Live::new(&head, &self.policy, &run.limits, spare));
        if let Some(ledger) = &self.demand {
            live.gather_demand(ledger);
        }
        if self.explained.as_ref().is_some_and(|id| id.eq_ignore_ascii_case(&head.session)) {
            live.explain();
        }
        if part == 0 {
            self.counts.sessions += 1;
            visitor.began(begun_ms, &head.policy);
        }
        drop(head);
        let spare = run.spare_places.pop().unwrap_or_default();
        let places = std::mem::replace(&mut self.places, spare);
        run.add(Line { text: line, places, at: 0, seq, at_ms, end, live, part, joined: false, orphan: false });
        run.newest_ms = run.newest_ms.max(ended_ms);
        let until = run.newest_ms.saturating_sub(self.window_ms);
        run.play(until, visitor, &mut self.counts);
        Ok(())
    }
}

impl<'j> Run<'j> {
    fn new(id: &str, keys_max: usize) -> Run<'j> {
        Run {
            id: id.to_owned(),
            // Nobody chooses keys in a replay, so that the secret may be any number.
            limits: Limits::new(keys_max, 0),
            next: BinaryHeap::new(),
            lines: Vec::new(),
            free: Vec::new(),
            between: HashMap::new(),
            spare: Vec::new(),
            spare_places: Vec::new(),
            newest_ms: 0,
            played: 0,
        }
    }

    fn add(&mut self, line: Line<'j>) {
        let due = line.due().0;
        let slot = self.free.pop().unwrap_or(self.lines.len());
        match self.lines.get_mut(slot) {
            Some(place) => *place = Some(line),
            None => self.lines.push(Some(line)),
        }
        self.next.push(Reverse((due, slot)));
    }

    /// Plays what happened until then.
    fn play(&mut self, until_ms: u64, visitor: &mut impl Visitor, counts: &mut Counts) {
        while let Some(Reverse((_, slot))) = self.next.peek() {
            let slot = *slot;
            let crowded = self.next.len() > Replay::LINES_MAX;
            let Some(line) = self.lines[slot].as_mut() else { break };
            if line.due().1 > until_ms && !crowded {
                break;
            }
            self.next.pop();
            let others = self.next.peek().map_or(u64::MAX, |Reverse((seq, _))| *seq);
            if line.part > 0 && !line.joined {
                line.joined = true;
                match self.between.remove(line.live.name()) {
                    Some((part, live)) if part == line.part => line.live = live,
                    _ => {
                        counts.orphans += 1;
                        line.orphan = true;
                        line.at = line.places.len();
                    }
                }
            }
            // One session goes on as long as nobody else's event comes first.
            let mut first = true;
            loop {
                let (seq, at_ms) = line.due();
                if !first && (seq > others || at_ms > until_ms) {
                    self.next.push(Reverse((seq, slot)));
                    break;
                }
                first = false;
                self.played = seq;
                let Some(place) = line.places.get(line.at) else {
                    self.close(slot, visitor);
                    break;
                };
                line.at += 1;
                match read_event(&line.text, place) {
                    Some(event) => {
                        counts.events += 1;
                        line.live.play(&event, visitor);
                    }
                    // The line was only looked through.
                    None => counts.bad += 1,
                }
            }
        }
    }

    /// The line is at its end: leases come back, or the session waits for its next part.
    fn close(&mut self, slot: usize, visitor: &mut impl Visitor) {
        let Some(line) = self.lines[slot].take() else { return };
        self.free.push(slot);
        let live = line.live;
        if self.spare_places.len() < SPARE_MAX {
            self.spare_places.push(line.places);
        }
        if line.end.more && !line.orphan {
            self.between.insert(live.name().to_owned(), (line.part + 1, live));
            return;
        }
        visitor.ended(live.name());
        if self.spare.len() < SPARE_MAX {
            self.spare.push(live.over());
        }
    }
}
