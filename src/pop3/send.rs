//! Long responses: listings made as there is room for them, messages read piece by piece.
//!
//! How it fails: a message whose first piece cannot be had is `-ERR`; when a later one cannot, the connection is closed,
//! because the client would take whatever is said for the rest of the message.

use super::ask::Answer;
use super::session::{OUTPUT_OCTETS_HIGH, Session};
use super::settings::RawUtf8;
use super::state::{Leaving, Pending, State};
use crate::base::mailbox::ask::{
    FetchItems, Octets, Query, Reply, Section, SectionData, SectionWhat, StoreError, Stored,
};
use crate::base::mailbox::{Uid, UidSet};
use crate::base::time::Instant;
use crate::wire::pop3::replies::{self, Response};
use crate::wire::pop3::text::{Stuffing, TopEnd};
use std::sync::Arc;

/// Octets of a stored message that are read at a time.
const PIECE_OCTETS: usize = 64 * 1024;
/// Octets of a listing that are made at a time.
const LISTING_OCTETS: usize = 16 * 1024;
/// Octets of a message that the store may put into one answer.
const ANSWER_OCTETS_MAX: usize = 256 * 1024;

/// LIST or UIDL of all messages.
#[derive(Debug)]
pub(super) struct Listing {
    what: ListingWhat,
    /// The next message number.
    next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListingWhat {
    Octets,
    UniqueIds,
}

/// A message being sent.
#[derive(Debug)]
pub(super) struct Text {
    number: u32,
    uid: Uid,
    /// What is said in front of it; `None` once it is said.
    begin: Option<Response>,
    stuffing: Stuffing,
    /// For TOP.
    top: Option<TopEnd>,
    rest: Rest,
}

/// Where the next piece is.
#[derive(Debug)]
enum Rest {
    /// In the message, from this octet on, by `Fetch` of a part of it.
    Part(u64),
    /// In the section that was answered as stored, from this octet on; and where the part ends that it is of, if it is.
    Stored(Stored, u64, Option<u64>),
}

impl Session {
    /// Goes on with what waits for room; false when nothing does.
    pub(super) fn send_more(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Listing(listing) => {
                self.list_more(listing);
                true
            }
            State::Text(text) => {
                self.ask_piece(text);
                false
            }
            other => {
                self.state = other;
                false
            }
        }
    }

    /// LIST or UIDL of all messages, as far as there is room.
    pub(super) fn send_listing(&mut self, what: ListingWhat) {
        self.state = State::Listing(Listing { what, next: 1 });
        while matches!(self.state, State::Listing(_)) && self.out.octets() < OUTPUT_OCTETS_HIGH {
            self.send_more();
        }
    }

    fn list_more(&mut self, mut listing: Listing) {
        let mut lines = Vec::with_capacity(LISTING_OCTETS + 64);
        let Some(maildrop) = self.maildrop() else { return };
        while listing.next <= maildrop.highest() && lines.len() < LISTING_OCTETS {
            if let Some((uid, octets)) = maildrop.message(listing.next) {
                let line = match listing.what {
                    ListingWhat::Octets => format!("{} {octets}\r\n", listing.next),
                    ListingWhat::UniqueIds => format!("{} {}\r\n", listing.next, maildrop.unique_id(uid)),
                };
                lines.extend_from_slice(line.as_bytes());
            }
            listing.next += 1;
        }
        let is_done = listing.next > maildrop.highest();
        if is_done {
            lines.extend_from_slice(b".\r\n");
        }
        self.out.push_bytes(&lines);
        if is_done {
            self.end_of_response();
        } else {
            self.state = State::Listing(listing);
        }
    }

    /// RETR: all of a message.
    pub(super) fn send_message(&mut self, now: Instant, number: u32, uid: Uid, octets: u64) {
        let (begin, rest) = (Some(replies::octets(octets)), Rest::Part(0));
        let text = Box::new(Text { number, uid, begin, stuffing: Stuffing::default(), top: None, rest });
        match self.maildrop().and_then(|m| m.ahead.take(number, uid)) {
            Some(octets) => self.take_part(now, text, octets, 0),
            None => self.ask_piece(text),
        }
    }

    /// TOP: its header and so many lines.
    pub(super) fn send_top(&mut self, number: u32, uid: Uid, lines: u32) {
        let top = Some(TopEnd::new(lines));
        let (begin, rest) = (Some(replies::top()), Rest::Part(0));
        self.ask_piece(Box::new(Text { number, uid, begin, stuffing: Stuffing::default(), top, rest }));
    }

    fn ask_piece(&mut self, text: Box<Text>) {
        let ahead_octets_max = self.settings.knobs.read_ahead_octets.0;
        let Some(maildrop) = self.maildrop() else { return };
        let (account, mailbox) = (maildrop.account, maildrop.mailbox);
        let query = match &text.rest {
            Rest::Stored(stored, offset, _) => {
                Query::Read { stored: *stored, offset: *offset, octets_max: PIECE_OCTETS }
            }
            Rest::Part(offset) => {
                // RETR takes the message whole, TOP as far as its lines reach.
                let partial = text.top.map(|_| (*offset, PIECE_OCTETS as u64));
                let what = SectionWhat::All;
                let section = Section { part: Vec::new(), what, partial, decoded: false, size_only: false };
                let uids = match text.top {
                    Some(_) => UidSet::range(text.uid, text.uid),
                    None => maildrop.plan_ahead(text.number, ahead_octets_max),
                };
                Query::Fetch {
                    mailbox,
                    rows_max: usize::try_from(uids.len()).unwrap_or(usize::MAX),
                    uids,
                    items: Arc::new(FetchItems { sections: vec![section], ..FetchItems::default() }),
                    changed_since: None,
                    octets_max: ANSWER_OCTETS_MAX,
                }
            }
        };
        self.ask_query(account, query, Pending::Text(text));
    }

