//! A whole command to its value: the table of commands, and those that need no file of their own.
//!
//! How it fails: [`BadCommand`] with the tag where there is one, the command's name, and what was expected where.

use super::command::{Command, StatusItem, Tagged};
use super::mailbox::mailbox;
use super::reader::{BadCommand, Fault, Mode, Read, Reader};
use super::{append, fetch, frame, list, search, select, set};

#[cfg(test)]
mod tests;

/// Capabilities that one ENABLE names at most.
const ENABLE_NAMES_MAX: usize = 32;
/// RFC 2971 §3.3: at most 30 fields.
const ID_FIELDS_MAX: usize = 30;
/// Items of one STATUS at most; each can be asked for twice and is answered once.
const STATUS_ITEMS_MAX: usize = 24;
/// Resources that one SETQUOTA names at most.
const QUOTA_RESOURCES_MAX: usize = 16;

type Parser = fn(&mut Reader<'_>) -> Read<Command>;

/// Commands by their names.
const COMMANDS: &[(&str, Parser)] = &[
    ("APPEND", append::append),
    ("AUTHENTICATE", authenticate),
    ("CAPABILITY", |_| Ok(Command::Capability)),
    ("CHECK", |_| Ok(Command::Check)),
    ("CLOSE", |_| Ok(Command::Close)),
    ("COMPRESS", compress),
    ("COPY", |r| copy(r, false, false)),
    ("CREATE", select::create),
    ("DELETE", |r| one_mailbox(r).map(Command::Delete)),
    ("ENABLE", enable),
    ("EXAMINE", |r| select::select(r, true)),
    ("EXPUNGE", |_| Ok(Command::Expunge { uids: None })),
    ("FETCH", |r| fetch::fetch(r, false)),
    ("GETQUOTA", get_quota),
    ("GETQUOTAROOT", |r| one_mailbox(r).map(Command::GetQuotaRoot)),
    ("ID", id),
    ("IDLE", |_| Ok(Command::Idle)),
    ("LIST", list::list),
    ("LOGIN", login),
    ("LOGOUT", |_| Ok(Command::Logout)),
    ("LSUB", list::lsub),
    ("MOVE", |r| copy(r, false, true)),
    ("NAMESPACE", |_| Ok(Command::Namespace)),
    ("NOOP", |_| Ok(Command::Noop)),
    ("NOTIFY", notify),
    ("RENAME", rename),
    ("REPLACE", |r| append::replace(r, false)),
    ("SEARCH", |r| search::search(r, false)),
    ("SELECT", |r| select::select(r, false)),
    ("SETQUOTA", set_quota),
    ("SORT", |r| search::sort(r, false)),
    ("STARTTLS", |_| Ok(Command::StartTls)),
    ("STATUS", status),
    ("STORE", |r| append::store(r, false)),
    ("SUBSCRIBE", |r| one_mailbox(r).map(Command::Subscribe)),
    ("THREAD", |r| search::thread(r, false)),
    ("UNSELECT", |_| Ok(Command::Unselect)),
    ("UNSUBSCRIBE", |r| one_mailbox(r).map(Command::Unsubscribe)),
];

/// Commands with UID in front (RFC 9051 §6.4.9, RFC 4315 §2.1, RFC 6851, RFC 8508).
const UID_COMMANDS: &[(&str, Parser)] = &[
    ("COPY", |r| copy(r, true, false)),
    ("EXPUNGE", uid_expunge),
    ("FETCH", |r| fetch::fetch(r, true)),
    ("MOVE", |r| copy(r, true, true)),
    ("REPLACE", |r| append::replace(r, true)),
    ("SEARCH", |r| search::search(r, true)),
    ("SORT", |r| search::sort(r, true)),
    ("STORE", |r| append::store(r, true)),
    ("THREAD", |r| search::thread(r, true)),
];

/// Reads a command as the framer gives it: without its last line end, ordinary literals inside, message data left out.
pub fn parse(command: &[u8], mode: Mode) -> Result<Tagged, BadCommand> {
    let mut r = Reader::new(command, mode);
    match tagged(&mut r) {
        Ok(tagged) => Ok(tagged),
        Err(Fault { why, badcharset }) => Err(BadCommand { tag: frame::tag_of(command), why, badcharset }),
    }
}

fn tagged(r: &mut Reader<'_>) -> Read<Tagged> {
    let tag = r.tag()?.to_owned();
    r.sp()?;
    let mut name = r.word("a command")?;
    let mut table = COMMANDS;
    if name == "UID" {
        r.sp()?;
        name = format!("UID {}", r.word("a command")?);
        table = UID_COMMANDS;
    }
    let verb = name.rsplit(' ').next().unwrap_or_default();
    let Ok(row) = table.binary_search_by(|(known, _)| known.cmp(&verb)) else {
        return Err(Fault::new("no such command"));
    };
    let command = (table[row].1)(r).and_then(|command| r.end().map(|()| command));
    match command {
        Ok(command) => Ok(Tagged { tag, command }),
        // What stands there may be a password.
        Err(_) if verb == "LOGIN" => Err(Fault::new("LOGIN: expected a user name and a password")),
        Err(fault) => Err(Fault { why: format!("{name}: {}", fault.why), ..fault }),
    }
}

fn one_mailbox(r: &mut Reader<'_>) -> Read<String> {
    r.sp()?;
    mailbox(r)
}

/// AUTHENTICATE mechanism [initial-response] (RFC 9051 §6.2.2)
fn authenticate(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    let mechanism = r.word("a SASL mechanism")?;
    let mut initial = None;
    if r.eat(b' ') {
        // base64 or "=", both runs of atom characters.
        initial = Some(r.atom("an initial response in base64")?.to_owned());
    }
    Ok(Command::Authenticate { mechanism, initial })
}

fn login(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    let user = r.astring("a user name")?;
    r.sp()?;
    let password = zeroize::Zeroizing::new(r.astring("a password")?);
    Ok(Command::Login { user, password })
}

fn enable(r: &mut Reader<'_>) -> Read<Command> {
    let mut names = Vec::new();
    loop {
        r.sp()?;
        names.push(r.word("a capability")?);
        if r.peek().is_none() || names.len() == ENABLE_NAMES_MAX {
            return Ok(Command::Enable(names));
        }
    }
}

fn compress(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    r.word("an algorithm").map(Command::Compress)
}

/// ID (RFC 2971 §3.1)
fn id(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    if r.eat_word("NIL") {
        return Ok(Command::Id(Vec::new()));
    }
    let fields = r.list_or_empty(ID_FIELDS_MAX, |r| {
        let field = r.nstring("a field name")?.unwrap_or_default();
        r.sp()?;
        Ok((field, r.nstring("a field value or NIL")?))
    })?;
    Ok(Command::Id(fields))
}

fn rename(r: &mut Reader<'_>) -> Read<Command> {
    let from = one_mailbox(r)?;
    let to = one_mailbox(r)?;
    Ok(Command::Rename { from, to })
}

fn status(r: &mut Reader<'_>) -> Read<Command> {
    let mailbox = one_mailbox(r)?;
    r.sp()?;
    Ok(Command::Status { mailbox, items: status_items(r)? })
}

/// The list of status-att, each once.
pub(super) fn status_items(r: &mut Reader<'_>) -> Read<Vec<StatusItem>> {
    let mut items = r.list(STATUS_ITEMS_MAX, |r| {
        let found = STATUS_ITEMS.iter().find(|(name, _)| r.eat_word(name));
        found.map(|(_, item)| *item).ok_or_else(|| r.expected("a status item"))
    })?;
    let mut seen = Vec::new();
    items.retain(|item| {
        let new = !seen.contains(item);
        seen.push(*item);
        new
    });
    Ok(items)
}

/// Status items and their names (RFC 9051 §6.3.11 and the extensions that add to it).
pub const STATUS_ITEMS: [(&str, StatusItem); 11] = [
    ("MESSAGES", StatusItem::Messages),
    ("RECENT", StatusItem::Recent),
    ("UIDNEXT", StatusItem::UidNext),
    ("UIDVALIDITY", StatusItem::UidValidity),
    ("UNSEEN", StatusItem::Unseen),
    ("DELETED", StatusItem::Deleted),
    ("DELETED-STORAGE", StatusItem::DeletedStorage),
    ("SIZE", StatusItem::Size),
    ("HIGHESTMODSEQ", StatusItem::HighestModSeq),
    ("MAILBOXID", StatusItem::MailboxId),
    ("APPENDLIMIT", StatusItem::AppendLimit),
];

fn get_quota(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    r.astring("a quota root").map(Command::GetQuota)
}

/// SETQUOTA (RFC 9208 §4.1.3): read to its end, because it is refused and not unknown.
fn set_quota(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    let root = r.astring("a quota root")?;
    r.sp()?;
    r.list_or_empty(QUOTA_RESOURCES_MAX, |r| {
        r.atom("a resource")?;
        r.sp()?;
        r.number64("a limit")
    })?;
    Ok(Command::SetQuota(root))
}

fn notify(r: &mut Reader<'_>) -> Read<Command> {
    r.skip_rest();
    Ok(Command::Notify)
}

/// COPY and MOVE (RFC 9051 §6.4.7, §6.4.8)
fn copy(r: &mut Reader<'_>, uid: bool, moving: bool) -> Read<Command> {
    r.sp()?;
    let messages = set::sequence_set(r)?;
    let mailbox = one_mailbox(r)?;
    Ok(Command::Copy { messages, uid, moving, mailbox })
}

fn uid_expunge(r: &mut Reader<'_>) -> Read<Command> {
    r.sp()?;
    Ok(Command::Expunge { uids: Some(set::sequence_set(r)?) })
}
