//! QUIT (RFC 1939 §4, §6): out of AUTHORIZATION the end; out of TRANSACTION the UPDATE state, where the marked messages are
//! deleted, all or none. How it fails: `-ERR` with the reason, every message still there; the connection ends in either case.

use super::super::ask::{Answer, Ask};
use super::super::session::Session;
use super::super::settings::MaildropLock;
use super::super::state::Pending;
use crate::base::mailbox::ask::{Change, Reply, StoreError};
use crate::base::time::Instant;
use crate::wire::pop3::replies::{self, Response};

pub(super) fn run(session: &mut Session, _now: Instant, _argument: &str) {
    // RFC 2449 §6.7: with EXPIRE 0 what was retrieved does not stay.
    let expires = session.settings.knobs.expire_days == Some(0);
    let Some(maildrop) = session.maildrop() else {
        return session.dismiss(&replies::bye());
    };
    let (account, mailbox, doomed) = (maildrop.account, maildrop.mailbox, maildrop.doomed(expires));
    if doomed.is_empty() {
        return leave(session, &replies::bye());
    }
    let change = Change::Expunge { mailbox, uids: Some(doomed), deleted_only: false };
    session.ask_change(account, change, Pending::Update);
}

pub(in crate::pop3) fn proceed(session: &mut Session, answer: Answer) {
    let response = match answer {
        Answer::Store(Ok(Reply::Expunged { uids, .. })) => {
            session.counters.deleted += uids.len();
            replies::bye_deleted(uids.len())
        }
        Answer::Store(Err(error)) => replies::nothing_deleted(&error),
        other => {
            debug_assert!(false, "the answer does not fit the ask: {other:?}");
            replies::nothing_deleted(&StoreError::Failed)
        }
    };
    leave(session, &response);
}

/// Says the last word. The lock goes first: the client may come back as soon as it has heard it.
fn leave(session: &mut Session, response: &Response) {
    if session.settings.knobs.lock == MaildropLock::Exclusive {
        session.instruct(Ask::Unlock);
    }
    session.dismiss(response);
}
