//! The commands, one file each: `run` is the check and the ask, what follows the answer is handed to the ask.
//!
//! How it fails: a command in a state in which it may not come is BAD; the rest see [`crate::imap`].

pub(in crate::imap) mod append;
pub(in crate::imap) mod authenticate;
mod capability;
mod close;
mod compress;
mod copy;
mod create;
mod delete;
mod enable;
mod expunge;
mod fetch;
mod id;
pub(in crate::imap) mod idle;
mod list;
mod login;
mod logout;
mod namespace;
mod noop;
mod quota;
mod rename;
mod replace;
mod search;
mod select;
mod starttls;
mod status;
mod store;
mod subscribe;

use super::respond;
use super::session::{Ending, Session};
use crate::wire::imap::Command;

const NOT_AUTHENTICATED: u8 = 1;
const AUTHENTICATED: u8 = 2;
const SELECTED: u8 = 4;
const ANY: u8 = NOT_AUTHENTICATED | AUTHENTICATED | SELECTED;
const LOGGED_IN: u8 = AUTHENTICATED | SELECTED;

/// One row of the table.
#[derive(Debug)]
struct Row {
    /// States in which it may come (RFC 9051 §6).
    states: u8,
    /// Whether it needs the selected mailbox to be there still.
    mailbox: bool,
}

const fn row(states: u8) -> Row {
    Row { states, mailbox: false }
}

const MAILBOX: Row = Row { states: SELECTED, mailbox: true };

/// Which row a command has. Extensions stand behind their names: RFC 3691 UNSELECT, 2177 IDLE, 4978 COMPRESS, 5161
/// ENABLE, 2971 ID, 2342 NAMESPACE, 9208 the quota commands, 8508 REPLACE, 6851 MOVE.
fn row_of(command: &Command) -> Row {
    use Command::{
        Append, Authenticate, Capability, Check, Close, Compress, Copy, Create, Delete, Enable, Expunge, Fetch,
        GetQuota, GetQuotaRoot, Id, Idle, List, Login, Logout, Namespace, Noop, Notify, Rename, Replace, Search,
        Select, SetQuota, StartTls, Status, Store, Subscribe, Unselect, Unsubscribe,
    };
    match command {
        Capability | Noop | Logout | Id(_) => row(ANY),
        StartTls | Authenticate { .. } | Login { .. } => row(NOT_AUTHENTICATED),
        Enable(_) | Compress(_) | Select { .. } | Create { .. } | Delete(_) | Rename { .. } | Subscribe(_) => {
            row(LOGGED_IN)
        }
        Unsubscribe(_) | List(_) | Namespace | Status { .. } | Append { .. } | Idle | Notify => row(LOGGED_IN),
        GetQuota(_) | GetQuotaRoot(_) | SetQuota(_) => row(LOGGED_IN),
        Close | Unselect | Check => row(SELECTED),
        Expunge { .. } | Search(_) | Fetch(_) | Store { .. } | Copy { .. } | Replace { .. } => MAILBOX,
    }
}

/// Runs a command.
pub(in crate::imap) fn run(session: &mut Session, tag: String, command: Command) {
    let row = row_of(&command);
    let refusal = if row.states & session.state.bit() == 0 {
        Some(respond::wrong_state(&session.state, row.states == SELECTED))
    } else if row.mailbox && session.mailbox().is_some_and(|m| m.gone) {
        Some(respond::no("NONEXISTENT", "the selected mailbox has been deleted"))
    } else {
        None
    };
    match refusal {
        Some(words) => {
            session.drop_upload();
            session.finish(Ending::new(tag, words));
        }
        None => dispatch(session, tag, command),
    }
}

fn dispatch(session: &mut Session, tag: String, command: Command) {
    match command {
        Command::Capability => capability::run(session, tag),
        Command::Noop => noop::run(session, tag, "NOOP completed"),
        Command::Check => noop::run(session, tag, "CHECK completed"),
        Command::Logout => logout::run(session, &tag),
        Command::Id(pairs) => id::run(session, tag, &pairs),
        Command::StartTls => starttls::run(session, tag),
        Command::Authenticate { mechanism, initial } => authenticate::run(session, tag, &mechanism, initial.as_deref()),
        Command::Login { user, password } => login::run(session, tag, &user, &password),
        Command::Enable(names) => enable::run(session, tag, &names),
        Command::Compress(algorithm) => compress::run(session, tag, &algorithm),
        Command::Select { mailbox, read_only, condstore, qresync } => {
            select::run(session, tag, select::Wanted { name: mailbox, read_only, condstore, qresync });
        }
        Command::Close => close::run_close(session, tag),
        Command::Unselect => close::run_unselect(session, tag),
        Command::Create { mailbox, special_use } => create::run(session, tag, mailbox, &special_use),
        Command::Delete(mailbox) => delete::run(session, tag, mailbox),
        Command::Rename { from, to } => rename::run(session, tag, from, to),
        Command::Subscribe(mailbox) => subscribe::run(session, tag, mailbox, true),
        Command::Unsubscribe(mailbox) => subscribe::run(session, tag, mailbox, false),
        Command::List(list) => list::run(session, tag, list),
        Command::Namespace => namespace::run(session, tag),
        Command::Status { mailbox, items } => status::run(session, tag, mailbox, items),
        Command::Append { mailbox, messages } => append::run(session, tag, mailbox, messages),
        Command::Replace { message, uid, mailbox, new } => replace::run(session, tag, message, uid, mailbox, new),
        Command::Idle => idle::run(session, tag),
        Command::Notify => session.finish(Ending::new(tag, "BAD NOTIFY is not offered")),
        Command::GetQuota(root) => quota::run_get(session, tag, &root),
        Command::GetQuotaRoot(mailbox) => quota::run_root(session, tag, &mailbox),
        Command::SetQuota(_) => quota::run_set(session, tag),
        Command::Expunge { uids } => expunge::run(session, tag, uids),
        Command::Search(search) => search::run(session, tag, search),
        Command::Fetch(fetch) => fetch::run(session, tag, fetch),
        Command::Store { messages, uid, how, silent, flags, unchanged_since } => {
            let change = store::Wanted { messages, uid, how, silent, flags, unchanged_since };
            store::run(session, tag, change);
        }
        Command::Copy { messages, uid, moving, mailbox } => copy::run(session, tag, &messages, uid, moving, mailbox),
    }
}

/// The words when a set names a message that is not there.
fn no_such_message() -> &'static str {
    "BAD there is no message with that sequence number"
}

/// The code that ends a change of the selected mailbox under QRESYNC (RFC 7162 §3.2.7), with a space behind it.
fn mod_seq_code(session: &Session, mod_seq: u64) -> String {
    if session.enabled.qresync && mod_seq > 0 { format!("[HIGHESTMODSEQ {mod_seq}] ") } else { String::new() }
}
