//! SELECT and EXAMINE (RFC 9051 §6.3.2, §6.3.3) with CONDSTORE and QRESYNC (RFC 7162 §3.1.8, §3.2.5), MAILBOXID (RFC 8474
//! §4.2). How it fails: NO with the store's code, and no mailbox is selected then.

use super::fetch;
use crate::base::mailbox::ask::{Query, Reply, Selected};
use crate::base::mailbox::{AccountId, UidSet, View};
use crate::imap::ask::Ask;
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::imap::sets;
use crate::imap::state::{Mailbox, State};
use crate::wire::imap::{Qresync, emit};

/// What the client wants.
pub(super) struct Wanted {
    pub name: String,
    pub read_only: bool,
    pub condstore: bool,
    pub qresync: Option<Qresync>,
}

pub(super) fn run(session: &mut Session, tag: String, wanted: Wanted) {
    if wanted.qresync.is_some() && !session.enabled.qresync {
        // RFC 7162 §3.2.5
        return session.finish(Ending::new(tag, "BAD QRESYNC has to be enabled first"));
    }
    session.enabled.condstore |= wanted.condstore;
    // RFC 9051 §6.3.2: the former mailbox is closed whether this succeeds or not.
    if session.deselect() {
        session.out.line("* OK [CLOSED] the former mailbox is closed");
    }
    let query = Query::Select { name: wanted.name, read_only: wanted.read_only };
    let (read_only, qresync) = (wanted.read_only, wanted.qresync);
    session.query(query, move |s, reply| match (reply, s.account()) {
        (Ok(Reply::Selected(selected)), Some(account)) => open(s, account, tag, *selected, read_only, qresync),
        (Ok(_), _) => s.finish(Ending::new(tag, respond::server_bug())),
        (Err(error), _) => s.finish(Ending::new(tag, respond::store_error(&error, Missing::Nonexistent))),
    });
}

fn open(
    session: &mut Session,
    account: AccountId,
    tag: String,
    selected: Selected,
    read_only: bool,
    qresync: Option<Qresync>,
) {
    let status = selected.status;
    let view = View::new(&selected.uids);
    let before_recent = UidSet::range(0, selected.recent_from.saturating_sub(1));
    let unseen = selected.first_unseen.and_then(|uid| view.seq_of(uid));
    let mailbox = Mailbox {
        id: status.mailbox,
        name: selected.name.clone(),
        read_only,
        view,
        withheld: UidSet::new(),
        recent: selected.uids.difference(&before_recent),
        keywords: selected.keywords,
        more_keywords: selected.more_keywords,
        mod_seq: status.mod_seq,
        uid_next: status.uid_next,
        // What happened before the watch below began nobody has told.
        noticed: true,
        gone: false,
        saved: UidSet::new(),
    };
    let (exists, recent) = (u64::from(mailbox.view.exists()), mailbox.recent_count());
    session.state = State::Selected(account, Box::new(mailbox));
    session.instruct(Ask::Watch(Some(status.mailbox)));
    session.say_keywords();
    session.say_number(exists, "EXISTS");
    if !session.enabled.rev2 {
        session.say_number(recent, "RECENT"); // RFC 9051 App. E: gone in rev2, and UNSEEN with it
        if let Some(seq) = unseen {
            session.out.line(&format!("* OK [UNSEEN {seq}] first unseen"));
        }
    }
    session.out.line(&format!("* OK [UIDVALIDITY {}] UIDs valid", status.uid_validity));
    session.out.line(&format!("* OK [UIDNEXT {}] predicted next UID", status.uid_next));
    // RFC 7162 §3.1.2.1: never 0, and never NOMODSEQ here.
    session.out.line(&format!("* OK [HIGHESTMODSEQ {}] highest", status.mod_seq.max(1)));
    session.out.say("* OK [MAILBOXID (");
    emit::mailbox_id(&mut session.out.text, status.mailbox);
    session.out.line(")] stays the same when it is renamed");
    if session.enabled.rev2 {
        // RFC 9051 §6.3.2
        session.out.say("* LIST () \"/\" ");
        let mode = session.mode();
        emit::mailbox(&mut session.out.text, &selected.name, mode);
        session.out.line("");
    }
    let words = if read_only { "OK [READ-ONLY] EXAMINE completed" } else { "OK [READ-WRITE] SELECT completed" };
    match qresync.filter(|q| q.uid_validity == status.uid_validity) {
        Some(qresync) => resynchronize(session, tag, words, &qresync),
        None => session.finish(Ending::new(tag, words)),
    }
}

/// What has happened since the client was here last (RFC 7162 §3.2.5.1): VANISHED (EARLIER), then FETCH.
fn resynchronize(session: &mut Session, tag: String, words: &'static str, qresync: &Qresync) {
    let Some(mailbox) = session.mailbox() else { return session.finish(Ending::new(tag, respond::server_bug())) };
    let known = match &qresync.known {
        Some(set) => sets::uids_said(mailbox, set),
        None => UidSet::range(1, mailbox.uid_next.saturating_sub(1)),
    };
    let changed = known.intersection(&mailbox.view.uids());
    let since = qresync.mod_seq;
    fetch::say_vanished(session, since, known, move |s, reply| match reply {
        Ok(()) => fetch::run_changes(s, tag, words, changed, since),
        Err(error) => {
            s.deselect();
            s.finish(Ending::new(tag, respond::store_error(&error, Missing::Nonexistent)));
        }
    });
}
