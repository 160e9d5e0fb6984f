//! From a user who has proved who it is to the TRANSACTION state: may it log in, which account is it, the maildrop lock,
//! INBOX, and the sizes of its messages slice by slice.
//!
//! How it fails: `-ERR` with the response code of the reason, the lock given up, the session back in AUTHORIZATION
//! (RFC 1939 §4).

use super::ask::{Answer, Ask};
use super::maildrop::Maildrop;
use super::session::Session;
use super::settings::MaildropLock;
use super::state::Pending;
use crate::base::mailbox::ask::{FetchItems, Fetched, Query, Reply, Selected, StoreAsk, StoreError};
use crate::base::mailbox::{AccountId, Uid, UidSet};
use crate::base::time::Instant;
use crate::wire::pop3::replies::{self, Response};
use std::sync::Arc;

/// Messages whose sizes one answer tells.
const ROWS_MAX: usize = 4096;
/// The maildrop (RFC 1939 §1) is this mailbox.
const MAILDROP: &str = "INBOX";

/// A login under way.
#[derive(Debug)]
pub(super) struct Opening {
    user: String,
    step: Step,
}

#[derive(Debug)]
enum Step {
    /// `Authenticated`
    MayLogIn,
    /// `Account`
    Account,
    /// `Lock`
    Lock(AccountId),
    /// `Select`
    Select(AccountId),
    /// `Fetch`, and which are to come.
    Sizes(Box<Maildrop>, UidSet),
}

/// The client is this user.
pub(super) fn begin(session: &mut Session, user: String) {
    let ask = Ask::Authenticated { user: user.clone() };
    session.ask(ask, Pending::Opening(Box::new(Opening { user, step: Step::MayLogIn })));
}

pub(super) fn proceed(session: &mut Session, now: Instant, opening: Opening, answer: Answer) {
    let Opening { user, step } = opening;
    match (step, answer) {
        (Step::MayLogIn, Answer::Go) => {
            let ask = Ask::Store(StoreAsk::Account { name: user.clone() });
            session.ask(ask, pending(user, Step::Account));
        }
        (Step::Account, Answer::Store(Ok(Reply::Account(account)))) => match session.settings.knobs.lock {
            MaildropLock::Exclusive => session.ask(Ask::Lock(account), pending(user, Step::Lock(account))),
            MaildropLock::Shared => select(session, user, account),
        },
        (Step::Lock(account), Answer::Locked(true)) => select(session, user, account),
        (Step::Lock(_), Answer::Locked(false)) => session.respond(now, &replies::in_use()),
        (Step::Select(account), Answer::Store(Ok(Reply::Selected(selected)))) => {
            let maildrop = Box::new(Maildrop::new(account, &selected));
            let uids = oldest(&selected, session.settings.knobs.maildrop_messages_max);
            go_on(session, now, user, maildrop, uids);
        }
        (Step::Sizes(maildrop, uids), Answer::Store(Ok(Reply::Fetched(fetched)))) => {
            take_sizes(session, now, user, maildrop, uids, &fetched);
        }
        (Step::MayLogIn, Answer::Refuse(why)) => session.respond(now, &replies::login_refused(why)),
        (step, Answer::Store(Err(error))) => fail(session, now, &step, &replies::store_failed(&error)),
        (step, other) => {
            unlock(session, &step);
            session.misfit(now, &other);
        }
    }
}

fn pending(user: String, step: Step) -> Pending {
    Pending::Opening(Box::new(Opening { user, step }))
}

fn select(session: &mut Session, user: String, account: AccountId) {
    // Read-only: POP3 takes `\Recent` away from nobody.
    let query = Query::Select { name: MAILDROP.to_owned(), read_only: true };
    session.ask_query(account, query, pending(user, Step::Select(account)));
}

/// The first messages, up to the limit.
fn oldest(selected: &Selected, messages_max: u32) -> UidSet {
    let mut left = messages_max;
    let mut uids = UidSet::new();
    for &(first, last) in selected.uids.ranges() {
        if left == 0 {
            break;
        }
        let taken = left.min((last - first).saturating_add(1));
        uids.insert_range(first, first + (taken - 1));
        left -= taken;
    }
    uids
}

/// Asks for the next sizes, or begins the transaction.
fn go_on(session: &mut Session, now: Instant, user: String, maildrop: Box<Maildrop>, uids: UidSet) {
    if uids.is_empty() {
        return session.begin_transaction(now, user, maildrop);
    }
    let query = Query::Fetch {
        mailbox: maildrop.mailbox,
        uids: uids.clone(),
        items: Arc::new(FetchItems::default()),
        changed_since: None,
        rows_max: ROWS_MAX,
        octets_max: usize::MAX, // there are no sections, rows are all that counts
    };
    session.ask_query(maildrop.account, query, pending(user, Step::Sizes(maildrop, uids)));
}

/// Messages that were expunged since INBOX was opened are no part of the maildrop.
fn take_sizes(
    session: &mut Session,
    now: Instant,
    user: String,
    mut maildrop: Box<Maildrop>,
    uids: UidSet,
    fetched: &Fetched,
) {
    maildrop.extend(&fetched.rows);
    let rest = match fetched.next {
        None => UidSet::new(),
        Some(next) if uids.first().is_some_and(|first| next <= first) => {
            // An answer that leads nowhere would be asked for ever.
            let step = Step::Sizes(maildrop, uids);
            return fail(session, now, &step, &replies::store_failed(&StoreError::Failed));
        }
        Some(next) => uids.intersection(&UidSet::range(next, Uid::MAX)),
    };
    go_on(session, now, user, maildrop, rest);
}

fn fail(session: &mut Session, now: Instant, step: &Step, response: &Response) {
    unlock(session, step);
    session.respond(now, response);
}

fn unlock(session: &mut Session, step: &Step) {
    let may_hold = matches!(step, Step::Lock(_) | Step::Select(_) | Step::Sizes(..));
    if may_hold && session.settings.knobs.lock == MaildropLock::Exclusive {
        session.instruct(Ask::Unlock);
    }
}
