//! What a session knows, split by lifetime: [`State`] with the account (login) and the [`Mailbox`] (until the next
//! SELECT), [`Enabled`] (connection, ENABLE), [`Counters`]; and [`Phase`], what it waits for.
//!
//! How it fails: it does not; these are values.

use super::ask::Answer;
use super::session::Session;
use crate::base::mailbox::{AccountId, FlagNames, Flags, Keywords, MailboxId, ModSeq, Uid, UidSet, View};
use crate::sasl::server::Exchange;
use std::fmt;

/// The states of RFC 9051 §3.
#[derive(Debug)]
pub(super) enum State {
    /// Nobody has logged in.
    NotAuthenticated,
    /// Somebody has.
    Authenticated(AccountId),
    /// And has a mailbox open.
    Selected(AccountId, Box<Mailbox>),
    /// The connection ends.
    Logout,
}

impl State {
    /// Its bit in the table of commands.
    pub fn bit(&self) -> u8 {
        match self {
            State::NotAuthenticated => 1,
            State::Authenticated(_) => 2,
            State::Selected(..) => 4,
            State::Logout => 8,
        }
    }
}

/// The selected mailbox, as this session sees it.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// Which it is.
    pub id: MailboxId,
    /// Its full name when it was selected.
    pub name: String,
    /// EXAMINE.
    pub read_only: bool,
    /// What the client knows to be there.
    pub view: View,
    /// Of these the client cannot be told yet that they are gone (RFC 9051 §7.5.1); still in the view.
    pub withheld: UidSet,
    /// `\Recent` in this session.
    pub recent: UidSet,
    /// Keywords the client has been told of.
    pub keywords: Keywords,
    /// Whether more can be made.
    pub more_keywords: bool,
    /// All changes up to this one are known.
    pub mod_seq: ModSeq,
    /// Messages from this UID on are not known.
    pub uid_next: Uid,
    /// Something has happened since.
    pub noticed: bool,
    /// It has been deleted.
    pub gone: bool,
    /// `$` (RFC 5182).
    pub saved: UidSet,
}

impl Mailbox {
    /// How many are `\Recent`.
    pub fn recent_count(&self) -> u64 {
        self.recent.intersection(&self.view.uids()).len()
    }
    /// `FLAGS`: every flag of the mailbox.
    pub fn flags(&self) -> FlagNames {
        let system = Flags::SYSTEM.iter().fold(Flags::NONE, |all, (flag, _)| all.with(*flag));
        FlagNames { system, keywords: self.keywords.to_vec() }
    }
}

/// What ENABLE and its like have switched on for the rest of the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Enabled {
    /// IMAP4rev2
    pub rev2: bool,
    /// UTF8=ACCEPT
    pub utf8: bool,
    /// CONDSTORE, by whatever command (RFC 7162 §3.1)
    pub condstore: bool,
    /// QRESYNC
    pub qresync: bool,
    /// COMPRESS
    pub deflate: bool,
}

/// What was counted on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commands.
    pub commands: u64,
    /// Commands answered BAD.
    pub errors: u32,
    /// Authentication exchanges begun, LOGIN included.
    pub auth_attempts: u64,
    /// Those that failed for their credentials.
    pub auth_failures: u32,
    /// Messages appended.
    pub appended: u64,
    /// Rows of messages sent by FETCH.
    pub fetched: u64,
    /// Notices of changes.
    pub notices: u64,
}

/// Goes on with the answer to an ask.
pub(super) type Then = Box<dyn FnOnce(&mut Session, Answer) + Send>;
/// Goes on when the output has been drained.
pub(super) type Resume = Box<dyn FnOnce(&mut Session) + Send>;

/// What a session waits for.
pub(super) enum Phase {
    /// A command, or the rest of one.
    Command,
    /// A line of a SASL exchange.
    Sasl {
        /// Of AUTHENTICATE.
        tag: String,
        /// The exchange.
        exchange: Box<Exchange>,
    },
    /// DONE.
    Idle {
        /// Of IDLE.
        tag: String,
    },
    /// The answer to an ask.
    Asked(Then),
    /// Room in the output.
    Drain(Resume),
    /// TLS.
    StartTls,
    /// The caller to take the instruction to compress.
    Deflate,
    /// Nothing.
    Closed,
}

impl fmt::Debug for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Command => "Command",
            Phase::Sasl { .. } => "Sasl",
            Phase::Idle { .. } => "Idle",
            Phase::Asked(_) => "Asked",
            Phase::Drain(_) => "Drain",
            Phase::StartTls => "StartTls",
            Phase::Deflate => "Deflate",
            Phase::Closed => "Closed",
        })
    }
}
