//! SEARCH, SORT and THREAD with their UID forms (RFC 9051 §6.4.4, RFC 5256), ESEARCH and ESORT (RFC 4731, RFC 5267), `$`
//! (RFC 5182), PARTIAL (RFC 9394), MODSEQ (RFC 7162 §3.1.5).
//!
//! How it fails: NO with the store's code; NO [NOTSAVED] for a result in too many pieces to be kept.

mod answer;
mod thread;

use crate::base::mailbox::ask::{Query, Reply};
use crate::base::mailbox::search::{Found, SearchForm, SearchKey};
use crate::base::mailbox::{ModSeq, Uid, UidSet};
use crate::imap::config::SAVED_RANGES_MAX;
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session, Updates};
use crate::imap::sets;
use crate::imap::state::Mailbox;
use crate::wire::imap::{SearchCommand, SearchReturn};

/// What the answer needs of the command.
struct Asked {
    tag: String,
    uid: bool,
    sorted: bool,
    returns: Option<SearchReturn>,
}

impl Asked {
    /// RFC 9051 §7.5.1, RFC 5256 §3: no EXPUNGE where sequence numbers are told.
    fn ending(&self, words: impl Into<String>) -> Ending {
        let updates = if self.uid { Updates::All } else { Updates::NoExpunge };
        Ending::new(self.tag.clone(), words).updates(updates)
    }
}

pub(super) fn run(session: &mut Session, tag: String, search: SearchCommand) {
    let mut returns = search.returns;
    if let Some(r) = returns.as_mut() {
        // RFC 4731 §3.1: RETURN () is RETURN (ALL).
        r.all |= !(r.min || r.max || r.count || r.save || r.partial.is_some());
    } else if session.enabled.rev2 && search.sort.is_none() && search.thread.is_none() {
        // RFC 9051 §6.4.4: rev2 knows no untagged SEARCH.
        returns = Some(SearchReturn { all: true, ..SearchReturn::default() });
    }
    session.enabled.condstore |= search.mod_seq; // RFC 7162 §3.1
    let asked = Asked { tag, uid: search.uid, sorted: search.sort.is_some(), returns };
    let Some(mailbox) = session.mailbox() else {
        return session.finish(asked.ending(respond::server_bug()));
    };
    let named: Vec<UidSet> =
        search.sets.iter().map(|(set, uid)| sets::resolve_for_search(mailbox, set, *uid)).collect();
    let key = with_sets(mailbox, search.key, &named);
    let form = match (search.sort, search.thread) {
        (Some(keys), _) => SearchForm::Sorted(keys),
        (None, Some(by)) => SearchForm::Threaded(by),
        (None, None) => SearchForm::Set,
    };
    let query = Query::Search { mailbox: mailbox.id, key, form, among: mailbox.view.uids() };
    let wants_mod_seq = search.mod_seq;
    session.query(query, move |s, reply| match reply {
        Ok(Reply::Found { found, mod_seq }) => answer(s, asked, found, mod_seq.filter(|_| wants_mod_seq)),
        other => {
            if let Some(mailbox) = s.mailbox_mut()
                && asked.returns.as_ref().is_some_and(|r| r.save)
            {
                mailbox.saved = UidSet::new(); // RFC 5182 §2.1: after a NO nothing is saved
            }
            let words = match other {
                Err(error) => respond::store_error(&error, Missing::Nonexistent),
                Ok(_) => respond::server_bug(),
            };
            s.finish(asked.ending(words));
        }
    });
}

/// Puts UIDs in for the sets that the key mentions. As deep as the key, which the grammar limits.
fn with_sets(mailbox: &Mailbox, key: SearchKey, named: &[UidSet]) -> SearchKey {
    match key {
        SearchKey::And(keys) => SearchKey::And(keys.into_iter().map(|k| with_sets(mailbox, k, named)).collect()),
        SearchKey::Or(a, b) => {
            SearchKey::Or(Box::new(with_sets(mailbox, *a, named)), Box::new(with_sets(mailbox, *b, named)))
        }
        SearchKey::Not(key) => SearchKey::Not(Box::new(with_sets(mailbox, *key, named))),
        SearchKey::Uids(place) => {
            let index = place.first().and_then(|n| usize::try_from(n).ok()?.checked_sub(1));
            SearchKey::Uids(index.and_then(|i| named.get(i)).cloned().unwrap_or_default())
        }
        // Which messages are recent only this session knows, and they need not be in a row.
        SearchKey::RecentFrom(_) => SearchKey::Uids(mailbox.recent.clone()),
        other => other,
    }
}

fn answer(session: &mut Session, asked: Asked, found: Found, mod_seq: Option<ModSeq>) {
    match found {
        Found::Threads(members) => {
            let text = session.mailbox().map(|m| thread::text(&m.view, asked.uid, &members)).unwrap_or_default();
            session.out.say("* THREAD");
            session.out.line(&text);
            let ending = asked.ending("OK THREAD completed");
            session.finish(ending);
        }
        Found::Set(uids) => {
            let visible = session.mailbox().map(|m| uids.intersection(&m.view.uids())).unwrap_or_default();
            answer::tell(session, asked, answer::Hits::Set(visible), mod_seq);
        }
        Found::Sorted(uids) => {
            let visible: Vec<Uid> = match session.mailbox() {
                Some(m) => uids.into_iter().filter(|uid| m.view.seq_of(*uid).is_some()).collect(),
                None => Vec::new(),
            };
            answer::tell(session, asked, answer::Hits::Sorted(visible), mod_seq);
        }
    }
}

/// Keeps a result for `$`; false when it has too many pieces (RFC 5182 §2.1).
fn save(session: &mut Session, uids: UidSet) -> bool {
    let Some(mailbox) = session.mailbox_mut() else { return false };
    let fits = uids.ranges().len() <= SAVED_RANGES_MAX;
    mailbox.saved = if fits { uids } else { UidSet::new() };
    fits
}
