//! How the result of SEARCH and SORT is told: as one list of numbers, or by ESEARCH with what RETURN asked for.
//!
//! How it fails: it does not.

use super::{Asked, save};
use crate::base::mailbox::ask::{Query, Reply};
use crate::base::mailbox::{ModSeq, Uid, UidSet};
use crate::imap::respond;
use crate::imap::session::Session;
use crate::imap::sets;
use crate::wire::imap::{SearchReturn, emit};
use std::sync::Arc;

/// What was found and is seen, as UIDs.
pub(super) enum Hits {
    /// Ascending.
    Set(UidSet),
    /// In this order.
    Sorted(Vec<Uid>),
}

impl Hits {
    fn len(&self) -> u64 {
        match self {
            Hits::Set(uids) => uids.len(),
            Hits::Sorted(uids) => uids.len() as u64,
        }
    }
    fn first(&self) -> Option<Uid> {
        match self {
            Hits::Set(uids) => uids.first(),
            Hits::Sorted(uids) => uids.first().copied(),
        }
    }
    fn last(&self) -> Option<Uid> {
        match self {
            Hits::Set(uids) => uids.last(),
            Hits::Sorted(uids) => uids.last().copied(),
        }
    }
    /// Those from place `first` to place `last`, counted from 1.
    fn slice(&self, first: u64, last: u64) -> Hits {
        let skip = usize::try_from(first.saturating_sub(1)).unwrap_or(usize::MAX);
        let take = usize::try_from((last + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        match self {
            Hits::Set(uids) => Hits::Set(uids.iter().skip(skip).take(take).collect()),
            Hits::Sorted(uids) => Hits::Sorted(uids.iter().skip(skip).take(take).copied().collect()),
        }
    }
    fn to_set(&self) -> UidSet {
        match self {
            Hits::Set(uids) => uids.clone(),
            Hits::Sorted(uids) => uids.iter().copied().collect(),
        }
    }
}

pub(super) fn tell(session: &mut Session, asked: Asked, hits: Hits, mod_seq: Option<ModSeq>) {
    match asked.returns.clone() {
        Some(r) if mod_seq.is_some() && (r.min || r.max) && !(r.all || r.count || r.partial.is_some()) => {
            ask_mod_seq(session, asked, r, hits);
        }
        Some(returns) => tell_extended(session, asked, &returns, &hits, mod_seq),
        None => tell_list(session, asked, hits, mod_seq),
    }
}

/// RFC 4731 §3.2: where only ends are told, MODSEQ is theirs.
fn ask_mod_seq(session: &mut Session, asked: Asked, returns: SearchReturn, hits: Hits) {
    let ends = [hits.first().filter(|_| returns.min), hits.last().filter(|_| returns.max)];
    let uids: UidSet = ends.into_iter().flatten().collect();
    let Some(mailbox) = session.mailbox().filter(|_| !uids.is_empty()) else {
        return tell_extended(session, asked, &returns, &hits, None);
    };
    let query = Query::Fetch {
        mailbox: mailbox.id,
        uids,
        items: Arc::default(),
        changed_since: None,
        rows_max: 2,
        octets_max: 0,
    };
    session.query(query, move |s, reply| {
        let mod_seq = match reply {
            Ok(Reply::Fetched(fetched)) => fetched.rows.iter().map(|row| row.mod_seq).max(),
            _ => None,
        };
        tell_extended(s, asked, &returns, &hits, mod_seq);
    });
}

fn number(session: &Session, uid: bool, message: Uid) -> u32 {
    if uid { message } else { session.mailbox().and_then(|m| m.view.seq_of(message)).unwrap_or(0) }
}

fn name(asked: &Asked) -> &'static str {
    if asked.sorted { "SORT" } else { "SEARCH" }
}

/// `* SEARCH 2 84 882` (RFC 3501 §7.2.5), `* SORT …` (RFC 5256 §4): as many as there are, written as they are taken.
fn tell_list(session: &mut Session, asked: Asked, hits: Hits, mod_seq: Option<ModSeq>) {
    session.out.say("* ");
    session.out.say(name(&asked));
    let uid = asked.uid;
    let some = hits.len() > 0;
    let write = move |s: &mut Session, message: Uid| {
        let n = number(s, uid, message);
        s.out.say(" ");
        s.out.number(u64::from(n));
    };
    let then = move |s: &mut Session| {
        match mod_seq.filter(|_| some) {
            Some(mod_seq) => s.out.line(&format!(" (MODSEQ {mod_seq})")), // RFC 7162 §3.1.5
            None => s.out.line(""),
        }
        let ending = asked.ending(format!("OK {} completed", name(&asked)));
        s.finish(ending);
    };
    match hits {
        Hits::Sorted(uids) => session.each(uids.into_iter(), write, then),
        Hits::Set(uids) => {
            let ranges = uids.ranges().to_vec();
            session.each(ranges.into_iter().flat_map(|(first, last)| first..=last), write, then);
        }
    }
}

/// `* ESEARCH (TAG "a") UID MIN 2 …` (RFC 9051 §7.3.4)
fn tell_extended(session: &mut Session, asked: Asked, returns: &SearchReturn, hits: &Hits, mod_seq: Option<ModSeq>) {
    let SearchReturn { min, max, all, count, .. } = *returns;
    if min || max || all || count || returns.partial.is_some() {
        session.out.say("* ESEARCH (TAG ");
        emit::string(&mut session.out.text, asked.tag.as_bytes(), false);
        session.out.say(if asked.uid { ") UID" } else { ")" });
        let ends = [("MIN", hits.first().filter(|_| min)), ("MAX", hits.last().filter(|_| max))];
        for (word, message) in ends.into_iter().filter_map(|(word, end)| Some((word, end?))) {
            let n = number(session, asked.uid, message);
            session.out.say(&format!(" {word} {n}"));
        }
        if count {
            session.out.say(&format!(" COUNT {}", hits.len()));
        }
        if all && hits.len() > 0 {
            session.out.say(" ALL ");
            write_hits(session, asked.uid, hits);
        }
        if let Some((first, last)) = returns.partial {
            write_partial(session, asked.uid, hits, first, last);
        }
        if let Some(mod_seq) = mod_seq.filter(|_| hits.len() > 0) {
            session.out.say(&format!(" MODSEQ {mod_seq}"));
        }
        session.out.line("");
    }
    let saved = !returns.save || save(session, to_save(returns, hits));
    let words = match saved {
        true => format!("OK {} completed", name(&asked)),
        false => respond::no("NOTSAVED", "the result has too many pieces to be saved"),
    };
    let ending = asked.ending(words);
    session.finish(ending);
}

/// What `$` becomes: everything, unless only ends or a part were asked for (RFC 5182 §2.4, RFC 9394 §3.2).
fn to_save(returns: &SearchReturn, hits: &Hits) -> UidSet {
    let SearchReturn { min, max, all, count, partial, .. } = *returns;
    if all || count || !(min || max || partial.is_some()) {
        return hits.to_set();
    }
    let mut uids = match partial.and_then(|(first, last)| sets::places(first, last, hits.len())) {
        Some((first, last)) => hits.slice(first, last).to_set(),
        None => UidSet::new(),
    };
    let ends = [hits.first().filter(|_| min), hits.last().filter(|_| max)];
    ends.into_iter().flatten().for_each(|uid| uids.insert(uid));
    uids
}

/// `PARTIAL (1:100 set)`; NIL where the range holds nothing (RFC 9394 §3.1).
fn write_partial(session: &mut Session, uid: bool, hits: &Hits, first: i64, last: i64) {
    session.out.say(&format!(" PARTIAL ({first}:{last} "));
    match sets::places(first, last, hits.len()) {
        Some((first, last)) => write_hits(session, uid, &hits.slice(first, last)),
        None => session.out.say("NIL"),
    }
    session.out.say(")");
}

fn write_hits(session: &mut Session, uid: bool, hits: &Hits) {
    match hits {
        Hits::Set(uids) if uid => emit::uid_set(&mut session.out.text, uids),
        Hits::Set(uids) => {
            let seqs = session.mailbox().map(|m| sets::sequence_numbers(&m.view, uids)).unwrap_or_default();
            emit::uid_set(&mut session.out.text, &seqs);
        }
        // RFC 5267 §3.1: in the order of SORT, so nothing can be joined.
        Hits::Sorted(uids) => {
            for (i, message) in uids.iter().enumerate() {
                if i > 0 {
                    session.out.say(",");
                }
                let n = number(session, uid, *message);
                session.out.number(u64::from(n));
            }
        }
    }
}
