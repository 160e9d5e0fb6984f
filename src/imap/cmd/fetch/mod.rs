//! FETCH and UID FETCH (RFC 9051 §6.4.5) with CHANGEDSINCE and VANISHED (RFC 7162 §3.1.4, §3.2.6), BINARY (RFC 3516), PREVIEW
//! (RFC 8970), OBJECTID (RFC 8474), SAVEDATE (RFC 8514), PARTIAL (RFC 9394 §3.3).
//!
//! The answer is asked for in slices, the next one when the former has gone to the wire; a large literal comes in pieces
//! in the same way. So a session holds a slice at most, however slow its client is. How it fails: NO with the store's
//! code between messages; in the middle of a literal nothing can be said and the connection is closed.

mod row;

use super::no_such_message;
use crate::base::mailbox::ask::{Change, FetchItems, Fetched, Query, Reply, Row, StoreError, StoreHow};
use crate::base::mailbox::search::{Found, SearchForm, SearchKey};
use crate::base::mailbox::{FlagNames, Flags, Keywords, ModSeq, Uid, UidSet};
use crate::imap::config::{FETCH_OCTETS_MAX, FETCH_ROWS_MAX, FETCH_ROWS_OF_SECTIONS_MAX};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session, Updates};
use crate::imap::sets::{self, Left};
use crate::imap::state::Phase;
use crate::wire::imap::{FetchAttribute, FetchCommand, emit};
use std::collections::VecDeque;
use std::sync::Arc;

/// Changes of one FETCH that are remembered, so that they are not told twice; beyond it they are.
const TOLD_MAX: usize = 100_000;

/// A FETCH on its way.
struct Run {
    tag: String,
    words: &'static str,
    uid: bool,
    attributes: Arc<Vec<FetchAttribute>>,
    items: Arc<FetchItems>,
    /// `\Seen` is to be set.
    sets_seen: bool,
    changed_since: Option<ModSeq>,
    /// UIDs that have not been asked for.
    left: Left,
    /// Rows that have come and are not written, each with whether its flags changed by this command.
    rows: VecDeque<(Row, bool)>,
    keywords: Keywords,
    /// Messages that must have come by the end, if none was expunged meanwhile.
    wanted: u64,
    sent: u64,
    unknown_encoding: bool,
    told: Vec<(Uid, ModSeq)>,
}

pub(super) fn run(session: &mut Session, tag: String, mut fetch: FetchCommand) {
    let updates = if fetch.uid { Updates::All } else { Updates::NoExpunge };
    if fetch.vanished && !session.enabled.qresync {
        // RFC 7162 §3.2.6
        return session.finish(Ending::new(tag, "BAD VANISHED needs ENABLE QRESYNC").updates(updates));
    }
    // RFC 7162 §3.1
    session.enabled.condstore |= fetch.changed_since.is_some() || fetch.attributes.contains(&FetchAttribute::ModSeq);
    if session.enabled.condstore && fetch.attributes.contains(&FetchAttribute::Flags) {
        // RFC 7162 §3.1: from then on MODSEQ goes with the flags.
        let told = fetch.attributes.contains(&FetchAttribute::ModSeq);
        fetch.attributes.extend((!told).then_some(FetchAttribute::ModSeq));
    }
    let Some(mailbox) = session.mailbox() else {
        return session.finish(Ending::new(tag, respond::server_bug()));
    };
    let Ok(mut left) = sets::resolve(mailbox, &fetch.messages, fetch.uid) else {
        return session.finish(Ending::new(tag, no_such_message()).updates(updates));
    };
    match (fetch.partial, fetch.changed_since) {
        (None, _) => {}
        (Some(range), None) => left = sets::part_of(&left, range),
        // Of those that changed: which these are the store knows.
        (Some(range), Some(since)) => return run_part(session, tag, fetch, (left, range, since)),
    }
    run_on(session, tag, fetch, &left);
}

