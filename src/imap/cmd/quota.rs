//! GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208): one root for the whole account. How it fails: NO [NONEXISTENT] for
//! another root, NO [NOPERM] for SETQUOTA.

use crate::base::mailbox::ask::{Query, Quota, Reply};
use crate::imap::respond::{self, Missing};
use crate::imap::session::{Ending, Session};
use crate::wire::imap::emit;

pub(super) fn run_get(session: &mut Session, tag: String, root: &str) {
    if root != session.settings.quota_root {
        let words = respond::no("NONEXISTENT", "there is no such quota root");
        return session.finish(Ending::new(tag, words));
    }
    tell(session, tag, "OK GETQUOTA completed");
}

pub(super) fn run_root(session: &mut Session, tag: String, mailbox: &str) {
    let mode = session.mode();
    session.out.say("* QUOTAROOT ");
    emit::mailbox(&mut session.out.text, mailbox, mode);
    session.out.say(" ");
    say_root(session);
    session.out.line("");
    tell(session, tag, "OK GETQUOTAROOT completed");
}

pub(super) fn run_set(session: &mut Session, tag: String) {
    session.finish(Ending::new(tag, respond::no("NOPERM", "quotas are the operator's to set")));
}

fn say_root(session: &mut Session) {
    let (settings, utf8) = (session.settings.clone(), session.mode().utf8);
    emit::astring(&mut session.out.text, settings.quota_root.as_bytes(), utf8);
}

fn tell(session: &mut Session, tag: String, words: &'static str) {
    session.query(Query::Quota, move |s, reply| {
        let words = match reply {
            Ok(Reply::Quota(quota)) => {
                say(s, &quota);
                words.into()
            }
            Ok(_) => respond::server_bug(),
            Err(error) => respond::store_error(&error, Missing::Nonexistent),
        };
        s.finish(Ending::new(tag, words));
    });
}

fn say(session: &mut Session, quota: &Quota) {
    session.out.say("* QUOTA ");
    say_root(session);
    // RFC 9208 §5.1: STORAGE in units of 1024 octets; what has no limit is not told (§4.2.1).
    let storage = quota.octets_max.map(|max| format!("STORAGE {} {}", quota.octets.div_ceil(1024), max / 1024));
    let messages = quota.messages_max.map(|max| format!("MESSAGE {} {max}", quota.messages));
    let resources: Vec<String> = storage.into_iter().chain(messages).collect();
    session.out.line(&format!(" ({})", resources.join(" ")));
}
