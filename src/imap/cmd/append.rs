//! APPEND (RFC 9051 §6.3.12) with MULTIAPPEND (RFC 3502), BINARY (RFC 3516 §4.4), UTF8 (RFC 6855 §4): the messages have
//! come as literals before the command is read.
//!
//! How it fails: NO with the store's code, TRYCREATE for a missing mailbox, BAD for a NUL outside a literal8.

use crate::base::body::Body;
use crate::base::mailbox::ask::{Change, NewMessage, Reply};
use crate::imap::respond::{self, Missing, Words};
use crate::imap::session::{Ending, Session};
use crate::imap::upload::UploadError;
use crate::wire::imap::AppendMessage;

pub(super) fn run(session: &mut Session, tag: String, name: String, messages: Vec<AppendMessage>) {
    let messages = match new_messages(session, messages) {
        Ok(messages) => messages,
        Err(words) => return session.finish(Ending::new(tag, words)),
    };
    let (own, count) = (session.mailbox().is_some_and(|m| m.name == name), messages.len());
    session.change(Change::Append { name, messages }, move |s, reply| {
        let words = match reply {
            Ok(Reply::Appended(to)) => {
                s.counters.appended += count as u64;
                // RFC 4315 §3: the UIDs in the order of the messages, which is ascending.
                let uids: crate::base::mailbox::UidSet = to.uids.iter().copied().collect();
                format!("OK [APPENDUID {} {uids}] APPEND completed", to.uid_validity)
            }
            Ok(_) => respond::server_bug(),
            Err(error) => respond::store_error(&error, Missing::TryCreate),
        };
        let ending = Ending::new(tag, words);
        // RFC 9051 §6.3.12: a message that comes to the selected mailbox is told at once.
        s.finish(if own { ending.forced() } else { ending });
    });
}

/// The messages with their octets, which the session has kept.
pub(super) fn new_messages(session: &mut Session, messages: Vec<AppendMessage>) -> Result<Vec<NewMessage>, Words> {
    let bodies = match &session.upload {
        Some(upload) => match upload.error() {
            Some(error) => Err(upload_words(error)),
            None => Ok(upload.bodies.clone()),
        },
        None => Ok(Vec::new()),
    };
    session.drop_upload();
    let bodies = bodies?;
    messages.into_iter().map(|message| new_message(session, message, &bodies)).collect()
}

fn new_message(session: &Session, message: AppendMessage, bodies: &[Body]) -> Result<NewMessage, Words> {
    let Some(body) = bodies.get(message.literal) else {
        return Err("BAD the message has to come as a literal".into());
    };
    if message.utf8 && !session.mode().utf8 {
        // RFC 6855 §4
        return Err("BAD the UTF8 form needs ENABLE UTF8=ACCEPT".into());
    }
    if body.shape.octets == 0 {
        return Err(respond::no("CANNOT", "a message has one octet at least"));
    }
    Ok(NewMessage { flags: message.flags, internal_date: message.date, body: body.clone() })
}

/// What is said of messages that cannot be kept.
pub(in crate::imap) fn upload_words(error: &UploadError) -> Words {
    match error {
        UploadError::Nul => "BAD a message with NUL has to come as literal8 (RFC 3516)".into(),
        UploadError::Store(error) => respond::store_error(error, Missing::Nonexistent),
    }
}