/// The part that PARTIAL names of those that CHANGEDSINCE names.
fn run_part(
    session: &mut Session,
    tag: String,
    fetch: FetchCommand,
    (among, range, since): (UidSet, (i64, i64), ModSeq),
) {
    let Some(mailbox) = session.mailbox() else {
        return session.finish(Ending::new(tag, respond::server_bug()));
    };
    let key = SearchKey::ModSeq(since.saturating_add(1));
    let query = Query::Search { mailbox: mailbox.id, key, form: SearchForm::Set, among };
    session.query(query, move |s, reply| match reply {
        Ok(Reply::Found { found: Found::Set(uids), .. }) => run_on(s, tag, fetch, &sets::part_of(&uids, range)),
        Ok(_) => s.finish(Ending::new(tag, respond::server_bug())),
        Err(error) => s.finish(Ending::new(tag, respond::store_error(&error, Missing::Nonexistent))),
    });
}

fn run_on(session: &mut Session, tag: String, fetch: FetchCommand, left: &UidSet) {
    let Some(mailbox) = session.mailbox() else {
        return session.finish(Ending::new(tag, respond::server_bug()));
    };
    let said = sets::uids_said(mailbox, &fetch.messages);
    let run = Box::new(Run {
        tag,
        words: "OK FETCH completed",
        uid: fetch.uid,
        attributes: Arc::new(fetch.attributes),
        items: Arc::new(fetch.items),
        sets_seen: fetch.sets_seen && !mailbox.read_only,
        changed_since: fetch.changed_since,
        wanted: left.len(),
        left: Left::new(left),
        rows: VecDeque::new(),
        keywords: mailbox.keywords.clone(),
        sent: 0,
        unknown_encoding: false,
        told: Vec::new(),
    });
    match fetch.changed_since.filter(|_| fetch.vanished) {
        None => next_slice(session, run),
        Some(since) => say_vanished(session, since, said, move |s, reply| match reply {
            Ok(()) => next_slice(s, run),
            Err(error) => fail(s, *run, &error),
        }),
    }
}

/// Flags of messages that changed, for SELECT with QRESYNC.
pub(super) fn run_changes(session: &mut Session, tag: String, words: &'static str, uids: UidSet, since: ModSeq) {
    let keywords = session.mailbox().map(|m| m.keywords.clone()).unwrap_or_default();
    let run = Run {
        tag,
        words,
        uid: true,
        attributes: Arc::new(vec![FetchAttribute::Uid, FetchAttribute::Flags, FetchAttribute::ModSeq]),
        items: Arc::new(FetchItems::default()),
        sets_seen: false,
        changed_since: Some(since),
        wanted: 0,
        left: Left::new(&uids),
        rows: VecDeque::new(),
        keywords,
        sent: 0,
        unknown_encoding: false,
        told: Vec::new(),
    };
    next_slice(session, Box::new(run));
}

/// `* VANISHED (EARLIER) set`: those of `among` that were expunged since.
pub(super) fn say_vanished(
    session: &mut Session,
    since: ModSeq,
    among: UidSet,
    then: impl FnOnce(&mut Session, Result<(), StoreError>) + Send + 'static,
) {
    let Some(mailbox) = session.mailbox() else { return then(session, Err(StoreError::Gone)) };
    let query = Query::Vanished { mailbox: mailbox.id, since, among };
    session.query(query, move |s, reply| {
        let vanished = match reply {
            Ok(Reply::Vanished(uids)) => uids,
            Ok(_) => return then(s, Err(StoreError::Failed)),
            Err(error) => return then(s, Err(error)),
        };
        // What the client still sees is told as an update, which moves its numbers.
        let vanished = s.mailbox().map_or_else(UidSet::new, |m| vanished.difference(&m.view.uids()));
        if !vanished.is_empty() {
            s.out.say("* VANISHED (EARLIER) ");
            emit::uid_set(&mut s.out.text, &vanished);
            s.out.line("");
        }
        then(s, Ok(()));
    });
}

