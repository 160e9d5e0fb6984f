//! STORE and UID STORE (RFC 9051 §6.4.6) with UNCHANGEDSINCE (RFC 7162 §3.1.3). How it fails: NO in a mailbox that is
//! open for reading, [MODIFIED] for messages that changed meanwhile, NO with the store's code.

use super::no_such_message;
use crate::base::mailbox::ask::{Change, FlagChange, Reply, StoreHow};
use crate::base::mailbox::{FlagNames, ModSeq, UidSet};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session, Updates};
use crate::imap::sets;
use crate::wire::imap::SequenceSet;
use crate::wire::imap::emit::FetchWriter;

/// What the client wants.
pub(super) struct Wanted {
    pub messages: SequenceSet,
    pub uid: bool,
    pub how: StoreHow,
    pub silent: bool,
    pub flags: FlagNames,
    pub unchanged_since: Option<ModSeq>,
}

pub(super) fn run(session: &mut Session, tag: String, wanted: Wanted) {
    let Wanted { messages, uid, how, silent, flags, unchanged_since } = wanted;
    let updates = if uid { Updates::All } else { Updates::NoExpunge };
    session.enabled.condstore |= unchanged_since.is_some(); // RFC 7162 §3.1
    let Some(mailbox) = session.mailbox() else {
        return session.finish(Ending::new(tag, respond::server_bug()));
    };
    if mailbox.read_only {
        let words = respond::no("READ-ONLY", "the mailbox is open for reading");
        return session.finish(Ending::new(tag, words).updates(updates));
    }
    let Ok(uids) = sets::resolve(mailbox, &messages, uid) else {
        return session.finish(Ending::new(tag, no_such_message()).updates(updates));
    };
    if uids.is_empty() {
        return session.finish(Ending::new(tag, "OK STORE completed").updates(updates));
    }
    let change = Change::Store { mailbox: mailbox.id, uids, how, flags, unchanged_since };
    session.change(change, move |s, reply| match reply {
        Ok(Reply::Stored { changed, modified, keywords }) => {
            s.learn_keywords(keywords);
            let told = s.own_changes(&changed);
            let with_uid = uid || s.enabled.qresync;
            let write = move |s: &mut Session, change: FlagChange| {
                if silent { say_mod_seq(s, &change, with_uid) } else { s.say_flags(&change, with_uid) }
            };
            s.each(changed.into_iter(), write, move |s| {
                let words = done(s, uid, &modified);
                s.finish(Ending::new(tag, words).updates(updates).told(told));
            });
        }
        Ok(_) => s.finish(Ending::new(tag, respond::server_bug()).updates(updates)),
        Err(error) => {
            let words = respond::store_error(&error, Missing::Nonexistent);
            s.finish(Ending::new(tag, words).updates(updates));
        }
    });
}

/// `.SILENT` keeps the flags back, not the MODSEQ (RFC 7162 §3.1.3).
fn say_mod_seq(session: &mut Session, change: &FlagChange, with_uid: bool) {
    if !session.enabled.condstore {
        return;
    }
    let Some(seq) = session.mailbox().and_then(|m| m.view.seq_of(change.uid)) else { return };
    let mut row = FetchWriter::new(&mut session.out.text, seq);
    if with_uid {
        row.uid(change.uid);
    }
    row.mod_seq(change.mod_seq);
    row.end();
}

fn done(session: &Session, uid: bool, modified: &UidSet) -> String {
    let Some(mailbox) = session.mailbox().filter(|_| !modified.is_empty()) else {
        return "OK STORE completed".into();
    };
    // RFC 7162 §3.1.3: in the numbers that the command used.
    let numbers = if uid { modified.clone() } else { sets::sequence_numbers(&mailbox.view, modified) };
    if numbers.is_empty() {
        return "OK STORE completed".into();
    }
    format!("OK [MODIFIED {numbers}] some had changed meanwhile")
}