    /// A piece has come.
    pub(super) fn proceed_text(&mut self, now: Instant, text: Box<Text>, answer: Answer) {
        let reply = match answer {
            Answer::Store(Ok(reply)) => reply,
            Answer::Store(Err(error)) => return self.fail_text(now, &text, &error),
            other => {
                debug_assert!(false, "the answer does not fit the ask: {other:?}");
                return self.fail_text(now, &text, &StoreError::Failed);
            }
        };
        match (reply, &text.rest) {
            (Reply::Octets(bytes), &Rest::Stored(stored, offset, part_end)) => {
                self.take_stored(now, text, &bytes, (stored, offset, part_end));
            }
            (Reply::Fetched(mut fetched), &Rest::Part(from)) => {
                // Where it was expunged meanwhile the answer begins with what was to be read ahead.
                let row = match fetched.rows.first() {
                    Some(row) if row.uid == text.uid => Some(fetched.rows.remove(0)),
                    _ => None,
                };
                if text.top.is_none() {
                    self.maildrop().into_iter().for_each(|m| m.ahead.keep(std::mem::take(&mut fetched.rows)));
                }
                let Some(row) = row else { return self.fail_text(now, &text, &StoreError::Expunged) };
                match row.sections.into_iter().next() {
                    Some(SectionData::Octets(octets)) => self.take_part(now, text, octets, from),
                    _ => self.fail_text(now, &text, &StoreError::Failed),
                }
            }
            (reply, _) => {
                debug_assert!(false, "the reply does not fit the query: {reply:?}");
                self.fail_text(now, &text, &StoreError::Failed);
            }
        }
    }

    fn take_part(&mut self, now: Instant, mut text: Box<Text>, octets: Octets, from: u64) {
        // A part that is not full is the last; without TOP the message is one part.
        let next = (text.top.is_some() && octets.len() >= PIECE_OCTETS as u64).then(|| from + octets.len());
        match octets {
            Octets::Memory { bytes, start, end } => {
                if self.take_octets(now, &mut text, &bytes, start, end) {
                    self.after_part(now, text, next);
                }
            }
            Octets::Stored(stored) if stored.octets == 0 => {
                if self.take_octets(now, &mut text, &Arc::new(Vec::new()), 0, 0) {
                    self.after_part(now, text, next);
                }
            }
            Octets::Stored(stored) => {
                text.rest = Rest::Stored(stored, 0, next);
                self.ask_piece(text);
            }
        }
    }

    fn take_stored(&mut self, now: Instant, mut text: Box<Text>, bytes: &Arc<Vec<u8>>, at: (Stored, u64, Option<u64>)) {
        let (stored, offset, next) = at;
        let end = offset + bytes.len() as u64;
        if bytes.is_empty() || end > stored.octets {
            return self.fail_text(now, &text, &StoreError::Failed); // it promised other octets
        }
        if !self.take_octets(now, &mut text, bytes, 0, bytes.len()) {
            return;
        }
        if end == stored.octets {
            return self.after_part(now, text, next);
        }
        text.rest = Rest::Stored(stored, end, next);
        self.enter(now, State::Text(text));
    }

    /// Sends octets; false when the message was refused.
    fn take_octets(&mut self, now: Instant, text: &mut Text, bytes: &Arc<Vec<u8>>, start: usize, end: usize) -> bool {
        let octets = &bytes[start..end];
        if let Some(begin) = text.begin.take() {
            if self.settings.knobs.raw_utf8 == RawUtf8::Refuse && !self.utf8 && header_needs_utf8(octets) {
                self.respond(now, &replies::message_needs_utf8());
                return false;
            }
            self.say(&begin);
        }
        let end = text.top.as_mut().map_or(end, |top| start + top.take(octets));
        self.counters.text_octets += (end - start) as u64;
        text.stuffing.push(bytes, start, end, &mut self.out);
        true
    }

    fn after_part(&mut self, now: Instant, mut text: Box<Text>, next: Option<u64>) {
        match next {
            Some(offset) if text.top.is_some_and(|top| !top.is_reached()) => {
                text.rest = Rest::Part(offset);
                self.enter(now, State::Text(text));
            }
            _ => {
                text.stuffing.finish(&mut self.out);
                if text.top.is_none() {
                    self.counters.retrieved += 1;
                    self.maildrop().into_iter().for_each(|m| m.note_retrieved(text.number));
                }
                self.touch(now);
                self.end_of_response();
            }
        }
    }

    fn fail_text(&mut self, now: Instant, text: &Text, error: &StoreError) {
        if text.begin.is_some() {
            self.respond(now, &replies::store_failed(error));
        } else {
            self.close();
        }
    }

    /// A response of several lines is whole.
    fn end_of_response(&mut self) {
        self.state = State::Command;
        if self.leaving == Leaving::Shutdown {
            self.dismiss(&replies::shutting_down());
        }
    }
}

/// Whether there is an octet beyond ASCII in the header section, as far as this piece shows it.
fn header_needs_utf8(piece: &[u8]) -> bool {
    let header = TopEnd::new(0).take(piece);
    !piece[..header].is_ascii()
}