fn next_slice(session: &mut Session, mut run: Box<Run>) {
    let Some(mailbox) = session.mailbox().filter(|_| !run.left.is_empty()) else { return end(session, *run) };
    let light = run.items.sections.is_empty() && run.items.structure.is_none() && !run.items.preview;
    let rows_max = if light { FETCH_ROWS_MAX } else { FETCH_ROWS_OF_SECTIONS_MAX };
    // Of CHANGEDSINCE nobody knows how many there will be; otherwise it is a row for each.
    let uids = run.left.take(if run.changed_since.is_some() { u64::MAX } else { rows_max as u64 });
    let query = Query::Fetch {
        mailbox: mailbox.id,
        uids: uids.clone(),
        items: run.items.clone(),
        changed_since: run.changed_since,
        rows_max,
        octets_max: FETCH_OCTETS_MAX,
    };
    session.query(query, move |s, reply| match reply {
        Ok(Reply::Fetched(fetched)) => {
            take_slice(&mut run, &uids, fetched);
            s.learn_keywords(run.keywords.clone());
            set_seen(s, run);
        }
        Ok(_) => fail(s, *run, &StoreError::Failed),
        Err(error) => fail(s, *run, &error),
    });
}

fn take_slice(run: &mut Run, asked: &UidSet, fetched: Fetched) {
    // Going on below where it stopped would never end.
    if let Some(next) = fetched.next.filter(|next| asked.first().is_some_and(|first| *next > first)) {
        run.left.give_back(asked, next);
    }
    run.keywords = fetched.keywords;
    run.rows = fetched.rows.into_iter().map(|row| (row, false)).collect();
}

/// RFC 9051 §6.4.5: BODY[...] and its like set `\Seen`; one change for the whole slice.
fn set_seen(session: &mut Session, mut run: Box<Run>) {
    let unseen: UidSet =
        run.rows.iter().filter(|(row, _)| !row.flags.contains(Flags::SEEN)).map(|(row, _)| row.uid).collect();
    let Some(mailbox) = session.mailbox().filter(|_| run.sets_seen && !unseen.is_empty()) else {
        return write_rows(session, run);
    };
    let flags = FlagNames::system(Flags::SEEN);
    let id = mailbox.id;
    let change = Change::Store { mailbox: id, uids: unseen, how: StoreHow::Add, flags, unchanged_since: None };
    session.change(change, move |s, reply| {
        // A message can be read where its flag cannot be set now.
        if let Ok(Reply::Stored { changed, .. }) = reply {
            for (row, told) in &mut run.rows {
                let at = changed.binary_search_by(|change| change.uid.cmp(&row.uid));
                if let Ok(change) = at.map(|at| changed[at]) {
                    (row.flags, row.mod_seq, *told) = (change.flags, change.mod_seq, true);
                }
            }
            let told = s.own_changes(&changed);
            let room = TOLD_MAX.saturating_sub(run.told.len());
            run.told.extend(told.into_iter().take(room));
        }
        write_rows(s, run);
    });
}

/// Writes the rows of the slice; stops at a literal that has to be read.
fn write_rows(session: &mut Session, mut run: Box<Run>) {
    while let Some((row, flags_changed)) = run.rows.pop_front() {
        let Some(seq) = session.mailbox().and_then(|m| m.view.seq_of(row.uid)) else { continue };
        run.sent += 1;
        session.counters.fetched += 1;
        session.out.say("* ");
        session.out.number(u64::from(seq));
        session.out.say(" FETCH (");
        let cursor = row::Cursor::new(row, flags_changed);
        if let Some((cursor, stored)) = row::write(session, &mut run, cursor) {
            return row::read_piece(session, run, cursor, stored, 0);
        }
    }
    session.phase = Phase::Drain(Box::new(move |s| next_slice(s, run)));
}

fn end(session: &mut Session, run: Run) {
    let missing = run.changed_since.is_none() && !run.uid && run.sent < run.wanted;
    let words = if run.unknown_encoding {
        respond::no("UNKNOWN-CTE", "a part has a transfer encoding that is unknown or broken") // RFC 3516 §4.3
    } else if missing {
        if let Some(mailbox) = session.mailbox_mut() {
            mailbox.noticed = true;
        }
        "OK [EXPUNGEISSUED] some of the messages have been expunged".into()
    } else {
        run.words.into()
    };
    let updates = if run.uid { Updates::All } else { Updates::NoExpunge };
    session.finish(Ending::new(run.tag, words).updates(updates).told(run.told));
}

fn fail(session: &mut Session, run: Run, error: &StoreError) {
    let updates = if run.uid { Updates::All } else { Updates::NoExpunge };
    let words = respond::store_error(error, Missing::Nonexistent);
    session.finish(Ending::new(run.tag, words).updates(updates).told(run.told));
}
