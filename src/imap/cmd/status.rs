//! STATUS (RFC 9051 §6.3.11) with SIZE (RFC 8438), HIGHESTMODSEQ (RFC 7162 §3.1.7), MAILBOXID (RFC 8474 §4.3), DELETED and
//! DELETED-STORAGE (RFC 9208 §4.2), APPENDLIMIT (RFC 7889 §2). How it fails: NO with the store's code, BAD for
//! RECENT where IMAP4rev2 is enabled.

use crate::base::mailbox::ask::{Query, Reply, Status};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::wire::imap::{StatusItem, emit};

pub(super) fn run(session: &mut Session, tag: String, name: String, items: Vec<StatusItem>) {
    if let Some(words) = refusal(session, &items) {
        return session.finish(Ending::new(tag, words));
    }
    note(session, &items);
    session.query(Query::Status { names: vec![name.clone()] }, move |s, reply| {
        let words = match reply {
            Ok(Reply::Statuses(mut statuses)) => match statuses.pop() {
                Some(Ok(status)) => {
                    say(s, &name, &status, &items);
                    "OK STATUS completed".into()
                }
                Some(Err(error)) => respond::store_error(&error, Missing::Nonexistent),
                None => respond::server_bug(),
            },
            Ok(_) => respond::server_bug(),
            Err(error) => respond::store_error(&error, Missing::Nonexistent),
        };
        s.finish(Ending::new(tag, words));
    });
}

/// RFC 9051 appendix E: IMAP4rev2 has no RECENT.
pub(super) fn refusal(session: &Session, items: &[StatusItem]) -> Option<&'static str> {
    (session.enabled.rev2 && items.contains(&StatusItem::Recent)).then_some("BAD RECENT is not in IMAP4rev2")
}

/// Asking for HIGHESTMODSEQ enables CONDSTORE (RFC 7162 §3.1).
pub(super) fn note(session: &mut Session, items: &[StatusItem]) {
    session.enabled.condstore |= items.contains(&StatusItem::HighestModSeq);
}

/// `* STATUS name (...)`
pub(super) fn say(session: &mut Session, name: &str, status: &Status, items: &[StatusItem]) {
    let (mode, append_octets_max) = (session.mode(), session.settings.knobs.append_octets_max.0);
    session.out.say("* STATUS ");
    emit::mailbox(&mut session.out.text, name, mode);
    session.out.say(" (");
    for (i, item) in items.iter().enumerate() {
        let (word, value) = match item {
            StatusItem::Messages => ("MESSAGES ", status.messages),
            StatusItem::Recent => ("RECENT ", status.recent),
            StatusItem::UidNext => ("UIDNEXT ", u64::from(status.uid_next)),
            StatusItem::UidValidity => ("UIDVALIDITY ", u64::from(status.uid_validity)),
            StatusItem::Unseen => ("UNSEEN ", status.unseen),
            StatusItem::Deleted => ("DELETED ", status.deleted),
            StatusItem::DeletedStorage => ("DELETED-STORAGE ", status.deleted_octets),
            StatusItem::Size => ("SIZE ", status.octets),
            StatusItem::HighestModSeq => ("HIGHESTMODSEQ ", status.mod_seq),
            StatusItem::MailboxId => ("MAILBOXID (", u64::from(status.mailbox.0)),
            StatusItem::AppendLimit => ("APPENDLIMIT ", append_octets_max),
        };
        if i > 0 {
            session.out.say(" ");
        }
        session.out.say(word);
        if *item == StatusItem::MailboxId {
            emit::mailbox_id(&mut session.out.text, status.mailbox);
            session.out.say(")");
        } else {
            session.out.number(value);
        }
    }
    session.out.line(")");
}
